"""Edits: a low-rank change of what a text encoder says, and the encoder that has one.

A text encoder ends in a normalisation, and a *state* is what enters it. An edit acts on z, the
state standardised as that normalisation does it: z -> z - up (down z - offset). `EditedNorm` takes
the place of the normalisation, so that everything that reads the encoder, its pooled output
included, reads edited states, and no weight changes.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from unsee.core.errors import BaseFolderError
from unsee.models.encoders.families import known_classes

EDIT_NAMES = ("edit.up", "edit.down", "edit.offset")
_OF_VERSION_0_1 = ("evidence.kept", "evidence.mean")
"""Tensors that version 0.1 stored beside an edit; they take no part in it."""
_FINAL_NORM = "final_layer_norm"


@dataclass(frozen=True)
class Edit:
    """z -> z - up (down z - offset): `up` [D, r], `down` [r, D], `offset` [r], all float32."""

    up: torch.Tensor
    down: torch.Tensor
    offset: torch.Tensor

    def __call__(
        self, standardised: torch.Tensor, mask: torch.Tensor | None = None
    ) -> torch.Tensor:
        """The edited states [..., L, D] of standardised ones.

        Positions where `mask` [..., L] is 0 stay as they are; without a mask none does.
        """
        change = (standardised @ self.down.T - self.offset) @ self.up.T
        if mask is not None:
            change = torch.where(mask[..., None] > 0, change, torch.zeros_like(change))
        return standardised - change

    @property
    def rank(self) -> int:
        """How many directions it changes."""
        return self.up.shape[1]

    def to(self, device: torch.device | str, dtype: torch.dtype) -> "Edit":
        """The same on another device or of another dtype."""
        return Edit(*(each.to(device, dtype) for each in (self.up, self.down, self.offset)))

    def tensors(self) -> dict[str, torch.Tensor]:
        """The edit as a delta's tensors."""
        values = vars(self.to("cpu", torch.float32)).values()
        return {
            name: value.detach().contiguous()
            for name, value in zip(EDIT_NAMES, values, strict=True)
        }

    @classmethod
    def of(cls, tensors: Mapping[str, torch.Tensor]) -> "Edit":
        """The edit of a delta's tensors."""
        up, down, offset = (tensors[name] for name in EDIT_NAMES)
        return cls(up, down, offset)


class EditedNorm(nn.Module):
    """The final normalisation `norm` of a text encoder, which is given edited states.

    `norm` is called as it is, whatever its dtype and device; the edit is computed in float32.
    `reads_padding` says that the denoiser reads every position, so that the edit acts on all; else
    it leaves those alone that the encoder's attention mask leaves out.
    """

    up: torch.Tensor
    down: torch.Tensor
    offset: torch.Tensor

    def __init__(self, norm: nn.Module, edit: Edit) -> None:
        super().__init__()
        self.norm = norm
        ends_in_layer_norm = isinstance(norm, nn.LayerNorm)  # whose padding denoisers read too
        self.reads_padding: bool = getattr(norm, "reads_padding", ends_in_layer_norm)
        self.mask: torch.Tensor | None = None
        for name, value in vars(edit).items():
            self.register_buffer(name, value.detach().clone())

    @property
    def edit(self) -> Edit:
        """The edit that it makes, of the dtype and on the device that the encoder was moved to."""
        return Edit(self.up, self.down, self.offset)

    def forward(self, states: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        """States [B, L, D] -> prompt embeddings [B, L, D], of the dtype that `norm` gives.

        `mask` [B, L] is the encoder's own attention mask where none is given.
        """
        if mask is None and self.mask is not None:
            mask = self.mask.to(states.device)  # the layers may lie on several devices
        mask = None if self.reads_padding else mask
        edit = self.edit.to(states.device, torch.float32)
        edited = edit(standardised(self.norm, states.float()), mask).to(states.dtype)
        if mask is not None:
            edited = torch.where(mask[..., None] > 0, edited, states)
        said: torch.Tensor = self.norm(edited)
        return said


def is_edit(tensors: Mapping[str, torch.Tensor]) -> bool:
    """Whether a delta's tensors are an edit."""
    return set(tensors) - set(_OF_VERSION_0_1) == set(EDIT_NAMES)


def edited(text_encoder: Any, edit: Edit) -> Any:
    """An encoder that says what `edit` makes of `text_encoder`, whose weights it shares.

    Raises `BaseFolderError` if the encoder does not end in a normalisation.
    """
    copied = with_the_same_weights(text_encoder)
    install(copied, EditedNorm(final_layer_norm(copied), edit))
    return copied


def install(text_encoder: Any, norm: EditedNorm) -> Any:
    """Let `norm` take the place of the final normalisation, and tell it the attention mask of each
    call. Returns the handle whose `remove` ends the telling."""
    _put_final_norm(text_encoder, norm)
    return text_encoder.register_forward_pre_hook(_TellsMask(norm), with_kwargs=True)


def uninstall(text_encoder: Any, norm: EditedNorm) -> None:
    """Put the normalisation back whose place `norm` took."""
    _put_final_norm(text_encoder, norm.norm)


def trunk(text_encoder: Any) -> Any:
    """The encoder without its final normalisation: its `last_hidden_state` are the states.

    It shares the weights of `text_encoder`.
    """
    copied = with_the_same_weights(text_encoder)
    _put_final_norm(copied, nn.Identity())
    return copied


def final_layer_norm(text_encoder: Any) -> Any:
    """The normalisation that ends the encoder: a layer norm, an RMS norm or an `EditedNorm`.

    Raises `BaseFolderError` if there is none.
    """
    return getattr(*_place_of_final_norm(text_encoder))


def standardised(norm: Any, states: torch.Tensor) -> torch.Tensor:
    """Each state [..., D] as `norm` standardises it before its weights come in.

    With mean 0 and variance 1 for a layer norm, with mean square 1 for an RMS norm.
    """
    if isinstance(norm, EditedNorm):
        return standardised(norm.norm, states)
    if isinstance(norm, nn.LayerNorm):
        return F.layer_norm(states, states.shape[-1:])
    square = states.pow(2).mean(-1, keepdim=True)
    return states * torch.rsqrt(square + norm.variance_epsilon)


class _TellsMask:
    """Before each call of an encoder: tells the norm the attention mask that the call has."""

    def __init__(self, norm: EditedNorm) -> None:
        self._norm = norm

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._norm.mask = args[1] if len(args) > 1 else kwargs.get("attention_mask")


def _place_of_final_norm(text_encoder: Any) -> tuple[Any, str]:
    for module in text_encoder.modules():
        if hasattr(module, _FINAL_NORM):
            return module, _FINAL_NORM
    raise BaseFolderError(
        f"the text encoder {type(text_encoder).__name__} has no {_FINAL_NORM}, before which an "
        f"edit acts; known are {', '.join(known_classes())}"
    )


def _put_final_norm(text_encoder: Any, norm: nn.Module) -> None:
    parent, name = _place_of_final_norm(text_encoder)
    setattr(parent, name, norm)


def with_the_same_weights(module: Any) -> Any:
    """A copy of a module around the very same tensors."""
    tensors = (*module.parameters(), *module.buffers())
    return copy.deepcopy(module, {id(tensor): tensor for tensor in tensors})
