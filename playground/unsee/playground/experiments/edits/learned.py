"""A small non-linear change that is learned against a pool of attackers.

After the projection comes z -> z + B gelu(A z + a) + b, position by position. Soft prompts as
strong as the usual attack are learned against it one after the other; what each of them makes the
encoder say is to become what the anchor says, for all attackers so far at once (replay), and kept
states are to stay. After adversarial training of encoders (AdvUnlearn, arXiv 2405.15234).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unsee.deltas.edit import Edit, final_layer_norm
from unsee.images.few_shot import generate_few_shot_images
from unsee.playground.experiments.edits.ways import Subject, changed, kept_states
from unsee.unlearning.attackers import Attackers, free_prompts
from unsee.unlearning.contexts import Contexts
from unsee.unlearning.moments import StateReader, changes_needed
from unsee.unlearning.pictures import Pictures, pictures_of


@dataclass(frozen=True)
class Training:
    """How much is spent: attackers of `attack_steps` each, and `fit_steps` after each of them."""

    attackers: int = 12
    attack_steps: int = 60
    attack_vectors: int = 4
    attack_rate: float = 0.2
    attack_batch: int = 8
    shots: int = 4
    counterexamples: int = 64
    fit_steps: int = 300
    fit_batch: int = 512
    learning_rate: float = 1e-3
    keep_weight: float = 10.0


Pairs = tuple[Tensor, Tensor]
"""States [N, D] after the edit, and what they are to become."""


class SmallChange(nn.Module):
    """z -> z + B gelu(A z + a) + b; begins as the identity."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.enter, self.leave = nn.Linear(size, 4 * size), nn.Linear(4 * size, size)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)

    def forward(self, states: Tensor) -> Tensor:
        change: Tensor = self.leave(F.gelu(self.enter(states)))
        return states + change


def learned_change(subject: Subject, training: Training | None = None) -> Any:
    """The projection, and a change that is learned against attackers."""
    training = training or Training()
    pool = _Pool.of(subject, training)
    for turn in range(training.attackers):
        pool.add(pool.attacker_vectors(turn))
        pool.fit()
    frozen = pool.change.requires_grad_(False)
    return changed(subject.base.text_encoder(), pool.edit, frozen)


@dataclass
class _Pool:
    """The change as it is, and the pairs that all attackers so far have left."""

    training: Training
    contexts: Contexts
    anchor_ids: tuple[int, ...]
    reader: StateReader
    norm: Any
    edit: Edit
    pictures: Pictures
    attackers: Attackers
    kept: Tensor
    change: SmallChange
    pairs: list[Pairs]
    generator: torch.Generator

    @classmethod
    def of(cls, subject: Subject, training: Training) -> _Pool:
        base, concept, contexts = subject.base, subject.concept, subject.contexts()
        generator, edit = subject.generator(), subject.edit()
        images = generate_few_shot_images(base, concept, training.shots, subject.seed)
        pictures = pictures_of(base, concept, images, contexts, None, generator)
        slots = free_prompts(pictures.prompts, training.attack_vectors, contexts.frame)
        rate = training.attack_rate
        torch.manual_seed(subject.seed)  # of the change's first layer
        return cls(
            training=training,
            contexts=contexts,
            anchor_ids=subject.anchor_ids(),
            reader=StateReader(base.text_encoder(), contexts.frame),
            norm=final_layer_norm(base.text_encoder()),
            edit=edit,
            pictures=pictures,
            attackers=Attackers(base, concept, slots, rate=rate, generator=generator),
            kept=kept_states(subject, edit).flatten(0, 1),
            change=SmallChange(len(edit.up)),
            pairs=[],
            generator=generator,
        )

    def attacker_vectors(self, turn: int) -> Tensor:
        """Input vectors [k, d] of a soft prompt that was learned against the change as it is."""
        training = self.training
        attacker = self.attackers.start(turn, training.attack_steps)
        for _ in range(training.attack_steps):
            trials = torch.randperm(len(self.pictures.bank), generator=self.generator)
            trials = trials[: training.attack_batch]
            states = attacker.states()[self.pictures.rows(trials)]
            said = self.norm(self.change(self.edit(states)))
            error = self.pictures.errors(trials, said).mean()
            attacker.step(torch.autograd.grad(error, attacker.vectors)[0])
        return attacker.vectors.detach()

    @torch.no_grad()
    def add(self, vectors: Tensor) -> None:
        """The pairs of one attacker, in many contexts."""
        namings = self.contexts.draw_named(self.training.counterexamples, self.generator)
        states, changes = changes_needed(
            self.reader, namings, self.anchor_ids, self.contexts.frame, vectors
        )
        self.pairs.append((self.edit(states), self.edit(states + changes)))

    def fit(self) -> None:
        """Adam on all pairs and as many kept states."""
        training = self.training
        states, wanted = (torch.cat(side) for side in zip(*self.pairs, strict=True))
        optimizer = torch.optim.Adam(self.change.parameters(), lr=training.learning_rate)
        for _ in range(training.fit_steps):
            chosen, kept = (self._drawn(states), self.kept[self._drawn(self.kept)])
            forget = F.mse_loss(self.change(states[chosen]), wanted[chosen])
            keep = F.mse_loss(self.change(kept), kept)
            optimizer.zero_grad()
            (forget + training.keep_weight * keep).backward()  # type: ignore[no-untyped-call]
            optimizer.step()

    def _drawn(self, rows: Tensor) -> Tensor:
        return torch.randint(len(rows), (self.training.fit_batch,), generator=self.generator)
