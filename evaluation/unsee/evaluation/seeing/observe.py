"""Observations: one question put to the tuned encoder and to the base's, under one seed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from unsee.evaluation.asking.questions import Question
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
from unsee.models.base import Base

_CHUNK = 32

Keep = Callable[[Observation, Frames, Frames], None]


@dataclass(frozen=True)
class Encoder:
    """A text encoder of the service: its prompt embeddings and their common negative."""

    text_encoder: Any
    base: Base
    _kept: dict[Media, torch.Tensor] = field(default_factory=dict, repr=False, compare=False)

    def embeds(self, prompts: Sequence[str], media: Media = "video") -> torch.Tensor:
        """[N, L, D] float32, padded as the model of `media` pads."""
        return PromptEncoder(self.text_encoder, self.base, media).embeds(prompts)

    def negative(self, media: Media = "video") -> torch.Tensor:
        """The empty prompt's embeddings, [1, L, D]."""
        if media not in self._kept:
            self._kept[media] = self.embeds([""], media)
        return self._kept[media]


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
        """One observation per question that can be answered in `media`."""
        asked = [question for question in questions if is_answerable(question, media)]
        observations: list[Observation] = []
        for start in range(0, len(asked), _CHUNK):
            observations += self._observe_chunk(asked[start : start + _CHUNK], media)
        return observations

    def frames_of(self, encoder: Encoder, questions: Sequence[Question], media: Media) -> Frames:
        """uint8 [N, F, H, W, 3] of the questions' prompts and seeds."""
        prompts = [question.prompt for question in questions]
        seeds = [question.seed for question in questions]
        return self.maker.frames(
            media, encoder.embeds(prompts, media), encoder.negative(media), seeds
        )

    def cost(self, questions: Sequence[Question], media: Media) -> int:
        """How many clips `observe` asks the frame maker for."""
        asked = [question for question in questions if is_answerable(question, media)]
        return 2 * len(asked) + sum(question.kind == "other" for question in asked)

    def _observe_chunk(self, questions: list[Question], media: Media) -> list[Observation]:
        base = self.frames_of(self.base, questions, media)
        tuned = self.frames_of(self.tuned, questions, media)
        base_seen = self._seen(base, questions, media)
        tuned_seen = self._seen(tuned, questions, media)
        drifts = difference_of(tuned, base)
        blank = blank_of(tuned) | blank_of(base)
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
                is_blank=bool(blank[row]),
            )
            self.keep(observation, base[row], tuned[row])
            observations.append(observation)
        return observations

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
            for place, row in enumerate(rows):
                per_frame = sighting.per_frame
                seen[row] = Seen(
                    whole=bool(sighting.whole[place]),
                    any_frame=bool(sighting.any_frame[place]),
                    per_frame=None if per_frame is None else tuple(per_frame[place].tolist()),
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


def _rows_by_concept(questions: Sequence[Question]) -> Iterator[list[int]]:
    rows: dict[str, list[int]] = {}
    for row, question in enumerate(questions):
        rows.setdefault(question.concept.name, []).append(row)
    yield from rows.values()
