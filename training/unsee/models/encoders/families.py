"""The families of text encoders that can be edited, by the names of their classes."""

from typing import Any

from unsee.core.errors import BaseFolderError
from unsee.models.encoders.clip import ClipFamily
from unsee.models.encoders.family import EncoderFamily
from unsee.models.encoders.t5 import T5Family

FAMILIES: tuple[EncoderFamily, ...] = (ClipFamily(), T5Family())


def known_classes() -> tuple[str, ...]:
    """The names of all classes that can be edited."""
    return tuple(name for family in FAMILIES for name in family.class_names)


def family_named(class_name: str) -> EncoderFamily | None:
    """The family of a class of transformers; None if it cannot be edited."""
    return next((family for family in FAMILIES if class_name in family.class_names), None)


def family_of(text_encoder: Any) -> EncoderFamily:
    """The family of a loaded text encoder.

    Raises `BaseFolderError` if it is none that can be edited.
    """
    for cls in type(text_encoder).__mro__:
        family = family_named(cls.__name__)
        if family is not None:
            return family
    raise BaseFolderError(
        f"a {type(text_encoder).__name__} cannot be edited; known are {', '.join(known_classes())}"
    )
