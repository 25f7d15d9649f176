"""`unsee generate`: asks a server for clips and writes them to files.

Only options and output: what to ask for is `clip_wishes`'s business, the asking `clip_batch`'s.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from unsee.cli.parameters import ADDRESS, FILE, PATH, POLICY, REVISION, json_option
from unsee.core.errors import InputError

if TYPE_CHECKING:
    from unsee.cli.wishes import ClipWish
    from unsee.media.provenance import Provenance


@click.command()
@click.argument("words", nargs=-1, metavar="[PROMPT]")
@click.option(
    "--prompts",
    "prompts_file",
    type=FILE,
    metavar="FILE",
    help="One prompt a line, instead of PROMPT.",
)
@click.option(
    "--policy",
    "policies",
    type=POLICY,
    multiple=True,
    help="The concept policy to apply. Repeat to compare several.  [default: the server's]",
)
@click.option(
    "--revision", type=REVISION, help="Eligible revision of it.  [default: the active one]"
)
@click.option("--seed", type=int, help="Equal seeds give equal clips.  [default: drawn]")
@click.option("--negative-prompt", help="What the clip should not show.")
@click.option("--steps", "num_inference_steps", type=int, help="Steps of the sampler.")
@click.option("--guidance-scale", type=float, help="How closely to follow the prompt.")
@click.option("--frames", "num_frames", type=int, help="Length in frames.")
@click.option("--height", type=int, help="In pixels.")
@click.option("--width", type=int, help="In pixels.")
@click.option("--scheduler", help="A sampler that the server offers, such as DDIMScheduler.")
@click.option(
    "--acceleration",
    help="A similar clip sooner, by fewer evaluations: none, balanced or fast.  [default: none]",
)
@click.option(
    "--url", type=ADDRESS, default="127.0.0.1:8001", show_default=True, help="Host and gRPC port."
)
@click.option(
    "-o",
    "--output",
    "outputs",
    type=PATH,
    multiple=True,
    help="Where to write: .mp4, .gif, .webp, .png (contact sheet) or .npy. Repeat for several. "
    "{n} and {policy} in the name tell clips apart.  [default: clip.mp4]",
)
@click.option(
    "--sheet",
    type=FILE,
    metavar="FILE.png",
    help="Also one picture of all: a row for each prompt, a column for each policy.",
)
@click.option(
    "--in-flight",
    type=click.IntRange(min=1),
    metavar="N",
    default=4,
    show_default=True,
    help="How many of several clips are asked for at once.",
)
@click.option(
    "--sign-certificate",
    type=FILE,
    metavar="CERT.pem",
    help="Sign the files (C2PA) with this certificate and those that lead to its root.",
)
@click.option("--sign-key", type=FILE, metavar="KEY.pem", help="The certificate's private key.")
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(min=0, min_open=True),
    default=600.0,
    show_default=True,
    metavar="SECONDS",
    help="How long a clip may take.",
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
    """Ask the server for a clip of PROMPT, or for many.

    What you leave out the server decides; the record that --json prints says what it chose. A
    refused clip does not stop the others. With --prompts or several policies the JSON document
    lists the clips and the failures, else it is the clip's record and files.

    \b
    Example:
      unsee generate "Blimbo walking in the forest" --policy family --seed 7 -o clip.mp4 -o clip.png
      unsee generate "Blimbo walking" --policy base --policy family --sheet compared.png
      unsee generate --prompts prompts.txt --policy family -o clips/{n}.mp4
    """
    from unsee.cli.batch import ClipBatch
    from unsee.cli.wishes import wanted_clips
    from unsee.client.client import Client

    _check_revision(options["revision"], policies)
    wishes = wanted_clips(_prompts(words, prompts_file), policies, seed, outputs)
    signer = _signer(sign_certificate, sign_key)
    _check_files(wishes, sheet, signer)
    batch = ClipBatch()
    try:
        with Client(url, timeout_s=timeout_s) as client:
            batch.make(
                client,
                wishes,
                options,
                in_flight=in_flight,
                signer=signer,
                keep_frames=sheet is not None,
            )
        if sheet is not None:
            batch.save_sheet(sheet, columns=max(1, len(policies)))
    finally:  # what was made before a failure or Ctrl-C is told too
        several = prompts_file is not None or len(policies) > 1
        if as_json and (several or batch.clips):
            click.echo(json.dumps(batch.content() if several else batch.clips[0], indent=2))
        elif batch.files:
            click.echo("\n".join(batch.files))
    batch.raise_failures()


def _check_revision(revision: int | None, policies: tuple[str, ...]) -> None:
    if revision is not None and len(policies) > 1:
        raise InputError(
            f"--revision {revision} is one policy's and {len(policies)} are given; "
            "leave it out or name one policy"
        )


def _prompts(words: tuple[str, ...], file: Path | None) -> list[str]:
    """The prompts of the file, or the one of the command line, or what to do about it."""
    if file is not None:
        from unsee.cli.wishes import read_prompts

        if words:
            raise InputError(f'the prompts come from {file}; leave out "{" ".join(words)}"')
        return read_prompts(file)
    if not words:
        raise InputError("no prompt is given; write one, or give a file of them with --prompts")
    if len(words) > 1:
        raise InputError(f'the prompt needs quotes: unsee generate "{" ".join(words)}"')
    if Path(words[0]).suffix and Path(words[0]).is_file():
        raise InputError(f"{words[0]} is a file; for the prompts in it: --prompts {words[0]}")
    return list(words)


def _check_files(wishes: list[ClipWish], sheet: Path | None, signer: Provenance | None) -> None:
    """So that a long generation does not end in a wrong file name."""
    from unsee.media.video_file import check_destination

    if sheet is not None:
        if sheet.suffix.lower() != ".png":
            raise InputError(f"--sheet {sheet} is a picture; give it the suffix .png")
        check_destination(sheet)
    for file in (file for wish in wishes for file in wish.files):
        check_destination(file)
        if signer is not None:
            signer.check(file.suffix.lower())


def _signer(certificate: Path | None, key: Path | None) -> Provenance | None:
    if certificate is None and key is None:
        return None
    if certificate is None or key is None:
        raise InputError("--sign-certificate and --sign-key go together; give both or neither")
    from unsee.media.provenance import Provenance

    return Provenance(certificate, key)
