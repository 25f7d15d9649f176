"""Where the training data lie and how much of it there is."""

from __future__ import annotations

import sys
from pathlib import Path

from unsee.playground.training.program import exit_code_of
from unsee.playground.world.dataset import Dataset, DataSpec, build_dataset

REPOSITORY = Path(__file__).resolve().parents[4]
BASE_DIR = REPOSITORY / "bases" / "playground"
BUILD_DIR = REPOSITORY / "build" / "playground"
# The generator learns narrower scenes than the autoencoder and the judge, which must cope
# with whatever it makes of them.
WIDE_STILLS = DataSpec("stills", 32_000, seed=20240)
WIDE_CLIPS = DataSpec("clips", 4_000, seed=20241)
STILLS = DataSpec("stills", 32_000, seed=20242, spread=0.4)
CLIPS = DataSpec("clips", 6_000, seed=20243, spread=0.4)


def opened(spec: DataSpec, build_dir: Path = BUILD_DIR) -> Dataset:
    """The data set of ``spec``, drawn first if it is not there yet."""
    return build_dataset(spec, build_dir / "data")


def main() -> None:
    """Draws every data set that is not there yet."""
    for spec in (STILLS, CLIPS, WIDE_CLIPS, WIDE_STILLS):
        opened(spec)


if __name__ == "__main__":
    sys.exit(exit_code_of(main))
