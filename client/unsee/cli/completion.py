"""Completion in a shell: `unsee completion`, and the policies, revisions and concepts it offers.

They are read from `policies.json`, `base.yaml` and the evaluation set. Nothing heavy is imported,
large files are not read, and a file that is missing or broken offers nothing and is no error.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem, get_completion_class

from unsee.core.errors import InputError

SHELLS = ("bash", "zsh", "fish")
VARIABLE = "_UNSEE_COMPLETE"
"""The environment variable by which a shell asks for a completion."""
DEFAULT_REPOSITORY = Path("model_repository")
MAX_BYTES = 1 << 20
"""A larger file is not read while a person waits for a completion."""


@click.command()
@click.argument("shell", type=click.Choice(SHELLS), required=False, metavar="[SHELL]")
def completion(shell: str | None) -> None:
    """Print the completion script for SHELL: bash, zsh or fish.  [default: that of $SHELL]

    It completes commands, options, files, the policies and revisions of a repository, and the
    concepts of a base.

    \b
    Example:
      unsee completion bash >> ~/.bashrc
      unsee completion zsh >> ~/.zshrc
      unsee completion fish > ~/.config/fish/completions/unsee.fish
    """
    script = get_completion_class(shell or _login_shell())
    command = click.get_current_context().find_root().command
    if script is None:
        raise InputError(f"there is no completion for {shell}; there is for {', '.join(SHELLS)}")
    click.echo(script(command, {}, "unsee", VARIABLE).source())


def complete_policies(ctx: click.Context, incomplete: str) -> list[CompletionItem]:
    """The policies of the repository that the command line names, else of the usual one."""
    states = _policies(ctx)
    return _offer({name: _state(states[name]) for name in sorted(states)}, incomplete)


def complete_revisions(ctx: click.Context, incomplete: str) -> list[CompletionItem]:
    """The eligible revisions of the policy that the command line names."""
    states = _policies(ctx)
    named = (ctx.params.get("policy"), *(ctx.params.get("policies") or ()), *ctx.args)
    state = next((states[name] for name in named if name in states), None)
    eligible = state.get("eligible") if isinstance(state, dict) else None
    if not isinstance(state, dict) or not isinstance(eligible, list):
        return []
    active = state.get("active")
    return _offer({str(n): "active" if n == active else "eligible" for n in eligible}, incomplete)


def complete_concepts(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """The concepts of the evaluation set of the base that the command line names."""
    base_dir = ctx.params.get("base_path")
    if not isinstance(base_dir, Path):
        return []
    base = _mapping(base_dir / "base.yaml")
    evaluation = base.get("evaluation")
    if not isinstance(evaluation, str):
        return []
    concepts = _mapping(base_dir / evaluation).get("concepts")
    entries = concepts if isinstance(concepts, list) else []
    named = [entry for entry in entries if isinstance(entry, dict) and "name" in entry]
    return _offer({str(one["name"]): str(one.get("category", "")) for one in named}, incomplete)


def _login_shell() -> str:
    shell = Path(os.environ.get("SHELL", "")).name
    if shell not in SHELLS:
        raise InputError(
            f"$SHELL is {shell or 'not set'}; name the shell: unsee completion {'|'.join(SHELLS)}"
        )
    return shell


def _offer(values: dict[str, str], incomplete: str) -> list[CompletionItem]:
    return [
        CompletionItem(_typed(value), help=meaning)
        for value, meaning in values.items()
        if value.casefold().startswith(incomplete.casefold())
    ]


def _typed(value: str) -> str:
    """`value` as it stands on a command line; bash, whose script unescapes once, needs help."""
    return value.replace(" ", r"\\ ") if os.environ.get(VARIABLE) == "bash_complete" else value


def _policies(ctx: click.Context) -> dict[str, Any]:
    repository_dir = ctx.params.get("repository_dir")
    folder = repository_dir if isinstance(repository_dir, Path) else DEFAULT_REPOSITORY
    policies = _mapping(folder / "policies.json").get("policies")
    return policies if isinstance(policies, dict) else {}


def _state(state: Any) -> str:
    active = state.get("active") if isinstance(state, dict) else None
    return "not active" if active is None else f"revision {active} is active"


def _mapping(file: Path) -> dict[str, Any]:
    """The content of a JSON or YAML file; empty when it has none that can be read at once."""
    try:
        if file.stat().st_size > MAX_BYTES:
            return {}
        text = file.read_text(encoding="utf-8")
        content = json.loads(text) if file.suffix == ".json" else _yaml(text, file)
    except (OSError, ValueError, InputError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _yaml(text: str, file: Path) -> Any:
    from unsee.core.yaml_file import parse_yaml

    return parse_yaml(text, str(file))
