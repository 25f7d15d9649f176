"""`unsee generate`: asks a server for clips and writes them to files."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from unsee.cli.parameters import (
    FILE,
    PATH,
    POLICY,
    REVISION,
    Number,
    Seconds,
    Whole,
    json_option,
    names_a_file,
    url_option,
)
from unsee.core.errors import InputError
from unsee.core.request_schema import INPUTS, WHOLE_NUMBERS, Input

if TYPE_CHECKING:
    from unsee.cli.clip_batch import PlannedClip
    from unsee.media.provenance import Provenance

FLAGS = {"num_inference_steps": "--steps", "num_frames": "--frames"}
"""Options that are shorter than the name of their input."""
OWN_SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "policy": {"type": POLICY, "multiple": True},
    "revision": {"type": REVISION},
}
MORE_HELP = {
    "policy": " Repeat the option to compare several policies.",
    "stream_frames": " The file is written when all have come; a clip that is too large for one "
    "message comes this way.",
}


def request_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Gives `command` an option for every input of the model that may be left out."""
    for name, known in reversed(list(INPUTS.items())):
        if not known.required:
            flag = FLAGS.get(name, f"--{name.replace('_', '-')}")
            settings = {**_type(known), **OWN_SETTINGS.get(name, {})}
            parameter = "policies" if name == "policy" else name
            command = click.option(flag, parameter, help=_help(name, known), **settings)(command)
    return command


def _type(known: Input) -> Mapping[str, Any]:
    """What an option takes: what every server takes; each server knows its base's limits."""
    if known.datatype in WHOLE_NUMBERS:
        low, high = WHOLE_NUMBERS[known.datatype]
        least = low if known.minimum is None else int(known.minimum)
        return {"type": Whole(least, high if known.maximum is None else int(known.maximum))}
    if known.datatype == "BOOL":
        return {"is_flag": True, "default": None}
    if known.datatype == "FP32":
        return {"type": Number(known.minimum, known.maximum)}
    return {"type": click.types.StringParamType()}


def _help(name: str, known: Input) -> str:
    default = known.default_from if known.default is None else known.default
    choices = "" if known.choices is None else f" One of {', '.join(known.choices)}."
    shown = "" if default in (None, "", False) else f"  [default: {default}]"
    return f"{known.help}{MORE_HELP.get(name, '')}{choices}{shown}"


