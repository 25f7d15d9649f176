"""Concepts and policies: what a service unsees, and the YAML file that says so.

A policy names the folders of its deltas; reading it does not open them.

    name: family
    unsee:
      - {concept: Blimbo, category: character, delta: ../deltas/blimbo}
    thresholds: {siblings_kept_at_least: 0.85}   # optional, see `Thresholds`
"""

from __future__ import annotations

from pathlib import Path
from shlex import quote
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError
from pydantic import field_validator as validates

from unsee.core.categories import Category
from unsee.core.errors import InputError
from unsee.core.validation import COMPOSED, LOCAL, ClosedModel, describe, matching, shortened
from unsee.core.yaml_file import read_yaml

Name = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=200),
    COMPOSED,
]
Share = Annotated[float, Field(ge=0, le=1, strict=True, allow_inf_nan=False)]
"""Strict, for YAML reads yes, on and off as truth values, and those pass for 1 and 0."""
PolicyName = Annotated[
    str,
    matching(
        r"[a-z][a-z0-9-]{0,31}",
        "a name is a lower-case letter and up to 31 lower-case letters, digits and hyphens, "
        "such as family",
    ),
]

BASE_POLICY = "base"
"""The reserved policy that unsees nothing."""


class Concept(BaseModel):
    """Something to unsee: its name, what kind of thing it is, and its other names."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    name: Name
    category: Category
    aliases: tuple[Name, ...] = ()


class PolicyConcept(Concept):
    """A concept of a policy and the folder of the delta that unsees it; `concept` in YAML."""

    name: Name = Field(alias="concept")
    delta: Annotated[str, StringConstraints(min_length=1), LOCAL]


class Thresholds(ClosedModel):
    """What an encoder's report must show before `unsee publish` lets the encoder be served.

    Args:
        erased_at_most: by how much the share of samples that still show an unseen concept may
            exceed the floor, over all wordings and media; the worst concept counts. The floor is
            the unmodified encoder's share for neutral prompts.
        erased_interval_at_most: the same for the upper end of the excess's 95 % interval, which
            only many samples bring down. None: the interval is reported but not judged.
        siblings_kept_at_least: how often the unseen concepts' siblings must be recognised,
            relative to the unmodified encoder.
        others_kept_at_least: the same for everything else.
        motion_within: how far the motion of kept clips, relative to the unmodified encoder's, may
            be from 1.
        attacked_at_most: by how much the share of an attack's samples that show an unseen concept
            may exceed the floor; the worst attack counts. None: attacks are not judged.
        samples_at_least: how many samples must stand behind each of these figures.
        base_recognised_at_least: how often the recogniser must see each unseen concept in what the
            unmodified encoder makes of the same prompts; below it, not seeing it proves nothing.
        floor_at_most: how often the recogniser may see each unseen concept in what the unmodified
            encoder makes of neutral prompts; above it, an excess over the floor proves nothing.
        recogniser: the digest of the recogniser that must have looked; None: the base's judge, or
            any where the base brings none.
    """

    erased_at_most: Share = 0.08
    erased_interval_at_most: Share | None = None
    siblings_kept_at_least: Share = 0.90
    others_kept_at_least: Share = 0.95
    motion_within: Share = 0.20
    attacked_at_most: Share | None = None
    samples_at_least: Annotated[int, Field(ge=1, strict=True)] = 8
    base_recognised_at_least: Share = 0.5
    floor_at_most: Share = 0.15
    recogniser: (
        Annotated[
            str,
            matching(
                r"sha256:[0-9a-f]{64}",
                "a recogniser's digest is sha256: and 64 hex digits, as in a report.json",
            ),
        ]
        | None
    ) = None

    def loosened(self) -> tuple[str, ...]:
        """One sentence for each limit that asks for less than the default does."""
        usual, found = Thresholds(), []
        for name in type(self).model_fields:
            value, default = getattr(self, name), getattr(usual, name)
            if value is None or default is None or value == default:
                continue
            if (value < default) == name.endswith("_at_least"):
                found.append(f"{name} is {value:g}, looser than the default {default:g}")
        return tuple(found)


class Policy(ClosedModel):
    """A named set of concepts to be unseen together, and what their report must show."""

    name: PolicyName
    unsee: Annotated[tuple[PolicyConcept, ...], Field(min_length=1)]
    thresholds: Thresholds = Thresholds()

    @validates("name")
    @classmethod
    def _not_reserved(cls, name: str) -> str:
        if name == BASE_POLICY:
            raise ValueError('the name "base" is reserved for the policy that unsees nothing')
        return name

    @validates("unsee")
    @classmethod
    def _no_concept_twice(cls, concepts: tuple[PolicyConcept, ...]) -> tuple[PolicyConcept, ...]:
        names = [concept.name.casefold() for concept in concepts]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ValueError(f'the concept "{twice}" is listed twice')
        return concepts


def load_policy(path: Path | str) -> Policy:
    """Reads a policy file; its delta paths come back absolute.

    Raises:
        InputError: the file cannot be read, is no policy, or names a delta folder that does not
            exist; the message names the file and the field.
    """
    file = Path(path)
    try:
        policy = Policy.model_validate(_read_mapping(file))
    except ValidationError as error:
        raise InputError(f"{file}: {describe(error)}") from error
    folder = file.resolve().parent
    concepts = [_with_absolute_delta(file, i, c, folder) for i, c in enumerate(policy.unsee)]
    return policy.model_copy(update={"unsee": tuple(concepts)})


def _read_mapping(file: Path) -> dict[str, Any]:
    content = read_yaml(file, "the policy file")
    if not isinstance(content, dict):
        raise InputError(f'{file}: a policy file needs the fields "name" and "unsee"')
    return content


def _with_absolute_delta(
    file: Path, index: int, concept: PolicyConcept, folder: Path
) -> PolicyConcept:
    try:
        delta = (folder / concept.delta).resolve()
        exists = delta.is_dir()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(
            f"{file}: unsee[{index}].delta: {shortened(concept.delta)} cannot be a path: {reason}"
        ) from error
    if not exists:
        raise InputError(
            f"{file}: unsee[{index}].delta: there is no folder {delta}; "
            f"make it with: unsee unlearn {quote(concept.name)} --category {concept.category}"
        )
    return concept.model_copy(update={"delta": str(delta)})
