"""Recognition by a base's judge: a label of its own kind must win."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from unsee.core.errors import InputError
from unsee.evaluation.seeing.judge import Judge
from unsee.evaluation.seeing.recognise import Frames, Nameable, Sighting
from unsee.models.digest import tensors_digest


@dataclass(frozen=True)
class JudgeRecogniser:
    """A concept is seen where its label has the highest probability of its head."""

    judge: Judge
    name: str = field(default="judge")

    @classmethod
    def from_pretrained(cls, folder: Path) -> JudgeRecogniser:
        """The judge in `folder`. Raises `InputError` if there is none."""
        if not folder.is_dir():
            raise InputError(f"there is no judge at {folder}: the folder does not exist")
        return cls(Judge.from_pretrained(folder))

    def digest(self) -> str:
        """`"sha256:…"` of the judge's weights."""
        return tensors_digest(self.judge.state_dict())

    def knows(self, concept: Nameable) -> bool:
        """Whether the judge has a label for `concept`."""
        head = self.judge.head_of(concept.category)
        return head is not None and concept.name in self.judge.config.labels[head][1:]

    def sightings(self, frames: Frames, concept: Nameable) -> Sighting:
        """See `Recogniser`. Raises `InputError` for a concept without a label, and for an action
        in single frames.
        """
        head = self.judge.head_of(concept.category)
        if head is None or not self.knows(concept):
            raise InputError(f"the judge has no label for the {concept.category} {concept.name!r}")
        label = self.judge.config.labels[head].index(concept.name)
        judgement = self.judge.judge(frames)
        if head == self.judge.config.motion_head:
            if judgement.motion is None:
                raise InputError(f"the action {concept.name!r} cannot be seen in single frames")
            motion = judgement.motion
            return Sighting(motion.argmax(axis=-1) == label, None, motion[:, label])
        probabilities = judgement.per_frame[head]
        means = probabilities.mean(axis=1)
        whole = np.asarray(means.argmax(axis=-1) == label)
        return Sighting(whole, probabilities.argmax(axis=-1) == label, means[:, label])
