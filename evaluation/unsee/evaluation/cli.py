"""The `unsee evaluate` command."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click

from unsee.cli.parameters import FILE, NEW_FOLDER, PATH, Whole, base_option, json_option
from unsee.cli.progress import say, stage_progress
from unsee.core.categories import CATEGORIES
from unsee.core.errors import InputError

if TYPE_CHECKING:
    from unsee.core.policy import Concept
    from unsee.evaluation.asking.evaluation_set import EvaluationSet
    from unsee.evaluation.evaluate import EvaluationJob, EvaluationPlan, Outcome
    from unsee.evaluation.report.schema import RatePair, RateTriple, Report
    from unsee.evaluation.report.verdict import Verdict
    from unsee.evaluation.target import EvaluationTarget
    from unsee.models.base import Base

REPORTS_DIR = Path("reports")
_COUNT = Whole(0)


@dataclass(frozen=True)
class _Amounts:
    """How much is asked where an option says nothing."""

    prompts_per_wording: int = 8
    prompts_per_sibling: int = 4
    num_others: int = 16
    attack_prompts: int = 8
    attacks: str = "all"
    prompts_per_shape: int = 2


_USUAL = _Amounts()
_QUICK = _Amounts(2, 1, 6, 2, "none", 0)


@click.command()
@click.argument("target", type=PATH)
@base_option
@click.option(
    "-o",
    "--output",
    type=NEW_FOLDER,
    help="Folder to write the report to.  [default: reports/NAME of the target]",
)
@click.option(
    "--concept",
    metavar="NAME",
    help="The concept that TARGET should not show, if TARGET is a text encoder.",
)
@click.option("--category", type=click.Choice(CATEGORIES), help="The category of --concept.")
@click.option(
    "--concepts",
    "concepts_file",
    type=FILE,
    help="Evaluation set: a file of concepts, siblings and prompts.  [default: the base's]",
)
@click.option(
    "--recogniser",
    metavar="SPEC",
    help="What recognises concepts: judge:FOLDER, clip:FOLDER_OR_HUB_ID or NAME:ARGUMENT of an "
    "installed one.  [default: the base's judge]",
)
@click.option(
    "--clip-model", metavar="FOLDER_OR_ID", help="Also measure the CLIP score with this CLIP model."
)
@click.option(
    "--seed",
    metavar="N",
    type=_COUNT,
    default=0,
    show_default=True,
    help="Random seed; equal seeds give equal prompts and noise.",
)
@click.option(
    "--prompts-per-wording",
    metavar="N",
    type=Whole(1),
    help="How many prompts for each unseen concept and wording.  [default: 8]",
)
@click.option(
    "--prompts-per-sibling",
    metavar="N",
    type=_COUNT,
    help="How many prompts for each sibling of an unseen concept.  [default: 4]",
)
@click.option(
    "--others",
    "num_others",
    metavar="N",
    type=_COUNT,
    help="How many prompts about anything else.  [default: 16]",
)
@click.option(
    "--prompts-per-shape",
    metavar="N",
    type=_COUNT,
    help="How many prompts for each unseen concept and other shape of its name (capitals, typos, "
    "a negative prompt, ...).  [default: 2]",
)
@click.option(
    "--attack-prompts",
    metavar="N",
    type=Whole(1),
    help="How many prompts for each concept and attack.  [default: 8]",
)
@click.option("--attacks", metavar="all|none|NAME,...", help="Attacks to run.  [default: all]")
@click.option(
    "--attack-budgets",
    metavar="N,...",
    default="1",
    show_default=True,
    help="Multiples of the attacks' usual budgets, such as 1,4,16; each attack runs with each.",
)
@click.option(
    "--media",
    metavar="image,video",
    default="image,video",
    show_default=True,
    help="What to generate and judge.",
)
@click.option(
    "--cache",
    "frames_dir",
    type=NEW_FOLDER,
    help="Where frames are kept.  [default: OUTPUT/frames]",
)
@click.option("--quick", is_flag=True, help="A first look: few prompts and no attacks.")
@click.option("--force", is_flag=True, help="Replace another evaluation in the output folder.")
@click.option(
    "--sign-with", type=FILE, metavar="KEY.pem", help="Sign the report with this private key."
)
@json_option
def evaluate(
    target: Path,
    base_path: Path,
    output: Path | None,
    concept: str | None,
    category: str | None,
    frames_dir: Path | None,
    force: bool,
    sign_with: Path | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Measure what TARGET forgot and what it kept: report.json and report.html.

    TARGET is a policy file, a delta folder, or a folder with a tuned encoder. It and the
    base's own text encoder get the same prompts and seeds, attacks try to bring the concepts back,
    and a recogniser says what the images and clips show. Run an interrupted command again, and it
    goes on where it was.

    \b
    Example:
      unsee evaluate policies/family.yaml --base bases/playground
    """
    wanted = _concept(concept, category)
    plan = _plan(options)
    signer = None
    if sign_with is not None:
        from unsee.deltas.signature import load_signer

        signer = load_signer(sign_with)
    from unsee.evaluation.target import open_target
    from unsee.models.base import load_base
    from unsee.models.check import require

    base = load_base(base_path)
    for note in require(base):
        say(note)
    opened = open_target(target, base, wanted)
    job = _job(base, opened, plan, options)
    from unsee.evaluation import evaluate as evaluation
    from unsee.evaluation.report.verdict import verdict_of

    folder = output or REPORTS_DIR / opened.name
    outcome = evaluation.evaluate(
        job,
        folder,
        frames_dir=frames_dir or folder / "frames",
        force=force,
        stage_progress=stage_progress,
    )
    if signer is not None:
        from unsee.evaluation.run_folder import sign_report

        sign_report(outcome.folder, signer.sign_contents)
    verdict = verdict_of(outcome.report, opened.thresholds)
    click.echo(_as_json(outcome, verdict) if as_json else _in_words(outcome, verdict))


