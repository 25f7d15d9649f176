"""The command `unsee base`: what a base's folder holds and whether it can be served."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from unsee.cli.parameters import FOLDER, json_option
from unsee.core.errors import BaseFolderError

if TYPE_CHECKING:
    from unsee.models.base import Base
    from unsee.models.check import Finding


@click.group()
def base() -> None:
    """Check a base's folder, or convert its pickled weights."""


@base.command()
@click.argument("folder", type=FOLDER)
@json_option
def check(folder: Path, as_json: bool) -> None:
    """Say what the base in FOLDER holds, what is made of it, and what differs.

    Exits with 2 if anything in it cannot be served as it stands; unlearn, evaluate and export
    refuse the same folders with the same sentences.

    \b
    Example:
      unsee base check bases/playground
    """
    from unsee.models.base import load_base
    from unsee.models.check import check as findings_of

    opened = load_base(folder)
    findings = findings_of(opened)
    problems = [finding.problem for finding in findings if finding.problem]
    if opened.spec.prompts is None and not problems:
        findings += (_ordinary_prompts(opened),)
    if as_json:
        content = {
            "base": opened.name,
            "ok": not problems,
            "findings": [asdict(finding) for finding in findings],
        }
        click.echo(json.dumps(content, indent=2))
    else:
        click.echo("\n".join(_lines(findings)))
    if problems:
        raise BaseFolderError(
            f"{len(problems)} of {len(findings)} parts of the base {opened.name!r} cannot be served"
        )


@base.command()
@click.argument("folder", type=FOLDER)
def convert(folder: Path) -> None:
    """Write safetensors beside the pickled weights (*.bin) in FOLDER and the folders below it.

    Pickles are read as tensors alone; nothing in them is run. They stay where they are.

    \b
    Example:
      unsee base convert my-base/sd15
    """
    from unsee.models.files.convert import convert_weights

    written = convert_weights(folder)
    for file in written:
        click.echo(file)
    if not written:
        click.echo(f"every weight file below {folder} has its safetensors file already", err=True)


def _ordinary_prompts(base: Base) -> Finding:
    """What is kept by an edit of a base that names no prompts."""
    from unsee.models.check import Finding
    from unsee.prompts.ordinary import asked_prompts

    count = len(asked_prompts(base))
    used = f"{count} ordinary ones that come with Unsee are kept, and random words"
    if not count:
        used = "random words are kept; its tokenizer knows few ordinary ones"
    return Finding("prompts", "no file is named", used)


def _lines(findings: tuple[Finding, ...]) -> list[str]:
    """A table: part, what was read, what is made of it; notes and problems below their part."""
    part = max(len(finding.part) for finding in findings)
    read = max(len(finding.read) for finding in findings)
    lines = []
    for finding in findings:
        if finding.read:
            lines.append(f"{finding.part:<{part}}  {finding.read:<{read}}  {finding.used}".rstrip())
        else:
            lines.append(finding.part)
        if finding.note:
            lines.append(f"{'':<{part}}  note: {finding.note}")
        if finding.problem:
            lines.append(f"{'':<{part}}  wrong: {finding.problem}")
    return lines
