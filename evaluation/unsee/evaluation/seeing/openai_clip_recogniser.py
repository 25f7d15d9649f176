"""Zero-shot recognition with CLIP (Radford et al., arXiv 2103.00020, section 3.1).

A concept competes with its siblings and with descriptions of nothing in particular.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from unsee.evaluation.asking.evaluation_set import KnownConcept, SetCategory
from unsee.evaluation.seeing.openai_clip import ClipModel
from unsee.evaluation.seeing.recognise import Frames, Nameable, Sighting

_TEXTS = {
    "style": "a picture in the style of {}",
    "action": "someone {}",
    "background": "a picture taken in {}",
    "person": "a photo of {}",
}
_TEXT = "a picture of {}"
_NOTHING = ("a picture", "a picture of something else", "an empty picture", "a blurred picture")


@dataclass(frozen=True)
class ClipRecogniser:
    """A concept is seen where its text has the highest probability among `concepts` of its
    category and the texts that name nothing.
    """

    clip: ClipModel
    concepts: tuple[Nameable, ...]
    source: str
    _texts: dict[str, torch.Tensor] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def from_pretrained(cls, source: str, concepts: Sequence[Nameable]) -> ClipRecogniser:
        """The model in a folder or of a hub id. Raises `InputError` if there is none."""
        return cls(ClipModel.from_pretrained(source), tuple(concepts), source)

    @property
    def name(self) -> str:
        return f"clip:{self.source}"

    def digest(self) -> str:
        """`"sha256:…"` of the model's weights."""
        return self.clip.digest()

    def knows(self, concept: Nameable) -> bool:
        """Any concept can be put into words."""
        return True

    def sightings(self, frames: Frames, concept: Nameable) -> Sighting:
        """See `Recogniser`; an action is looked for in the mean over frames."""
        count, num_frames = frames.shape[:2]
        images = self.clip.image_embeds(frames.reshape(-1, *frames.shape[2:]))
        logits = self.clip.logit_scale * images @ self._text_embeds(concept).T
        probabilities = logits.softmax(dim=-1).reshape(count, num_frames, -1).numpy()
        means = probabilities.mean(axis=1)
        per_frame = None if concept.category == "action" else _first_wins(probabilities)
        return Sighting(_first_wins(means), per_frame, means[:, 0])

    def _text_embeds(self, concept: Nameable) -> torch.Tensor:
        """[T, D]; the concept's own text comes first."""
        if concept.name not in self._texts:
            siblings = [
                other
                for other in self.concepts
                if other.category == concept.category and other.name != concept.name
            ]
            texts = [*map(_text_of, (concept, *siblings)), *_NOTHING]
            self._texts[concept.name] = self.clip.text_embeds(texts)
        return self._texts[concept.name]


def _text_of(concept: Nameable) -> str:
    category: SetCategory = concept.category  # type: ignore[assignment]
    phrase = KnownConcept(name=concept.name, category=category).phrase_of(concept.name)
    return _TEXTS.get(concept.category, _TEXT).format(phrase)


def _first_wins(probabilities: NDArray[np.floating[Any]]) -> NDArray[np.bool_]:
    return np.asarray(probabilities.argmax(axis=-1) == 0)
