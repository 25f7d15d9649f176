"""Asks a server for wished clips, writes each as it comes, and keeps what is to be told of them.

A refused clip does not stop the others; a server that is gone does. Knows no options and no
terminal beyond `progress`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unsee.cli.progress import Report, say, stage_progress
from unsee.cli.wishes import ClipWish
from unsee.client.client import Client
from unsee.core.errors import (
    DeadlineExceeded,
    RequestRejected,
    ServerError,
    UnseeError,
)
from unsee.core.files import new_file, not_writable
from unsee.core.record import GenerationRecord
from unsee.media.clip import Clip, Progress

if TYPE_CHECKING:
    from unsee.media.provenance import Provenance

SHOWN_PROMPT = 40
"""Characters of a prompt that a line of progress has room for."""


class ClipBatch:
    """What came of several wishes, told in their order."""

    def __init__(self) -> None:
        self._made: dict[int, dict[str, Any]] = {}
        self._failures: list[tuple[ClipWish, ServerError]] = []
        self._frames: dict[int, Clip] = {}
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
        wishes: Sequence[ClipWish],
        options: Mapping[str, Any],
        *,
        in_flight: int = 4,
        signer: Provenance | None = None,
        keep_frames: bool = False,
    ) -> None:
        """Asks for every wish with the same `options` and writes its files.

        Args:
            in_flight: how many are asked for at once.
            signer: signs the files.
            keep_frames: whether `save_sheet` is to follow.

        Raises:
            ServerError: the server is not there.
            InputError: a value does not fit its type, or a file cannot be written.
        """
        requests: list[Any] = [
            {**options, "prompt": wish.prompt, "policy": wish.policy, "seed": wish.seed}
            for wish in wishes
        ]
        with stage_progress("generating" if len(wishes) == 1 else "clips") as report:
            shown = _Shown(report, wishes)
            outcomes = client.generate_many(
                requests, max_in_flight=in_flight, on_progress=shown.step
            )
            with closing(outcomes):
                for index, outcome in outcomes:
                    self._take(index, wishes[index], outcome, signer)
                    if keep_frames and isinstance(outcome, Clip):
                        self._frames[index] = outcome
                    shown.one_is_over()

    def save_sheet(self, file: Path, columns: int) -> None:
        """One picture: a row for each prompt whose clips all came, a column for each policy.

        Args:
            columns: how many wishes in a row are one prompt's.

        Raises:
            InputError: the clips differ in size, or the file cannot be written.
        """
        starts = sorted({index - index % columns for index in self._frames})
        rows = [
            [self._frames[start + column] for column in range(columns)]
            for start in starts
            if all(start + column in self._frames for column in range(columns))
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
                {"prompt": wish.prompt, "policy": wish.policy, "error": str(error)}
                for wish, error in self._failures
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
        for wish, error in self._failures:
            say(f'no clip of "{wish.prompt}" under {wish.policy or "the default policy"}: {error}')
        raise ServerError(f"{len(self._failures)} of {total} clips were not made")

    def _take(
        self,
        index: int,
        wish: ClipWish,
        outcome: Clip | UnseeError,
        signer: Provenance | None,
    ) -> None:
        if isinstance(outcome, (RequestRejected, DeadlineExceeded)):
            self._failures.append((wish, outcome))
            return
        if isinstance(outcome, UnseeError):
            raise outcome
        files = [str(outcome.save(file, signer=signer)) for file in wish.files]
        self._made[index] = {"record": outcome.record.model_dump(mode="json"), "files": files}
        say(_in_words(outcome.record))


class _Shown:
    """The progress of one clip by its steps, or of several by how many are over."""

    def __init__(self, report: Report, wishes: Sequence[ClipWish]) -> None:
        self._report = report
        self._wishes = wishes
        self._over = 0

    def step(self, index: int, progress: Progress) -> None:
        if len(self._wishes) == 1:
            self._report(progress.step, progress.num_inference_steps, "")
            return
        prompt = self._wishes[index].prompt[:SHOWN_PROMPT]
        note = f"{prompt}: step {progress.step}/{progress.num_inference_steps}"
        self._report(self._over, len(self._wishes), note)

    def one_is_over(self) -> None:
        self._over += 1
        if len(self._wishes) > 1:
            self._report(self._over, len(self._wishes), "")


def _write_sheet(rows: Sequence[Sequence[Clip]], file: Path) -> None:
    from unsee.media.sheet import SheetRow, before_after_sheet

    picture = before_after_sheet(
        [
            SheetRow(
                clips[0].record.prompt,
                tuple(clip.frames for clip in clips),
                note=f"seed {clips[0].record.seed}",
            )
            for clips in rows
        ],
        title=" and ".join(dict.fromkeys(clip.record.policy for clip in rows[0])),
        headings=[f"{clip.record.policy}, revision {clip.record.revision}" for clip in rows[0]],
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
