"""What is to be unlearned, as the command line or a YAML file lists it.

concepts:
  - {concept: Blimbo, category: character, also: [Blimby], anchor: a cartoon character}
  - {concept: Van Gogh, category: style}
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from unsee.core.categories import Category
from unsee.core.errors import InputError
from unsee.core.policy import Concept, Name
from unsee.core.validation import ClosedModel, describe
from unsee.core.yaml_file import read_yaml


@dataclass(frozen=True)
class WantedConcept:
    """A concept to unlearn and what to show in its place (None: what the method chooses)."""

    concept: Concept
    anchor: str | None = None

    @property
    def folder_name(self) -> str:
        """The name of the folder for its delta: lower-case ASCII letters, digits and hyphens.

        Raises `InputError` if the concept's name leaves nothing of that kind.
        """
        name = self.concept.name
        plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
        slug = re.sub(r"[^a-z0-9]+", "-", plain.lower()).strip("-")
        if not slug:
            raise InputError(
                f"no folder name can be made of {name!r}; unlearn it alone and "
                "name the output with -o"
            )
        return slug


def named_concepts(
    names: Sequence[str], category: str, aliases: Sequence[str], anchor: str | None
) -> tuple[WantedConcept, ...]:
    """The concepts that a command line names, all of one category.

    Raises `InputError` if a field is wrong, two names share a folder, or aliases are given for
    more than one name.
    """
    if aliases and len(names) > 1:
        raise InputError(
            f"--also names one concept's other names and {len(names)} concepts are given; "
            "unlearn them one by one or list them in a file for --concepts"
        )
    entries = [
        {"concept": name, "category": category, "also": tuple(aliases), "anchor": anchor}
        for name in names
    ]
    return _checked({"concepts": entries}, "the concept is not valid")


def load_concept_list(file: Path) -> tuple[WantedConcept, ...]:
    """The concepts that a YAML file lists, in its order.

    Raises `InputError` naming the file and the field if it cannot be read, a field is wrong or
    not known, or two concepts share a folder.
    """
    content = read_yaml(file, "the concept list")
    if not isinstance(content, dict):
        raise InputError(f'{file}: a concept list needs the field "concepts"')
    return _checked(content, str(file))


class _ListedConcept(ClosedModel):
    concept: Name
    category: Category
    also: tuple[Name, ...] = ()
    anchor: Name | None = None

    def wanted(self) -> WantedConcept:
        concept = Concept(name=self.concept, category=self.category, aliases=self.also)
        return WantedConcept(concept=concept, anchor=self.anchor)


class _ConceptList(ClosedModel):
    concepts: tuple[_ListedConcept, ...] = Field(min_length=1)


def _checked(content: dict[Any, Any], place: str) -> tuple[WantedConcept, ...]:
    try:
        listed = _ConceptList.model_validate(content).concepts
    except ValidationError as error:
        raise InputError(f"{place}: {describe(error)}") from error
    wanted = tuple(entry.wanted() for entry in listed)
    if len(wanted) > 1:
        _check_folders_differ(wanted, place)
    return wanted


def _check_folders_differ(wanted: Sequence[WantedConcept], place: str) -> None:
    counts = Counter(entry.folder_name for entry in wanted)
    folder_name, count = counts.most_common(1)[0]
    if count > 1:
        names = [entry.concept.name for entry in wanted if entry.folder_name == folder_name]
        same = len({name.casefold() for name in names}) == 1
        what_to_do = (
            "name each concept once"
            if same
            else "unlearn one of them alone and name its output with -o"
        )
        raise InputError(
            f"{place}: {' and '.join(map(repr, names))} would share the folder {folder_name}; "
            f"{what_to_do}"
        )
