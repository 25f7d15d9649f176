"""Unlearns and evaluates every concept of the world, one by one: ``make evaluation``.

Writes ``docs/measured/results.json``, from which ``make pages`` renders the page. Deltas, frames
and reports lie in ``build/evaluation`` and are found again, so an interrupted run goes on where it
was. The record is added to, so the concepts can be measured in several runs.
"""

from __future__ import annotations

import platform
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import click
import torch
from rich.console import Console

from unsee.core.files import write_json
from unsee.core.unlearning_settings import Settings
from unsee.deltas.folder import TENSORS_FILE
from unsee.evaluation.attacks import (
    Attack,
    BenignRelearning,
    BlackBoxSearch,
    ConceptVector,
    PromptSearch,
    SoftPrompt,
)
from unsee.evaluation.evaluate import EvaluationPlan
from unsee.jobs.job import UnlearnJob
from unsee.playground.experiments.findings import Finding, asked_alike, with_finding
from unsee.playground.experiments.own_base import (
    MODES,
    UNLEARNABLE,
    Experiment,
    Mode,
    attack_budget_option,
    base_for_mode,
    category_option,
    chosen,
    concept_folder,
    concept_option,
    experiment_options,
    found_before,
    own_report,
    policy_concept,
    unlearned,
)
from unsee.playground.training.program import exit_code_of
from unsee.playground.world.world import Concept as WorldConcept

ATTACKS: tuple[Attack, ...] = (
    BlackBoxSearch(clips=16),
    SoftPrompt(starts=2, start_steps=8, steps=32),
    ConceptVector(),
    PromptSearch(steps=4, candidates=16),
    BenignRelearning(steps=24),
)
"""About half of the usual budgets: every concept is attacked ten times, base included."""

RECORD = "results.json"


def attacks_of(budgets: Sequence[int]) -> tuple[Attack, ...]:
    """Every attack with each multiple of its budget."""
    return tuple(attack.at(times) for attack in ATTACKS for times in sorted(set(budgets)))


@dataclass(frozen=True)
class Run:
    """What is unlearned and asked, and where it lies. ``plan`` is that of every seed, less the
    attacks on seeds that are not in ``attack_seeds`` and concepts that are not in ``attacked``."""

    mode: Mode
    concepts: Sequence[WorldConcept]
    seeds: Sequence[int]
    attack_seeds: frozenset[int]
    attacked: frozenset[str]
    plan: EvaluationPlan
    experiment: Experiment
    only_unlearn: bool

    def plan_of(self, concept: str, seed: int) -> EvaluationPlan:
        """What is asked about ``concept`` unlearned with ``seed``."""
        is_attacked = seed in self.attack_seeds and concept in self.attacked
        return replace(self.plan, seed=seed, attacks=self.plan.attacks if is_attacked else ())


