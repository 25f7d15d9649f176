"""The graphs from tokens to prompt embeddings: the text encoder, and what policies make of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from unsee.export.graphs.graphs import GUIDED_ROWS, TensorSpec, Tolerance, generator, sized
from unsee.export.graphs.modules import EditModule, EncoderModule
from unsee.export.graphs.sizes import Profile, Sizes, with_batch
from unsee.models.spec import ClipDefaults, Limits
from unsee.repository.layout import TEXT_ENCODER
from unsee.repository.records import GraphPrecision

_USUAL_TOKENS, _FEW_TOKENS = 64, 7


@dataclass(frozen=True)
class PromptGraph:
    """What the graphs of prompts have in common: L tokens a prompt, states of D numbers.

    Every call has `sequence_length` tokens or, with `any_length`, from one to so many.
    """

    sequence_length: int
    hidden_size: int
    any_length: bool = field(default=False, kw_only=True)

    max_batch_size: ClassVar[int] = 16
    tolerances: ClassVar[Mapping[GraphPrecision, Tolerance]] = {"float32": Tolerance(1e-4, "std")}
    multiples: ClassVar[Sizes] = {}

    @property
    def largest_sizes(self) -> Sizes:
        """As many tokens as a prompt may have."""
        return self._length(self.sequence_length)

    @property
    def traced_sizes(self) -> Sizes:
        """Two rows: an axis of size 1 may be taken for a constant."""
        return {"B": 2, **self._length(_FEW_TOKENS)}

    @property
    def checked_sizes(self) -> tuple[Sizes, ...]:
        """One prompt, as long as may be, and more than were traced, as short as may be."""
        return (
            {"B": 1, **self._length(self.sequence_length)},
            {"B": 5, **self._length(1)},
        )

    def clip_sizes(self, clip: ClipDefaults) -> Sizes:
        """The negative and the positive prompt."""
        return {"B": GUIDED_ROWS, **self._length(_USUAL_TOKENS)}

    def profile(self, clip: ClipDefaults, limits: Limits) -> Profile:
        """One prompt, two, or as many as Triton puts into a batch."""
        lengths = (self._length(count) for count in (1, _USUAL_TOKENS, self.sequence_length))
        return with_batch(Profile(*lengths), GUIDED_ROWS, self.max_batch_size)

    def _length(self, tokens: int) -> Sizes:
        """The size of the axis L, if there is one, for prompts of `tokens`."""
        return {"L": min(tokens, self.sequence_length)} if self.any_length else {}

    @property
    def _tokens(self) -> tuple[int | str, ...]:
        return ("B", "L" if self.any_length else self.sequence_length)

    @property
    def _states(self) -> tuple[int | str, ...]:
        return (*self._tokens, self.hidden_size)

    def _mask(self, sizes: Sizes, drawn: torch.Generator) -> Tensor:
        """A mask [B, L] that hides the ends of the rows, the last row's none."""
        rows, length = sized(self._tokens, sizes)
        lengths = torch.randint(1, length + 1, (rows, 1), generator=drawn)
        lengths[-1] = length
        return (torch.arange(length) < lengths).long()


@dataclass(frozen=True)
class TextEncoderGraph(PromptGraph):
    """`input_ids`, `attention_mask` INT64 [B, L] -> `states` FP32 [B, L, D].

    It wraps a text encoder without its final normalisation (`unsee.deltas.edit.trunk`).
    """

    vocab_size: int

    name: ClassVar[str] = TEXT_ENCODER

    @classmethod
    def of(
        cls, text_encoder: Any, sequence_length: int, any_length: bool = False
    ) -> "TextEncoderGraph":
        """The graph of a text encoder for prompts of `sequence_length` tokens, or at most so many.

        The latter needs an encoder that is given the mask and has no table of positions.
        """
        config = text_encoder.config
        sizes = sequence_length, config.hidden_size, config.vocab_size
        return cls(*sizes, any_length=any_length)

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
        return EncoderModule(model).eval()

    def example_inputs(self, sizes: Sizes, seed: int) -> tuple[Tensor, ...]:
        """Random ids [B, L] over the whole vocabulary, and a mask."""
        drawn, shape = generator(seed), sized(self._tokens, sizes)
        return (
            torch.randint(0, self.vocab_size, shape, generator=drawn),
            self._mask(sizes, drawn),
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
        return EditModule(model).eval()

    def example_inputs(self, sizes: Sizes, seed: int) -> tuple[Tensor, ...]:
        """Normal states [B, L, D], and a mask."""
        drawn, shape = generator(seed), sized(self._states, sizes)
        return torch.randn(shape, generator=drawn), self._mask(sizes, drawn)
