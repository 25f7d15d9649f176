"""The graphs from tokens to prompt embeddings: the text encoder, and what policies make of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from unsee.export.graphs.graphs import GUIDED_ROWS, TensorSpec, Tolerance, generator
from unsee.export.graphs.modules import EditModule, EncoderModule
from unsee.export.graphs.sizes import Clip, ClipLimits, Profile, Sizes, with_batch
from unsee.repository.layout import TEXT_ENCODER
from unsee.repository.records import GraphPrecision

__all__ = ["EditGraph", "PromptGraph", "TextEncoderGraph", "TunedEncoderGraph"]


@dataclass(frozen=True)
class PromptGraph:
    """What the graphs of prompts have in common: L tokens a prompt, states of D numbers."""

    sequence_length: int
    hidden_size: int

    max_batch_size: ClassVar[int] = 16
    tolerances: ClassVar[Mapping[GraphPrecision, Tolerance]] = {"float32": Tolerance(1e-4, "std")}

    @property
    def multiples(self) -> Sizes:
        """Any batch will do."""
        return {}

    @property
    def largest_sizes(self) -> Sizes:
        """No axis has an end of its own."""
        return {}

    @property
    def traced_sizes(self) -> Sizes:
        """Two rows: an axis of size 1 may be taken for a constant."""
        return {"B": 2}

    @property
    def checked_sizes(self) -> tuple[Sizes, ...]:
        """One prompt, and more than were traced."""
        return {"B": 1}, {"B": 5}

    def clip_sizes(self, clip: Clip) -> Sizes:
        """The negative and the positive prompt."""
        return {"B": GUIDED_ROWS}

    def profile(self, clip: Clip, limits: ClipLimits) -> Profile:
        """One prompt, two, or as many as Triton puts into a batch."""
        return with_batch(Profile({}, {}, {}), GUIDED_ROWS, self.max_batch_size)

    @property
    def _tokens(self) -> tuple[int | str, ...]:
        return ("B", self.sequence_length)

    @property
    def _states(self) -> tuple[int | str, ...]:
        return ("B", self.sequence_length, self.hidden_size)

    def _mask(self, rows: int, drawn: torch.Generator) -> Tensor:
        """A mask [B, L] that hides the ends of the rows, the last row's none."""
        lengths = torch.randint(1, self.sequence_length + 1, (rows, 1), generator=drawn)
        lengths[-1] = self.sequence_length
        return (torch.arange(self.sequence_length) < lengths).long()


@dataclass(frozen=True)
class TextEncoderGraph(PromptGraph):
    """`input_ids`, `attention_mask` INT64 [B, L] -> `states` FP32 [B, L, D]; L is fixed.

    It wraps a text encoder without its final normalisation (`unsee.deltas.edit.trunk`).
    """

    vocab_size: int

    name: ClassVar[str] = TEXT_ENCODER

    @classmethod
    def of(cls, text_encoder: Any, sequence_length: int) -> "TextEncoderGraph":
        """The graph of a text encoder for prompts padded to `sequence_length`."""
        config = text_encoder.config
        return cls(sequence_length, config.hidden_size, config.vocab_size)

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """Padded token ids, and 1 where the encoder may look."""
        return (
            TensorSpec("input_ids", "INT64", self._tokens),
            TensorSpec("attention_mask", "INT64", self._tokens),
        )

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """What enters the final normalisation."""
        return (TensorSpec("states", "FP32", self._states),)

    def wrap(self, model: Any) -> nn.Module:
        """A module with this graph's signature."""
        return EncoderModule(model).eval()

    def example_inputs(self, sizes: Sizes, seed: int) -> tuple[Tensor, ...]:
        """Random ids [B, L] over the whole vocabulary, and a mask."""
        drawn, rows = generator(seed), sizes["B"]
        shape = (rows, self.sequence_length)
        return (
            torch.randint(0, self.vocab_size, shape, generator=drawn),
            self._mask(rows, drawn),
        )


@dataclass(frozen=True)
class TunedEncoderGraph(TextEncoderGraph):
    """`input_ids`, `attention_mask` INT64 [B, L] -> `prompt_embeds` FP32 [B, L, D].

    A revision of kind "encoder": a whole text encoder of tuned weights.
    """

    name: ClassVar[str] = "encoder"

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """What the final normalisation gives."""
        return (TensorSpec("prompt_embeds", "FP32", self._states),)


@dataclass(frozen=True)
class EditGraph(PromptGraph):
    """`states` FP32 [B, L, D], `attention_mask` INT64 [B, L] -> `prompt_embeds` FP32 [B, L, D].

    A revision of kind "edit". It wraps the final normalisation of a text encoder, be it an
    `unsee.deltas.edit.EditedNorm` or the base's own.
    """

    name: ClassVar[str] = "edit"

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """The text encoder's states, and 1 where it was to look."""
        return (
            TensorSpec("states", "FP32", self._states),
            TensorSpec("attention_mask", "INT64", self._tokens),
        )

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """What the final normalisation gives."""
        return (TensorSpec("prompt_embeds", "FP32", self._states),)

    def wrap(self, model: Any) -> nn.Module:
        """A module with this graph's signature."""
        return EditModule(model).eval()

    def example_inputs(self, sizes: Sizes, seed: int) -> tuple[Tensor, ...]:
        """Normal states [B, L, D], and a mask."""
        drawn, rows = generator(seed), sizes["B"]
        shape = (rows, self.sequence_length, self.hidden_size)
        return torch.randn(shape, generator=drawn), self._mask(rows, drawn)
