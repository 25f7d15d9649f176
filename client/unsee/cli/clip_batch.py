"""The clips of one `unsee generate`: what to ask for, the asking, and the files that come of it.

Every prompt under every policy is one clip. A refused clip does not stop the others; a server that
is gone does.
"""

from __future__ import annotations

import re
import secrets
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from unsee.cli.progress import Report, say, stage_progress
from unsee.client.client import Client
from unsee.core.errors import DeadlineExceeded, InputError, RequestRejected, ServerError, UnseeError
from unsee.core.files import new_file, not_writable
from unsee.core.record import GenerationRecord
from unsee.media.clip import Clip, Progress
from unsee.media.provenance import Provenance
from unsee.media.sheet import FRAMES_PER_CLIP, SheetRow, before_after_sheet, evenly_spaced

SHOWN_PROMPT = 40
"""Characters of a prompt that a line of progress has room for."""
NUMBER, POLICY, SEED = "{n}", "{policy}", "{seed}"
"""What a file's name may hold: the prompt's number, the policy's name, the clip's seed."""
PLACEHOLDER = re.compile(r"\{[^{}/]*\}")
MAX_DRAWN_SEED = 2**31


@dataclass(frozen=True)
class PlannedClip:
    """One clip to ask for, and the files that it goes to; None: the server chooses."""

    prompt: str
    policy: str | None
    seed: int | None
    files: tuple[Path, ...]


def planned_clips(
    prompts: Sequence[str],
    policies: Sequence[str],
    seed: int | None,
    outputs: Sequence[Path],
) -> list[PlannedClip]:
    """Every prompt under every policy, prompt by prompt.

    Without a `seed` several policies get one that is drawn for the prompt, so that they can be
    compared, and so does a clip whose file is named after its seed. Without `outputs` the files
    are called clip.mp4, with what tells them apart.

    Raises:
        InputError: two clips would be written to one file, a prompt is empty, a policy is given
            twice, or a file's name has a placeholder that does not exist.
    """
    if not all(prompt.strip() for prompt in prompts):
        raise InputError("the prompt is empty; say what the clip should show")
    names = [str(path) for path in outputs] or [_usual_name(len(prompts) > 1, len(policies) > 1)]
    _check_unrepeated("--policy", policies)
    _check_unrepeated("-o", names)
    _check_placeholders(names)
    draws_seed = seed is None and (len(policies) > 1 or any(SEED in name for name in names))
    width = len(str(len(prompts)))
    planned = []
    for number, prompt in enumerate(prompts, start=1):
        common = secrets.randbelow(MAX_DRAWN_SEED) if draws_seed else seed
        for policy in policies or (None,):
            values = {NUMBER: f"{number:0{width}}", POLICY: policy or "default", SEED: str(common)}
            files = [_filled(name, values) for name in names]
            planned.append(PlannedClip(prompt, policy, common, tuple(map(Path, files))))
    _check_apart(planned, len(prompts), len(policies))
    return planned


def read_prompts(file: Path) -> list[str]:
    """A prompt for each line of a text file; empty lines and those that start with # are skipped.

    Raises:
        InputError: the file cannot be read or holds no prompt.
    """
    try:
        lines = [line.strip() for line in file.read_text(encoding="utf-8-sig").splitlines()]
    except OSError as error:
        raise InputError(f"cannot read the prompts in {file}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{file} is not a text file in UTF-8; give one prompt a line") from error
    prompts = [line for line in lines if line and not line.startswith("#")]
    if not prompts:
        raise InputError(f"{file} holds no prompt; write one a line")
    return prompts


