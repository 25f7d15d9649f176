"""Prompts as token ids, none of them cut off."""

from collections.abc import Sequence

from unsee.core.errors import InputError
from unsee.models.base import Base
from unsee.models.quiet import quiet_libraries


def fitting_prompts(base: Base, prompts: Sequence[str]) -> dict[str, list[int]]:
    """Return the token ids of those prompts that the text encoder can read to their end.

    Raises `InputError` if there is none.
    """
    tokenizer = base.tokenizer()
    length = base.special_tokens().length
    with quiet_libraries():
        rows = {prompt: list(tokenizer(prompt).input_ids) for prompt in prompts}
    fitting = {prompt: row for prompt, row in rows.items() if len(row) <= length}
    if not fitting:
        shortest = min(rows, key=lambda prompt: len(rows[prompt]))
        raise InputError(
            f"the prompt {shortest!r} takes {len(rows[shortest])} tokens and the base "
            f"{base.name!r} reads {length}; use a shorter name"
        )
    return fitting


def padded_token_ids(base: Base, prompts: Sequence[str]) -> list[list[int]]:
    """Return the token ids of the fitting prompts, [P][L], padded as the
    image model pads them."""
    tokens = base.special_tokens("image")
    rows = fitting_prompts(base, prompts).values()
    return [row + [tokens.pad] * (tokens.length - len(row)) for row in rows]
