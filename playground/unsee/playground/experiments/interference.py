"""How much the edit of one concept moves what names another, from deltas alone.

With D_i the matrix of concept i's edit, x_j the states (less their kept mean) that name concept j
and d_j the changes that forgetting j needs, the entry (i, j) is E|D_i x_j|^2 / E|d_j|^2: about 1 on
the diagonal, and 0 beside it where concepts do not touch. Knows moments; makes no picture of any
concept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from numpy.typing import NDArray

from unsee.core.unlearning_settings import AnchoredMode
from unsee.deltas.delta import Delta
from unsee.deltas.edit import Edit
from unsee.models.base import Base
from unsee.playground.experiments.results_plots import INK, svg
from unsee.unlearning.contexts import contexts_of, word_ids
from unsee.unlearning.moments import ForgetMoments, StateReader, forget_moments, keep_moments

_FAINTEST = 1e-4


@dataclass(frozen=True)
class Interference:
    """The matrix [N, N] float64 of concepts by name, edited ones in rows, and their categories."""

    names: tuple[str, ...]
    categories: tuple[str, ...]
    shares: NDArray[np.float64]

    def pairs(self) -> list[tuple[str, str, float]]:
        """(edited, moved, share) of two different concepts each, the worst first."""
        size = range(len(self.names))
        found = [
            (self.names[i], self.names[j], float(self.shares[i, j]))
            for i in size
            for j in size
            if i != j
        ]
        return sorted(found, key=lambda pair: -pair[2])

    def median(self, *, siblings: bool) -> float:
        """The median over different concepts of one category, or of two; NaN without any."""
        own = np.array(self.categories)
        alike = own[:, None] == own[None, :]
        chosen = alike & ~np.eye(len(own), dtype=bool) if siblings else ~alike
        return float(np.median(self.shares[chosen])) if chosen.any() else float("nan")


def interference(base: Base, deltas: Sequence[Delta], seed: int) -> Interference:
    """The matrix of `deltas` of the default mode, in their order."""
    reader = StateReader(base.text_encoder())
    needed = [_needed(base, reader, delta, seed) for delta in deltas]
    edits = [Edit.of(delta.tensors) for delta in deltas]
    shares = [[moved(edit, one.states) / one.change_size for one in needed] for edit in edits]
    return Interference(
        names=tuple(delta.card.concept.name for delta in deltas),
        categories=tuple(delta.card.concept.category for delta in deltas),
        shares=np.array(shares, dtype=np.float64),
    )


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
    return forget_moments(reader, namings, word_ids(base, card.anchor or ""), mean, contexts.tokens)


def interference_plot(found: Interference) -> bytes:
    """The matrix as a heat map on a logarithmic scale, with lines between categories."""
    size = len(found.names)
    figure = Figure(figsize=(9, 8), layout="constrained")
    axes = figure.add_subplot()
    norm = LogNorm(_FAINTEST, 1, clip=True)
    mesh = axes.pcolormesh(found.shares.clip(_FAINTEST, 1), cmap="magma_r", norm=norm)
    centres = np.arange(size) + 0.5
    axes.set_xticks(centres, found.names, rotation=90)
    axes.set_yticks(centres, found.names)
    for border in _borders(found.categories):
        axes.axhline(border, color=INK, linewidth=0.8)
        axes.axvline(border, color=INK, linewidth=0.8)
    axes.invert_yaxis()
    axes.set(xlabel="states that name", ylabel="edit of", aspect="equal")
    figure.colorbar(mesh, ax=axes, shrink=0.6, label="moved, in units of what forgetting needs")
    return svg(figure)


def _borders(categories: Sequence[str]) -> list[int]:
    return [i for i in range(1, len(categories)) if categories[i] != categories[i - 1]]
