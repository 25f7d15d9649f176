"""Deltas: what unlearning one concept changed in a text encoder, in memory.

Knows how differences are taken and added up; knows neither training nor files (`delta_folder`).
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict
from transformers import CLIPTextModel

from unsee.client.policy import Concept
from unsee.training.digest import tensors_digest
from unsee.training.errors import DeltaMismatch
from unsee.training.settings import PaperMode


class Card(BaseModel):
    """What a delta is and how it was made; the content of `card.json`.

    `prompts` are those of the generated images (empty for given ones), `images_digest` covers the
    images' sizes and RGB bytes, `losses` has one value per step, `seconds` one per stage, and
    `tensors_digest` is that of the tensors beside the card (see `unsee.training.digest`).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = 1
    base: str
    base_digest: str
    concept: Concept
    method: str
    settings: PaperMode
    seed: int
    image_source: Literal["generated", "given"]
    images_digest: str
    prompts: tuple[str, ...]
    losses: tuple[float, ...]
    versions: dict[str, str]
    seconds: dict[str, float]
    created_at: datetime
    tensors_digest: str


@dataclass(frozen=True)
class Delta:
    """The card and the changed tensors only: float32 differences tuned - base by full name."""

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


def compose(text_encoder: CLIPTextModel, deltas: Sequence[Delta]) -> CLIPTextModel:
    """Return a copy of `text_encoder` with the sum of the deltas added to it.

    The sum is taken in float64 in an order that the deltas' digests fix and rounded once, so the
    order of `deltas` does not matter; without deltas every bit of the copy equals the original.
    Raises `DeltaMismatch` if a delta was made for another encoder, has a tensor that the encoder
    lacks, or is given twice.
    """
    composed = copy.deepcopy(text_encoder)
    parameters = dict(composed.named_parameters())
    _check(deltas, tensors_digest(text_encoder.state_dict()) if deltas else "", parameters)
    ordered = sorted(deltas, key=lambda delta: delta.card.tensors_digest)
    with torch.no_grad():
        for name in sorted({name for delta in ordered for name in delta.tensors}):
            parameter = parameters[name]
            total = parameter.double()
            for delta in ordered:
                if name in delta.tensors:
                    total = total + delta.tensors[name].to(total.device, torch.float64)
            parameter.copy_(total)
    return composed


def _check(
    deltas: Sequence[Delta], base_digest: str, parameters: Mapping[str, torch.Tensor]
) -> None:
    seen: set[str] = set()
    for card, tensors in ((delta.card, delta.tensors) for delta in deltas):
        if card.base_digest != base_digest:
            raise DeltaMismatch(
                f"the delta of {card.concept.name!r} was made for the base {card.base!r} with the "
                f"text encoder {_short(card.base_digest)}, not for {_short(base_digest)}; "
                "unlearn the concept again with this base"
            )
        for name, tensor in tensors.items():
            if name not in parameters or parameters[name].shape != tensor.shape:
                raise DeltaMismatch(
                    f"the delta of {card.concept.name!r} changes {name} {list(tensor.shape)}, "
                    "which the text encoder does not have"
                )
        if card.tensors_digest in seen:
            raise DeltaMismatch(f"the delta of {card.concept.name!r} is given twice")
        seen.add(card.tensors_digest)


def _short(digest: str) -> str:
    return digest[:19]
