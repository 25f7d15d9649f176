"""Prompts as token ids, none of them cut off."""

from collections.abc import Sequence

from unsee.core.errors import InputError
from unsee.models.base import Base
from unsee.models.quiet import quiet_libraries


def fitting_prompts(base: Base, prompts: Sequence[str]) -> dict[str, list[int]]:
    """Return the token ids of those prompts that the text encoder can read to their end.

    Raises `InputError` if there is none.
    """
    tokenizer, frame = base.tokenizer(), base.prompt_frame()
    length = frame.length
    with quiet_libraries():
        rows = {prompt: list(tokenizer(frame.text(prompt)).input_ids) for prompt in prompts}
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
    frame = base.prompt_frame("image")
    return [frame.padded(row) for row in fitting_prompts(base, prompts).values()]


def parted_ids(
    base: Base, before: str, name: str, after: str
) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """The token ids of a prompt's three parts, without special ones, as the whole prompt has them.

    Some tokenizers read a text that stands alone otherwise than behind another. A token that is
    partly the name's belongs to the name.
    """
    with quiet_libraries():
        encoded = base.tokenizer()(
            f"{before}{name}{after}", add_special_tokens=False, return_offsets_mapping=True
        )
    start, end = len(before), len(before) + len(name)
    parts: tuple[list[int], list[int], list[int]] = ([], [], [])
    for token, (first, last) in zip(encoded.input_ids, encoded.offset_mapping, strict=True):
        parts[0 if last <= start else 2 if first >= end else 1].append(token)
    return tuple(parts[0]), tuple(parts[1]), tuple(parts[2])
