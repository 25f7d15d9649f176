"""A command for every measured number: `python -m benchmarks.<room>.<command> --help`.

Measuring writes a JSON record into `docs/measured/`; `make pages` renders the pages from the
records. What is forgotten and kept is measured by `unsee.playground.experiments`.
"""
