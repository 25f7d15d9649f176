"""Observations: one question put to the tuned encoder and to the base's, under one seed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from unsee.evaluation.asking.questions import Kind, Question
from unsee.evaluation.report.schema import Media
from unsee.evaluation.seeing.encode import PromptEncoder
from unsee.evaluation.seeing.frame_store import Frames
from unsee.evaluation.seeing.generate import FrameMaker
from unsee.evaluation.seeing.measures import (
    Observation,
    Seen,
    blank_of,
    difference_of,
    motion_of,
)
from unsee.evaluation.seeing.openai_clip import ClipModel
from unsee.evaluation.seeing.recognise import Recogniser
from unsee.evaluation.seeing.shown import seen_of
from unsee.models.base import Base

_CHUNK = 32
MUST_BE_GONE: tuple[Kind, ...] = ("erased", "shape")
"""The kinds of question that have a floor."""

Keep = Callable[[Observation, Frames, Frames], None]


@dataclass(frozen=True)
class Encoder:
    """A text encoder of the service: its prompt embeddings and their common negative."""

    text_encoder: Any
    base: Base
    _kept: dict[tuple[Media, str], torch.Tensor] = field(
        default_factory=dict, repr=False, compare=False
    )

    def embeds(self, prompts: Sequence[str], media: Media = "video") -> torch.Tensor:
        """[N, L, D] float32, padded as the model of `media` pads."""
        return PromptEncoder(self.text_encoder, self.base, media).embeds(prompts)

    def negative(self, media: Media = "video", prompt: str = "") -> torch.Tensor:
        """The negative prompt's embeddings, [1, L, D]."""
        key = media, prompt
        if key not in self._kept:
            self._kept[key] = self.embeds([prompt], media)
        return self._kept[key]


