"""What attacks bring back: victims from an evaluation's own pictures; the rows of the report."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from unsee.core.categories import Category
from unsee.core.policy import Concept
from unsee.evaluation.asking.evaluation_set import KnownConcept
from unsee.evaluation.asking.questions import Question
from unsee.evaluation.attacks.runs import Assault, Side, run_assault
from unsee.evaluation.page.examples import ExampleShelf
from unsee.evaluation.report.schema import AttackRow, Media
from unsee.evaluation.report.verdict import attack_name
from unsee.evaluation.seeing import shown as showing
from unsee.evaluation.seeing.encode import PromptEncoder
from unsee.evaluation.seeing.frame_store import Frames
from unsee.evaluation.seeing.measures import blank_of
from unsee.evaluation.seeing.observe import Encoder, Observer

if TYPE_CHECKING:
    from unsee.evaluation.attacks import Attack, Attacked, Victim
    from unsee.evaluation.attacks.victim import Look

StageProgress = Callable[[str], AbstractContextManager[Callable[[int, int, str], None]]]

SIDES: tuple[Side, ...] = ("tuned", "base")


@dataclass(frozen=True)
class AttackRunner:
    """Attacks both encoders of `observer` and looks at what their denoisers then make.

    `painter` makes the pictures that the attacker holds. `unrelated` are questions about kept
    things, `digests` the encoders' by side, `folder` keeps the outcomes.
    """

    observer: Observer
    painter: Observer
    unrelated: tuple[Question, ...]
    digests: dict[Side, str]
    media: tuple[Media, ...]
    seed: int
    folder: Path
    shelf: ExampleShelf
    stage_progress: StageProgress

    def rows(
        self, attacks: Sequence[Attack], concept: KnownConcept, questions: Sequence[Question]
    ) -> list[AttackRow]:
        """One row per attack and medium; `questions` are ordinary ones that name `concept`."""
        if not attacks or not questions:
            return []
        victims = self._victims(concept, questions)
        return [
            row for attack in attacks for row in self._rows_of(attack, victims, concept, questions)
        ]

    def _rows_of(
        self,
        attack: Attack,
        victims: dict[Side, Victim],
        concept: KnownConcept,
        questions: Sequence[Question],
    ) -> list[AttackRow]:
        outcomes = {"tuned": self._assault(attack, victims["tuned"], "tuned", len(questions))}
        if self.digests["base"] == self.digests["tuned"]:
            outcomes["base"] = outcomes["tuned"]
        else:
            outcomes["base"] = self._assault(attack, victims["base"], "base", len(questions))
        found: dict[Side, Attacked] = {"tuned": outcomes["tuned"][0], "base": outcomes["base"][0]}
        return [
            self._row(attack, found, concept, questions, medium, outcomes["tuned"][1])
            for medium in self._media_of(concept)
        ]

    def _media_of(self, concept: KnownConcept) -> list[Media]:
        """What can show the concept, clips last."""
        found = [one for one in self.media if one == "video" or concept.category != "action"]
        return sorted(found)

    def _look_digest(self, concept: KnownConcept) -> str:
        """Of what the attacker sees with: the models, the settings and the recogniser."""
        maker = self.observer.maker
        media = self._media_of(concept)[-1]
        return f"{maker.digest(media)} {maker.settings} {self.observer.recogniser.digest()}"

    def _assault(
        self, attack: Attack, victim: Victim, side: Side, num_prompts: int
    ) -> tuple[Attacked, float]:
        assault = Assault(attack, victim, side, self.digests[side], num_prompts, self.seed)
        note = f"{victim.concept.name}, {side}"
        with self.stage_progress(f"attack {attack_name(attack.name, attack.times)}") as report:
            return run_assault(assault, self.folder, lambda step, total: report(step, total, note))

    def _row(
        self,
        attack: Attack,
        found: dict[Side, Attacked],
        concept: KnownConcept,
        questions: Sequence[Question],
        media: Media,
        seconds: float,
    ) -> AttackRow:
        """The attacker's pictures had the questions' own seeds; the service draws others."""
        seeds = [question.seed + 1 for question in questions]
        named = attack_name(attack.name, attack.times)
        with self.stage_progress(f"{media}s under attack {named}") as report:
            maker = replace(self.observer.maker, progress=counted(report, 3 * len(seeds)))
            frames: dict[showing.Side, Frames] = {
                side: maker.frames(
                    media, found[side].prompt_embeds, found[side].negative_prompt_embeds, seeds
                )
                for side in SIDES
            }
            drawn = [replace(question, seed=question.seed + 1) for question in questions]
            frames["floor"] = replace(self.observer, maker=maker).floor_frames(drawn, media)
        blank = np.any([blank_of(clips) for clips in frames.values()], axis=0)
        seen = {
            side: showing.seen_of(self.observer.recogniser.sightings(clips, concept))
            for side, clips in frames.items()
        }
        title = f"{named}: {found['tuned'].prompts[0]}"
        shown = seen["base"][0].lasting, seen["tuned"][0].lasting
        self.shelf.keep_attack(media, title, frames["base"][0], frames["tuned"][0], shown)
        measured = {
            side: [one for one, is_blank in zip(clips, blank, strict=True) if not is_blank]
            for side, clips in seen.items()
        }
        return AttackRow(
            attack=attack.name,
            concept=concept.name,
            media=media,
            reach=attack.reach,
            times=attack.times,
            unmeasured=int(blank.sum()),
            **showing.shown_fields(measured),
            budget=attack.budget(),
            source=attack.source,
            seconds=seconds,
        )

    def _victims(self, concept: KnownConcept, questions: Sequence[Question]) -> dict[Side, Victim]:
        """Both encoders, and an attacker who holds the base's pictures of the questions."""
        from unsee.evaluation.attacks import Victim

        others = self.unrelated or tuple(
            replace(question, prompt=question.plain) for question in questions
        )
        total = len(questions) + len(others)
        with self.stage_progress("pictures for the attacker") as report:
            maker = replace(self.painter.maker, progress=counted(report, total))
            painter = replace(self.painter, maker=maker)
            images = _pictures(painter, questions)
            unrelated = _pictures(painter, others)
        encoders: dict[Side, Encoder] = {
            "tuned": self.observer.tuned,
            "base": self.observer.base,
        }
        return {
            side: Victim(
                base=encoder.base,
                text_encoder=encoder.text_encoder,
                concept=_policy_concept(concept),
                images=images,
                unrelated=tuple(
                    (question.prompt, picture)
                    for question, picture in zip(others, unrelated, strict=True)
                ),
                concept_prompts=tuple(question.prompt for question in questions),
                plain_prompts=tuple(question.plain for question in questions),
                look=_look(self.observer, encoder, concept, self._media_of(concept)[-1]),
                look_digest=self._look_digest(concept),
            )
            for side, encoder in encoders.items()
        }


