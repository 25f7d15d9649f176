"""What pydantic found wrong with a file or a message, in plain sentences that name the fields."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError
from pydantic_core import PydanticCustomError

from unsee.core.errors import InputError

SHOWN_VALUE = 80
"""Characters of a wrong value that a sentence has room for."""

_FORM = "form"
"""The type of the errors of `matching`."""
_SENTENCES: Mapping[str, str] = {
    "json_invalid": "this is not valid JSON ({error})",
    "missing": "this field is missing",
    "extra_forbidden": "this field is not known",
    "invalid_key": "the names of fields must be text",
    "model_type": "this must be a group of fields",
    "model_attributes_type": "this must be a group of fields",
    "dataclass_type": "this must be a group of fields",
    "dict_type": "this must be a group of fields",
    "mapping_type": "this must be a group of fields",
    "tuple_type": "this must be a list",
    "list_type": "this must be a list",
    "set_type": "this must be a list",
    "frozen_set_type": "this must be a list",
    "iterable_type": "this must be a list",
    "too_short": "this list needs {min_length} or more entries",
    "too_long": "this list may have {max_length} entries at most",
    "string_type": "this must be text",
    "string_unicode": "this must be text in UTF-8",
    "string_too_short": "this must have {min_length} or more characters",
    "string_too_long": "this may have {max_length} characters at most",
    "bytes_type": "this must be text",
    "bool_type": "this must be true or false",
    "bool_parsing": "this must be true or false",
    "int_type": "this must be a whole number",
    "int_parsing": "this must be a whole number",
    "int_parsing_size": "this number is too large",
    "int_from_float": "this must be a whole number",
    "float_type": "this must be a number",
    "float_parsing": "this must be a number",
    "finite_number": "this must be a finite number",
    "greater_than": "this must be more than {gt}",
    "greater_than_equal": "this must be {ge} or more",
    "less_than": "this must be less than {lt}",
    "less_than_equal": "this must be {le} or less",
    "multiple_of": "this must be a multiple of {multiple_of}",
    "literal_error": "this must be {expected}",
    "enum": "this must be {expected}",
    "none_required": "this must be left out",
    "path_type": "this must be a path",
    "date_type": "this must be a date such as 2027-01-31",
    "date_parsing": "this must be a date such as 2027-01-31",
    "date_from_datetime_parsing": "this must be a date such as 2027-01-31",
    "date_from_datetime_inexact": "this must be a date such as 2027-01-31, without a time",
    "datetime_type": "this must be a date and time such as 2027-01-31T12:00:00Z",
    "datetime_parsing": "this must be a date and time such as 2027-01-31T12:00:00Z",
    "datetime_object_invalid": "this must be a date and time such as 2027-01-31T12:00:00Z",
    "datetime_from_date_parsing": "this must be a date and time such as 2027-01-31T12:00:00Z",
    "timezone_aware": "this time must say its zone, such as 2027-01-31T12:00:00Z",
    _FORM: "{sentence}",
}
"""By pydantic's name of the error; the braces hold what pydantic says with it."""
_WITHOUT_VALUE = frozenset({"missing", "extra_forbidden", "invalid_key", "json_invalid"})
"""Where the value would say nothing more."""
_OF_LENGTH = frozenset({"too_short", "string_too_short"})


def expanded(place: str) -> str:
    """`place` with the home folder that a leading `~` stands for; a hub's id has none.

    Raises ValueError if it is nobody's.
    """
    try:
        return str(Path(place).expanduser()) if place.startswith("~") else place
    except RuntimeError as error:
        raise ValueError(f"{shortened(place)} cannot be a path: {error}") from error


def path_in(variable: str) -> Path | None:
    """The path that the environment's `variable` names, `~` expanded; None if it names none.

    Raises:
        InputError: it starts with nobody's `~`.
    """
    try:
        named = expanded(os.environ.get(variable, ""))
    except ValueError as error:
        raise InputError(f"{variable}: {error}") from error
    return Path(named) if named else None


COMPOSED = AfterValidator(lambda text: unicodedata.normalize("NFC", text))
"""For text with accents: what is typed or stored in two ways is one."""
LOCAL = AfterValidator(expanded)
"""For text that is, or may be, a path."""


class ClosedModel(BaseModel):
    """What is frozen, and refuses fields that it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def describe(error: ValidationError) -> str:
    """Every problem of a validation as `field: what is wrong`, separated by semicolons."""
    return "; ".join(f"{field or 'file'}: {reason}" for field, reason in problems(error))


def problems(error: ValidationError, *, with_values: bool = True) -> list[tuple[str, str]]:
    """Every problem of a validation as its field, such as `unsee[0].name`, and what is wrong.

    The field is empty where the whole is wrong.

    Args:
        with_values: whether the sentences repeat the wrong values, cut to `SHOWN_VALUE`.
    """
    found = error.errors(include_url=False)
    places = [one["loc"] for one in found]
    return [
        (_field(one["loc"]), _reason(one, with_values))
        for one in found
        if not _follows_from_another(one, places)
    ]


def shortened(value: object) -> str:
    """A wrong value as a sentence shows it: as in Python, cut to `SHOWN_VALUE` characters."""
    try:
        words = repr(value)
    except ValueError:  # Python writes no number of more than some thousand digits
        return "a number of too many digits"
    return words if len(words) <= SHOWN_VALUE else f"{words[:SHOWN_VALUE]}…"


def matching(pattern: str, sentence: str) -> Any:
    """For `Annotated[str, ...]`: the whole text must match `pattern`, else `sentence` says why."""

    def check(text: str) -> str:
        if re.fullmatch(pattern, text) is None:
            raise PydanticCustomError(_FORM, "{sentence}", {"sentence": sentence})
        return text

    return AfterValidator(check)


def _field(location: Sequence[str | int]) -> str:
    path = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in location)
    return path.removeprefix(".")


def _follows_from_another(problem: Any, places: Sequence[tuple[str | int, ...]]) -> bool:
    """pydantic counts a list's valid entries, so a wrong one also makes the list too short."""
    place = problem["loc"]
    return problem["type"] == "too_short" and any(
        len(other) > len(place) and other[: len(place)] == place for other in places
    )


def _reason(problem: Any, with_values: bool) -> str:
    kind, context = problem["type"], problem.get("ctx", {})
    if kind in ("value_error", "assertion_error"):
        return str(context["error"])
    if kind in _OF_LENGTH and context["min_length"] == 1:
        sentence = "this is empty; give one or more"
    elif kind in _SENTENCES:
        sentence = _SENTENCES[kind].format_map(context)
    else:
        sentence = f"this value does not fit ({problem['msg']})"
    if not with_values or kind in _WITHOUT_VALUE:
        return sentence
    return f"{sentence} (got {shortened(problem['input'])})"
