"""`python -m benchmarks.pages`, which `make pages` runs."""

import sys

from benchmarks.pages.render import main
from unsee.playground.training.program import exit_code_of

if __name__ == "__main__":
    sys.exit(exit_code_of(main))