def _job(
    base: Base, target: EvaluationTarget, plan: EvaluationPlan, options: dict[str, Any]
) -> EvaluationJob:
    from unsee.evaluation.evaluate import EvaluationJob
    from unsee.evaluation.seeing.openai_clip import ClipModel
    from unsee.evaluation.seeing.recognisers import at_home, open_recogniser

    known = _evaluation_set(base, options["concepts_file"])
    concepts = known.with_erased(target.concepts).concepts
    source = options["clip_model"]
    return EvaluationJob(
        base=base,
        target=target,
        known=known,
        recogniser=open_recogniser(options["recogniser"], base, concepts),
        plan=plan,
        clip=None if source is None else ClipModel.from_pretrained(at_home(source)),
    )


def _plan(options: dict[str, Any]) -> EvaluationPlan:
    media = _media(options["media"])
    from unsee.evaluation.attacks import ATTACKS, ON_REQUEST
    from unsee.evaluation.attacks.runs import chosen_attacks, chosen_budgets
    from unsee.evaluation.evaluate import EvaluationPlan

    usual = _QUICK if options["quick"] else _USUAL
    amounts = {
        name: getattr(usual, name) if options[name] is None else options[name]
        for name in _Amounts.__dataclass_fields__
    }
    chosen = chosen_attacks(amounts.pop("attacks"), ATTACKS, ON_REQUEST)
    budgets = chosen_budgets(options["attack_budgets"])
    if not chosen and budgets != chosen_budgets("1"):
        raise InputError(
            f"--attack-budgets {options['attack_budgets']} needs attacks, and none is run; "
            "name some with --attacks"
        )
    attacks = tuple(attack.at(times) for attack in chosen for times in budgets)
    return EvaluationPlan(seed=options["seed"], media=media, attacks=attacks, **amounts)


