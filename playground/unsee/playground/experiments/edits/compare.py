"""Which edit holds against whom: ``python -m unsee.playground.experiments.edits.compare``.

Eight concepts are unlearned in every way and asked and attacked alike. ``edits_video.json`` or
``edits_image.json`` in ``docs/measured`` is added to after each; the table is printed, and ``make
pages`` renders the page.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
from rich.console import Console

from unsee.core.errors import InputError
from unsee.core.files import write_json
from unsee.evaluation.attacks import ATTACKS, ON_REQUEST, PromptSearch, SoftPrompt
from unsee.evaluation.attacks.runs import chosen_attacks
from unsee.evaluation.evaluate import EvaluationPlan
from unsee.evaluation.report.schema import Media, Report
from unsee.evaluation.run_folder import ATTACKS_FOLDER
from unsee.evaluation.target import target_of
from unsee.playground.experiments import counts
from unsee.playground.experiments.counts import EVERY_WORDING, Counts
from unsee.playground.experiments.edits.learned import learned_change
from unsee.playground.experiments.edits.ways import LINEAR, Subject, Way
from unsee.playground.experiments.own_base import (
    CATEGORIES,
    Experiment,
    attack_budget_option,
    chosen,
    concept_option,
    experiment_options,
    found_before,
    media_option,
    policy_concept,
    report_of,
    slug,
)
from unsee.playground.training.program import exit_code_of
from unsee.playground.world.world import Concept as WorldConcept
from unsee.playground.world.world import concepts_in

RECORDS: Mapping[Media, str] = {"image": "edits_image.json", "video": "edits_video.json"}
SEED = 0
WAYS: Mapping[str, Way] = {**LINEAR, "a small change against attackers": learned_change}
CLIPS = EvaluationPlan(
    seed=SEED,
    prompts_per_wording=1,
    prompts_per_sibling=1,
    num_others=8,
    attack_prompts=4,
    media=("video",),
    attacks=(SoftPrompt(), PromptSearch()),
)
IMAGES = replace(
    CLIPS,
    prompts_per_wording=4,
    prompts_per_sibling=2,
    num_others=16,
    attack_prompts=8,
    media=("image",),
)
"""An image costs a tenth of a clip or less, so more of them are asked for."""
ASKED = ("prompts_per_wording", "prompts_per_sibling", "num_others", "attack_prompts")
PLANS: Mapping[Media, EvaluationPlan] = {"image": IMAGES, "video": CLIPS}


def subjects(media: Media) -> list[WorldConcept]:
    """Eight: the first concept of each category that ``media`` can show, and the second of some."""
    shown = [one for one in CATEGORIES if media == "video" or one != "action"]
    first, second = ([concepts_in(one)[place] for one in shown] for place in (0, 1))
    return [*first, *second][:8]


@click.command()
@media_option
@concept_option
@click.option("--way", "ways", type=click.Choice(list(WAYS)), multiple=True, default=list(WAYS))
@click.option(
    "--attacks",
    metavar="NAME,...",
    default=",".join(attack.name for attack in CLIPS.attacks),
    show_default=True,
    help="smoothed-soft-prompt tells an edit that hides its gradients from one that erases; it "
    "takes several times as long.",
)
@attack_budget_option
@experiment_options
def compare(
    media: Media,
    names: tuple[str, ...],
    ways: tuple[str, ...],
    attacks: str,
    attack_budgets: tuple[int, ...],
    experiment: Experiment,
) -> None:
    """Unlearn concepts in several ways, attack each, and print what holds."""
    concepts = chosen(names, []) if names else subjects(media)
    console = Console(stderr=True)
    usual = chosen_attacks(attacks, ATTACKS, ON_REQUEST)
    multiples = tuple(attack.at(times) for attack in usual for times in sorted(set(attack_budgets)))
    plan = replace(PLANS[media], attacks=multiples)
    run({way: WAYS[way] for way in ways}, concepts, plan, experiment, console)


def run(
    ways: Mapping[str, Way],
    concepts: Sequence[WorldConcept],
    plan: EvaluationPlan,
    experiment: Experiment,
    console: Console,
) -> None:
    """Every way for every concept; the record is added to after each."""
    (media,) = plan.media
    record = experiment.record(RECORDS[media])
    if not experiment.base.prompt_frame().reads_padding:
        raise InputError(
            "what is compared are edits of encoders whose padding the denoiser reads, as CLIP's "
            f"is; that of {experiment.base.name!r} is cut off: choose another --base"
        )
    head = {
        **experiment.of_base(),
        "seed": plan.seed,
        "asked": {name: getattr(plan, name) for name in ASKED},
        "attacks": {
            counts.attack_title(attack.name, attack.times): attack.budget()
            for attack in plan.attacks
        },
    }
    found: dict[str, Any] = found_before(record, head).get("ways", {})
    for concept in concepts:
        asked = policy_concept(concept, experiment.base)
        name = slug(concept.name)
        before: Path | None = None
        for way in ways:
            console.print(f"[bold]{concept.name}[/bold], {way}")
            with TemporaryDirectory() as empty:  # a delta that is found would cost no seconds
                subject = Subject(experiment.base, asked, plan.seed, Path(empty))
                started = time.monotonic()
                encoder = ways[way](subject)
                seconds = time.monotonic() - started
            folder = experiment.build_dir / "edits" / media / name / slug(way)
            if before is not None:
                hand_over_attacks_on_the_base(before, folder)
            report = report_of(
                experiment.judged,
                target_of("encoder", f"{name}-{slug(way)}", (asked,), encoder),
                plan,
                folder,
                experiment.frames_dir,
            )
            before = folder
            found.setdefault(way, {})[concept.name] = {
                "seconds": round(seconds, 1),
                **counted(report, media),
            }
            write_json(record, head | {"ways": found}, indent=1)
    click.echo("\n".join(table(found)))
    console.print(f"{record} is written; `make pages` renders its page")


def hand_over_attacks_on_the_base(source: Path, folder: Path) -> None:
    """An attack on the base is the same beside every edit: it is found again in ``folder``."""
    for file in sorted((source / ATTACKS_FOLDER).glob("*-base.*")):
        into = folder / ATTACKS_FOLDER / file.name
        into.parent.mkdir(parents=True, exist_ok=True)
        if not into.exists():
            shutil.copyfile(file, into)


def counted(report: Report, media: Media) -> dict[str, Counts]:
    """By column, for frames in which the concept lasts."""
    return {
        "asked for": counts.forgotten(report, media, EVERY_WORDING, "lasting"),
        **counts.attacked(report, media, "lasting"),
        "siblings": counts.kept(report, media, "sibling"),
        "others": counts.kept(report, media, "other"),
    }


def table(ways: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> list[str]:
    """The lines of a Markdown table: hits of the edited encoder, in brackets those of the controls.

    They are the base and, for what should be gone, the floor.
    """
    columns = [name for name in next(iter(next(iter(ways.values())).values())) if name != "seconds"]
    lines = [f"| edit | {' | '.join(columns)} | n | seconds |", "|---" * (len(columns) + 3) + "|"]
    for way, concepts in ways.items():
        found = list(concepts.values())
        cells = [_cell([one[column] for one in found]) for column in columns]
        seconds = sum(one["seconds"] for one in found) / len(found)
        lines.append(f"| {way} | {' | '.join(cells)} | {len(found)} | {seconds:.0f} |")
    return lines


def _cell(each: Sequence[Counts]) -> str:
    total = {side: sum(one[side] for one in each) for side in each[0]}
    floor = f", floor {total['floor']}" if "floor" in total else ""
    return f"{total['tuned']} (base {total['base']}{floor}) of {total['n']}"


if __name__ == "__main__":
    sys.exit(exit_code_of(compare))
