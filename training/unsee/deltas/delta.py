"""Deltas: what unlearning one concept changed in a text encoder, in memory."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

import torch
from pydantic import Field

from unsee.core.policy import Concept
from unsee.core.unlearning_settings import Settings
from unsee.core.validation import ClosedModel


class Card(ClosedModel):
    """What a delta is and how it was made; the content of `card.json`.

    Args:
        base, base_digest: the base's name, and the digest of its text encoder.
        rounded_digests: that digest of the weights rounded to float16 and to bfloat16.
        method: "anchored" or "paper".
        image_source: "none" where the mode learns from the name alone.
        images_digest: covers the images' sizes and RGB bytes.
        prompts: those of the generated images; empty for images that were given.
        losses: one value per step.
        stopped: why the learning ended.
        erased, kept: its own last estimates, 0 to 1; None in a mode that has none.
        anchor: what is shown in the concept's place.
        versions: of the libraries that were used.
        seconds: by stage.
        tensors_digest: of the tensors beside the card (see `tensors_digest`).
    """

    schema_version: Literal[2, 3, 4] = 4
    base: str
    base_digest: str
    rounded_digests: dict[str, str] = Field(default_factory=dict)
    concept: Concept
    method: str
    settings: Settings
    seed: int
    image_source: Literal["generated", "given", "none"]
    images_digest: str
    prompts: tuple[str, ...]
    losses: tuple[float, ...]
    stopped: str
    erased: float | None = None
    kept: float | None = None
    anchor: str | None = None
    versions: dict[str, str]
    seconds: dict[str, float]
    created_at: datetime
    tensors_digest: str


@dataclass(frozen=True)
class Delta:
    """The card and the changed tensors only, all float32.

    Paper mode: differences tuned - base by full parameter name. Anchored mode: the three tensors of
    an `Edit`.
    """

    card: Card
    tensors: dict[str, torch.Tensor]


def tensor_differences(
    tuned: Mapping[str, torch.Tensor], base: Mapping[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """Return tuned - base in float32 for every tensor that differs in any value."""
    return {
        name: (tensor.detach() - base[name]).to("cpu", torch.float32).contiguous()
        for name, tensor in tuned.items()
        if not torch.equal(tensor, base[name])
    }