def _evaluation_set(base: Base, file: Path | None) -> EvaluationSet:
    """That of the command line, else the base's own, else one without concepts."""
    from unsee.evaluation.asking.evaluation_set import EvaluationSet, load_evaluation_set

    if file is None and base.spec.evaluation is not None:
        file = base.folder / base.spec.evaluation
    return EvaluationSet() if file is None else load_evaluation_set(file)


def _concept(name: str | None, category: str | None) -> Concept | None:
    if name is None and category is None:
        return None
    from pydantic import ValidationError

    from unsee.core.policy import Concept
    from unsee.core.validation import describe

    try:
        return Concept.model_validate({"name": name, "category": category})
    except ValidationError as error:
        raise InputError(f"--concept and --category belong together: {describe(error)}") from error


def _media(names: str) -> tuple[Any, ...]:
    from unsee.evaluation.report.schema import Media

    wanted = {name.strip() for name in names.split(",")}
    known = get_args(Media)
    unknown = sorted(wanted - set(known))
    if unknown:
        raise InputError(f"--media is {names!r}; it takes {', '.join(known)} or both")
    return tuple(one for one in known if one in wanted)


def _as_json(outcome: Outcome, verdict: Verdict) -> str:
    from unsee.evaluation.report.schema import PAGE_FILE, REPORT_FILE

    return json.dumps(
        {
            "report": str(outcome.folder / REPORT_FILE),
            "page": str(outcome.folder / PAGE_FILE),
            "reused": outcome.reused,
            "passed": verdict.passed,
            "verdict": verdict.sentence,
            "checks": {
                check.name: {
                    "passed": check.passed,
                    "measured": check.measured,
                    "limit": check.limit,
                    "interval": check.interval,
                    "sentence": check.sentence,
                }
                for check in verdict.checks
            },
        },
        indent=2,
    )


def _in_words(outcome: Outcome, verdict: Verdict) -> str:
    from unsee.evaluation.report.schema import PAGE_FILE, REPORT_FILE

    lines = [f"{outcome.report.target.name} {verdict.sentence}", *_summary(outcome.report)]
    if outcome.reused:
        lines.append(f"{outcome.folder} already holds this evaluation; nothing was made again")
    return "\n".join([*lines, str(outcome.folder / REPORT_FILE), str(outcome.folder / PAGE_FILE)])


def _summary(report: Report) -> list[str]:
    """A line per unseen concept, one per group of what was to be kept, and one per attack."""
    from unsee.evaluation.report.rates import pooled_pair, pooled_triple
    from unsee.evaluation.report.verdict import attack_name, judged_of

    lines = []
    for concept in report.target.concepts:
        lines.append(
            f"{concept.name}: seen in {_controlled(judged_of(report.erased, concept.name))}"
        )
    labels = (
        ("sibling", "siblings"),
        ("other", "others"),
        ("shared_words", "shared words"),
        ("translated", "siblings in another language"),
    )
    for group, label in labels:
        pairs = [row.recognised for row in report.kept if row.group == group]
        if pairs:
            lines.append(f"{label}: recognised in {_beside_the_base(pooled_pair(pairs))}")
    if report.shapes:
        triple = pooled_triple(row.lasting for row in report.shapes)
        lines.append(f"other shapes of the name: seen in {_controlled(triple)}")
    for attack, times in dict.fromkeys((row.attack, row.times) for row in report.attacks):
        triple = pooled_triple(
            row.lasting for row in report.attacks if (row.attack, row.times) == (attack, times)
        )
        lines.append(
            f"under the attack {attack_name(attack, times)}: seen in {_controlled(triple)}"
        )
    return lines


def _beside_the_base(pair: RatePair) -> str:
    tuned, base = pair.tuned, pair.base
    return f"{tuned.hits} of {tuned.n} (unmodified encoder: {base.hits} of {base.n})"


def _controlled(triple: RateTriple) -> str:
    tuned, base, floor = triple.tuned, triple.base, triple.floor
    return (
        f"{tuned.hits} of {tuned.n} (unmodified encoder: {base.hits} of {base.n}; floor: "
        f"{floor.hits} of {floor.n})"
    )
