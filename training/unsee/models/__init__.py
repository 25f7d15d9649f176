"""Bases and their components: loading, digests, precision, which encoders can be edited."""
