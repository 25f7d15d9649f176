"""`python -m benchmarks.pages`, which `make pages` runs."""

from benchmarks.pages.render import main

main()
