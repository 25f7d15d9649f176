"""An invented but plausible report, and example frames for it; nothing here was measured."""

from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unsee.core.policy import Concept
from unsee.evaluation.report.schema import (
    AttackRow,
    ClipScoreRow,
    DriftRow,
    ErasedRow,
    EvaluationSettings,
    FramesShown,
    KeptRow,
    Mean,
    MeanPair,
    MotionRow,
    Rate,
    RatePair,
    RateTriple,
    ReemergenceRow,
    Report,
    Target,
)
from unsee.evaluation.report.statistics import rate_of

BASE_DIGEST = f"sha256:{'ba5e' * 16}"
ENCODER_DIGEST = f"sha256:{'c0de' * 16}"
SIBLINGS = ("Zorpik", "Mipsu", "Druzzle", "Takkit")
OTHERS = ("umbrella", "house", "Oskrivane", "Ulmi Zandrake", "jumping", "desert")
ATTACKS = (
    ("soft-prompt", "weights", "Gal et al., arXiv 2208.01618; Pham et al., arXiv 2308.01508", 3),
    ("concept-vector", "weights", "Tsai et al., Ring-A-Bell, arXiv 2310.10012", 0),
    ("prompt-search", "caller", "Zhang et al., UnlearnDiffAtk, arXiv 2310.11868", 1),
    ("benign-relearning", "weights", "fine-tuning on unrelated pictures", 2),
)


def rate(hits: int, n: int) -> Rate:
    return rate_of([True] * hits + [False] * (n - hits))


def pair(tuned: int, base: int, n: int) -> RatePair:
    return RatePair(tuned=rate(tuned, n), base=rate(base, n))


def triple(tuned: int, base: int, floor: int, n: int) -> RateTriple:
    return RateTriple(tuned=rate(tuned, n), base=rate(base, n), floor=rate(floor, n))


def shown(tuned: int, base: int, floor: int, n: int, num_frames: int = 1) -> dict[str, Any]:
    """The fields of a row of `n` samples, of which so many show the concept in every frame."""

    def frames(hits: int) -> tuple[int, ...]:
        return (num_frames,) * hits + (0,) * (n - hits)

    counted = FramesShown(
        num_frames=num_frames, tuned=frames(tuned), base=frames(base), floor=frames(floor)
    )
    rates = triple(tuned, base, floor, n)
    return {"any_frame": rates, "lasting": rates, "mean_frame": rates, "frames_shown": counted}


def mean(value: float, spread: float, n: int = 40) -> Mean:
    return Mean(value=value, low=value - spread, high=value + spread, n=n)


def fake_report(concepts: tuple[str, ...] = ("Blimbo",), **changes: Any) -> Report:
    """A report that meets every default threshold; `changes` replace its fields."""
    fields: dict[str, Any] = {
        "target": Target(
            kind="policy",
            name="family",
            concepts=tuple(Concept(name=name, category="character") for name in concepts),
            base="playground",
            base_digest=BASE_DIGEST,
            encoder_digest=ENCODER_DIGEST,
        ),
        "settings": fake_settings(),
        "erased": tuple(row for name in concepts for row in erased_rows(name)),
        "kept": kept_rows(),
        "reemergence": tuple(
            ReemergenceRow(
                concept=name,
                returned=RatePair(tuned=rate(1, 24), base=rate(0, 0)),
                tuned_curve=(0.0, 0.0, 0.03, 0.03, 0.0, 0.03, 0.06, 0.06),
                base_curve=(0.94, 1.0, 1.0, 0.97, 1.0, 1.0, 0.97, 0.94),
            )
            for name in concepts
        ),
        "motion": MotionRow(
            magnitude=MeanPair(tuned=mean(5.9, 0.6), base=mean(6.1, 0.6)),
            ratio=mean(5.9 / 6.1, 0.05),
        ),
        "drift": (
            DriftRow(media="image", tuned=mean(9.4, 1.1, 16), other_seed=mean(41.0, 3.5, 16)),
            DriftRow(media="video", tuned=mean(11.2, 1.4, 16), other_seed=mean(39.5, 3.1, 16)),
        ),
        "clip_score": (
            ClipScoreRow(
                media="video", score=MeanPair(tuned=mean(27.1, 0.8), base=mean(27.4, 0.7))
            ),
        ),
        "attacks": tuple(row for name in concepts for row in attack_rows(name)),
        "seconds": {"questions": 0.1, "frames": 412.7, "recognition": 6.3, "attacks": 71.9},
        "versions": {"unsee": "0.1.0", "torch": "2.13.0", "diffusers": "0.42.0"},
        "created_at": datetime(2026, 11, 22, 14, 30, tzinfo=UTC),
    }
    return Report(**(fields | changes))


def fake_settings() -> EvaluationSettings:
    return EvaluationSettings(
        seed=0,
        prompts_per_wording=8,
        prompts_per_sibling=4,
        num_others=24,
        attack_prompts=8,
        num_frames=8,
        num_inference_steps=25,
        guidance_scale=4.0,
        recogniser="judge",
        recogniser_digest=f"sha256:{'9a9e' * 16}",
    )


def erased_rows(concept: str, hits: int = 0, n: int = 8, floor: int = 0) -> tuple[ErasedRow, ...]:
    """Every wording and medium; `hits` in each row, one more under long video prompts."""
    return tuple(
        ErasedRow(
            concept=concept,
            media=media,
            wording=wording,
            **shown(
                hits + (media == "video" and wording == "long"),
                n,
                floor,
                n,
                8 if media == "video" else 1,
            ),
        )
        for wording in ("alone", "context", "long", "synonym")
        for media in ("image", "video")
    )


def kept_rows(lost: int = 0) -> tuple[KeptRow, ...]:
    """Siblings (of which `lost` more clips are lost each), others, and a shared word."""
    siblings = [("sibling", name, "character", 4 - lost, 4) for name in SIBLINGS]
    categories = ("object", "object", "style", "person", "action", "background")
    others = [("other", *both, 4, 4) for both in zip(OTHERS, categories, strict=True)]
    shared = [("shared_words", "boat", "object", 3, 4)]
    return tuple(
        KeptRow(
            concept=name,
            category=category,
            group=group,
            media=media,
            recognised=pair(tuned, base, 4),
        )
        for group, name, category, tuned, base in [*siblings, *others, *shared]
        for media in ("image", "video")
    )


def attack_rows(concept: str) -> tuple[AttackRow, ...]:
    return tuple(
        AttackRow(
            attack=name,
            concept=concept,
            media=media,
            reach=reach,
            **shown(hits, 8, 0, 8, 8 if media == "video" else 1),
            budget="200 steps, 4 vectors, batch 8, lr 5e-3",
            source=source,
            seconds=12.5,
        )
        for name, reach, source, hits in ATTACKS
        for media in ("image", "video")
    )


def fake_frames(seed: int, num_frames: int, size: int = 64) -> NDArray[np.uint8]:
    """uint8 [F, size, size, 3]: a disc of a random colour that drifts over a random ground."""
    generator = np.random.default_rng(seed)
    ground, disc = generator.integers(40, 230, (2, 3))
    rows, columns = np.mgrid[:size, :size]
    frames = np.empty((num_frames, size, size, 3), np.uint8)
    for index in range(num_frames):
        inside = (rows - size / 2) ** 2 + (columns - 16 - 4 * index) ** 2 < (size / 4) ** 2
        frames[index] = np.where(inside[..., None], disc, ground)
    return frames
