"""Evaluates a policy or a delta of this base with the base's own judge and questions."""

from __future__ import annotations

from pathlib import Path

from playground.train_data import BASE_DIR
from unsee.evaluation.evaluate import EvaluationJob, Plan, evaluate
from unsee.evaluation.evaluation_set import load_evaluation_set
from unsee.evaluation.recognise import open_recogniser
from unsee.evaluation.report import Report
from unsee.evaluation.target import open_target
from unsee.training.base import Base
from unsee.training.progress import stage_progress

EVALUATION_FILE = BASE_DIR / "evaluation.yaml"


def own_report(base: Base, path: Path, plan: Plan, folder: Path, frames_dir: Path) -> Report:
    """The report of the policy file or delta folder ``path``, made in ``folder`` or found there."""
    target = open_target(path, base)
    known = load_evaluation_set(EVALUATION_FILE)
    recogniser = open_recogniser(None, base, known.with_erased(target.concepts).concepts)
    job = EvaluationJob(base, target, known, recogniser, plan)
    return evaluate(
        job, folder, frames_dir=frames_dir, force=True, stage_progress=stage_progress
    ).report
