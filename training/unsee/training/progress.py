"""Progress on stderr: a bar on a terminal, a few plain lines elsewhere.

Knows nothing of what is progressing.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

Report = Callable[[int, int, str], None]
_NUM_LINES = 10


@contextmanager
def stage_progress(label: str) -> Iterator[Report]:
    """Give a function `(step, total, note)` that shows how far the stage `label` is."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _line_report(label)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=console) as bars:
        task = bars.add_task(label, total=None, note="")
        yield lambda step, total, note: bars.update(task, completed=step, total=total, note=note)


def _line_report(label: str) -> Report:
    """Prints when another tenth of the way is done, however far the steps are apart."""
    tenths_said = 0

    def report(step: int, total: int, note: str) -> None:
        nonlocal tenths_said
        tenths = step * _NUM_LINES // total
        if tenths > tenths_said:
            tenths_said = tenths
            click.echo(f"{label} {step}/{total} {note}".rstrip(), err=True)

    return report
