"""What people would ask of this base: writes ``prompts.txt``, one caption a line.

Captions of random scenes, as the models were trained on, from a seed of their own; unlearning reads
from them how the concept is asked for and what is to be kept.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from unsee.core.files import write_file
from unsee.playground.training.train_data import BASE_DIR
from unsee.playground.world.captions import caption
from unsee.playground.world.world import CLIP_ODDS, STILL_ODDS, random_scene

PROMPTS_FILE = BASE_DIR / "prompts.txt"
_COUNT = 3000
_SEED = 77
_SPREAD = 0.4


def prompts() -> list[str]:
    """The captions without repetitions, in the order in which they were drawn."""
    rng = np.random.default_rng(_SEED)
    odds = (STILL_ODDS, CLIP_ODDS)
    drawn = [caption(random_scene(rng, odds[index % 2], _SPREAD), rng) for index in range(_COUNT)]
    return [text for text in dict.fromkeys(drawn) if text]


def write(file: Path) -> None:
    """Writes the prompts as ``file``, complete or not at all."""
    write_file(file, "\n".join(prompts()) + "\n")


if __name__ == "__main__":
    write(PROMPTS_FILE)