class ClipBatch:
    """The outcomes of several clips, in the order in which they were planned."""

    def __init__(self) -> None:
        self._made: dict[int, dict[str, Any]] = {}
        self._failures: list[tuple[PlannedClip, ServerError]] = []
        self._drawn: dict[int, Clip] = {}
        self._sheet: Path | None = None

    @property
    def clips(self) -> list[dict[str, Any]]:
        """Per clip its record and files, as JSON content."""
        return [self._made[index] for index in sorted(self._made)]

    @property
    def files(self) -> list[str]:
        """The files of the clips, and the sheet."""
        names = [name for clip in self.clips for name in clip["files"]]
        return names if self._sheet is None else [*names, str(self._sheet)]

    def make(
        self,
        client: Client,
        planned: Sequence[PlannedClip],
        options: Mapping[str, Any],
        *,
        in_flight: int = 4,
        signer: Provenance | None = None,
        keep_frames: bool = False,
    ) -> None:
        """Asks for every planned clip with the same `options` and writes its files.

        Args:
            in_flight: how many are asked for at once.
            signer: signs the files.
            keep_frames: whether `save_sheet` is to follow.

        Raises:
            ServerError: the server is not there.
            InputError: a value does not fit its type, or a file cannot be written.
        """
        requests: list[Any] = [
            {**options, "prompt": clip.prompt, "policy": clip.policy, "seed": clip.seed}
            for clip in planned
        ]
        with stage_progress("generating" if len(planned) == 1 else "clips") as report:
            shown = _Progress(report, planned)
            outcomes = client.generate_many(
                requests, max_in_flight=in_flight, on_progress=shown.step
            )
            try:
                with closing(outcomes):
                    for index, outcome in outcomes:
                        self._take(index, planned[index], outcome, signer)
                        if keep_frames and isinstance(outcome, Clip):
                            self._drawn[index] = _as_drawn(outcome)
                        shown.clip_finished()
            except (UnseeError, KeyboardInterrupt):
                if self._made and len(planned) > 1:
                    say(f"{len(self._made)} of {len(planned)} clips are made and stay")
                raise
            finally:
                if len(planned) > 1:
                    self._say_failures()

    def save_sheet(self, file: Path, columns: int) -> None:
        """One picture: a row for each prompt whose clips all came, a column for each policy.

        Args:
            columns: how many planned clips in a row have the same prompt.

        Raises:
            InputError: the clips differ in size, or the file cannot be written.
        """
        starts = sorted({index - index % columns for index in self._drawn})
        rows = [
            [self._drawn[start + column] for column in range(columns)]
            for start in starts
            if all(start + column in self._drawn for column in range(columns))
        ]
        if not rows:
            say(f"{file} was not drawn: no prompt has a clip under every policy")
            return
        _write_sheet(rows, file)
        self._sheet = file

    def content(self) -> dict[str, Any]:
        """Everything, as JSON content."""
        return {
            "clips": self.clips,
            "failures": [
                {"prompt": clip.prompt, "policy": clip.policy, "error": str(error)}
                for clip, error in self._failures
            ],
            "sheet": None if self._sheet is None else str(self._sheet),
        }

    def raise_failures(self) -> None:
        """Raises the server's own error if the only clip failed, or how many of several did."""
        if not self._failures:
            return
        _, first = self._failures[0]
        total = len(self._failures) + len(self._made)
        if total == 1:
            raise first
        raise ServerError(f"{len(self._failures)} of {total} clips were not made")

    def _say_failures(self) -> None:
        for clip, error in self._failures:
            say(f'no clip of "{clip.prompt}" under {clip.policy or "the default policy"}: {error}')

    def _take(
        self,
        index: int,
        clip: PlannedClip,
        outcome: Clip | UnseeError,
        signer: Provenance | None,
    ) -> None:
        if isinstance(outcome, (RequestRejected, DeadlineExceeded)):
            self._failures.append((clip, outcome))
            return
        if isinstance(outcome, UnseeError):
            raise outcome
        record = outcome.record.model_dump(mode="json")
        for file in clip.files:  # the first is named even if the second cannot be written
            outcome.save(file, signer=signer)
            self._made.setdefault(index, {"record": record, "files": []})["files"].append(str(file))
        say(_in_words(outcome.record))


