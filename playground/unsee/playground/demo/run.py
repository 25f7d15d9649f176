"""`make demo`: the whole product on a base of ours, from a concept to proof.

Unlearns one concept, evaluates the policy, exports, serves from a real tritonserver, publishes,
asks for the same prompts and seeds under `base` and under the policy, and lets the judge look. What
an earlier run left (delta, report, exports, revision) is found again; only the clips are made anew,
because they show that the server in front of you works.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import click
import yaml
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TimeElapsedColumn

from unsee.cli.parameters import PATH
from unsee.cli.progress import stage_progress
from unsee.client.client import Client
from unsee.core.errors import InputError, PublicationRefused
from unsee.core.files import write_file
from unsee.core.policy import BASE_POLICY, Concept
from unsee.evaluation.evaluate import EvaluationPlan
from unsee.evaluation.report.schema import PAGE_FILE
from unsee.export.build import ExportRecord, at_work, write_repository
from unsee.jobs.job import Outcome, UnlearnJob, run_job
from unsee.media.clip import Clip
from unsee.models.base import Base, load_base
from unsee.playground.demo.questions import Question, choose_questions
from unsee.playground.demo.report import (
    Trial,
    print_results,
    write_clips,
    write_record,
    write_sheet,
)
from unsee.playground.experiments.own_base import (
    base_option,
    languages_of,
    own_folder,
    own_report,
    policy_concept,
)
from unsee.playground.networks.judge import Judge
from unsee.playground.training.program import exit_code_of
from unsee.playground.world.world import Concept as WorldConcept
from unsee.playground.world.world import find_concept
from unsee.policies.publish import Publication, PublishResult, publish
from unsee.repository import pointer
from unsee.repository.layout import POINTER_FILE, policy_dirs
from unsee.repository.revisions import read_revision, versions_on_disk
from unsee.serving.server.triton import ServerSettings, TritonServer
from unsee.triton.server import Server

POLICY = "family"
POLICIES = (BASE_POLICY, POLICY)


@dataclass(frozen=True)
class DemoSettings:
    """What to unlearn on which base, and how much to show; each question is asked under both
    policies."""

    base_dir: Path
    output_dir: Path
    concept: str
    seed: int
    num_questions: int

    @property
    def repository_dir(self) -> Path:
        return self.output_dir / "model_repository"

    @property
    def report_dir(self) -> Path:
        return self.output_dir / "report"

    @property
    def server(self) -> ServerSettings:
        log_path = self.output_dir / "tritonserver.log"
        return ServerSettings.on_free_ports(self.repository_dir, log_path)


class Stages:
    """Announces each stage on the terminal and keeps its seconds."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Runs the block as the stage `name`."""
        self.console.print(f"[bold]{name}[/bold]")
        started = time.perf_counter()
        yield
        self.seconds[name] = round(time.perf_counter() - started, 2)

    def say(self, line: str) -> None:
        self.console.print(f"  {line}", style="dim", highlight=False, markup=False)


@click.command()
@base_option
@click.option(
    "--output-dir",
    type=PATH,
    help="[default: demo, and in it a folder of another base's name]",
)
@click.option("--concept", default="Blimbo", show_default=True, help="What to unlearn.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option(
    "--questions", type=click.IntRange(min=3), default=12, show_default=True, help="Prompts to ask."
)
def demo(base_dir: Path, output_dir: Path | None, concept: str, seed: int, questions: int) -> None:
    """Unlearn a concept, evaluate, serve it from Triton, and see what has changed."""
    folder = output_dir or Path("demo") / own_folder(load_base(base_dir))
    run(DemoSettings(base_dir, folder.absolute(), concept, seed, questions), Console())


def run(settings: DemoSettings, console: Console) -> None:
    """Runs the demo and leaves clips, sheet and record in `settings.output_dir`.

    Raises:
        UnseeError: what went wrong in one sentence; whatever was started has been stopped.
    """
    asked = unlearnable_concept(settings.concept)
    stages = Stages(console)
    base = load_base(settings.base_dir)
    concept = policy_concept(asked, base)
    with stages.stage("unlearn"):
        outcome = unlearn_concept(base, concept, settings)
        stages.say(f"{'found again' if outcome.reused else 'made'}: {outcome.folder}")
    policy_file = write_policy(settings.output_dir, concept, outcome.folder)
    with stages.stage("evaluate"):
        frames_dir = settings.report_dir / "frames"
        own_report(base, policy_file, first_look(asked), settings.report_dir, frames_dir)
        stages.say(f"report: {settings.report_dir / PAGE_FILE}")
    with stages.stage("export"):
        exported = export_base(base, settings.repository_dir, stages.say)
    with ExitStack() as stack:
        with stages.stage("start Triton"):
            server = stack.enter_context(TritonServer(settings.server))
            stages.say(f"ready at {server.settings.grpc_url}; log: {server.settings.log_path}")
        url = server.settings.grpc_url
        with stages.stage("publish"):
            result = published(policy_file, settings, url, stages.say)
            stages.say(f"{POLICY}: revision {result.revision} is active")
        languages = languages_of(base)
        questions = choose_questions(asked, settings.num_questions, settings.seed, languages)
        with stages.stage("generate"):
            clips = generate_clips(url, questions, console)
    with stages.stage("judge"):
        trials = judged(base, questions, clips)
    write_clips(trials, settings.output_dir / "clips")
    write_sheet(trials, concept.name, settings.output_dir / "before_after.png")
    write_record(trials, outcome.delta.card, exported, stages.seconds, settings.output_dir)
    print_results(trials, concept.name, stages.seconds, settings.output_dir, console)


