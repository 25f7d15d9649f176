"""The `unsee unlearn` command. Knows options and words on the terminal; the work is elsewhere."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from unsee.client.errors import InputError

if TYPE_CHECKING:
    from unsee.client.policy import Concept
    from unsee.training.base import Base
    from unsee.training.job import Outcome
    from unsee.training.settings import PaperMode

CATEGORIES = ("character", "style", "object", "person", "action")
_PATH = click.Path(path_type=Path)


@click.command()
@click.argument("concept")
@click.option("--category", type=click.Choice(CATEGORIES), required=True, help="What it is.")
@click.option("--base", "base_path", type=_PATH, required=True, help="Folder with a base.yaml.")
@click.option("--also", "aliases", multiple=True, metavar="ALIAS", help="Another name of it.")
@click.option("--shots", type=click.IntRange(min=1), help="How many images.  [default: 4]")
@click.option("--images", "images_dir", type=_PATH, help="Folder of images to use instead.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option(
    "--learning-rate",
    type=click.FloatRange(min=0, min_open=True, max=1),
    help="[default: the base's, else 1e-5]",
)
@click.option("--epochs", type=click.IntRange(min=1), help="[default: the base's, else 5]")
@click.option("--batch-size", type=click.IntRange(min=1), help="[default: the base's, else 2]")
@click.option("-o", "--output", type=_PATH, help="[default: deltas/CONCEPT]")
@click.option("--force", is_flag=True, help="Replace another delta in the output folder.")
@click.option("--json", "as_json", is_flag=True, help="Print the delta's card as JSON.")
def unlearn(
    concept: str,
    category: str,
    base_path: Path,
    aliases: tuple[str, ...],
    images_dir: Path | None,
    seed: int,
    output: Path | None,
    force: bool,
    as_json: bool,
    **overrides: Any,
) -> None:
    """Learn to unsee CONCEPT: writes a delta of the base's text encoder.

    A few images of the concept are generated (or read from --images), and a copy of the text
    encoder is tuned until the image model no longer makes them from its name. The base is not
    changed.

    \b
    Example:
      unsee unlearn "Blimbo" --category character --base bases/playground -o deltas/blimbo
    """
    wanted = _concept(concept, category, aliases)
    folder = output or Path("deltas") / _slug(wanted.name)
    from unsee.training.base import load_base

    base = load_base(base_path)
    settings = _settings(base, overrides, images_dir)
    from unsee.training.job import UnlearnJob, run_job
    from unsee.training.progress import stage_progress

    job = UnlearnJob(base, wanted, settings, seed, images_dir)
    outcome = run_job(job, folder, force=force, stage_progress=stage_progress)
    click.echo(_as_json(outcome) if as_json else _in_words(outcome))


def _concept(name: str, category: str, aliases: tuple[str, ...]) -> Concept:
    from pydantic import ValidationError

    from unsee.client.policy import Concept, describe

    try:
        return Concept.model_validate({"name": name, "category": category, "aliases": aliases})
    except ValidationError as error:
        raise InputError(f"the concept is not valid: {describe(error)}") from error


def _settings(base: Base, overrides: dict[str, Any], images_dir: Path | None) -> PaperMode:
    """The paper's settings, over them the base's, over them the command line's."""
    from pydantic import ValidationError

    from unsee.client.policy import describe
    from unsee.training.image_folder import image_files
    from unsee.training.settings import PaperMode

    if images_dir is not None and overrides["shots"] is None:
        overrides = overrides | {"shots": len(image_files(images_dir))}
    given = {name: value for name, value in overrides.items() if value is not None}
    try:
        return PaperMode(**base.spec.unlearn.model_dump(exclude_none=True) | given)
    except ValidationError as error:
        raise InputError(f"the settings are not valid: {describe(error)}") from error


def _slug(name: str) -> str:
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    slug = re.sub(r"[^a-z0-9]+", "-", plain.lower()).strip("-")
    if not slug:
        raise InputError(f"no folder name can be made of {name!r}; name the output with -o")
    return slug


def _as_json(outcome: Outcome) -> str:
    import json

    card = outcome.delta.card.model_dump(mode="json")
    return json.dumps({"delta": str(outcome.folder), "reused": outcome.reused, "card": card})


def _in_words(outcome: Outcome) -> str:
    card = outcome.delta.card
    if outcome.reused:
        return f"{outcome.folder} already holds this delta of {card.concept.name}"
    values = sum(tensor.numel() for tensor in outcome.delta.tensors.values())
    return (
        f"{outcome.folder}: unlearned {card.concept.name} in {sum(card.seconds.values()):.1f} s "
        f"({len(card.losses)} steps, denoising error {-card.losses[0]:.3f} to "
        f"{-card.losses[-1]:.3f}, {values:,} values in {len(outcome.delta.tensors)} tensors)"
    )
