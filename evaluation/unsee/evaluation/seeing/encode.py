"""Prompts as the denoiser sees them: the hidden states of a text encoder.

Knows a tokenizer and an encoder, base or tuned; knows neither questions nor frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from unsee.core.errors import InputError
from unsee.models.base import Base
from unsee.models.quiet import quiet_libraries


@dataclass(frozen=True)
class PromptEncoder:
    """A text encoder with the tokenizer of `base`, padded as diffusers' pipelines pad."""

    text_encoder: Any
    base: Base

    def fits(self, prompt: str) -> bool:
        """Whether the encoder reads `prompt` to its end."""
        return len(self._token_ids(prompt)) <= self._length

    @torch.no_grad()
    def embeds(self, prompts: Sequence[str]) -> torch.Tensor:
        """`last_hidden_state` [N, L, D] float32.

        Prompts are encoded one by one, so that a prompt's bits do not depend on its neighbours.
        Raises `InputError` if a prompt is too long or there is none.
        """
        if not prompts:
            raise InputError("there are no prompts to encode")
        rows = {prompt: self._row(prompt) for prompt in dict.fromkeys(prompts)}
        return torch.stack([rows[prompt] for prompt in prompts])

    def _row(self, prompt: str) -> torch.Tensor:
        ids = self._token_ids(prompt)
        if len(ids) > self._length:
            raise InputError(
                f"the prompt {prompt!r} takes {len(ids)} tokens and the base {self.base.name!r} "
                f"reads {self._length}"
            )
        padding = [self.base.tokenizer().pad_token_id] * (self._length - len(ids))
        padded = torch.tensor([ids + padding])
        mask = None
        if getattr(self.text_encoder.config, "use_attention_mask", False):
            mask = torch.tensor([[1] * len(ids) + [0] * len(padding)])
        hidden = self.text_encoder(padded, attention_mask=mask).last_hidden_state
        row: torch.Tensor = hidden[0].float()
        return row

    def _token_ids(self, prompt: str) -> list[int]:
        with quiet_libraries():
            return list(self.base.tokenizer()(prompt).input_ids)

    @property
    def _length(self) -> int:
        length: int = self.text_encoder.config.max_position_embeddings
        return length
