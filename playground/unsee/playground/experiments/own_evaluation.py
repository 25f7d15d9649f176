"""Evaluates a policy, a delta or an encoder of this base with its own judge and questions."""

from __future__ import annotations

from pathlib import Path

from unsee.cli.progress import stage_progress
from unsee.evaluation.asking.evaluation_set import load_evaluation_set
from unsee.evaluation.evaluate import EvaluationJob, EvaluationPlan, evaluate
from unsee.evaluation.report.schema import Report
from unsee.evaluation.seeing.recognisers import open_recogniser
from unsee.evaluation.target import EvaluationTarget, open_target
from unsee.models.base import Base, load_base
from unsee.playground.networks.mixed_precision import use_mixed_precision
from unsee.playground.training.train_data import BASE_DIR

EVALUATION_FILE = BASE_DIR / "evaluation.yaml"


def own_report(
    base: Base, path: Path, plan: EvaluationPlan, folder: Path, frames_dir: Path
) -> Report:
    """The report of the policy file or delta folder ``path``, made in ``folder`` or found there."""
    return report_of(base, open_target(path, base), plan, folder, frames_dir)


def report_of(
    base: Base, target: EvaluationTarget, plan: EvaluationPlan, folder: Path, frames_dir: Path
) -> Report:
    """The report of ``target``, made in ``folder`` or found there."""
    known = load_evaluation_set(EVALUATION_FILE)
    recogniser = open_recogniser(None, base, known.with_erased(target.concepts).concepts)
    job = EvaluationJob(base, target, known, recogniser, plan)
    return evaluate(
        job, folder, frames_dir=frames_dir, force=True, stage_progress=stage_progress
    ).report


def fast_base() -> Base:
    """A copy of the base for pictures, clips and attacks, with products in bfloat16."""
    base = load_base(BASE_DIR)
    use_mixed_precision(base.unet())
    use_mixed_precision(base.t2v_unet())
    return base
