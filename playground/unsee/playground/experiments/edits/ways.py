"""Ways to edit a text encoder beyond one projection of its last state.

Each takes a `Subject` and gives an encoder; all begin with the default mode's edit. They are for
comparing, not for serving: deltas hold the projection alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from unsee.core.policy import Concept
from unsee.deltas.edit import (
    Edit,
    EditedNorm,
    edited,
    final_layer_norm,
    install,
    standardised,
    with_the_same_weights,
)
from unsee.jobs.job import UnlearnJob
from unsee.models.base import Base
from unsee.models.encoders.clip import encoder_layers
from unsee.playground.experiments.own_base import unlearned
from unsee.unlearning.anchors import ANCHORS
from unsee.unlearning.contexts import Contexts, contexts_of, word_ids
from unsee.unlearning.moments import StateReader, forget_moments, keep_moments
from unsee.unlearning.projection import fitted

NUM_KEPT = 1500
ENDS = 5e-4
"""The share of kept states beyond each end of the range in which `held_inside` holds states."""
WIDTH = 0.2
"""Of the means in `among_prompts`, as a share of the states' spread. Of the variance of states of
prompts that are not among them 6 % is lost on the first base, and 14 % at twice the width."""


@dataclass(frozen=True)
class Subject:
    """A concept of a base, and the folder for its deltas."""

    base: Base
    concept: Concept
    seed: int
    folder: Path

    def edit(self, **changed: Any) -> Edit:
        """The default mode's edit, or with some of its settings changed."""
        settings = replace(self.base.spec.unlearn.anchored, **changed)
        name = "-".join(("delta", *(f"{key}-{value}" for key, value in changed.items())))
        job = UnlearnJob(self.base, self.concept, settings, self.seed)
        return Edit.of(unlearned(job, self.folder / name).delta.tensors)

    def contexts(self) -> Contexts:
        """Prompts with and without the concept."""
        return contexts_of(self.base, self.concept)

    def generator(self) -> torch.Generator:
        """Of everything that a way draws."""
        return torch.Generator().manual_seed(self.seed)

    def anchor_ids(self) -> tuple[int, ...]:
        """The tokens that stand in the name's place."""
        return word_ids(self.base, ANCHORS[self.concept.category])


Way = Callable[[Subject], Any]


class ChangedNorm(EditedNorm):
    """An edit, and after it a change of states [B, L, D] -> [B, L, D] that need not be linear."""

    def __init__(self, norm: nn.Module, edit: Edit, change: nn.Module) -> None:
        super().__init__(norm, edit)
        self.change = change

    def forward(self, states: Tensor, mask: Tensor | None = None) -> Tensor:
        edited_states = self.edit(standardised(self.norm, states.float()))
        said: Tensor = self.norm(self.change(edited_states).to(states.dtype))
        return said


def changed(text_encoder: Any, edit: Edit, change: nn.Module) -> Any:
    """An encoder with `edit` and then `change`; it shares the weights of `text_encoder`."""
    copied = with_the_same_weights(text_encoder)
    install(copied, ChangedNorm(final_layer_norm(copied), edit, change))
    return copied


def projection(subject: Subject) -> Any:
    """The default mode."""
    return edited(subject.base.text_encoder(), subject.edit())


def attacked_projection(subject: Subject) -> Any:
    """What eight soft prompts say joins the prompts to forget, and one projection is solved from
    the clean encoder (after STEREO, arXiv 2408.16807)."""
    return edited(subject.base.text_encoder(), subject.edit(attackers=8, rank=64))


class HeldInside(nn.Module):
    """Cuts the principal coordinates of a state off at `low` and `high` [D].

    The first state of a prompt, which is the same for every prompt, is left alone.
    """

    basis: Tensor
    mean: Tensor
    low: Tensor
    high: Tensor

    def __init__(self, basis: Tensor, mean: Tensor, low: Tensor, high: Tensor) -> None:
        super().__init__()
        for name, value in {"basis": basis, "mean": mean, "low": low, "high": high}.items():
            self.register_buffer(name, value)

    @classmethod
    def of(cls, states: Tensor, ends: float) -> HeldInside:
        """Held where all but the share `ends` of `states` [N, D] lie, on each side."""
        mean = states.mean(dim=0)
        centred = (states - mean).double()
        basis = torch.linalg.eigh(centred.T @ centred).eigenvectors.float()
        ordered = ((states - mean) @ basis).sort(dim=0).values
        place = int(ends * len(ordered))
        return cls(basis, mean, ordered[place], ordered[-1 - place])

    def forward(self, states: Tensor) -> Tensor:
        coordinates = (states - self.mean) @ self.basis
        held = coordinates.clamp(self.low, self.high) @ self.basis.T + self.mean
        return torch.cat([states[:, :1], held[:, 1:]], dim=1)


