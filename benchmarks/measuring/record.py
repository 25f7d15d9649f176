"""Where measured figures are kept: JSON in `docs/measured`, from which `make pages` makes pages."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

from unsee.cli.parameters import FOLDER
from unsee.core.files import write_file
from unsee.repository import pointer

MEASURED = Path(__file__).parents[2] / "docs" / "measured"


def _checked(_context: click.Context, _option: click.Parameter, repository_dir: Path) -> Path:
    """Raises `InputError` if it is no model repository, before anything of it is copied."""
    pointer.read(repository_dir)
    return repository_dir


repository_option: Callable[[Any], Any] = click.option(
    "--repository",
    "repository_dir",
    type=FOLDER,
    default="demo/model_repository",
    show_default=True,
    callback=_checked,
    help="Of `make demo`, or another.",
)
write_option: Callable[[Any], Any] = click.option(
    "--write", is_flag=True, help="Keep the record in docs/measured, for `make pages`."
)


def say(sentence: str) -> None:
    """Tell the terminal what is being done; what is measured goes to standard output."""
    click.echo(sentence, err=True)


def write_record(name: str, record: Any, folder: Path = MEASURED) -> None:
    """Keep a record as `<name>.json` in `folder`, whole or not at all."""
    write_file(folder / f"{name}.json", as_json(record).encode())
    say(f"written: {folder / name}.json; `make pages` renders its page")


def finish(name: str, record: Any, *, write: bool) -> None:
    """Print a record as JSON and, with `write`, keep it as `<name>.json`."""
    click.echo(as_json(record), nl=False)
    if write:
        write_record(name, record)


def as_json(record: Any) -> str:
    """A record as it is kept and printed; a number that is not finite is null."""
    return json.dumps(_finite(record), indent=1, allow_nan=False) + "\n"


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