class _Progress:
    """Shows one clip by its steps, or several by how many are finished."""

    def __init__(self, report: Report, planned: Sequence[PlannedClip]) -> None:
        self._report = report
        self._planned = planned
        self._finished = 0

    def step(self, index: int, progress: Progress) -> None:
        if len(self._planned) == 1:
            self._report(progress.step, progress.num_inference_steps, "")
            return
        prompt = " ".join(self._planned[index].prompt.split())[:SHOWN_PROMPT]
        note = f"{prompt}: step {progress.step}/{progress.num_inference_steps}"
        self._report(self._finished, len(self._planned), note)

    def clip_finished(self) -> None:
        self._finished += 1
        if len(self._planned) > 1:
            self._report(self._finished, len(self._planned), "")


def _as_drawn(clip: Clip) -> Clip:
    """The frames that a sheet shows alone: all frames of many clips fill the memory."""
    return replace(clip, frames=evenly_spaced(clip.frames, min(FRAMES_PER_CLIP, len(clip.frames))))


def _listed(names: Iterable[str]) -> str:
    """Each once; a policy may get another revision while clips are made."""
    return " and ".join(dict.fromkeys(names))


def _write_sheet(rows: Sequence[Sequence[Clip]], file: Path) -> None:
    picture = before_after_sheet(
        [
            SheetRow(
                clips[0].record.prompt,
                tuple(clip.frames for clip in clips),
                note=f"seed {clips[0].record.seed}",
            )
            for clips in rows
        ],
        title=_listed(clip.record.policy for clips in rows for clip in clips),
        headings=[
            _listed(f"{clip.record.policy}, revision {clip.record.revision}" for clip in column)
            for column in zip(*rows, strict=True)
        ],
    )
    try:
        with new_file(file) as temporary:
            picture.save(temporary)
    except OSError as error:
        raise not_writable(file, error) from error


def _in_words(record: GenerationRecord) -> str:
    """One line for a person: what made the clip and how long it took."""
    pace = "" if record.acceleration == "none" else f", acceleration {record.acceleration}"
    return (
        f"policy {record.policy}, revision {record.revision}; seed {record.seed}; "
        f"{record.num_inference_steps} steps of {record.scheduler}{pace}; "
        f"{sum(record.seconds.values()):.1f} s"
    )


def _usual_name(several_prompts: bool, several_policies: bool) -> str:
    return "-".join(
        ["clip", *([NUMBER] if several_prompts else []), *([POLICY] if several_policies else [])]
    ) + (".mp4")


def _filled(name: str, values: Mapping[str, str]) -> str:
    return PLACEHOLDER.sub(lambda match: values[match[0]], name)


def _check_placeholders(names: Sequence[str]) -> None:
    known = (NUMBER, POLICY, SEED)
    for name in names:
        unknown = next((one for one in PLACEHOLDER.findall(name) if one not in known), None)
        if unknown is not None:
            raise InputError(
                f"the file name {name} holds {unknown}, which stands for nothing; there are "
                f"{NUMBER} (number of the prompt), {POLICY} and {SEED}"
            )


def _repeated(values: Iterable[Any]) -> Any:
    """The first that is there more than once; None without one."""
    return next((value for value, count in Counter(values).items() if count > 1), None)


def _check_unrepeated(option: str, values: Sequence[str]) -> None:
    twice = _repeated(values)
    if twice is not None:
        raise InputError(f"{option} {twice} is given twice; give it once")


def _check_apart(planned: Sequence[PlannedClip], num_prompts: int, num_policies: int) -> None:
    twice = _repeated(file for clip in planned for file in clip.files)
    if twice is None:
        return
    usual = Path(_usual_name(num_prompts > 1, num_policies > 1)).stem
    raise InputError(
        f"more than one clip would be written to {twice}; tell them apart with "
        f"{NUMBER} (of the prompt) and {POLICY}, such as -o {usual}{twice.suffix}"
    )
