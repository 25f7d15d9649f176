"""The judge of this world: names what a frame or a clip shows.

It is trained on the renderer's pictures alone and never sees the generator, so its verdict
on generated frames is independent evidence. It does not know prompts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from unsee.evaluation.seeing import judge as network
from unsee.evaluation.seeing.judge import JudgeConfig, Probabilities
from unsee.playground.world.world import CATEGORIES, HEADS, LABELS, NONE, find_concept, head_of

FRAME_HEADS = ("subject", "style", "background")
CONFIG = JudgeConfig(
    labels=LABELS,
    categories={head: tuple(c for c in CATEGORIES if head_of(c) == head) for head in HEADS},
    motion_head="action",
)


@dataclass(frozen=True)
class Verdict:
    """What one clip (or still) shows; ``None`` means: nothing of that kind.

    ``probabilities`` maps a head to the probability of each of its labels (no action for a
    still); ``per_frame`` maps subject, style and background to [num_frames, labels].
    """

    subject: str | None
    style: str | None
    background: str | None
    action: str | None
    probabilities: Mapping[str, Probabilities]
    per_frame: Mapping[str, Probabilities]

    def sees(self, concept_name: str, *, any_frame: bool = False) -> bool:
        """Whether the concept (an alias will do) is the verdict of its kind.

        ``any_frame`` asks whether a single frame would be named so; actions have no frames.
        """
        concept = find_concept(concept_name)
        head = head_of(concept.category)
        if any_frame and head != "action":
            winners = self.per_frame[head].argmax(axis=1)
            return LABELS[head].index(concept.name) in winners
        named: str | None = getattr(self, head)
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
        verdicts = []
        for i in range(len(frames)):
            per_frame = {head: values[i] for head, values in seen.per_frame.items()}
            overall = {head: values.mean(axis=0) for head, values in per_frame.items()}
            if seen.motion is not None:
                overall["action"] = seen.motion[i]
            verdicts.append(make_verdict(overall, per_frame))
        return verdicts


def make_verdict(
    probabilities: Mapping[str, Probabilities], per_frame: Mapping[str, Probabilities]
) -> Verdict:
    names: dict[str, str | None] = dict.fromkeys(LABELS)
    for head, values in probabilities.items():
        name = LABELS[head][int(values.argmax())]
        names[head] = None if name == NONE else name
    return Verdict(**names, probabilities=probabilities, per_frame=per_frame)
