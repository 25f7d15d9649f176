"""Progress on stderr: bars and a clock on a terminal, plain lines elsewhere; never on stdout.

`NO_COLOR` and `TERM=dumb` are respected.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from unsee.core.errors import printable

if TYPE_CHECKING:
    from rich.console import Console
    from rich.status import Status

Report = Callable[[int, int, str], None]
"""Takes the step, the number of steps, and a note such as "erased 80 %"."""
Say = Callable[[str], None]
_NUM_LINES = 10


@contextmanager
def stage_progress(label: str) -> Iterator[Report]:
    """Give a function `(step, total, note)` that shows how far the stage `label` is."""
    console = _console()
    if console is None:
        yield _line_report(label)
        return
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", markup=False),
    )
    with Progress(*columns, console=console, redirect_stdout=False) as bars:
        task = bars.add_task(label, total=None, note="")
        yield lambda step, total, note: bars.update(
            task, completed=step, total=total, note=printable(note)
        )


@contextmanager
def shown_stages() -> Iterator[Say]:
    """Give a function to call with the name of each stage when it begins; it shows one line.

    On a terminal the current stage has a moving sign, and a finished one its seconds.
    """
    console = _console()
    if console is None:
        yield say
        return
    with console.status("starting") as status:
        stages = _Stages(console, status)
        yield stages.begin
        stages.end()


def say(sentence: str) -> None:
    """A line on stderr."""
    click.echo(printable(sentence), err=True)


class _Stages:
    """The stage that is going on, and a line for each that is over."""

    def __init__(self, console: Console, status: Status) -> None:
        self._console = console
        self._status = status
        self._name: str | None = None
        self._started = 0.0

    def begin(self, name: str) -> None:
        from rich.text import Text

        self.end()
        self._name, self._started = name, time.monotonic()
        self._status.update(Text(name))

    def end(self) -> None:
        if self._name is not None:
            seconds = time.monotonic() - self._started
            self._console.print(f"{self._name} ({seconds:.1f} s)", markup=False, highlight=False)
        self._name = None


def _console() -> Console | None:
    """A console on stderr if that is a terminal which can redraw a line."""
    if not sys.stderr.isatty():
        return None
    from rich.console import Console

    console = Console(stderr=True)
    return console if console.is_terminal and not console.is_dumb_terminal else None


def _line_report(label: str) -> Report:
    """Prints when another tenth of the way is done, however far the steps are apart."""
    tenths_said = 0

    def report(step: int, total: int, note: str) -> None:
        nonlocal tenths_said
        tenths = step * _NUM_LINES // total
        if tenths > tenths_said:
            tenths_said = tenths
            say(f"{label} {step}/{total} {note}".rstrip())

    return report