@dataclass(frozen=True)
class Observer:
    """Puts questions to both encoders; `keep` is shown every observation with its frames."""

    tuned: Encoder
    base: Encoder
    maker: FrameMaker
    recogniser: Recogniser
    clip: ClipModel | None = None
    keep: Keep = lambda observation, base, tuned: None

    def observe(self, questions: Sequence[Question], media: Media) -> list[Observation]:
        """One observation per question that can be answered in `media`, those of equal parameters
        together."""
        asked = [question for question in questions if is_answerable(question, media)]
        observations: list[Observation] = []
        for alike in _by_parameters(asked):
            for start in range(0, len(alike), _CHUNK):
                observations += self._observe_chunk(alike[start : start + _CHUNK], media)
        return observations

    def frames_of(self, encoder: Encoder, questions: Sequence[Question], media: Media) -> Frames:
        """uint8 [N, F, H, W, 3] of the questions' prompts and seeds; their parameters are equal."""
        prompts = [question.prompt for question in questions]
        return self._made(encoder, prompts, questions, media)

    def floor_frames(self, questions: Sequence[Question], media: Media) -> Frames:
        """uint8 [N, F, H, W, 3]: the base's for the plain prompts, under the questions' seeds."""
        return self._made(self.base, [question.plain for question in questions], questions, media)

    def cost(self, questions: Sequence[Question], media: Media) -> int:
        """How many clips `observe` asks the frame maker for."""
        asked = [question for question in questions if is_answerable(question, media)]
        more = sum(question.kind in (*MUST_BE_GONE, "other") for question in asked)
        return 2 * len(asked) + more

    def _observe_chunk(self, questions: list[Question], media: Media) -> list[Observation]:
        base = self.frames_of(self.base, questions, media)
        tuned = self.frames_of(self.tuned, questions, media)
        base_seen = self._seen(base, questions, media)
        tuned_seen = self._seen(tuned, questions, media)
        drifts = difference_of(tuned, base)
        blank = blank_of(tuned) | blank_of(base)
        floors = self._floors(questions, media)
        yardsticks = self._other_seed(questions, base, media)
        observations = []
        for row, question in enumerate(questions):
            observation = Observation(
                question=question,
                media=media,
                tuned=tuned_seen[row],
                base=base_seen[row],
                drift=float(drifts[row]),
                other_seed=yardsticks.get(row),
                floor=None if row not in floors else floors[row][0],
                is_blank=bool(blank[row]) or (row in floors and floors[row][1]),
            )
            self.keep(observation, base[row], tuned[row])
            observations.append(observation)
        return observations

    def _made(
        self, encoder: Encoder, prompts: Sequence[str], questions: Sequence[Question], media: Media
    ) -> Frames:
        seeds = [question.seed for question in questions]
        embeds = encoder.embeds(prompts, media)
        first = questions[0]
        negative = encoder.negative(media, first.negative)
        return _with_parameters(self.maker, first).frames(media, embeds, negative, seeds)

    def _floors(self, questions: Sequence[Question], media: Media) -> dict[int, tuple[Seen, bool]]:
        """By row, for what must be gone: what the plain prompts show, and whether it is blank."""
        rows = [row for row, question in enumerate(questions) if question.kind in MUST_BE_GONE]
        if not rows:
            return {}
        asked = [questions[row] for row in rows]
        frames = self.floor_frames(asked, media)
        blank = blank_of(frames).tolist()
        return dict(
            zip(rows, zip(self._seen(frames, asked, media), blank, strict=True), strict=True)
        )

    def _other_seed(
        self, questions: Sequence[Question], base: Frames, media: Media
    ) -> dict[int, float]:
        """How far the base's frames of unrelated prompts lie from its own under another seed."""
        rows = [row for row, question in enumerate(questions) if question.kind == "other"]
        if not rows:
            return {}
        embeds = self.base.embeds([questions[row].prompt for row in rows], media)
        seeds = [questions[row].seed + 1 for row in rows]
        again = self.maker.frames(media, embeds, self.base.negative(media), seeds)
        return dict(zip(rows, difference_of(again, base[rows]).tolist(), strict=True))

    def _seen(self, frames: Frames, questions: Sequence[Question], media: Media) -> list[Seen]:
        motions = motion_of(frames) if media == "video" else None
        scores = self._clip_scores(frames, questions)
        seen: dict[int, Seen] = {}
        for rows in _rows_by_concept(questions):
            sighting = self.recogniser.sightings(frames[rows], questions[rows[0]].concept)
            for row, found in zip(rows, seen_of(sighting), strict=True):
                seen[row] = replace(
                    found,
                    motion=None if motions is None else float(motions[row]),
                    clip_score=None if scores is None else scores[row],
                )
        return [seen[row] for row in range(len(questions))]

    def _clip_scores(self, frames: Frames, questions: Sequence[Question]) -> list[float] | None:
        """100 x cosine of each prompt with its frames, the mean over frames."""
        if self.clip is None:
            return None
        count, num_frames = frames.shape[:2]
        images = self.clip.image_embeds(frames.reshape(-1, *frames.shape[2:]))
        texts = self.clip.text_embeds([question.prompt for question in questions])
        cosines = (images.reshape(count, num_frames, -1) * texts[:, None]).sum(dim=-1)
        scores: list[float] = (100 * cosines.mean(dim=1)).tolist()
        return scores


def is_answerable(question: Question, media: Media) -> bool:
    """Whether `media` can show what is asked for: a single picture shows no action."""
    return media == "video" or question.concept.category != "action"


def _by_parameters(questions: Sequence[Question]) -> Iterator[list[Question]]:
    """The questions with equal parameters, in order."""
    alike: dict[tuple[object, ...], list[Question]] = {}
    for one in questions:
        key = one.negative, one.guidance_scale, one.num_inference_steps
        alike.setdefault(key, []).append(one)
    yield from alike.values()


def _with_parameters(maker: FrameMaker, question: Question) -> FrameMaker:
    wanted = {
        "guidance_scale": question.guidance_scale,
        "num_inference_steps": question.num_inference_steps,
    }
    changes: dict[str, Any] = {name: one for name, one in wanted.items() if one is not None}
    return replace(maker, settings=replace(maker.settings, **changes)) if changes else maker


def _rows_by_concept(questions: Sequence[Question]) -> Iterator[list[int]]:
    rows: dict[str, list[int]] = {}
    for row, question in enumerate(questions):
        rows.setdefault(question.concept.name, []).append(row)
    yield from rows.values()
