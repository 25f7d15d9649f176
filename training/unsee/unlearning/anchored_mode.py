"""Anchored mode: the edit of a text encoder that shows an anchor where a concept is named.

With z the standardised last hidden state and m its mean over what is kept, the edit is the oblique
projection z -> z - U W (z - m). U are the main directions of z* - z, where z* is the state of the
same prompt with the anchor in the name's place; W reads them out so that prompts that do not name
the concept are moved least (least-squares concept erasure, Belrose et al., LEACE, arXiv
2306.03819). Directions are removed one after the other while enough of what is kept stays where it
is. Attackers, soft prompts that move down the denoising error on the concept's pictures (Gal et
al., arXiv 2208.01618, as an attack: Pham et al., arXiv 2308.01508), try the edit; what they say
joins the concept's prompts, as in adversarial training of encoders (AdvUnlearn, Zhang et al., arXiv
2405.15234), and the closed form is solved again. The encoder itself stays frozen.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from PIL import Image

from unsee.core.errors import InputError
from unsee.core.policy import Concept
from unsee.core.unlearning_settings import AnchoredMode
from unsee.deltas.edit import final_layer_norm
from unsee.models.base import Base
from unsee.models.work import Work
from unsee.prompts.naming import Names
from unsee.unlearning.anchors import ANCHORS
from unsee.unlearning.attackers import Attacker, Attackers, free_prompts
from unsee.unlearning.checkpoint import Checkpoint
from unsee.unlearning.contexts import Contexts, contexts_of, word_ids
from unsee.unlearning.estimate import Estimate, Learned, Progress
from unsee.unlearning.moments import (
    ForgetMoments,
    KeepMoments,
    StateReader,
    forget_moments,
    keep_moments,
)
from unsee.unlearning.pictures import NUM_TRIALS, Pictures, pictures_of
from unsee.unlearning.projection import Fit, fitted

NUM_HELD_OUT = 32
NUM_COUNTEREXAMPLES = 32
_IN_A_ROW = 2
_KEPT_MOMENTS = ("states", "changes", "directions")
_UNTOLD = (
    "the image model's pictures do not tell the concept from its anchor, so nothing attacks it"
)


def learn_edit(
    base: Base,
    concept: Concept,
    images: Sequence[Image.Image],
    settings: AnchoredMode,
    generator: torch.Generator,
    progress: Progress | None,
    checkpoint: Checkpoint | None,
) -> Learned:
    """Find the edit that shows the anchor in the place of `concept`.

    Raises `InputError` if the concept cannot be named within the encoder's length, if the anchor
    names it or is read alike, or if the encoder says values that are not finite.
    """
    _check_anchor(_anchor_of(concept, settings), Names.of(base, concept))
    learner = _Learner(_task(base, concept, images, settings, generator), settings, generator)
    found = checkpoint.load() if checkpoint is not None else None
    if found is not None:
        learner.restore(found)
    while (stopped := learner.why_stop()) is None:
        estimate = learner.round()
        if progress is not None:
            progress(estimate)
        if checkpoint is not None:
            checkpoint.save(learner.state())
    fit = learner.fit
    return Learned(
        tensors=fit.edit.tensors(),
        losses=tuple(learner.losses),
        stopped=stopped,
        erased=fit.erased,
        kept=1 - fit.keep,
        anchor=learner.anchor,
    )


def most_work(settings: AnchoredMode) -> Work:
    """The most that `learn_edit` does: the yardstick and the moments, then each attacker's steps,
    its trial and its counterexamples."""
    attacks = settings.attackers * settings.attack_steps
    attacked = attacks * settings.batch_size
    read = settings.prompts_to_keep + 2 * settings.prompts_to_forget
    if not settings.uses_images:
        return Work(steps=1, denoised=0, encoded=read)
    return Work(
        steps=settings.attackers,
        denoised=2 * NUM_TRIALS + attacked + settings.attackers * NUM_HELD_OUT,
        encoded=2 * settings.shots
        + read
        + (attacks + settings.attackers) * settings.shots
        + 2 * settings.attackers * NUM_COUNTEREXAMPLES,
        denoised_with_gradient=attacked,
    )


def _anchor_of(concept: Concept, settings: AnchoredMode) -> str:
    return ANCHORS[concept.category] if settings.anchor is None else settings.anchor


def _check_anchor(anchor: str, names: Names) -> None:
    if names.split(anchor):
        raise InputError(
            f"the anchor {anchor!r} names {names.concept.name!r}, which it is to stand for; "
            "give something else to be shown instead"
        )


@dataclass(frozen=True)
class _Attack:
    """What attackers learn from, and who starts them."""

    pictures: Pictures
    attackers: Attackers


@dataclass(frozen=True)
class _Task:
    """What does not change from round to round; `attack` is None where nothing attacks."""

    contexts: Contexts
    reader: StateReader
    norm: torch.nn.Module
    anchor: str
    anchor_ids: tuple[int, ...]
    keep: KeepMoments
    forget: ForgetMoments
    attack: _Attack | None


def _task(
    base: Base,
    concept: Concept,
    images: Sequence[Image.Image],
    settings: AnchoredMode,
    generator: torch.Generator,
) -> _Task:
    contexts = contexts_of(base, concept)
    frame = contexts.frame
    reader = StateReader(base.text_encoder(), frame)
    anchor = _anchor_of(concept, settings)
    anchor_ids = word_ids(base, anchor)
    keep = keep_moments(reader, contexts.draw_kept(settings.prompts_to_keep, generator))
    namings = contexts.draw_named(settings.prompts_to_forget, generator)
    forget = forget_moments(reader, namings, anchor_ids, keep.mean, frame)
    _check_moments(base, concept, anchor, keep, forget)
    return _Task(
        contexts=contexts,
        reader=reader,
        norm=final_layer_norm(base.text_encoder()),
        anchor=anchor,
        anchor_ids=anchor_ids,
        keep=keep,
        forget=forget,
        attack=_attack(base, concept, images, contexts, settings, generator),
    )


def _check_moments(
    base: Base, concept: Concept, anchor: str, keep: KeepMoments, forget: ForgetMoments
) -> None:
    if not torch.isfinite(keep.covariance).all():
        raise InputError(
            f"the text encoder of the base {base.name!r} says values that are not finite numbers "
            f"in {base.spec.encoder_precision}; set encoder_precision in base.yaml to one of "
            "larger range, such as bfloat16"
        )
    if not forget.change_size:
        raise InputError(
            f"the text encoder of the base {base.name!r} reads {concept.name!r} just as the anchor "
            f"{anchor!r}, so there is nothing to change; give another anchor"
        )


def _attack(
    base: Base,
    concept: Concept,
    images: Sequence[Image.Image],
    contexts: Contexts,
    settings: AnchoredMode,
    generator: torch.Generator,
) -> _Attack | None:
    """None without attackers, or where the pictures do not tell the concept from its anchor."""
    if not settings.uses_images:
        return None
    pictures = pictures_of(base, concept, images, contexts, settings.anchor, generator)
    if not pictures.scale.is_clear:
        return None
    slots = free_prompts(pictures.prompts, settings.attack_vectors, contexts.frame)
    attackers = Attackers(base, concept, slots, rate=settings.attack_rate, generator=generator)
    return _Attack(pictures, attackers)


class _Learner:
    """Takes rounds of attack and solution, and knows how far it is and when to stop."""

    def __init__(self, task: _Task, settings: AnchoredMode, generator: torch.Generator) -> None:
        self._task = task
        self._settings = settings
        self._generator = generator
        self._held: list[float] = []
        self._attacked = ForgetMoments.none(len(task.keep.mean))
        self.losses: list[float] = []
        self.fit = self._solve()

    @property
    def anchor(self) -> str:
        """What is shown in the concept's place."""
        return self._task.anchor

    def round(self) -> Estimate:
        """A fresh attacker tries the edit as it is; then the edit is found anew with it."""
        attack = self._task.attack
        if attack is not None:
            attacker = attack.attackers.start(len(self._held), self._settings.attack_steps)
            self._held.append(self._try(attacker, attack.pictures))
            weight = self._settings.attack_weight
            self._attacked = self._attacked + self._counterexamples(attacker).times(weight)
        self.fit = self._solve()
        self.losses.append(self.fit.erase)
        total = self._settings.attackers if attack is not None else 1
        loss = self.losses[-1]
        return Estimate(len(self.losses), total, loss, self.fit.erased, 1 - self.fit.keep)

    def why_stop(self) -> str | None:
        """One sentence if there is no reason to go on, else None."""
        settings, rounds = self._settings, len(self.losses)
        if self._task.attack is None:
            return f"{self._why_rank()}; {self._why_unattacked()}" if rounds else None
        latest = self._held[-_IN_A_ROW:]
        if len(latest) == _IN_A_ROW and min(latest) >= settings.erased_at_least:
            return (
                f"the concept is gone: {_IN_A_ROW} attackers in a row got no nearer to it than "
                f"{min(latest):.0%} of the way to the anchor, after {rounds} rounds"
            )
        if rounds >= settings.attackers:
            return (
                f"{self._why_rank()}; all {rounds} attackers were met, the last ones were held at "
                f"{min(latest):.0%} of the way to the anchor"
            )
        return None

    def _why_rank(self) -> str:
        settings, rank = self._settings, self.fit.rank
        if rank >= settings.rank:
            return f"all {rank} directions were removed"
        return (
            f"{rank} directions were removed: one more would move over "
            f"{1 - settings.kept_at_least:.1%} of what is kept"
        )

    def _why_unattacked(self) -> str:
        return _UNTOLD if self._settings.attackers else "no attackers were asked for"

    def state(self) -> dict[str, torch.Tensor]:
        """All that a resumed run needs, as tensors."""
        state = {
            "losses": torch.tensor(self.losses, dtype=torch.float64),
            "held": torch.tensor(self._held, dtype=torch.float64),
            **{f"attacked.{name}": getattr(self._attacked, name) for name in _KEPT_MOMENTS},
            "generator": self._generator.get_state(),
        }
        return {name: value.clone() for name, value in state.items()}

    def restore(self, state: dict[str, torch.Tensor]) -> None:
        """Go on from what `state` returned."""
        self.losses = state["losses"].tolist()
        self._held = state["held"].tolist()
        states, changes, directions = (state[f"attacked.{name}"] for name in _KEPT_MOMENTS)
        self._attacked = ForgetMoments(states, changes, directions, 0.0)
        self._generator.set_state(state["generator"])
        self.fit = self._solve()

    def _solve(self) -> Fit:
        settings = self._settings
        return fitted(
            self._task.forget,
            self._attacked,
            self._task.keep,
            settings.kept_at_least,
            settings.rank,
        )

    def _try(self, attacker: Attacker, pictures: Pictures) -> float:
        """Let an attacker learn against the edit as it is; where it then lies on the scale."""
        edit, norm = self.fit.edit, self._task.norm
        for _ in range(self._settings.attack_steps):
            trials = torch.randperm(len(pictures.bank), generator=self._generator)
            trials = trials[: self._settings.batch_size]
            states = attacker.states()[pictures.rows(trials)]
            error = pictures.errors(trials, norm(edit(states))).mean()
            attacker.step(torch.autograd.grad(error, attacker.vectors)[0])
        with torch.no_grad():
            return pictures.share(norm(edit(attacker.states())), NUM_HELD_OUT)

    def _counterexamples(self, attacker: Attacker) -> ForgetMoments:
        """What the attacker's vectors do in the place of the name, in any context."""
        task = self._task
        namings = task.contexts.draw_named(NUM_COUNTEREXAMPLES, self._generator)
        frame, vectors = task.contexts.frame, attacker.vectors.detach()
        return forget_moments(task.reader, namings, task.anchor_ids, task.keep.mean, frame, vectors)
