"""YAML as every file of Unsee is read: plain values alone, and no key twice."""

from __future__ import annotations

import math
from collections.abc import Hashable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from unsee.core.errors import InputError

MERGE = "tag:yaml.org,2002:merge"
"""The tag of `<<`, which takes another mapping's keys in; it may stand in a mapping twice."""
MOST_REPEATED = 100_000
"""Values that the aliases of a file may add to those that it spells out."""

if TYPE_CHECKING:
    _FastLoader = yaml.SafeLoader
else:
    _FastLoader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class UniqueKeyLoader(_FastLoader):
    """The safe loader, which refuses a key that stands twice: the last one would silently win.

    It also refuses aliases of aliases that stand for more than any memory holds.
    """

    def construct_document(self, node: Any) -> Any:
        """The document's value; raises yaml.MarkedYAMLError if its aliases stand for too much."""
        sizes: dict[int, float] = {}
        if _size(node, sizes) - len(sizes) > MOST_REPEATED:
            raise yaml.MarkedYAMLError(
                problem=f"its aliases (*) repeat more than {MOST_REPEATED:,} values, or one that "
                "holds itself; write them out",
                problem_mark=node.start_mark,
            )
        return super().construct_document(node)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Hashable, Any]:
        """The mapping of `node`; raises yaml.MarkedYAMLError with the place of a repeated key."""
        seen: set[Hashable] = set()
        for key_node, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            if key_node.tag == MERGE:
                continue
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                break  # the loader's own message says so
            if key in seen:
                raise yaml.MarkedYAMLError(
                    problem=f'the key "{key}" is given twice; give it once',
                    problem_mark=key_node.start_mark,
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


def read_yaml(file: Path, what: str) -> Any:
    """The content of a YAML file in UTF-8: dictionaries, lists, texts, numbers, dates, None.

    Args:
        what: the file's role for an error's sentence, such as "the policy file".

    Raises:
        InputError: it cannot be read, is not valid YAML or gives a key twice; names the line.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"cannot read {what} {file}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{file} is not valid YAML: it is not text in UTF-8 ({error})") from error
    return parse_yaml(text, str(file))


def parse_yaml(text: str, place: str) -> Any:
    """The content of a YAML text.

    Args:
        place: where the text is from, for an error's sentence.

    Raises:
        InputError: as `read_yaml`.
    """
    try:
        return yaml.load(text, Loader=UniqueKeyLoader)
    except yaml.MarkedYAMLError as error:
        raise InputError(f"{place} is not valid YAML: {_with_line(error, text)}") from error
    except (yaml.YAMLError, ValueError) as error:
        raise InputError(f"{place} is not valid YAML: {' '.join(str(error).split())}") from error
    except RecursionError as error:
        raise InputError(f"{place} is not valid YAML: it is nested too deeply") from error


def _size(node: Any, sizes: dict[int, float]) -> float:
    """How many values `node` stands for, with those that aliases repeat; `sizes` are those known.

    Endless for one that holds itself.
    """
    if id(node) not in sizes:
        sizes[id(node)] = math.inf
        parts = () if isinstance(node, yaml.ScalarNode) else node.value
        if isinstance(node, yaml.MappingNode):
            parts = [part for pair in parts for part in pair]
        sizes[id(node)] = 1 + sum(_size(part, sizes) for part in parts)
    return sizes[id(node)]


def _with_line(error: yaml.MarkedYAMLError, text: str) -> str:
    mark = error.problem_mark or error.context_mark
    problem = " ".join(str(error.problem or error.context).split())
    if mark is None:
        return problem
    if text[mark.index : mark.index + 1] == "\t":
        problem = "there is a tab where only spaces may stand; indent with spaces"
    return f"line {mark.line + 1}, column {mark.column + 1}: {problem}"
