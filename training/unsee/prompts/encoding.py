"""Prompts through a text encoder, and prompts some of whose input vectors are an attacker's."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from unsee.core.errors import InputError
from unsee.models.base import Base
from unsee.models.encoders.families import family_of
from unsee.models.quiet import quiet_libraries


@dataclass(frozen=True)
class SlottedPrompts:
    """Prompts with k free positions each: `ids` [P, L] int64, the positions `slots` [P, k]."""

    ids: torch.Tensor
    slots: torch.Tensor

    def __len__(self) -> int:
        return len(self.ids)

    def rows(self, index: torch.Tensor) -> "SlottedPrompts":
        """The prompts at `index` [N] int64, in that order."""
        return SlottedPrompts(self.ids[index], self.slots[index])

    def filled(self, tokens: torch.Tensor) -> torch.Tensor:
        """Every prompt around every candidate's token ids: `tokens` [K, k] -> ids [K, P, L]."""
        shape = (len(tokens), len(self), tokens.shape[1])
        ids = self.ids.expand(len(tokens), -1, -1)
        slots = self.slots.expand(shape)
        return ids.scatter(2, slots, tokens[:, None].expand(shape))


def slotted_prompts(
    base: Base, pieces: Sequence[tuple[str, str]], num_slots: int
) -> SlottedPrompts:
    """Prompts from pairs (text before, text after) with `num_slots` free positions between.

    What the encoder cannot read is cut off the end, as the pipelines do. Raises `InputError` if
    the free positions themselves do not fit.
    """
    frame = base.prompt_frame()
    ids, slots = [], []
    for before, after in pieces:
        head = _word_ids(base, before)
        start = frame.first + len(head)
        if start + num_slots > frame.length - 1:
            raise InputError(
                f"{num_slots} vectors after {before!r} do not fit into the {frame.length} tokens "
                f"that the base {base.name!r} reads; use fewer vectors"
            )
        ids.append(frame.framed([*head, *frame.free(num_slots), *_word_ids(base, after)]))
        slots.append(range(start, start + num_slots))
    return SlottedPrompts(torch.tensor(ids), torch.tensor([list(row) for row in slots]))


def prompt_ids(base: Base, prompts: Sequence[str]) -> torch.Tensor:
    """Token ids [P, L] int64, padded and cut to the encoder's length as the pipelines do."""
    texts = [base.prompt_frame().text(prompt) for prompt in prompts]
    with quiet_libraries():
        rows = base.tokenizer()(texts, padding="max_length", truncation=True)
    return torch.tensor(rows.input_ids)


def encode_ids(text_encoder: Any, ids: torch.Tensor) -> torch.Tensor:
    """`last_hidden_state` [..., L, D] float32 of `ids` [..., L] int64, with a gradient."""
    hidden: torch.Tensor = text_encoder(ids.flatten(0, -2)).last_hidden_state.float()
    return hidden.view(*ids.shape, -1)


@torch.no_grad()
def encode_prompts(base: Base, text_encoder: Any, prompts: Sequence[str]) -> torch.Tensor:
    """The prompt embeddings [P, L, D] float32 that the service's denoiser would be given."""
    return encode_ids(text_encoder, prompt_ids(base, prompts))


def encode_vectors(
    text_encoder: Any, prompts: SlottedPrompts, vectors: torch.Tensor
) -> torch.Tensor:
    """Embeddings [P, L, D] of the prompts with `vectors` [k, d] in their free positions.

    The gradient reaches `vectors`; they stand where the token embedding's rows would, before the
    position embedding is added.
    """
    with _input_vectors(text_encoder, prompts.slots, vectors):
        return encode_ids(text_encoder, prompts.ids)


def token_table(text_encoder: Any) -> torch.Tensor:
    """The encoder's token embeddings [V, d], without a gradient; not a copy."""
    table: torch.Tensor = _token_embedding(text_encoder).weight.detach()
    return table


@contextmanager
def _input_vectors(text_encoder: Any, slots: torch.Tensor, vectors: torch.Tensor) -> Iterator[None]:
    """Put `vectors` into the output of the token embedding; not every encoder takes vectors."""

    def replace(module: Any, inputs: Any, output: torch.Tensor) -> torch.Tensor:
        index = slots[..., None].expand(-1, -1, output.shape[-1])
        return output.scatter(1, index, vectors.expand_as(index))

    handle = _token_embedding(text_encoder).register_forward_hook(replace)
    try:
        yield
    finally:
        handle.remove()


def _token_embedding(text_encoder: Any) -> Any:
    return family_of(text_encoder).token_embedding(text_encoder)


def _word_ids(base: Base, text: str) -> list[int]:
    with quiet_libraries():
        return list(base.tokenizer()(text, add_special_tokens=False).input_ids)
