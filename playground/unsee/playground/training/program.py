"""A command as a program: one sentence and an exit code instead of a traceback."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import click

from unsee.cli.main import cause
from unsee.core.errors import UnseeError
from unsee.core.validation import expanded

INTERRUPTED = 130


def exit_code_of(command: click.Command | Callable[[], int | None]) -> int:
    """Runs the command with the process's arguments; what went wrong is said on stderr."""
    try:
        if not isinstance(command, click.Command):
            return command() or 0
        command.main(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted; run it again", err=True)
        return INTERRUPTED
    except (UnseeError, OSError) as error:
        click.echo(f"error: {cause(error)}", err=True)
        return error.exit_code if isinstance(error, UnseeError) else 1
    return 0


def user_path(text: str) -> Path:
    """For argparse: a path as a person types it, which may start with `~`."""
    return Path(expanded(text))
