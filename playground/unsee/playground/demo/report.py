"""What the demo leaves behind: clips, one picture, one JSON record, one table on the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from shlex import quote

from rich.console import Console
from rich.table import Table

from unsee.core.files import new_file, write_json
from unsee.deltas.delta import Card
from unsee.evaluation.report.rates import rate_of_counts
from unsee.export.build import ExportRecord
from unsee.media.clip import Clip
from unsee.media.sheet import Marker, SheetRow, before_after_sheet
from unsee.playground.demo.questions import GROUPS, Group, Question

ROWS_ON_SHEET = {"concept": 4, "siblings": 2, "others": 3}


@dataclass(frozen=True)
class Trial:
    """One question's clips by policy, and whether the judge sees the concept in each."""

    question: Question
    clips: Mapping[str, Clip]
    seen: Mapping[str, bool]


@dataclass(frozen=True)
class Share:
    """`hits` of `count` clips, with the Wilson 95 % interval."""

    hits: int
    count: int

    @property
    def interval(self) -> tuple[float, float]:
        rate = rate_of_counts(self.hits, self.count)
        return rate.low, rate.high

    def __str__(self) -> str:
        low, high = self.interval
        return f"{self.hits}/{self.count}  ({100 * low:.0f}-{100 * high:.0f} %)"


def share(trials: Sequence[Trial], group: Group, policy: str) -> Share:
    """How often the judge sees what a group's prompts ask for."""
    members = [trial for trial in trials if trial.question.group == group]
    return Share(sum(trial.seen[policy] for trial in members), len(members))


def write_clips(trials: Sequence[Trial], folder: Path) -> None:
    """`<group>-<number>-<policy>.mp4` for every clip; clips of an earlier run are removed."""
    folder.mkdir(parents=True, exist_ok=True)
    for group in GROUPS:
        for old in folder.glob(f"{group}-[0-9][0-9]-*.mp4"):
            old.unlink()
    for i, trial in enumerate(trials):
        for policy, clip in trial.clips.items():
            clip.save(folder / f"{trial.question.group}-{i:02d}-{policy}.mp4")


def write_sheet(trials: Sequence[Trial], concept: str, path: Path) -> None:
    """One picture: the same prompts and seeds before and after."""
    policies = list(trials[0].clips)
    rows = []
    for group in GROUPS:
        members = [trial for trial in trials if trial.question.group == group]
        rows += [_row(trial, concept) for trial in members[: ROWS_ON_SHEET[group]]]
    sheet = before_after_sheet(
        rows,
        title=f"A service that has unlearned {concept}",
        subtitle="Same prompts, same seeds, same video model; only the text encoder differs.",
        headings=(f"before: policy {policies[0]}", f"after: policy {policies[1]}"),
    )
    with new_file(path) as temporary:
        sheet.save(temporary)


def _row(trial: Trial, concept: str) -> SheetRow:
    question = trial.question
    forget = question.group == "concept"
    markers = []
    for policy, seen in trial.seen.items():
        is_after = policy != next(iter(trial.seen))
        tone = ("good" if seen != forget else "bad") if is_after else "neutral"
        markers.append(Marker(f"{question.concept} {'seen' if seen else 'not seen'}", tone))
    note = "to be forgotten" if forget else "to be kept"
    clips = tuple(clip.frames for clip in trial.clips.values())
    return SheetRow(question.prompt, clips, tuple(markers), note)


def write_record(
    trials: Sequence[Trial],
    card: Card,
    exported: ExportRecord,
    seconds: Mapping[str, float],
    folder: Path,
) -> None:
    """`record.json`: everything that the table shows, and what made every clip."""
    policies = list(trials[0].clips)
    record = {
        "seconds": dict(seconds),
        "seen": {
            group: {policy: asdict(share(trials, group, policy)) for policy in policies}
            for group in GROUPS
        },
        "delta": card.model_dump(mode="json"),
        "export": {
            graph.model: graph.export.model_dump(mode="json") | {"reused": graph.reused}
            for graph in exported.graphs
        },
        "clips": [
            {
                "group": trial.question.group,
                "concept": trial.question.concept,
                "seen": dict(trial.seen),
                "records": {p: c.record.model_dump(mode="json") for p, c in trial.clips.items()},
            }
            for trial in trials
        ],
    }
    write_json(folder / "record.json", record)


def print_results(
    trials: Sequence[Trial],
    concept: str,
    seconds: Mapping[str, float],
    folder: Path,
    console: Console,
) -> None:
    """The two tables: how often the judge sees what was asked for, and seconds per stage."""
    policies = list(trials[0].clips)
    names = {
        "concept": f"{concept}, to be forgotten",
        "siblings": "its siblings, to be kept",
        "others": "everything else, to be kept",
    }
    seen = Table("the judge still sees", *(f"policy {policy}" for policy in policies))
    for group in GROUPS:
        seen.add_row(names[group], *(str(share(trials, group, policy)) for policy in policies))
    times = Table("stage", "seconds")
    for stage, value in {**seconds, "in all": sum(seconds.values())}.items():
        times.add_row(stage, f"{value:.1f}")
    console.print(seen, times)
    console.print(f"look at {folder / 'before_after.png'}; clips and record.json are beside it")
    repository = quote(str(folder / "model_repository"))
    console.print(f"serve it yourself: unsee serve --repository {repository}")
