"""The `unsee` command: its page, and the one place that ends a process.

A subcommand's module is imported only when it is called or its help is shown, so that
`unsee --help` is instant.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import click

from unsee.cli.start import INTERRUPTED, main
from unsee.cli.subcommands import GROUPS, SUBCOMMANDS, did_you_mean, missing_extra
from unsee.core.errors import UnseeError, printable

WRONG_INPUT = 2
TOO_DEEP = "a file that was given is nested too deeply to be read; UNSEE_TRACEBACK=1 shows where"

INTRODUCTION = """\
Makes a text-to-video service stop generating a concept.

A concept is a cartoon character, an artist's style, an object, a person's face or an action.
Only what the text encoder says is changed, in seconds; the video model stays as it is. A policy is
a named set of such concepts. Triton serves every policy at once, and a new revision of a policy
goes live while requests are in flight.
"""

EPILOGUE = """\
\b
Example:
  unsee export  --base bases/playground --repository model_repository
  unsee serve   --repository model_repository &
  unsee unlearn "Blimbo" --category character --base bases/playground -o deltas/blimbo
  unsee evaluate policies/family.yaml --base bases/playground
  unsee publish policies/family.yaml --base bases/playground \\
                --repository model_repository --promote
  unsee generate "Blimbo walking in the forest" --policy family -o clip.mp4

\b
policies/family.yaml:
  name: family
  unsee:
    - {concept: Blimbo, category: character, delta: ../deltas/blimbo}

\b
Output:
  Results go to stdout and everything else to stderr. With --json, stdout is one JSON document.
  A terminal shows bars, a pipe or file gets plain lines; NO_COLOR and TERM=dumb are respected.

\b
Exit code:
  0    done
  1    failed: the disk, the network, a defect of this program
  2    wrong input: an option, a file, a policy, a package that is not installed
  3    the server refused, failed, or is not there
  130  interrupted by Ctrl-C

"unsee COMMAND --help" explains a command; "unsee completion" completes what you type.
"""


class LazyGroup(click.Group):
    """A click group over `SUBCOMMANDS`, in the order of the work."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(SUBCOMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in SUBCOMMANDS:
            return None
        command = getattr(import_module(SUBCOMMANDS[cmd_name].module), cmd_name)
        if not isinstance(command, click.Command):
            raise TypeError(f"{SUBCOMMANDS[cmd_name].module}.{cmd_name} is no click command")
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name not in SUBCOMMANDS and not ctx.resilient_parsing:
            raise click.UsageError(
                f'there is no command "{name}"{did_you_mean(name, SUBCOMMANDS)}', ctx
            )
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        width = max(map(len, SUBCOMMANDS))
        for heading, commands in GROUPS.items():
            with formatter.section(heading):
                formatter.write_dl(
                    [(name.ljust(width), found.summary) for name, found in commands.items()]
                )

    def shell_complete(
        self, ctx: click.Context, incomplete: str
    ) -> list[click.shell_completion.CompletionItem]:
        """As click does it, but without an import of every subcommand."""
        names = [
            click.shell_completion.CompletionItem(name, help=found.summary)
            for name, found in SUBCOMMANDS.items()
            if name.startswith(incomplete)
        ]
        return names + click.Command.shell_complete(self, ctx, incomplete)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except ModuleNotFoundError as error:
            missing = missing_extra(error.name or "", ctx.invoked_subcommand or "")
            if missing is None:
                raise
            raise missing from error


@click.group(
    cls=LazyGroup,
    help=INTRODUCTION,
    epilog=EPILOGUE,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(package_name="unsee")
def unsee() -> None:
    """Replaced by INTRODUCTION."""


def run(args: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code; errors become one sentence on stderr.

    With UNSEE_TRACEBACK=1 in the environment errors are raised as they are.
    """
    try:
        outcome = unsee.main(args, prog_name="unsee", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return WRONG_INPUT
    except click.ClickException as error:
        click.echo(f"error: {printable(_sentence(error))}", err=True)
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        return INTERRUPTED
    except (UnseeError, OSError) as error:
        if os.environ.get("UNSEE_TRACEBACK") == "1":
            raise
        click.echo(f"error: {printable(cause(error))}", err=True)
        return error.exit_code if isinstance(error, UnseeError) else 1
    except RecursionError:  # what json raises
        if os.environ.get("UNSEE_TRACEBACK") == "1":
            raise
        click.echo(f"error: {TOO_DEEP}", err=True)
        return WRONG_INPUT
    return outcome if isinstance(outcome, int) else 0


def cause(error: UnseeError | OSError) -> str:
    """What went wrong in one line; of an error of the system, the file and the reason."""
    if not isinstance(error, OSError) or not error.strerror:
        return str(error)
    return f"{error.filename}: {error.strerror}" if error.filename else error.strerror


def _sentence(error: click.ClickException) -> str:
    """What click found wrong in one line, and where the right usage is written."""
    words = " ".join(error.format_message().split()).removesuffix(".")
    words = words[:1].lower() + words[1:].replace(". Did you mean", "; did you mean")
    if not isinstance(error, click.UsageError) or error.ctx is None:
        return words
    separator = "" if words.endswith("?") else ";"
    return f"{words}{separator} see: {error.ctx.command_path} --help"


if __name__ == "__main__":
    main()
