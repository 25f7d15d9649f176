"""Attackers: soft prompts that are learned against an edit, for the edit to learn from.

Each is k input vectors in the place of the concept's name, moved down the denoising loss on the
concept's pictures (textual inversion, Gal et al., arXiv 2208.01618, eq. 2, as an attack: Pham et
al., arXiv 2308.01508).
"""

from collections.abc import Sequence
from typing import Any

import torch

from unsee.core.errors import InputError
from unsee.core.policy import Concept
from unsee.models.base import Base
from unsee.models.encoders.frame import PromptFrame
from unsee.prompts.encoding import SlottedPrompts, encode_vectors, token_table
from unsee.unlearning.anchors import Naming
from unsee.unlearning.contexts import word_ids
from unsee.unlearning.moments import StateReader


class Attackers:
    """Makes attackers; `rate` is in units of the token table's root mean square."""

    def __init__(
        self,
        base: Base,
        concept: Concept,
        prompts: SlottedPrompts,
        *,
        rate: float,
        generator: torch.Generator,
    ) -> None:
        self._text_encoder = base.text_encoder()
        self._table = token_table(self._text_encoder)
        self._name = torch.tensor(word_ids(base, concept.name))
        self._frame = base.prompt_frame()
        self._prompts = prompts
        self._rate = rate * self._table.square().mean().sqrt().item()
        self._generator = generator

    def start(self, turn: int, steps: int) -> "Attacker":
        """An attacker that may take `steps` steps.

        In turn it begins at the name's tokens filled up with the mean token, at the mean, and at
        random tokens.
        """
        count = self._prompts.slots.shape[1]
        mean = self._table.mean(0).expand(count, -1)
        match turn % 3:
            case 0:
                vectors = torch.cat([self._table[self._name], mean])[:count]
            case 1:
                vectors = mean
            case _:
                shape = (count,)
                tokens = torch.randint(len(self._table), shape, generator=self._generator)
                vectors = self._table[tokens]
        return Attacker(self._text_encoder, self._prompts, vectors, self._rate, steps, self._frame)


class Attacker:
    """One soft prompt: `vectors` [k, d] moved by Adam with a cosine schedule over `steps`."""

    def __init__(
        self,
        text_encoder: Any,
        prompts: SlottedPrompts,
        vectors: torch.Tensor,
        rate: float,
        steps: int,
        frame: PromptFrame,
    ) -> None:
        self.vectors = vectors.clone().requires_grad_(True)
        self._text_encoder = text_encoder
        self._prompts = prompts
        self._reader = StateReader(text_encoder, frame)
        self._optimizer = torch.optim.Adam([self.vectors], lr=rate)
        self._schedule = torch.optim.lr_scheduler.CosineAnnealingLR(self._optimizer, steps)

    def states(self) -> torch.Tensor:
        """The standardised states [P, L, D] of its prompts, with a gradient to `vectors`."""
        with self._reader.reading(self._prompts.ids) as found:
            encode_vectors(self._text_encoder, self._prompts, self.vectors)
        return found()

    def step(self, gradient: torch.Tensor) -> None:
        """Move down `gradient` [k, d]."""
        self.vectors.grad = gradient
        self._optimizer.step()
        self._schedule.step()


def free_prompts(prompts: Sequence[Naming], num_vectors: int, frame: PromptFrame) -> SlottedPrompts:
    """The prompts with `num_vectors` free positions in the name's place.

    Raises `InputError` if they do not fit.
    """
    rows, slots = [], []
    for naming in prompts:
        start = frame.first + len(naming.before)
        if start + num_vectors > frame.length - 1:
            raise InputError(
                f"{num_vectors} attack vectors do not fit beside the concept's name into the "
                f"{frame.length} tokens that the encoder reads; use fewer attack vectors"
            )
        rows.append(frame.framed([*naming.before, *frame.free(num_vectors), *naming.after]))
        slots.append(list(range(start, start + num_vectors)))
    return SlottedPrompts(torch.tensor(rows), torch.tensor(slots))