@click.command()
@click.argument("words", nargs=-1, metavar="[PROMPT]")
@click.option(
    "--prompts",
    "prompts_file",
    type=FILE,
    metavar="FILE",
    help="Make a clip for each line of this file instead of one for PROMPT.",
)
@request_options
@url_option
@click.option(
    "-o",
    "--output",
    "outputs",
    type=PATH,
    multiple=True,
    help="File to write; the suffix decides the format: .mp4, .gif, .webp, .png (contact sheet) or "
    ".npy. Repeat the option for several files. {n} in the name stands for the number of the "
    "prompt, {policy} for the policy, {seed} for the seed.  [default: clip.mp4]",
)
@click.option(
    "--sheet",
    type=FILE,
    metavar="FILE.png",
    help="Also draw all clips in one picture: a row for each prompt, a column for each policy.",
)
@click.option(
    "--in-flight",
    type=Whole(1),
    metavar="N",
    default=4,
    show_default=True,
    help="How many clips to ask for at once.",
)
@click.option(
    "--sign-certificate",
    type=FILE,
    metavar="CERT.pem",
    help="Sign the files (C2PA) with this certificate. The file also holds the certificates "
    "between it and its root.",
)
@click.option(
    "--sign-key", type=FILE, metavar="KEY.pem", help="Private key of the signing certificate."
)
@click.option(
    "--timeout",
    "timeout_s",
    type=Seconds(above_zero=True),
    default=600.0,
    show_default=True,
    metavar="SECONDS",
    help="How long one clip may take, waiting included.",
)
@json_option
def generate(
    words: tuple[str, ...],
    prompts_file: Path | None,
    policies: tuple[str, ...],
    seed: int | None,
    url: str,
    outputs: tuple[Path, ...],
    sheet: Path | None,
    in_flight: int,
    sign_certificate: Path | None,
    sign_key: Path | None,
    timeout_s: float,
    as_json: bool,
    **options: Any,
) -> None:
    """Ask the server for a clip of PROMPT, or for many clips.

    The server decides what you leave out; the record that --json prints says what it chose. If one
    of several clips is refused, the others are still made. With --prompts or several policies the
    JSON document lists the clips and the failures; otherwise it holds the clip's record and files.

    \b
    Example:
      unsee generate "Blimbo walking in the forest" --policy family --seed 7 -o clip.mp4 -o clip.png
      unsee generate "Blimbo walking" --policy base --policy family --sheet compared.png
      unsee generate --prompts prompts.txt --policy family -o clips/{n}.mp4
    """
    from unsee.cli.clip_batch import ClipBatch, planned_clips
    from unsee.client.client import Client

    _check_revision(options["revision"], policies)
    planned = planned_clips(_prompts(words, prompts_file), policies, seed, outputs)
    signer = _signer(sign_certificate, sign_key)
    _check_files(planned, sheet, signer)
    batch = ClipBatch()
    try:
        with Client(url, timeout_s=timeout_s) as client:
            batch.make(
                client,
                planned,
                options,
                in_flight=in_flight,
                signer=signer,
                keep_frames=sheet is not None,
            )
        if sheet is not None:
            batch.save_sheet(sheet, columns=max(1, len(policies)))
    finally:  # what was made before a failure or Ctrl-C is printed too
        several = prompts_file is not None or len(policies) > 1
        if as_json and (several or batch.clips):
            click.echo(json.dumps(batch.content() if several else batch.clips[0], indent=2))
        elif batch.files:
            click.echo("\n".join(batch.files))
    batch.raise_failures()


def _check_revision(revision: int | None, policies: tuple[str, ...]) -> None:
    if revision is not None and len(policies) > 1:
        raise InputError(
            f"--revision {revision} belongs to one policy, but {len(policies)} are given; "
            "leave it out or name one policy"
        )


def _prompts(words: tuple[str, ...], file: Path | None) -> list[str]:
    """The prompts of the file, or the one of the command line, or what to do about it."""
    if file is not None:
        from unsee.cli.clip_batch import read_prompts

        if words:
            raise InputError(f'the prompts come from {file}; leave out "{" ".join(words)}"')
        return read_prompts(file)
    if not words:
        raise InputError("no prompt is given; write one, or give a file of them with --prompts")
    if len(words) > 1:
        raise InputError(f'the prompt needs quotes: unsee generate "{" ".join(words)}"')
    if names_a_file(words[0]):
        raise InputError(f"{words[0]} is a file; for the prompts in it: --prompts {words[0]}")
    return list(words)


def _check_files(planned: list[PlannedClip], sheet: Path | None, signer: Provenance | None) -> None:
    """So that a long generation does not end in a wrong file name."""
    from unsee.cli.clip_batch import PLACEHOLDER
    from unsee.media.video_file import check_destination

    if sheet is not None:
        if PLACEHOLDER.search(str(sheet)):
            raise InputError(f"--sheet {sheet} is one picture of all clips; give it a fixed name")
        if sheet.suffix.lower() != ".png":
            raise InputError(f"--sheet {sheet} is a PNG picture; give it the suffix .png")
        if sheet.absolute() in {file.absolute() for clip in planned for file in clip.files}:
            raise InputError(f"--sheet and -o both name {sheet}; give the sheet another name")
        check_destination(sheet)
    files = [file for clip in planned for file in clip.files]
    if signer is not None:
        for suffix in {file.suffix.lower() for file in files}:
            signer.check(suffix)
    for file in files:
        check_destination(file)


def _signer(certificate: Path | None, key: Path | None) -> Provenance | None:
    if certificate is None and key is None:
        return None
    if certificate is None or key is None:
        raise InputError("--sign-certificate and --sign-key go together; give both or neither")
    from unsee.media.provenance import Provenance

    return Provenance(certificate, key)
