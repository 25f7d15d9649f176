"""The gold standard: how often each attack draws a concept on a base that never learned it.

For each concept that a second base was trained without (``python -m unsee.playground.training.train
--without …``), the same questions, shapes and attacks are put to the shipped base, to the edited
encoder, and to the retrained base. An attacker holds the shipped base's pictures in each case, for
the retrained one can make none. First, whether the retrained base knows the rest as well.

``python -m unsee.playground.experiments.retrained FOLDER`` writes ``docs/measured/retrained.json``
and prints its table; ``make pages`` renders the page. ``--base`` says what FOLDER stands beside.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from unsee.cli.parameters import OLD_FOLDER
from unsee.core.errors import InputError
from unsee.core.files import write_json
from unsee.evaluation.evaluate import EvaluationPlan
from unsee.evaluation.report.schema import Media, Report
from unsee.evaluation.target import target_of
from unsee.playground.experiments import counts
from unsee.playground.experiments.counts import ORDINARY, REWRITTEN, TRANSLATED, Counts
from unsee.playground.experiments.every_concept import attacks_of
from unsee.playground.experiments.own_base import (
    CATEGORIES,
    Experiment,
    attack_budget_option,
    chosen,
    concept_option,
    experiment_options,
    fast_base,
    found_before,
    media_option,
    own_report,
    policy_concept,
    report_of,
    slug,
    usual_delta,
)
from unsee.playground.training.program import exit_code_of

RECORD = "retrained.json"
SAMPLED = ("t2i", "t2v", "t2v-es")


@click.command()
@click.argument("folder", type=OLD_FOLDER)
@media_option
@concept_option
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option("--prompts-per-wording", type=click.IntRange(min=1), default=4, show_default=True)
@click.option("--prompts-per-shape", type=click.IntRange(min=0), default=1, show_default=True)
@click.option("--attack-prompts", type=click.IntRange(min=1), default=4, show_default=True)
@attack_budget_option
@experiment_options
def retrained(
    folder: Path,
    media: Media,
    names: tuple[str, ...],
    seed: int,
    prompts_per_wording: int,
    prompts_per_shape: int,
    attack_prompts: int,
    attack_budgets: tuple[int, ...],
    experiment: Experiment,
) -> None:
    """Ask and attack the base in FOLDER, which was trained as --base is, without some concepts."""
    plan = EvaluationPlan(
        seed=seed,
        prompts_per_wording=prompts_per_wording,
        prompts_per_sibling=0,
        num_others=4,
        attack_prompts=attack_prompts,
        media=(media,),
        attacks=attacks_of(attack_budgets),
        prompts_per_shape=prompts_per_shape,
    )
    run(folder, names, plan, experiment, Console(stderr=True))


def run(
    folder: Path,
    names: tuple[str, ...],
    plan: EvaluationPlan,
    experiment: Experiment,
    console: Console,
) -> None:
    """Measure every concept that the base lacks; the record is added to after each of them."""
    (media,) = plan.media
    record = experiment.record(RECORD)
    training = _training(folder)
    without = withheld(training, folder)
    base, build_dir, frames_dir = experiment.base, experiment.build_dir, experiment.frames_dir
    judged, other = experiment.judged, fast_base(folder)
    head: dict[str, Any] = {
        **experiment.of_base(),
        "media": media,
        "plan": _plan(plan),
        "attacks": {
            counts.attack_title(attack.name, attack.times): {
                "reach": attack.reach,
                "budget": attack.budget(),
            }
            for attack in plan.attacks
        },
        "training": training,
    }
    found: dict[str, Any] = found_before(record, head).get("concepts", {})
    knows = knowledge(base.folder, folder, without)
    shown = [one for one in CATEGORIES if media == "video" or one != "action"]
    for concept in chosen([name for name in without if not names or name in names], shown):
        started = time.monotonic()
        console.print(f"[bold]{concept.name}[/bold]")
        delta = usual_delta(concept, plan.seed, experiment).folder
        beside_it = delta.with_name(f"beside-retrained-{media}")
        edited = own_report(judged, delta, plan, beside_it, frames_dir)
        name, wanted = slug(concept.name), policy_concept(concept, base)
        target = target_of("encoder", f"without-{name}", (wanted,), other.text_encoder())
        # attacked with the shipped base's pictures
        never = report_of(
            other, target, plan, build_dir / "retrained" / media / name, frames_dir, painter=judged
        )
        found[concept.name] = beside(edited, never, media)
        write_json(record, head | {"knows": knows, "concepts": found}, indent=1)
        console.print(f"  {time.monotonic() - started:.0f} s", style="dim")
    click.echo("\n".join([*table(found), "", *in_words(knows, folder)]))
    console.print(f"{record} is written; `make pages` renders its page")


def withheld(training: Mapping[str, Any], folder: Path) -> list[str]:
    """The concepts that the base was trained without.

    Raises:
        InputError: its record names none.
    """
    without: list[str] = next(
        (stage["without"] for stage in training.values() if stage.get("without")), []
    )
    if not without:
        raise InputError(
            f"{folder / 'training.json'} names no concept that the base was trained without; "
            "train one with: python -m unsee.playground.training.train --without NAME ..."
        )
    return without


def knowledge(shipped: Path, folder: Path, without: list[str]) -> dict[str, Any]:
    """Per kind of sample how many of the kept concepts' prompts each base gets right, and of how
    many; ``{}`` where one of the bases has no ``results.json``."""
    files = [place / "results.json" for place in (shipped, folder)]
    if not all(file.is_file() for file in files):
        return {}
    one, other = (json.loads(file.read_text()) for file in files)
    return {
        kind: {
            name: _kept(results[kind]["concept"], without)
            for name, results in (("shipped", one), ("retrained", other))
        }
        for kind in SAMPLED
        if kind in one and kind in other
    }


def in_words(knows: Mapping[str, Any], folder: Path) -> list[str]:
    """Per kind of sample how often each base shows what both have learned and are asked for."""
    if not knows:
        return [
            "whether the retrained base knows the rest as well is not known: run `python -m "
            f"unsee.playground.quality.evaluate --base-dir {folder}`, then this again"
        ]
    lines = []
    for kind, found in knows.items():
        shares = {name: 100 * one["right"] / one["n"] for name, one in found.items()}
        lines.append(
            f"{kind}, kept concepts named by the judge: shipped {shares['shipped']:.1f} % of "
            f"{found['shipped']['n']}, retrained {shares['retrained']:.1f} % of "
            f"{found['retrained']['n']}: {shares['retrained'] - shares['shipped']:+.1f} points"
        )
    return lines


def beside(edited: Report, never: Report, media: Media) -> dict[str, Counts]:
    """By kind of question the counts of base, edited encoder and floor, and the retrained base's.

    Both reports must be of the same questions.
    """
    kinds, others = _columns(edited, media), _columns(never, media)
    return {
        title: found | {"retrained": others[title]["tuned"]}
        for title, found in kinds.items()
        if found["n"] and others[title]["n"] == found["n"]
    }


def table(concepts: Mapping[str, Mapping[str, Counts]]) -> list[str]:
    """The lines of a Markdown table: all concepts together, by kind of question."""
    titles = dict.fromkeys(title for found in concepts.values() for title in found)
    lines = ["| samples that count | base | edited | floor | retrained | n |", "|---" * 6 + "|"]
    for title in titles:
        rows = [found[title] for found in concepts.values() if title in found]
        n = sum(row["n"] for row in rows)
        shares = (
            f"{100 * sum(row[side] for row in rows) / n:.1f} %"
            for side in ("base", "tuned", "floor", "retrained")
        )
        lines.append(f"| {title} | {' | '.join(shares)} | {n} |")
    return lines


def _columns(report: Report, media: Media) -> dict[str, Counts]:
    found = {
        "alone and in context": counts.forgotten(report, media, ORDINARY, "lasting"),
        "long and other names": counts.forgotten(report, media, REWRITTEN, "lasting"),
        "in another language": counts.forgotten(report, media, TRANSLATED, "lasting"),
        "other shapes": counts.shaped(report, media, "lasting"),
    }
    return found | counts.attacked(report, media, "lasting")


def _plan(plan: EvaluationPlan) -> dict[str, int]:
    kept = asdict(plan)
    names = ("seed", "prompts_per_wording", "prompts_per_shape", "attack_prompts")
    return {name: kept[name] for name in names}


def _kept(concepts: Mapping[str, Mapping[str, int]], without: list[str]) -> dict[str, int]:
    kept = [rate for name, rate in concepts.items() if name not in without]
    return {"right": sum(rate["right"] for rate in kept), "n": sum(rate["n"] for rate in kept)}


def _training(folder: Path) -> dict[str, Any]:
    file = folder / "training.json"
    if not file.is_file():
        raise InputError(f"{folder} is no base of the playground's training: it has no {file.name}")
    found: dict[str, Any] = json.loads(file.read_text())
    return found


if __name__ == "__main__":
    sys.exit(exit_code_of(retrained))
