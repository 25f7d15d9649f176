"""A text encoder that reads prompts as its pipeline lets it, whoever calls it.

diffusers' pipelines differ in whether the encoder is given the mask of the padding, and in what the
denoiser gets at the padding: what the encoder says there, or rows of zeros. Hooks on the loaded
encoder make it do the same with ids alone, in unlearning, evaluation and the exported graph.
"""

from typing import Any

import torch
from torch import nn

from unsee.models.encoders.frame import PromptFrame


def read_as_framed(text_encoder: Any, frame: PromptFrame) -> Any:
    """Let `text_encoder` mask the padding and say zeros at it, as `frame` has it.

    A mask that a caller gives is left alone, and a copy of the encoder reads alike. Returns the
    same encoder.
    """
    reading = _Reading(frame)
    if frame.gives_mask:
        text_encoder.register_forward_pre_hook(reading.give_mask, with_kwargs=True)
    if not frame.reads_padding:
        text_encoder.register_forward_hook(reading.take_padding_out, with_kwargs=True)
    return text_encoder


def prompt_mask(ids: torch.Tensor, frame: PromptFrame) -> torch.Tensor:
    """1 up to the token that ends the prompt and 0 after it: ids [B, L] -> int64 [B, L].

    Where the padding is the end-of-text token too, as in Stable Diffusion 1.x, the first of the
    trailing ones ends the prompt.
    """
    is_text = (ids != frame.pad).long()
    follows = is_text.flip(1).cumsum(1).flip(1)  # how many tokens of text are here or later
    mask = (follows > 0).long()
    if frame.pad != frame.eos:
        return mask
    return torch.cat([torch.ones_like(mask[:, :1]), mask[:, :-1]], dim=1)


def read_positions(ids: torch.Tensor, frame: PromptFrame) -> torch.Tensor:
    """1 where the denoiser reads what the encoder says, else 0: ids [B, L] -> int64 [B, L]."""
    return torch.ones_like(ids) if frame.reads_padding else prompt_mask(ids, frame)


class _Reading:
    def __init__(self, frame: PromptFrame) -> None:
        self._frame = frame
        self._length: int | None = None

    def give_mask(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Adds the mask. Padding that nobody reads is cut off for as long as the encoder runs."""
        self._length = None
        if _given_mask(args, kwargs) is not None:
            return args, kwargs
        ids = _ids(args, kwargs)
        mask = prompt_mask(ids, self._frame)
        if not self._frame.reads_padding:
            self._length = ids.shape[1]
            longest = int(mask.sum(1).max())
            ids, mask = ids[:, :longest], mask[:, :longest]
        others = {name: value for name, value in kwargs.items() if name != "input_ids"}
        return (ids, *args[1:]), {**others, "attention_mask": mask}

    def take_padding_out(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any
    ) -> Any:
        """Puts zeros where the denoiser reads nothing."""
        mask = _given_mask(args, kwargs)
        if mask is None:
            mask = prompt_mask(_ids(args, kwargs), self._frame)
        states = output[0] if isinstance(output, tuple) else output.last_hidden_state
        states = torch.where(mask[..., None] > 0, states, torch.zeros_like(states))
        if self._length is not None:
            states = nn.functional.pad(states, (0, 0, 0, self._length - states.shape[1]))
        if isinstance(output, tuple):
            return (states, *output[1:])
        output.last_hidden_state = states
        return output


def _ids(args: tuple[Any, ...], kwargs: dict[str, Any]) -> torch.Tensor:
    ids: torch.Tensor = args[0] if args else kwargs["input_ids"]
    return ids


def _given_mask(args: tuple[Any, ...], kwargs: dict[str, Any]) -> torch.Tensor | None:
    return args[1] if len(args) > 1 else kwargs.get("attention_mask")
