"""A click command as a program: one sentence and an exit code instead of a traceback."""

from __future__ import annotations

import click

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
        click.echo("interrupted; run it again to go on", err=True)
        return INTERRUPTED
    except UnseeError as error:
        click.echo(f"error: {error}", err=True)
        return error.exit_code
    return 0
