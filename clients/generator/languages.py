"""How the templates write the contract's parts in TypeScript and in Java: Jinja filters."""

from __future__ import annotations

import json
import re

from caller_contract import Input

TYPESCRIPT = {"BYTES": "string", "INT64": "number", "INT32": "number", "FP32": "number"}
TYPESCRIPT |= {"BOOL": "boolean"}
TYPESCRIPT |= {"string": "string", "integer": "number", "number": "number"}
TYPESCRIPT |= {"strings": "Record<string, string>", "numbers": "Record<string, number>"}
MOST = {"INT64": 2**53 - 1, "INT32": 2**31 - 1, "FP32": 3.4e38}
"""The greatest value of a datatype in TypeScript; the least is its negative."""

JAVA = {"BYTES": "String", "INT64": "long", "INT32": "int", "FP32": "float", "BOOL": "boolean"}
JAVA |= {"string": "String", "integer": "long", "number": "double"}
JAVA |= {"strings": "Map<String, String>", "numbers": "Map<String, Double>"}
JAVA_BYTES = {"INT64": (8, "putLong"), "INT32": (4, "putInt"), "FP32": (4, "putFloat")}
"""Sizes of numbers, and what writes them into a ByteBuffer."""

JAVA_READ = {"INT64": "Long.parseLong", "INT32": "Integer.parseInt", "FP32": "Float.parseFloat"}
JAVA_READ |= {"BOOL": "flag"}
"""What reads a value from text."""


def camel(name: str) -> str:
    """`num_frames` as `numFrames`."""
    head, *tail = name.split("_")
    return head + "".join(part.capitalize() for part in tail)


def prose(text: str) -> str:
    """For a comment: begins with a capital, and Markdown's links are their text."""
    text = re.sub(r"\[([^]]+)\]\([^)]+\)", r"\1", text)
    return text[:1].upper() + text[1:]


def typescript_input(entry: Input) -> str:
    """The expression that says an input's datatype and which values fit."""
    datatype = json.dumps(entry.datatype)
    if entry.datatype in ("BYTES", "BOOL"):
        return f"{'text' if entry.datatype == 'BYTES' else 'flag'}({datatype})"
    most = MOST[entry.datatype] if entry.maximum is None else entry.maximum
    least = -MOST[entry.datatype] if entry.minimum is None else entry.minimum
    return f"{'real' if entry.datatype == 'FP32' else 'whole'}({datatype}, {least}, {most})"


def java_tensor(entry: Input) -> str:
    """The arguments that say an input's name, its datatype and the bytes of its value."""
    value = camel(entry.name)
    size, write = JAVA_BYTES.get(entry.datatype, (0, ""))
    raw = f"bytes({size}).{write}({value})" if size else f"text({value})"
    if entry.datatype == "BOOL":
        raw = f"bytes(1).put((byte) ({value} ? 1 : 0))"
    return f"{json.dumps(entry.name)}, {json.dumps(entry.datatype)}, {raw}"


def java_read(entry: Input) -> str:
    """The expression that reads an input's value from the text `value`."""
    read = JAVA_READ.get(entry.datatype)
    return f"{read}(value)" if read else "value"


def java_misfit(entry: Input) -> str:
    """The condition under which a value is out of the contract's bounds; "" if it has none."""
    bounds = (("<", entry.minimum), (">", entry.maximum))
    value = camel(entry.name)
    return " || ".join(f"{value} {sign} {bound}" for sign, bound in bounds if bound is not None)


def bounds(entry: Input) -> str:
    """The contract's bounds in words."""
    if entry.maximum is None:
        return f"{entry.minimum} or more"
    if entry.minimum is None:
        return f"{entry.maximum} or less"
    return f"between {entry.minimum} and {entry.maximum}"


FILTERS = {
    "typescript": TYPESCRIPT.__getitem__,
    "java": JAVA.__getitem__,
    "camel": camel,
    "prose": prose,
    "literal": json.dumps,
    "bounds": bounds,
    "java_misfit": java_misfit,
    "java_read": java_read,
    "java_tensor": java_tensor,
    "typescript_input": typescript_input,
}
