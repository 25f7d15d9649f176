"""The judge of this world: names what a frame or a clip shows.

It is trained on the renderer's pictures alone and never sees the generator, so its verdict
on generated frames is independent evidence. It does not know prompts.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from unsee.evaluation.seeing import judge as network
from unsee.evaluation.seeing.judge import JudgeConfig
from unsee.playground.world.world import CATEGORIES, HEADS, LABELS, NONE, find_concept, head_of

FRAME_HEADS = ("subject", "style", "background")
CONFIG = JudgeConfig(
    labels=LABELS,
    categories={head: tuple(c for c in CATEGORIES if head_of(c) == head) for head in HEADS},
    motion_head="action",
)


@dataclass(frozen=True)
class Verdict:
    """What one clip (or still) shows; ``None`` means: nothing of that kind."""

    subject: str | None
    style: str | None
    action: str | None
    background: str | None

    def sees(self, concept_name: str) -> bool:
        """Whether the concept (an alias will do) is the verdict of its kind."""
        concept = find_concept(concept_name)
        named: str | None = getattr(self, head_of(concept.category))
        return named == concept.name


class Judge(network.Judge):
    """The network with this world's labels."""

    def __init__(self, config: JudgeConfig = CONFIG) -> None:
        super().__init__(config)

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> Judge:
        """As the network's.

        Raises:
            InputError: there is no judge in the folder.
            ValueError: the judge was trained for other labels than this world's.
        """
        judge = super().from_pretrained(folder)
        if judge.config.labels != CONFIG.labels or not isinstance(judge, cls):
            raise ValueError(f"the judge in {folder} was trained for other labels; retrain it")
        return judge

    def classify(self, frames: npt.NDArray[np.uint8]) -> list[Verdict]:
        """Names what uint8 [N, F, H, W, 3] shows; with F = 1 there is no action.

        Raises:
            ValueError: the array is not uint8 of that shape.
        """
        seen = self.judge(frames)
        probabilities = {head: values.mean(axis=1) for head, values in seen.per_frame.items()}
        if seen.motion is not None:
            probabilities["action"] = seen.motion
        labels = {head: values.argmax(axis=1) for head, values in probabilities.items()}
        return [
            Verdict(*(_name(head, labels[head][i]) if head in labels else None for head in HEADS))
            for i in range(len(frames))
        ]


def _name(head: str, label: int) -> str | None:
    name = LABELS[head][label]
    return None if name == NONE else name
