"""Unlearns and evaluates every concept of the world, one by one: ``make evaluation``.

Writes ``docs/results.md``, ``docs/results.json`` and the plots. Deltas, frames and reports lie in
``build/evaluation`` and are found again, so an interrupted run goes on where it was.
"""

from __future__ import annotations

import json
import platform
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import click
import torch
from rich.console import Console

from playground import rate_search, results_page
from playground.mixed_precision import use_mixed_precision
from playground.own_evaluation import EVALUATION_FILE, own_report
from playground.program import exit_code_of
from playground.rate_search import RateTrial
from playground.train_data import BASE_DIR, REPOSITORY
from playground.world import CONCEPTS
from unsee.client.policy import Concept
from unsee.evaluation.attacks import (
    Attack,
    BenignRelearning,
    ConceptVector,
    PromptSearch,
    SoftPrompt,
)
from unsee.evaluation.evaluate import Plan
from unsee.evaluation.evaluation_set import EvaluationSet, load_evaluation_set
from unsee.evaluation.report import Report
from unsee.evaluation.write_file import write_file
from unsee.training.base import Base, load_base
from unsee.training.job import UnlearnJob, run_job
from unsee.training.progress import stage_progress
from unsee.training.settings import PaperMode

ATTACKS: tuple[Attack, ...] = (
    SoftPrompt(starts=2, start_steps=8, steps=32),
    ConceptVector(),
    PromptSearch(steps=4, candidates=16),
    BenignRelearning(steps=24),
)
"""About half of the usual budgets: every concept is attacked eight times, base included."""

UNLEARNABLE = tuple(c for c in CONCEPTS if c.category != "background")


@click.command()
@click.option("--concept", "names", multiple=True, help="Only this one; may be repeated.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option("--prompts-per-wording", type=click.IntRange(min=1), default=2, show_default=True)
@click.option("--prompts-per-sibling", type=click.IntRange(min=0), default=1, show_default=True)
@click.option("--others", type=click.IntRange(min=0), default=8, show_default=True)
@click.option("--attack-prompts", type=click.IntRange(min=1), default=2, show_default=True)
@click.option(
    "--attack-every",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Attack only every so many concepts: attacks take two thirds of the time.",
)
@click.option("--threads", type=click.IntRange(min=1), default=2, show_default=True)
@click.option(
    "--build-dir",
    type=click.Path(path_type=Path),
    default=REPOSITORY / "build" / "evaluation",
    help="Deltas, frames and reports.  [default: build/evaluation]",
)
@click.option(
    "--output-dir",
    type=click.Path(path_type=Path),
    default=REPOSITORY / "docs",
    help="[default: docs]",
)
def every_concept(
    names: tuple[str, ...],
    seed: int,
    prompts_per_wording: int,
    prompts_per_sibling: int,
    others: int,
    attack_prompts: int,
    attack_every: int,
    threads: int,
    build_dir: Path,
    output_dir: Path,
) -> None:
    """Unlearn each concept in paper mode and measure what is forgotten and what is kept."""
    torch.set_num_threads(threads)
    plan = Plan(
        seed=seed,
        prompts_per_wording=prompts_per_wording,
        prompts_per_sibling=prompts_per_sibling,
        num_others=others,
        attack_prompts=attack_prompts,
        media=("image", "video"),
        attacks=ATTACKS,
    )
    attacked = {concept.name for concept in UNLEARNABLE[::attack_every]}
    run(plan, names, attacked, build_dir, output_dir, Console(stderr=True))


def run(
    plan: Plan,
    names: tuple[str, ...],
    attacked: set[str],
    build_dir: Path,
    output_dir: Path,
    console: Console,
) -> None:
    """The search for the rate, then the concepts in table order, then the pages.

    The page is rewritten after every concept, so that a long run can be followed.
    """
    known = load_evaluation_set(EVALUATION_FILE)
    base, judged = load_base(BASE_DIR), fast_base()
    trials = found_rates(base, known, build_dir, plan.seed, console)
    usual = PaperMode(**base.spec.unlearn.model_dump(exclude_none=True))
    settings = replace(usual, learning_rate=rate_search.best(trials).learning_rate)
    reports: dict[str, tuple[Report, float]] = {}
    wanted = [c for c in UNLEARNABLE if not names or c.name in names]
    for number, concept in enumerate(wanted, start=1):
        started = time.monotonic()
        console.print(f"[bold]{concept.name}[/bold] ({number} of {len(wanted)})")
        asked = Concept.model_validate(
            {"name": concept.name, "category": concept.category, "aliases": concept.aliases}
        )
        slug = concept.name.lower().replace(" ", "-")
        folder = build_dir / f"seed-{plan.seed}" / slug
        job = UnlearnJob(base, asked, settings, plan.seed)
        outcome = run_job(
            job,
            folder / "delta",
            force=(folder / "delta").exists() and not is_of(job, folder),
            stage_progress=stage_progress,
        )
        own_plan = plan if concept.name in attacked else replace(plan, attacks=())
        report = own_report(
            judged, folder / "delta", own_plan, folder / "report", build_dir / "frames"
        )
        reports[concept.name] = (report, sum(outcome.delta.card.seconds.values()))
        console.print(f"  {time.monotonic() - started:.0f} s", style="dim")
        record = results_page.Results(
            reports=reports, trials=trials, settings=settings, machine=machine()
        )
        results_page.write(record, output_dir)
    console.print(f"{output_dir / 'results.md'} is written")


def is_of(job: UnlearnJob, folder: Path) -> bool:
    """Whether the delta in ``folder`` is what the job would make."""
    from unsee.training.delta_folder import load_card

    card = load_card(folder / "delta")
    return (card.base_digest, card.settings, card.seed) == (
        job.base.digest(),
        job.settings,
        job.seed,
    )


def fast_base() -> Base:
    """A second copy of the base for pictures, clips and attacks, with products in bfloat16."""
    base = load_base(BASE_DIR)
    use_mixed_precision(base.unet())
    use_mixed_precision(base.t2v_unet())
    return base


def found_rates(
    base: Base, known: EvaluationSet, build_dir: Path, seed: int, console: Console
) -> list[RateTrial]:
    """The trials of the search, from the file if it was made with this base."""
    file = build_dir / f"rates-seed-{seed}.json"
    if file.exists():
        kept: dict[str, Any] = json.loads(file.read_text())
        if kept["base_digest"] == base.digest():
            return [RateTrial(**trial) for trial in kept["trials"]]
    console.print("[bold]learning rate[/bold], on the backgrounds")
    found = rate_search.search(base, known, build_dir / "frames", seed)
    for trial in found:
        console.print(f"  {trial.learning_rate:g}: score {trial.score:.3f}", style="dim")
    content = {"base_digest": base.digest(), "trials": [asdict(trial) for trial in found]}
    write_file(file, (json.dumps(content, indent=1) + "\n").encode())
    return found


def machine() -> dict[str, str]:
    """The versions and the system; how many threads ran cannot be told of what is found again."""
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "system": f"{platform.system()} {platform.machine()}",
    }


if __name__ == "__main__":
    sys.exit(exit_code_of(every_concept))
