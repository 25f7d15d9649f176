"""`unsee completion`: prints what a shell needs to complete `unsee`. The work is click's."""

from __future__ import annotations

import os
from pathlib import Path

import click
from click.shell_completion import get_completion_class

from unsee.cli.completion import VARIABLE
from unsee.core.errors import InputError

SHELLS = ("bash", "zsh", "fish")


@click.command()
@click.argument("shell", type=click.Choice(SHELLS), required=False, metavar="[SHELL]")
def completion(shell: str | None) -> None:
    """Print the completion for SHELL: bash, zsh or fish.  [default: that of $SHELL]

    Completes commands, options, files, the policies and revisions of a repository, and the
    concepts of a base. Loads neither PyTorch nor a server.

    \b
    Example:
      unsee completion bash >> ~/.bashrc
      unsee completion zsh >> ~/.zshrc
      unsee completion fish > ~/.config/fish/completions/unsee.fish
    """
    from unsee.cli.main import unsee

    script = get_completion_class(shell or _login_shell())
    if script is None:
        raise InputError(f"there is no completion for {shell}; there is for {', '.join(SHELLS)}")
    click.echo(script(unsee, {}, "unsee", VARIABLE).source())


def _login_shell() -> str:
    shell = Path(os.environ.get("SHELL", "")).name
    if shell not in SHELLS:
        raise InputError(
            f"$SHELL is {shell or 'not set'}; name the shell: unsee completion {'|'.join(SHELLS)}"
        )
    return shell
