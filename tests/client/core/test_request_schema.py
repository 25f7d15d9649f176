"""The schema of a request: its types agree, and the client's options are made of it."""

import dataclasses
from typing import get_type_hints

from hypothesis import given
from hypothesis import strategies as st

from unsee.cli.generate import generate
from unsee.client.options import CallOptions, Options, Request, model_inputs
from unsee.core.record import GenerationRecord
from unsee.core.request_schema import (
    INPUTS,
    GenerationRequest,
    Prompt,
    RequestOptions,
    nearest_fitting,
)


def test_the_annotations_agree_with_the_datatypes():
    declared = get_type_hints(Prompt) | get_type_hints(RequestOptions)
    assert set(declared) == set(INPUTS)
    for name, known in INPUTS.items():
        plain = known.python_type
        assert declared[name] == (plain if known.required else plain | None), name


def test_a_request_that_is_filled_in_has_every_input():
    hints = get_type_hints(GenerationRequest)
    assert {field.name for field in dataclasses.fields(GenerationRequest)} == set(INPUTS)
    for name, known in INPUTS.items():
        by_policies = name in ("policy", "revision")
        assert hints[name] == (known.python_type | None if by_policies else known.python_type), name


def test_what_is_left_out_has_one_default_and_bounds_fit_the_type():
    for name, known in INPUTS.items():
        assert [known.required, known.default is not None, known.default_from is not None].count(
            True
        ) == 1, name
        for value in (known.default, known.minimum, known.maximum):
            assert value is None or isinstance(value, known.python_type), name
        assert known.help.endswith(".")


def test_the_record_repeats_every_input_that_has_a_part_in_the_clip():
    assert set(INPUTS) - set(GenerationRecord.model_fields) == {"stream_frames"}


def test_the_clients_options_are_the_inputs_and_those_of_the_call():
    optional = {name for name, known in INPUTS.items() if not known.required}
    assert set(Options.__annotations__) == optional | set(CallOptions.__annotations__)
    assert set(Request.__annotations__) == set(Options.__annotations__) | {"prompt"}
    assert model_inputs("a cat", {"seed": 7}) == dict.fromkeys(INPUTS) | {
        "prompt": "a cat",
        "seed": 7,
    }


def test_the_command_has_an_option_for_every_input():
    parameters = {parameter.name: parameter for parameter in generate.params}
    for name, known in INPUTS.items():
        if not known.required:
            option = parameters["policies" if name == "policy" else name]
            assert option.help.startswith(known.help)


@given(st.integers(-50, 200), st.integers(1, 8), st.integers(1, 20), st.integers(0, 100))
def test_the_nearest_numbers_fit_and_none_is_nearer(value, step, low, more):
    numbers = nearest_fitting(value, step, low, low + more)
    fitting = [n for n in range(low, low + more + 1) if (n - 1) % step == 0]
    assert set(numbers) <= set(fitting)
    assert len(numbers) == (1 if value in fitting else min(2, len(fitting)))
    assert all(abs(n - value) >= abs(numbers[0] - value) for n in fitting)
