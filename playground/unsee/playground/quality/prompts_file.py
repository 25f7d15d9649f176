"""What people would ask of our bases: writes each one's ``prompts.txt``, one caption a line.

Captions of random scenes, as the models were trained on, from a seed of their own; unlearning reads
from them how the concept is asked for and what is to be kept. A base that was trained in several
languages is asked in each of them in turn.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from unsee.core.files import write_file
from unsee.playground.training import train_data
from unsee.playground.training.program import exit_code_of
from unsee.playground.training.wan import stages
from unsee.playground.world.captions import caption
from unsee.playground.world.languages import ENGLISH, SPANISH, Language
from unsee.playground.world.world import CLIP_ODDS, STILL_ODDS, random_scene

SPOKEN: Mapping[Path, Sequence[Language]] = {
    train_data.BASE_DIR: (ENGLISH,),
    stages.BASE_DIR: (ENGLISH, SPANISH),
}
"""The languages of the captions that the base in a folder was trained on."""
PROMPTS_FILE = "prompts.txt"
_COUNT = 3000
_SEED = 77
_SPREAD = 0.4


def prompts(languages: Sequence[Language]) -> list[str]:
    """The captions without repetitions, in the order in which they were drawn."""
    rng = np.random.default_rng(_SEED)
    odds = (STILL_ODDS, CLIP_ODDS)
    drawn = [
        caption(
            random_scene(rng, odds[index % 2], _SPREAD), rng, languages[index // 2 % len(languages)]
        )
        for index in range(_COUNT)
    ]
    return [text for text in dict.fromkeys(drawn) if text]


def write(file: Path, languages: Sequence[Language]) -> None:
    """Writes the prompts as ``file``, complete or not at all."""
    write_file(file, "\n".join(prompts(languages)) + "\n")


def main() -> None:
    """Writes the prompts of every base."""
    for folder, languages in SPOKEN.items():
        write(folder / PROMPTS_FILE, languages)


if __name__ == "__main__":
    sys.exit(exit_code_of(main))
