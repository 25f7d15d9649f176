"""Composition: the encoder of a policy from the deltas of its concepts, without training."""

import copy
from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from transformers import CLIPTextModel

from unsee.core.errors import DeltaMismatch
from unsee.deltas.delta import Delta
from unsee.deltas.edit import Edit, is_edit, with_edit
from unsee.models.digest import tensors_digest

Merge = Literal["product", "sum"]


def compose(
    text_encoder: CLIPTextModel, deltas: Sequence[Delta], merge: Merge = "product"
) -> CLIPTextModel:
    """Return a copy of `text_encoder` that unsees all concepts of the deltas.

    Differences are added to the weights; edits become one appended layer (see `with_edit`).
    All is computed in float64 in an order that the deltas' digests fix and rounded once, so the
    order of `deltas` does not matter; without deltas every bit of the copy equals the original.

    Args:
        merge: how several edits become one (see `merged`).

    Raises:
        DeltaMismatch: a delta was made for another encoder, has a tensor that the encoder lacks,
            or is given twice.
    """
    composed = copy.deepcopy(text_encoder)
    _check(deltas, tensors_digest(text_encoder.state_dict()) if deltas else "", composed)
    ordered = sorted(deltas, key=lambda delta: delta.card.tensors_digest)
    edits = [delta for delta in ordered if is_edit(delta.tensors)]
    _add_differences(composed, [delta for delta in ordered if not is_edit(delta.tensors)])
    return with_edit(composed, *merged(edits, merge)) if edits else composed


def merged(deltas: Sequence[Delta], merge: Merge) -> tuple[torch.Tensor, torch.Tensor]:
    """The edits of `deltas` as one map z -> matrix z + bias, [D, D] and [D] float64.

    `sum` lets every edit act on the unedited state, `product` one after the other. One edit alone
    is itself.
    """
    edits = [Edit.of(delta.tensors) for delta in deltas]
    size = edits[0].up.shape[0]
    matrix = torch.eye(size, dtype=torch.float64)
    bias = torch.zeros(size, dtype=torch.float64)
    for edit in edits:
        up, down, offset = (tensor.double() for tensor in (edit.up, edit.down, edit.offset))
        if merge == "product":
            bias = bias - up @ (down @ bias)
            matrix = matrix - up @ (down @ matrix)
        else:
            matrix = matrix - up @ down
        bias = bias + up @ offset
    return matrix, bias


def _add_differences(text_encoder: CLIPTextModel, deltas: Sequence[Delta]) -> None:
    parameters = dict(text_encoder.named_parameters())
    with torch.no_grad():
        for name in sorted({name for delta in deltas for name in delta.tensors}):
            parameter = parameters[name]
            total = parameter.double()
            for delta in deltas:
                if name in delta.tensors:
                    total = total + delta.tensors[name].to(total.device, torch.float64)
            parameter.copy_(total)


def _check(deltas: Sequence[Delta], base_digest: str, text_encoder: CLIPTextModel) -> None:
    parameters = dict(text_encoder.named_parameters())
    if any("lora_" in name for name in parameters):
        raise DeltaMismatch(
            "a LoRA is loaded into this text encoder, which changes the states that a delta edits; "
            "unload it before composing, or merge it and unlearn again with that encoder"
        )
    seen: set[str] = set()
    for card, tensors in ((delta.card, delta.tensors) for delta in deltas):
        if card.base_digest != base_digest:
            raise DeltaMismatch(
                f"the delta of {card.concept.name!r} was made for the base {card.base!r} with the "
                f"text encoder {_short(card.base_digest)}, not for {_short(base_digest)}; "
                "unlearn the concept again with this base"
            )
        if not is_edit(tensors):
            _check_shapes(card.concept.name, tensors, parameters)
        if card.tensors_digest in seen:
            raise DeltaMismatch(f"the delta of {card.concept.name!r} is given twice")
        seen.add(card.tensors_digest)


def _check_shapes(
    concept: str, tensors: Mapping[str, torch.Tensor], parameters: Mapping[str, torch.Tensor]
) -> None:
    for name, tensor in tensors.items():
        if name not in parameters or parameters[name].shape != tensor.shape:
            raise DeltaMismatch(
                f"the delta of {concept!r} changes {name} {list(tensor.shape)}, "
                "which the text encoder does not have"
            )


def _short(digest: str) -> str:
    return digest[:19]
