"""The parts of the contract that the Python code already says: the inputs and the record.

They come from `unsee.core.request_schema` and `unsee.core.record`; the rest of
`clients/contract/text_to_video.json` is written by hand.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from unsee.core.record import GenerationRecord
from unsee.core.request_schema import INPUTS, Input

JSON_TYPES: Mapping[Any, str] = {
    str: "string",
    str | None: "string",
    int: "integer",
    float: "number",
    dict[str, float]: "numbers",
    dict[str, str]: "strings",
}
KEPT = (
    "minimum",
    "maximum",
    "choices",
    "limited_by",
    "multiple_of",
    "one_more_than_multiple_of",
    "default",
    "default_from",
)


def with_inputs_and_record(text: str) -> str:
    """The contract's JSON with its inputs and its record as the code has them now."""
    contract = json.loads(text)
    contract["inputs"] = [_input(name, known) for name, known in INPUTS.items()]
    contract["record"] = [
        _record_field(name, field) for name, field in GenerationRecord.model_fields.items()
    ]
    return json.dumps(contract, indent=2, ensure_ascii=False) + "\n"


def _input(name: str, known: Input) -> dict[str, Any]:
    required = {"required": True} if known.required else {}
    said = {key: value for key, value in asdict(known).items() if key in KEPT and value is not None}
    description = {"description": known.help.removesuffix(".")}
    return {"name": name, "datatype": known.datatype, **required, **said, **description}


def _record_field(name: str, field: Any) -> dict[str, Any]:
    entry: dict[str, Any] = {"name": name, "type": JSON_TYPES[field.annotation]}
    if not field.is_required():
        entry["required"] = False
        if field.default is None:
            entry["nullable"] = True
        elif isinstance(field.default, (str, int, float)):
            entry["default"] = field.default
    return {**entry, "description": field.description}
