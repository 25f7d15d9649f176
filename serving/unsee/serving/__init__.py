"""Serves a model repository with Triton, and moves its policies from revision to revision."""
