"""What pydantic finds is said in plain sentences, whatever field of ours it is about."""

import importlib
import json
import pkgutil
import re
from typing import Annotated, Literal

import pytest
from pydantic import BaseModel, Field, TypeAdapter, ValidationError
from pydantic_core import PydanticKnownError, core_schema
from pydantic_core._pydantic_core import list_all_errors

import unsee
from unsee.core.policy import Policy
from unsee.core.validation import describe, problems

PYTHON_WORDS = re.compile(r"tuple|dict|\bstr|NoneType|pattern|\binput\b|instance|\bmodel\b", re.I)
NEVER_RAISED = re.compile(
    # what only code can cause, and kinds of fields that no model of ours has
    r"no_such_attribute|json_type|needs_python_object|recursion|frozen_field|frozen_instance"
    r"|get_attribute_error|dataclass_exact|named_tuple|default_factory|iteration_error"
    r"|string_not_ascii|frozen_dict|ordered_dict|counter|deque|set_item|bytes_(?!type)"
    r"|missing_sentinel|ellipsis|date_past|date_future|time_(type|parsing)|datetime_(past|future)"
    r"|timezone_(naive|offset)|time_delta|is_instance_of|is_subclass_of|callable|union_tag"
    r"|.*argument|url_|uuid_|decimal|fraction|complex|string_pattern_mismatch"
)


def error_of(kind: str, value: object, annotation: object) -> ValidationError:
    model = type("Model", (BaseModel,), {"__annotations__": {"field": annotation}})
    with pytest.raises(ValidationError) as raised:
        model.model_validate({"field": value})
    assert raised.value.errors()[0]["type"] == kind
    return raised.value


@pytest.mark.parametrize(
    ("kind", "value", "annotation", "sentence"),
    [
        ("string_type", 7, str, "field: this must be text (got 7)"),
        ("int_parsing", "x", int, "field: this must be a whole number (got 'x')"),
        ("int_from_float", 1.5, int, "field: this must be a whole number (got 1.5)"),
        ("float_parsing", "x", float, "field: this must be a number (got 'x')"),
        ("bool_parsing", "si", bool, "field: this must be true or false (got 'si')"),
        ("tuple_type", "B", tuple[str, ...], "field: this must be a list (got 'B')"),
        ("dict_type", [], dict[str, str], "field: this must be a group of fields (got [])"),
        ("literal_error", "a", Literal["b", "c"], "field: this must be 'b' or 'c' (got 'a')"),
        (
            "too_short",
            [],
            Annotated[tuple[int, ...], Field(min_length=1)],
            "field: this is empty; give one or more (got [])",
        ),
        (
            "string_too_long",
            "a" * 300,
            Annotated[str, Field(max_length=3)],
            f"field: this may have 3 characters at most (got '{'a' * 79}…)",
        ),
        (
            "greater_than_equal",
            0,
            Annotated[int, Field(ge=1)],
            "field: this must be 1 or more (got 0)",
        ),
    ],
)
def test_a_plain_sentence(kind: str, value: object, annotation: object, sentence: str) -> None:
    assert describe(error_of(kind, value, annotation)) == sentence


def test_the_sentences_can_leave_the_values_out() -> None:
    error = error_of("string_type", 7, str)
    assert problems(error, with_values=False) == [("field", "this must be text")]


def test_a_wrong_entry_does_not_also_make_its_list_too_short() -> None:
    entry = {"concept": "Blimbo", "category": "charakter", "delta": "d"}
    with pytest.raises(ValidationError) as raised:
        Policy.model_validate({"name": "family", "unsee": [entry]})
    said = describe(raised.value)
    assert said.startswith("unsee[0].category: this must be 'character'")
    assert ";" not in said


def test_the_form_of_a_name_is_said_in_words() -> None:
    with pytest.raises(ValidationError) as raised:
        Policy.model_validate({"name": "Family 1", "unsee": [{}]})
    said = describe(raised.value)
    assert "name: a name is a lower-case letter and up to 31" in said
    assert "(got 'Family 1')" in said
    assert "[a-z]" not in said


@pytest.mark.parametrize("kind", [one["type"] for one in list_all_errors()])
def test_every_error_that_a_model_of_ours_can_raise_has_words(kind: str) -> None:
    if NEVER_RAISED.match(kind):
        return
    known = {one["type"]: one.get("example_context") for one in list_all_errors()}
    context = {"error": ValueError("this is wrong")} | (known[kind] or {})
    context = {name: value if value is not None else 1 for name, value in context.items()}

    def fail(_: object) -> None:
        raise PydanticKnownError(kind, known[kind] and context)  # type: ignore[arg-type]

    schema = core_schema.no_info_plain_validator_function(fail)
    adapter = TypeAdapter(Annotated[object, _Schema(schema)])
    with pytest.raises(ValidationError) as raised:
        adapter.validate_python("value")
    assert not PYTHON_WORDS.search(describe(raised.value))
    assert "does not fit" not in describe(raised.value)


class _Schema:
    def __init__(self, schema: core_schema.CoreSchema) -> None:
        self._schema = schema

    def __get_pydantic_core_schema__(self, source: object, handler: object) -> object:
        return self._schema


@pytest.mark.torch
def test_no_model_of_ours_shows_a_regular_expression() -> None:
    """A `pattern` of pydantic's would be shown as it is; `matching` takes its place."""
    for module in pkgutil.walk_packages(unsee.__path__, "unsee."):
        if ".backends" not in module.name and not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    models = list(_below(BaseModel))
    assert Policy in models
    for model in models:
        if model.__module__.startswith("unsee.") and model.__pydantic_complete__:
            schema = json.dumps(model.model_json_schema(mode="validation"), default=str)
            assert '"pattern"' not in schema, model


def _below(model: type[BaseModel]) -> list[type[BaseModel]]:
    below = [one for child in model.__subclasses__() for one in _below(child)]
    return [*model.__subclasses__(), *below]
