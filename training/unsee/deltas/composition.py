"""Composition: the encoder of a policy from the deltas of its concepts, without training."""

import copy
from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

import torch

from unsee.core.errors import DeltaMismatch, InputError
from unsee.deltas.delta import Delta
from unsee.deltas.edit import Edit, edited, is_edit
from unsee.models.digest import tensors_digest

Merge = Literal["product", "sum"]


def compose(text_encoder: Any, deltas: Sequence[Delta], merge: Merge = "product") -> Any:
    """Return an encoder that says what `text_encoder` says, but for the concepts of the deltas.

    Edits become one (see `merged` and `unsee.deltas.edit`) on top of the weights of `text_encoder`,
    which are not copied; differences are added to a copy of them. All is computed in float64 in an
    order that the deltas' digests fix and rounded once, so the order of `deltas` does not matter.

    Args:
        merge: how several edits become one (see `merged`).

    Raises:
        DeltaMismatch: a delta was made for another encoder, has a tensor that the encoder lacks,
            or is given twice.
    """
    composed, edit = parts(text_encoder, deltas, merge)
    return composed if edit is None else edited(composed, edit)


def parts(
    text_encoder: Any, deltas: Sequence[Delta], merge: Merge = "product"
) -> tuple[Any, Edit | None]:
    """What `compose` puts together: the encoder with the differences, and all edits as one.

    The first is `text_encoder` itself where no delta is a difference, the second None where none is
    an edit. Raises as `compose`.
    """
    _check(deltas, tensors_digest(text_encoder.state_dict()) if deltas else "", text_encoder)
    edits = ordered_edits([delta for delta in deltas if is_edit(delta.tensors)])
    differences = _ordered([delta for delta in deltas if not is_edit(delta.tensors)])
    composed = text_encoder
    if differences:
        composed = copy.deepcopy(text_encoder)
        _add_differences(composed, differences)
    return composed, merged(edits, merge) if edits else None


def ordered_edits(deltas: Sequence[Delta]) -> list[Edit]:
    """The edits of `deltas` in the order in which they are composed.

    Raises `DeltaMismatch` if one is not an edit or is given twice.
    """
    for delta in deltas:
        if not is_edit(delta.tensors):
            raise DeltaMismatch(
                f"the delta of {delta.card.concept.name!r} changes the encoder's weights (method "
                f"{delta.card.method}), which only a whole encoder can; unlearn it in the default "
                "mode, or write the encoder with: unsee apply"
            )
    _check_unrepeated(deltas)
    return [Edit.of(delta.tensors) for delta in _ordered(deltas)]


def _ordered(deltas: Sequence[Delta]) -> list[Delta]:
    return sorted(deltas, key=lambda delta: delta.card.tensors_digest)


def _check_unrepeated(deltas: Sequence[Delta]) -> None:
    seen: set[str] = set()
    for card in (delta.card for delta in deltas):
        if card.tensors_digest in seen:
            raise DeltaMismatch(f"the delta of {card.concept.name!r} is given twice")
        seen.add(card.tensors_digest)


def merged(edits: Sequence[Edit], merge: Merge) -> Edit:
    """Several edits as one, whose rank is the sum of theirs.

    `sum` lets every edit act on the unedited state, `product` one after the other. One edit alone
    is itself. Raises `InputError` for another `merge`.
    """
    if merge not in get_args(Merge):
        raise InputError(f"merge is {merge!r}; give {' or '.join(get_args(Merge))}")
    up, down, offset = (tensor.double() for tensor in vars(edits[0]).values())
    for edit in edits[1:]:
        next_up, next_down, next_offset = (tensor.double() for tensor in vars(edit).values())
        if merge == "product":  # it sees what those before it left: z - up (down z - offset)
            seen = next_down @ up
            next_down, next_offset = next_down - seen @ down, next_offset - seen @ offset
        up = torch.cat([up, next_up], dim=1)
        down = torch.cat([down, next_down])
        offset = torch.cat([offset, next_offset])
    return Edit(up.float(), down.float(), offset.float())


def _add_differences(text_encoder: Any, deltas: Sequence[Delta]) -> None:
    parameters = dict(text_encoder.named_parameters())
    with torch.no_grad():
        for name in sorted({name for delta in deltas for name in delta.tensors}):
            parameter = parameters[name]
            total = parameter.double()
            for delta in deltas:
                if name in delta.tensors:
                    total = total + delta.tensors[name].to(total.device, torch.float64)
            parameter.copy_(total)


def _check(deltas: Sequence[Delta], base_digest: str, text_encoder: Any) -> None:
    parameters = dict(text_encoder.named_parameters())
    if any("lora_" in name for name in parameters):
        raise DeltaMismatch(
            "a LoRA is loaded into this text encoder, which changes the states that a delta edits; "
            "unload it before composing, or merge it and unlearn again with that encoder"
        )
    for card, tensors in ((delta.card, delta.tensors) for delta in deltas):
        if card.base_digest != base_digest:
            raise DeltaMismatch(
                f"the delta of {card.concept.name!r} was made for the base {card.base!r} with the "
                f"text encoder {_short(card.base_digest)}, not for {_short(base_digest)}; "
                "unlearn the concept again with this base"
            )
        if not is_edit(tensors):
            _check_shapes(card.concept.name, tensors, parameters)
    _check_unrepeated(deltas)


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
