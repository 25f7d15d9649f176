"""A running Triton server as its operator uses it: load, list and unload versions, and wait."""
