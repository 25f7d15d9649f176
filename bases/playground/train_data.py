"""Where the training data lie and how much of it there is."""

from __future__ import annotations

from pathlib import Path

from playground.dataset import Dataset, DataSpec, build_dataset

REPOSITORY = Path(__file__).resolve().parents[2]
BASE_DIR = Path(__file__).resolve().parent
BUILD_DIR = REPOSITORY / "build" / "playground"
STILLS = DataSpec("stills", 32_000, seed=20240)
CLIPS = DataSpec("clips", 6_000, seed=20241)


def stills(build_dir: Path = BUILD_DIR) -> Dataset:
    return build_dataset(STILLS, build_dir / "data")


def clips(build_dir: Path = BUILD_DIR) -> Dataset:
    return build_dataset(CLIPS, build_dir / "data")


if __name__ == "__main__":
    stills()
    clips()
