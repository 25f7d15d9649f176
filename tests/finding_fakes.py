"""Findings and reports with sums that are known; nothing here was measured."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from fakes import write_tiny_base
from report_fakes import fake_settings, mean, pair, triple
from unsee.core.policy import Concept
from unsee.core.unlearning_settings import AnchoredMode
from unsee.evaluation.report.schema import (
    AttackRow,
    ErasedRow,
    KeptRow,
    MeanPair,
    MotionRow,
    Report,
    Target,
)
from unsee.models.base import Base, load_base
from unsee.models.spec import UnlearnDefaults
from unsee.playground.experiments.findings import Finding
from unsee.playground.experiments.own_base import Mode

QUICK = AnchoredMode(attackers=0, rank=2, prompts_to_forget=8, prompts_to_keep=8, shots=1)


def quick_base(folder: Path) -> Base:
    """The tiny base, written into `folder`; its default mode is over in a moment."""
    tiny = load_base(write_tiny_base(folder))
    unlearn = {"unlearn": UnlearnDefaults(anchored=QUICK)}
    return replace(tiny, spec=tiny.spec.model_copy(update=unlearn))


def fake_finding(name: str, seen: int, *, mode: Mode = "anchored", seed: int = 0) -> Finding:
    """``seen`` of 4 clips still show the concept in a frame, one less in the mean frame."""
    return Finding(
        mode=mode,
        seed=seed,
        concept=name,
        report=concept_report(name, seen),
        seconds=2.0 + seen,
        values=100,
        num_bytes=1400,
        anchor="a creature" if mode == "anchored" else None,
    )


def concept_report(name: str, seen: int, encoder_digest: str = "sha256:1") -> Report:
    """A report on one concept, clips only."""
    any_frame, mean_frame = triple(seen, 4, 0, 4), triple(max(seen - 1, 0), 4, 0, 4)
    return Report(
        target=Target(
            kind="delta",
            name=name,
            concepts=(Concept(name=name, category="character"),),
            base="playground",
            base_digest="sha256:0",
            encoder_digest=encoder_digest,
        ),
        settings=fake_settings(),
        erased=tuple(
            ErasedRow(
                concept=name,
                media="video",
                wording=wording,
                any_frame=any_frame,
                lasting=mean_frame,
                mean_frame=mean_frame,
            )
            for wording in ("alone", "long")
        ),
        kept=(
            KeptRow(
                concept="Mipsu",
                category="character",
                group="sibling",
                media="video",
                recognised=pair(3, 4, 4),
            ),
        ),
        motion=MotionRow(
            magnitude=MeanPair(tuned=mean(5.0, 0.5), base=mean(5.0, 0.5)),
            ratio=mean(1 + seen / 10, 0.05),
        ),
        attacks=(
            AttackRow(
                attack="soft-prompt",
                concept=name,
                media="video",
                reach="weights",
                any_frame=triple(2, 4, 0, 4),
                lasting=triple(2, 4, 0, 4),
                mean_frame=triple(2, 4, 0, 4),
                budget="10 steps",
                source="a paper",
                seconds=2.0,
            ),
        ),
        seconds={"total": 1.0},
        versions={},
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
    )
