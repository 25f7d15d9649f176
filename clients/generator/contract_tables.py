"""The tables of docs/reference/contract.md, made of the contract."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from caller_contract import Contract, Input

Table = tuple[Sequence[str], Iterable[Sequence[str]]]


def with_tables(page: str, contract: Contract) -> str:
    """`page` with what lies between `<!-- table: NAME -->` and `<!-- end -->` made anew.

    Raises ValueError if a table has no place in the page, or a place no table.
    """
    made = {name: _table(*table) for name, table in _tables(contract).items()}

    def filled(match: re.Match[str]) -> str:
        if match[1] not in made:
            raise ValueError(f"the page has a place for the table {match[1]}, which there is not")
        return f"<!-- table: {match[1]} -->\n{made.pop(match[1])}<!-- end -->"

    text = re.sub(r"<!-- table: (\w+) -->\n.*?<!-- end -->", filled, page, flags=re.DOTALL)
    if made:
        raise ValueError(f"the page has no place for the tables {', '.join(made)}")
    return text


def _tables(contract: Contract) -> dict[str, Table]:
    return {
        "inputs": (
            ("name", "type", "meaning", "limits", "default"),
            (
                (f"`{i.name}`", i.datatype, i.description, _limits(i), _default(i))
                for i in contract.inputs
            ),
        ),
        "outputs": (
            ("name", "type", "in", "meaning"),
            (
                (f"`{o.name}`", f"{o.datatype} `{_shape(o.shape)}`", o.sent_in, o.description)
                for o in contract.outputs
            ),
        ),
        "events": (
            ("event", "field", "type", "meaning"),
            (
                (f"`{event.type}`", f"`{field.name}`", field.type, field.description)
                for event in contract.events
                for field in event.fields
            ),
        ),
        "record": (
            ("field", "type", "meaning"),
            (
                (
                    f"`{field.name}`",
                    f"{field.type} or null" if field.nullable else field.type,
                    field.description,
                )
                for field in contract.record
            ),
        ),
        "statuses": (
            ("status", "HTTP", "from", "when"),
            (
                (
                    f"`{s.name}`",
                    "–" if s.http is None else str(s.http),
                    ", ".join(s.sent_by),
                    s.description,
                )
                for s in contract.statuses
            ),
        ),
        "metadata": (
            ("metadata", "meaning"),
            ((f"`{entry.name}`", entry.description) for entry in contract.metadata),
        ),
        "limits": (
            ("limit", "unless set", "set in", "meaning"),
            (
                (f"`{n.name}`", f"{n.value} {n.unit}", f"`{n.set_by}`", n.description)
                for n in contract.limits
            ),
        ),
    }


def _limits(entry: Input) -> str:
    said = []
    if entry.minimum is not None and entry.maximum is not None:
        said.append(f"{entry.minimum} to {entry.maximum}")
    elif entry.minimum is not None:
        said.append(f"{entry.minimum} or more")
    if entry.limited_by is not None:
        said.append(f"the base's `{entry.limited_by}`")
    if entry.multiple_of is not None:
        said.append(f"a multiple of its `{entry.multiple_of}`")
    if entry.choices is not None:
        said.append(", ".join(f"`{choice}`" for choice in entry.choices))
    return "; ".join(said) or "–"


def _default(entry: Input) -> str:
    if entry.required:
        return "must be given"
    if entry.default is not None:
        return "empty" if entry.default == "" else f"`{entry.default}`"
    return entry.default_from or "–"


def _shape(shape: Sequence[int | str]) -> str:
    return f"[{', '.join(str(size) for size in shape)}]"


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
