"""The measured pages: `python -m benchmarks.pages` renders them from their records."""
