"""The ids that frame a prompt, and what of it encoder and denoiser read."""

from collections.abc import Sequence
from dataclasses import dataclass

from unsee.core.prompt_text import cleaned


@dataclass(frozen=True)
class PromptRules:
    """How a pipeline of diffusers gives a prompt to its encoder and the states to its denoiser.

    Args:
        length: how many tokens a prompt is padded to; None: as many as tokenizer and encoder allow.
        gives_mask: whether the encoder is given the mask of the padding.
        reads_padding: whether the denoiser reads what the encoder says at the padding; if it does
            not, rows of zeros stand there.
        cleans: whether a prompt is cleaned before the tokenizer (`unsee.core.prompt_text`).
    """

    length: int | None = None
    gives_mask: bool = False
    reads_padding: bool = True
    cleans: bool = False


@dataclass(frozen=True)
class PromptFrame:
    """The ids that frame a prompt of `length` tokens: `start`, the prompt, `eos`, then padding.

    `gives_mask`, `reads_padding` and `cleans` are those of `PromptRules`.
    """

    start: tuple[int, ...]
    eos: int
    pad: int
    length: int
    gives_mask: bool = False
    reads_padding: bool = True
    cleans: bool = False

    @property
    def cuts_padding(self) -> bool:
        """Whether neither encoder nor denoiser reads the padding, so that it can be left out."""
        return self.gives_mask and not self.reads_padding

    @property
    def first(self) -> int:
        """The position of the prompt's first token."""
        return len(self.start)

    @property
    def room(self) -> int:
        """How many tokens of its own a prompt may have."""
        return self.length - len(self.start) - 1

    def free(self, count: int) -> tuple[int, ...]:
        """`count` ids whose embeddings vectors will take the place of.

        They are not the padding's, which an encoder may mask.
        """
        return ((*self.start, self.eos)[0],) * count

    def text(self, prompt: str) -> str:
        """What of `prompt` the tokenizer is given."""
        return cleaned(prompt) if self.cleans else prompt

    def framed(self, ids: Sequence[int]) -> list[int]:
        """The prompt's ids, cut and padded to `length`."""
        return self.padded([*self.start, *ids[: self.room], self.eos])

    def padded(self, row: Sequence[int]) -> list[int]:
        """A framed prompt of at most `length` tokens, padded to `length`."""
        return [*row, *[self.pad] * (self.length - len(row))]