def held_inside(subject: Subject) -> Any:
    """States after the edit stay inside what prompts reach."""
    edit = subject.edit()
    states = kept_states(subject, edit)
    change = HeldInside.of(states.flatten(0, 1), ENDS)
    return changed(subject.base.text_encoder(), edit, change)


class AmongPrompts(nn.Module):
    """Replaces each state but a prompt's first by a mean of what prompts say in its place.

    `said` [N, L - 1, D] are those; a weight falls with the square of the distance, in units of
    `width`, as in a modern Hopfield network (Ramsauer et al., arXiv 2008.02217, eq. 3).
    """

    said: Tensor
    half_squares: Tensor

    def __init__(self, said: Tensor, width: float) -> None:
        super().__init__()
        self.register_buffer("said", said.transpose(0, 1).contiguous())
        self.register_buffer("half_squares", self.said.square().sum(dim=-1)[:, None] / 2)
        self.width = width

    @classmethod
    def of(cls, said: Tensor) -> AmongPrompts:
        """As wide as a share of the states' root mean square distance from their mean."""
        spread = (said - said.mean(dim=0)).square().sum(dim=-1).mean().sqrt()
        return cls(said, WIDTH * float(spread))

    def forward(self, states: Tensor) -> Tensor:
        places = states[:, 1:].transpose(0, 1)
        near = places @ self.said.transpose(1, 2) - self.half_squares  # -distance²/2, and the same
        weights = (near / self.width**2).softmax(dim=-1)
        return torch.cat([states[:, :1], (weights @ self.said).transpose(0, 1)], dim=1)


def among_prompts(subject: Subject, share: float = 1.0) -> Any:
    """States after the edit are means of what prompts say, or a share of them."""
    edit = subject.edit()
    said = kept_states(subject, edit)
    change = AmongPrompts.of(said[: int(share * len(said))])
    return changed(subject.base.text_encoder(), edit, change)


@torch.no_grad()
def kept_states(subject: Subject, edit: Edit) -> Tensor:
    """Edited states [N, L - 1, D] of kept prompts, without each prompt's first."""
    contexts, encoder = subject.contexts(), subject.base.text_encoder()
    reader = StateReader(encoder, contexts.frame)
    rows = torch.tensor(contexts.draw_kept(NUM_KEPT, subject.generator()))
    return torch.cat([edit(reader.states(ids))[:, 1:] for ids in torch.split(rows, 64)])


def earlier_too(subject: Subject) -> Any:
    """The attention of the last block reads projected states as well (of a `CLIPTextModel`)."""
    encoder = edited(subject.base.text_encoder(), subject.edit())
    _, layers = encoder_layers(encoder)
    last: Any = layers[-1]
    reader = StateReader(encoder, subject.contexts().frame, last.layer_norm1)
    last.layer_norm1 = EditedNorm(last.layer_norm1, _projection_at(subject, reader))
    return encoder


def _projection_at(subject: Subject, reader: StateReader) -> Edit:
    """As the default mode finds it, from the states that `reader` reads."""
    contexts, generator = subject.contexts(), subject.generator()
    settings = subject.base.spec.unlearn.anchored
    keep = keep_moments(reader, contexts.draw_kept(settings.prompts_to_keep, generator))
    namings = contexts.draw_named(settings.prompts_to_forget, generator)
    moments = (reader, namings, subject.anchor_ids(), keep.mean, contexts.frame)
    forget = forget_moments(*moments)
    none = type(forget).none(len(keep.mean))
    return fitted(forget, none, keep, settings.kept_at_least, settings.rank).edit


LINEAR: Mapping[str, Way] = {
    "projection (the default)": projection,
    "projection, 8 attackers": attacked_projection,
    "an earlier block too": earlier_too,
    "held inside what prompts reach": held_inside,
    "means of what 1,500 prompts say": among_prompts,
    "means of what 150 prompts say": partial(among_prompts, share=0.1),
}
