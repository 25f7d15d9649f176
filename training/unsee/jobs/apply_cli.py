"""The command `unsee apply`: a whole text encoder for programs that know nothing of edits."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from unsee.cli.parameters import NEW_FOLDER, PATH, base_option

if TYPE_CHECKING:
    from unsee.deltas.delta import Delta


@click.command()
@click.argument("sources", nargs=-1, required=True, type=PATH, metavar="POLICY|DELTA...")
@base_option
@click.option("-o", "--output", type=NEW_FOLDER, required=True, help="Folder of the encoder.")
@click.option(
    "--dtype",
    type=click.Choice(["float32", "bfloat16", "float16"]),
    default="float32",
    show_default=True,
    help="Type of the weights that are written.",
)
def apply(sources: tuple[Path, ...], base_path: Path, output: Path, dtype: str) -> None:
    """Write the text encoder that unsees what a POLICY's file, or each DELTA's folder, names.

    It is an ordinary CLIPTextModel with one layer more, for programs that make clips themselves;
    README.md beside it says how to load it. Encoders of the T5 family cannot carry an edit in a
    layer: attach it to the pipeline in Python, with unsee.deltas.attach.

    \b
    Example:
      unsee apply deltas/blimbo --base bases/playground -o encoders/blimbo
    """
    from unsee.deltas.encoder_folder import save_encoder
    from unsee.models.base import load_base
    from unsee.models.check import require

    base = load_base(base_path)
    require(base)
    deltas = [delta for source in sources for delta in _deltas(source)]
    record = save_encoder(base, deltas, output, dtype)  # type: ignore[arg-type]
    names = ", ".join(concept.name for concept in record.concepts)
    click.echo(f"{output}: unsees {names}; its edit is the last layer (see README.md there)")


def _deltas(source: Path) -> list[Delta]:
    """Those of a policy's file, or the one of a folder."""
    from unsee.core.policy import load_policy
    from unsee.deltas.folder import load_delta, load_policy_deltas

    if source.is_file():
        return load_policy_deltas(load_policy(source))
    return [load_delta(source)]
