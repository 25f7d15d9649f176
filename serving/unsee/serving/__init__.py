"""Serves a model repository: the `tritonserver` process, and what repairs it when a part dies."""