def unlearnable_concept(name: str) -> WorldConcept:
    """The world's concept of that name.

    Raises:
        InputError: the world has no such concept, or it is a background.
    """
    with suppress(KeyError):
        known = find_concept(name)
        if known.category != "background":
            return known
    raise InputError(
        f"{name!r} is no concept of the playground that can be unlearned; its README lists them"
    )


def unlearn_concept(base: Base, concept: Concept, settings: DemoSettings) -> Outcome:
    """The default mode with the settings that the base recommends."""
    folder = settings.output_dir / "deltas" / concept.name.lower().replace(" ", "-")
    job = UnlearnJob(base, concept, base.spec.unlearn.anchored, settings.seed)
    try:
        return run_job(job, folder, force=False, stage_progress=stage_progress)
    except InputError:  # a delta of other settings, or of weights that have been trained since
        return run_job(job, folder, force=True, stage_progress=stage_progress)


def first_look(concept: WorldConcept) -> EvaluationPlan:
    """Just enough for the policy's thresholds; no image shows an action, so there are more clips.

    Attacks take minutes and are left to `unsee evaluate`.
    """
    return EvaluationPlan(
        seed=0,
        prompts_per_wording=2,
        prompts_per_sibling=2 if concept.category == "action" else 1,
        num_others=6,
        attack_prompts=0,
        media=("image", "video"),
        attacks=(),
    )


def export_base(base: Base, repository_dir: Path, say: Callable[[str], None]) -> ExportRecord:
    """The demo's repository; one of another version, or of older weights, makes way.

    Raises `InputError` if that holds a policy that is not the demo's, `RepositoryError` if it is
    being served.
    """
    if (repository_dir / POINTER_FILE).exists() and not _is_current(base, repository_dir):
        others = sorted(policy_dirs(repository_dir).keys() - set(POLICIES))
        if others:
            raise InputError(
                f"{repository_dir} is of another version, another base or older weights, and holds "
                f"the policy {others[0]!r}, which is not the demo's; move it away, or choose "
                "another --output-dir"
            )
        say(f"made anew, since it is of another version or of older weights: {repository_dir}")
        with at_work(repository_dir):
            shutil.rmtree(repository_dir)
    return write_repository(base, repository_dir, say)


def _is_current(base: Base, repository_dir: Path) -> bool:
    try:
        pointer.read(repository_dir)
        made_from = {
            read_revision(repository_dir, policy, number).base_digest
            for policy, folder in policy_dirs(repository_dir).items()
            for number in versions_on_disk(folder)
        }
    except InputError:
        return False
    return made_from <= {base.digest()}


def write_policy(output_dir: Path, concept: Concept, delta_dir: Path) -> Path:
    """The policy file that publishing reads, as a person would write it."""
    asked = concept.model_dump(include={"category", "aliases"}, exclude_defaults=True, mode="json")
    entry = {"concept": concept.name, **asked, "delta": str(delta_dir)}
    file = output_dir / f"{POLICY}.yaml"
    write_file(file, yaml.safe_dump({"name": POLICY, "unsee": [entry]}, sort_keys=False))
    return file


def published(
    policy_file: Path, settings: DemoSettings, url: str, say: Callable[[str], None]
) -> PublishResult:
    """The policy's revision, active; what its report misses is shown, then overridden.

    Without that there would be nothing to look at.
    """
    wanted = Publication(
        policy_file,
        settings.base_dir,
        settings.repository_dir,
        report=settings.report_dir,
        promote=True,
    )
    try:
        return publish(wanted, Server(url), say)
    except PublicationRefused as refused:
        say(f"refused: {refused}")
        say("forced, for this is a demonstration")
        forced = replace(wanted, force=True, reason="a demonstration")
        return publish(forced, Server(url), say)


def generate_clips(
    url: str, questions: list[Question], console: Console
) -> dict[tuple[int, str], Clip]:
    """One clip per question and policy, by (index of the question, policy)."""
    columns = (*Progress.get_default_columns()[:2], MofNCompleteColumn(), TimeElapsedColumn())
    asked = [(i, q, policy) for i, q in enumerate(questions) for policy in POLICIES]
    with Client(url) as client, Progress(*columns, console=console, transient=True) as bar:
        return {
            (i, policy): client.generate(question.prompt, policy=policy, seed=question.seed)
            for i, question, policy in bar.track(asked, description="  clips")
        }


def judged(
    base: Base, questions: list[Question], clips: dict[tuple[int, str], Clip]
) -> list[Trial]:
    """What the base's judge sees in each clip of each question."""
    judge = Judge.from_pretrained(base.folder / (base.spec.judge or "judge"))
    trials = []
    for i, question in enumerate(questions):
        pair = {policy: clips[i, policy] for policy in POLICIES}
        verdicts = {
            policy: judge.classify(clip.frames[None])[0].sees(question.concept)
            for policy, clip in pair.items()
        }
        trials.append(Trial(question, pair, verdicts))
    return trials


if __name__ == "__main__":
    sys.exit(exit_code_of(demo))
