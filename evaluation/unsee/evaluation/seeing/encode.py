"""Prompts as the denoiser sees them: the hidden states of a text encoder, base or tuned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from unsee.core.errors import InputError
from unsee.evaluation.report.schema import Media
from unsee.models.base import Base
from unsee.models.encoders.frame import PromptFrame
from unsee.models.quiet import quiet_libraries


@dataclass(frozen=True)
class PromptEncoder:
    """A text encoder with the tokenizer of `base`, padded as the pipeline of `media` pads."""

    text_encoder: Any
    base: Base
    media: Media = "video"

    def fits(self, prompt: str) -> bool:
        """Whether the encoder reads `prompt` to its end."""
        return len(self._token_ids(prompt)) <= self._frame.length

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
        frame = self._frame
        if len(ids) > frame.length:
            raise InputError(
                f"the prompt {prompt!r} takes {len(ids)} tokens and the base {self.base.name!r} "
                f"reads {frame.length}"
            )
        hidden = self.text_encoder(torch.tensor([frame.padded(ids)])).last_hidden_state
        row: torch.Tensor = hidden[0].float()
        return row

    def _token_ids(self, prompt: str) -> list[int]:
        with quiet_libraries():
            return list(self.base.tokenizer(self.media)(self._frame.text(prompt)).input_ids)

    @property
    def _frame(self) -> PromptFrame:
        return self.base.prompt_frame(self.media)
