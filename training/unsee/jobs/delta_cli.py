"""The command `unsee delta`: words about a delta folder. The work is elsewhere."""

from __future__ import annotations

import json
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

import click

from unsee.cli.parameters import FILE, FOLDER, json_option
from unsee.core.sizes import in_words

if TYPE_CHECKING:
    from unsee.deltas.delta import Card


@click.group()
def delta() -> None:
    """Show what a delta is, or check its files."""


@delta.command()
@click.argument("folder", type=FOLDER)
@json_option
def show(folder: Path, as_json: bool) -> None:
    """Say what the delta in FOLDER unsees and how it was made.

    \b
    Example:
      unsee delta show deltas/blimbo
    """
    from unsee.deltas.folder import TENSORS_FILE, load_delta

    card = load_delta(folder).card
    size_bytes = (folder / TENSORS_FILE).stat().st_size
    if as_json:
        content = {
            "delta": str(folder),
            "size_bytes": size_bytes,
            "signed": _is_signed(folder),
            "card": card.model_dump(mode="json"),
        }
        click.echo(json.dumps(content, indent=2))
        return
    facts = _facts(card) | {
        "size": in_words(size_bytes),
        "signature": _signature(folder),
    }
    for name, value in facts.items():
        click.echo(f"{name:<10} {value}")


@delta.command()
@click.argument("folder", type=FOLDER)
@click.option(
    "--public-key",
    type=FILE,
    metavar="KEY.pem",
    help="Also check the signature, with this public key.",
)
@json_option
def verify(folder: Path, public_key: Path | None, as_json: bool) -> None:
    """Check that every file of the delta in FOLDER is the one that was written.

    Without --public-key only accidents are found: who changes a file can change the card too.

    \b
    Example:
      unsee delta verify deltas/blimbo --public-key operator.pem
    """
    from unsee.deltas.folder import load_delta

    concept = load_delta(folder).card.concept  # raises when a file is not what was written
    if public_key is not None:
        from unsee.deltas.signature import verify_folder

        verify_folder(folder, public_key)
    if as_json:
        content = {
            "delta": str(folder),
            "concept": concept.name,
            "signed": _is_signed(folder),
            "signature_checked": public_key is not None,
        }
        click.echo(json.dumps(content, indent=2))
        return
    signed = (
        _signature(folder) if public_key is None else f"made with the private key of {public_key}"
    )
    click.echo(f"{folder}: every file of the delta of {concept.name} is as it was written")
    click.echo(f"signature: {signed}")


def _facts(card: Card) -> dict[str, str]:
    concept = card.concept
    return {
        "concept": f"{concept.name} ({concept.category})",
        "aliases": ", ".join(concept.aliases) or "none",
        "base": f"{card.base}, text encoder {card.base_digest[:19]}",
        "method": f"{card.method}, seed {card.seed}",
        "anchor": card.anchor or "none",
        "scores": _scores(card),
        "stopped": card.stopped,
        "made": f"{card.created_at:%Y-%m-%d}, {sum(card.seconds.values()):.1f} s",
    }


def _scores(card: Card) -> str:
    if card.erased is None or card.kept is None:
        return "not measured while it was learned"
    return f"erased {100 * card.erased:.0f} %, kept {100 * card.kept:.1f} % (while it was learned)"


def _signature(folder: Path) -> str:
    if not _is_signed(folder):
        return "none"
    return f"present, not checked (unsee delta verify {quote(str(folder))} --public-key KEY.pem)"


def _is_signed(folder: Path) -> bool:
    from unsee.deltas.files import SIGNATURE_FILE

    return (folder / SIGNATURE_FILE).is_file()
