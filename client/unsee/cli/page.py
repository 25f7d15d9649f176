"""The help of every command as one Markdown page: `python -m unsee.cli.page FILE`.

Replaces what stands between the two markers of FILE and leaves the rest, which people write.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from unsee.cli.main import unsee
from unsee.cli.parameters import FILE
from unsee.core.errors import InputError

BEGIN, END = "<!-- commands: begin -->", "<!-- commands: end -->"
WIDTH = 100


def every_command() -> Iterator[click.Context]:
    """A context of every command and subcommand, in the order of the page."""
    settings: dict[str, Any] = dict(unsee.context_settings)
    yield from _below(click.Context(unsee, info_name="unsee", terminal_width=WIDTH, **settings))


def filled(page: str) -> str:
    """`page` with the help of every command between its markers.

    Raises:
        InputError: the markers are missing.
    """
    head, found, rest = page.partition(BEGIN)
    _, closed, tail = rest.partition(END)
    if not found or not closed:
        raise InputError(f"the page needs the lines {BEGIN} and {END}; add them")
    sections = "\n".join(map(_section, every_command()))
    return f"{head}{BEGIN}\n{sections}\n\n{END}{tail}"


def _below(context: click.Context) -> Iterator[click.Context]:
    yield context
    command = context.command
    if not isinstance(command, click.Group):
        return
    for name in command.list_commands(context):
        found = command.get_command(context, name)
        if found is not None:
            yield from _below(click.Context(found, info_name=name, parent=context))


def _section(context: click.Context) -> str:
    depth = "#" * min(4, 2 + context.command_path.count(" "))
    lines = "\n".join(line.rstrip() for line in context.get_help().splitlines())
    return f"\n{depth} {context.command_path}\n\n```text\n{lines}\n```"


@click.command()
@click.argument("file", type=FILE)
def write(file: Path) -> None:
    """Write the help of every command between the markers of FILE."""
    try:
        page = filled(file.read_text(encoding="utf-8"))
        file.write_text(page, encoding="utf-8")
    except (InputError, OSError) as error:
        raise click.ClickException(str(error)) from error


if __name__ == "__main__":
    write()