@click.command()
@click.option(
    "--mode",
    type=click.Choice(MODES),
    default="anchored",
    show_default=True,
    help="without-prompts unlearns as on a base that names no prompts file; the questions are the "
    "same.",
)
@concept_option
@category_option
@click.option(
    "--seed",
    "seeds",
    type=click.IntRange(min=0),
    multiple=True,
    default=(0, 1, 2),
    show_default=True,
    help="May be repeated.",
)
@click.option(
    "--attack-seed",
    "attack_seeds",
    type=click.IntRange(min=0),
    multiple=True,
    default=(0,),
    show_default=True,
    help="Attack only the encoders of this one; may be repeated.",
)
@click.option("--only-unlearn", is_flag=True, help="Make the deltas; ask nothing.")
@click.option("--prompts-per-wording", type=click.IntRange(min=1), default=2, show_default=True)
@click.option("--prompts-per-sibling", type=click.IntRange(min=0), default=1, show_default=True)
@click.option("--others", type=click.IntRange(min=0), default=8, show_default=True)
@click.option("--prompts-per-shape", type=click.IntRange(min=0), default=1, show_default=True)
@click.option("--attack-prompts", type=click.IntRange(min=1), default=2, show_default=True)
@attack_budget_option
@click.option(
    "--attack-every",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Attack only every so many concepts: attacks take two thirds of the time.",
)
@experiment_options
def every_concept(
    mode: Mode,
    names: tuple[str, ...],
    categories: tuple[str, ...],
    seeds: tuple[int, ...],
    attack_seeds: tuple[int, ...],
    only_unlearn: bool,
    prompts_per_wording: int,
    prompts_per_sibling: int,
    others: int,
    prompts_per_shape: int,
    attack_prompts: int,
    attack_budgets: tuple[int, ...],
    attack_every: int,
    experiment: Experiment,
) -> None:
    """Unlearn each concept and measure what is forgotten and what is kept."""
    plan = EvaluationPlan(
        seed=0,
        prompts_per_wording=prompts_per_wording,
        prompts_per_sibling=prompts_per_sibling,
        num_others=others,
        attack_prompts=attack_prompts,
        media=("image", "video"),
        attacks=attacks_of(attack_budgets),
        prompts_per_shape=prompts_per_shape,
    )
    asked = Run(
        mode=mode,
        concepts=chosen(names, categories),
        seeds=tuple(dict.fromkeys(seeds)),
        attack_seeds=frozenset(attack_seeds),
        attacked=frozenset(concept.name for concept in UNLEARNABLE[::attack_every]),
        plan=plan,
        experiment=experiment,
        only_unlearn=only_unlearn,
    )
    run(asked, Console(stderr=True))


def run(asked: Run, console: Console) -> None:
    """Every seed of every concept; the record is rewritten after each one of them."""
    experiment, base = asked.experiment, asked.experiment.base
    recommended = base.spec.unlearn
    settings: dict[Mode, Settings] = {
        "anchored": recommended.anchored,
        "paper": recommended.paper,
        "without-prompts": recommended.anchored,
    }
    learned_from = base_for_mode(base, asked.mode)
    results = experiment.record(RECORD)
    seconds, sizes = [], []
    pairs = [(seed, concept) for seed in asked.seeds for concept in asked.concepts]
    for number, (seed, concept) in enumerate(pairs, start=1):
        started = time.monotonic()
        console.print(
            f"[bold]{concept.name}[/bold], {asked.mode}, seed {seed} ({number} of {len(pairs)})"
        )
        folder = concept_folder(experiment.build_dir, asked.mode, seed, concept.name)
        job = UnlearnJob(learned_from, policy_concept(concept, base), settings[asked.mode], seed)
        made = unlearned(job, folder / "delta")
        card, values = made.delta.card, sum(one.numel() for one in made.delta.tensors.values())
        seconds.append(sum(card.seconds.values()))
        sizes.append((made.folder / TENSORS_FILE).stat().st_size)
        if not asked.only_unlearn:
            plan, frames_dir = asked.plan_of(concept.name, seed), experiment.frames_dir
            report = own_report(
                experiment.judged, folder / "delta", plan, folder / "report", frames_dir
            )
            finding = Finding(
                asked.mode, seed, concept.name, report, seconds[-1], values, sizes[-1], card.anchor
            )
            head = experiment.of_base() | asked_alike(report)
            found = with_finding(
                found_before(results, head), finding, settings[asked.mode], machine()
            )
            write_json(results, head | found, indent=1)
        console.print(f"  {time.monotonic() - started:.0f} s", style="dim")
    if asked.only_unlearn:
        console.print(
            f"{len(sizes)} deltas: {statistics.fmean(seconds):.1f} s and "
            f"{statistics.fmean(sizes) / 1e6:.2f} MB each, on average"
        )
    else:
        console.print(f"{results} is written; `make pages` renders its page")


def machine() -> dict[str, str]:
    """The versions and the system; not the threads, which earlier runs may have had others of."""
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "system": f"{platform.system()} {platform.machine()}",
    }


if __name__ == "__main__":
    sys.exit(exit_code_of(every_concept))
