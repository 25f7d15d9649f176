"""Whether a base's text encoders can be edited: asked of the class names in its index files."""

from collections.abc import Mapping
from typing import Any

from unsee.core.errors import BaseFolderError
from unsee.models.encoders.families import family_named, known_classes
from unsee.models.encoders.family import EncoderFamily


def check_encoder(base: str, place: object, class_name: str) -> EncoderFamily:
    """The family of the class `class_name` of the text encoder at `place`.

    Raises `BaseFolderError` if it cannot be edited; the sentence names the base, the model's folder
    or hub id, and the class.
    """
    family = family_named(class_name)
    if family is None:
        raise BaseFolderError(
            f"base {base!r}: {place} reads prompts with a {class_name}, which cannot be edited; "
            f"choose a base with one of {', '.join(known_classes())}"
        )
    return family


def check_single(base: str, place: object, index: Mapping[str, Any]) -> None:
    """Raise `BaseFolderError` if the model has a further text encoder (`text_encoder_2` and so on).

    Those that the index leaves empty do not count.
    """
    for component, entry in index.items():
        is_given = isinstance(entry, list) and any(entry)
        if component.startswith("text_encoder_") and is_given:
            raise BaseFolderError(
                f"base {base!r}: {place} has a second text encoder ({component}, a {entry[-1]}) "
                "that would still know the concept; only bases with one text encoder can be edited"
            )
