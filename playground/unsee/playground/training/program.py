"""A click command as a program: one sentence and an exit code instead of a traceback."""

from __future__ import annotations

import click

from unsee.cli.main import cause
from unsee.core.errors import UnseeError

INTERRUPTED = 130


def exit_code_of(command: click.Command) -> int:
    """Runs the command with the process's arguments; what went wrong is said on stderr."""
    try:
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