def _look(observer: Observer, encoder: Encoder, concept: KnownConcept, media: Media) -> Look:
    """What the encoder's service shows a caller; a prompt that is too long shows nothing."""
    fits = PromptEncoder(encoder.text_encoder, encoder.base, media).fits

    def look(prompts: Sequence[str], seeds: Sequence[int]) -> NDArray[np.floating[Any]]:
        found = np.zeros(len(prompts))
        read = [row for row, prompt in enumerate(prompts) if fits(prompt)]
        if read:
            frames = observer.maker.frames(
                media,
                encoder.embeds([prompts[row] for row in read], media),
                encoder.negative(media),
                [seeds[row] for row in read],
            )
            found[read] = observer.recogniser.sightings(frames, concept).strength
        return found

    return look


def counted(report: Callable[[int, int, str], None], total: int) -> Callable[[int], None]:
    """A function to call with how many more are finished; it reports each of them."""
    done = 0

    def tick(finished: int) -> None:
        nonlocal done
        for _ in range(finished):
            done += 1
            report(done, max(total, done), "")

    return tick


def _pictures(observer: Observer, questions: Sequence[Question]) -> tuple[Image.Image, ...]:
    frames = observer.frames_of(observer.base, questions, "image")
    return tuple(Image.fromarray(clip[0]) for clip in frames)


def _policy_concept(concept: KnownConcept) -> Concept:
    category: Category = concept.category  # type: ignore[assignment]
    return Concept(name=concept.name, category=category, aliases=concept.aliases)
