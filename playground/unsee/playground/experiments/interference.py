"""How much the edit of one concept moves what names another, from deltas alone.

With D_i the matrix of concept i's edit, x_j the states (less their kept mean) that name concept j
and d_j the changes that forgetting j needs, the entry (i, j) is E|D_i x_j|^2 / E|d_j|^2: about 1 on
the diagonal, and 0 beside it where concepts do not touch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from unsee.core.unlearning_settings import AnchoredMode
from unsee.deltas.delta import Delta
from unsee.deltas.edit import Edit
from unsee.models.base import Base
from unsee.unlearning.contexts import contexts_of, word_ids
from unsee.unlearning.moments import ForgetMoments, StateReader, forget_moments, keep_moments


def interference(base: Base, deltas: Sequence[Delta], seed: int) -> dict[str, Any]:
    """The record of the default mode's `deltas` in their order: concepts, categories and `shares`,
    the matrix to four digits with edited concepts in rows."""
    reader = StateReader(base.text_encoder(), base.prompt_frame())
    needed = [_needed(base, reader, delta, seed) for delta in deltas]
    edits = [Edit.of(delta.tensors) for delta in deltas]
    shares = [[moved(edit, one.states) / one.change_size for one in needed] for edit in edits]
    return {
        "concepts": [delta.card.concept.name for delta in deltas],
        "categories": [delta.card.concept.category for delta in deltas],
        "shares": [[float(f"{value:.4g}") for value in row] for row in shares],
    }


def moved(edit: Edit, states: torch.Tensor) -> float:
    """E|D x|^2 of the edit's matrix D, from `states` E[x x^T], [D, D] float64."""
    matrix = edit.up.double() @ edit.down.double()
    return float((matrix @ states * matrix).sum())


def _needed(base: Base, reader: StateReader, delta: Delta, seed: int) -> ForgetMoments:
    card = delta.card
    contexts = contexts_of(base, card.concept)
    generator = torch.Generator().manual_seed(seed)
    settings: AnchoredMode = card.settings  # type: ignore[assignment]
    mean = keep_moments(reader, contexts.draw_kept(settings.prompts_to_keep, generator)).mean
    namings = contexts.draw_named(settings.prompts_to_forget, generator)
    return forget_moments(reader, namings, word_ids(base, card.anchor or ""), mean, contexts.frame)
