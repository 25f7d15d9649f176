"""Repairs what dies or hangs under `unsee serve`: a model's process, or the server."""
