"""The `unsee` command: the table of its subcommands and the one place that ends a process.

Knows where each subcommand lives, never what it does: a subcommand's module is imported only when
it is called or its help is shown, so that `unsee --help` is instant.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, NoReturn

import click

from unsee.client.errors import InputError, UnseeError

INTERRUPTED = 130


@dataclass(frozen=True)
class Subcommand:
    """Where a subcommand lives, its line in `unsee --help`, and the extra that it needs."""

    module: str
    summary: str
    extra: str | None = None


SUBCOMMANDS = {
    "unlearn": Subcommand(
        "unsee.training.cli", "Learn to unsee one concept: a delta of the text encoder.", "train"
    ),
    "delta": Subcommand(
        "unsee.training.delta_cli", "Show what a delta is, or check its files.", "train"
    ),
    "evaluate": Subcommand(
        "unsee.evaluation.cli",
        "Measure what a policy forgot and what it kept: a report.",
        "evaluate",
    ),
    "export": Subcommand(
        "unsee.export.cli", "Export a base once, into a Triton model repository.", "export"
    ),
    "serve": Subcommand("unsee.serving.cli", "Start Triton on a model repository.", "serve"),
    "follow": Subcommand(
        "unsee.serving.pointer_follower_cli",
        "Keep one of several servers in step with a shared store.",
        "serve",
    ),
    "publish": Subcommand(
        "unsee.serving.policy_cli", "Build a policy's next revision and load it.", "export"
    ),
    "promote": Subcommand(
        "unsee.serving.policy_cli", "Make a revision the one that new requests use."
    ),
    "rollback": Subcommand("unsee.serving.policy_cli", "Go back to the revision before."),
    "retire": Subcommand("unsee.serving.revision_cli", "Take an old revision out of the server."),
    "policies": Subcommand("unsee.serving.policy_cli", "List policies and their revisions."),
    "history": Subcommand("unsee.serving.revision_cli", "Show who changed what, and why."),
    "repair": Subcommand("unsee.serving.revision_cli", "Put right what a crash has left."),
    "gateway": Subcommand(
        "unsee.serving.gateway.cli", "Serve tenants: who may do what, how much at once.", "gateway"
    ),
    "status": Subcommand("unsee.serving.gateway.status_cli", "Show a service on one screen."),
    "generate": Subcommand("unsee.client.cli", "Ask the server for a clip."),
}

EXTRA_OF_MODULE = {
    "accelerate": "train",
    "diffusers": "train",
    "safetensors": "train",
    "tokenizers": "train",
    "torch": "train",
    "transformers": "train",
    "jinja2": "evaluate",
    "matplotlib": "evaluate",
    "onnx": "export",
    "onnxruntime": "export",
    "onnxscript": "export",
    "pytriton": "serve",
    "h11": "gateway",
    "prometheus_client": "gateway",
    "starlette": "gateway",
    "uvicorn": "gateway",
}

INTRODUCTION = """\
Makes a text-to-video service stop generating a concept.

A concept is a cartoon character, an artist's style, an object, a person's face or an action.
Only the text encoder is tuned, in minutes; the video model stays as it is. A policy is a named
set of such concepts. Triton serves every policy at once, and a new revision of a policy goes
live while requests are in flight.
"""

EXAMPLE = """\
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

"unsee COMMAND --help" explains a command.
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

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands, in the order of the work"):
            formatter.write_dl([(name, sub.summary) for name, sub in SUBCOMMANDS.items()])

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except ModuleNotFoundError as error:
            missing = missing_extra(error.name or "", ctx.invoked_subcommand or "")
            if missing is None:
                raise
            raise missing from error


def missing_extra(module: str, subcommand: str) -> InputError | None:
    """The sentence that says which install brings `module`; None when it is not one of ours."""
    package = module.partition(".")[0]
    if package not in EXTRA_OF_MODULE:
        return None
    known = SUBCOMMANDS.get(subcommand)
    extra = (known.extra if known else None) or EXTRA_OF_MODULE[package]
    return InputError(
        f'this command needs {package}; install it with: pip install "unsee[{extra}]"'
    )


@click.group(
    cls=LazyGroup,
    help=INTRODUCTION,
    epilog=EXAMPLE,
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
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        return INTERRUPTED
    except (UnseeError, OSError) as error:
        if os.environ.get("UNSEE_TRACEBACK") == "1":
            raise
        click.echo(f"error: {error}", err=True)
        return error.exit_code if isinstance(error, UnseeError) else 1
    return outcome if isinstance(outcome, int) else 0


def main() -> NoReturn:
    """The entry point of the `unsee` script; nothing it loads may report home unless asked to."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    sys.exit(run())


if __name__ == "__main__":
    main()
