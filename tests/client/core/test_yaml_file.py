"""YAML: a key that stands twice is refused wherever it stands, and the line is named."""

from pathlib import Path

import pytest

from unsee.cli.completion import _mapping
from unsee.core.errors import InputError
from unsee.core.policy import load_policy
from unsee.core.yaml_file import parse_yaml, read_yaml
from unsee.evaluation.asking.evaluation_set import load_evaluation_set
from unsee.gateway.callers.settings import load_settings
from unsee.jobs.concept_list import load_concept_list
from unsee.models.base import load_base

READERS = [load_policy, load_concept_list, load_base, load_evaluation_set, load_settings]


@pytest.mark.parametrize("read", READERS)
def test_every_file_of_ours_refuses_a_repeated_key(read, tmp_path: Path) -> None:
    file = tmp_path / "file.yaml"
    file.write_text("name: a\nlimits: {}\nname: b\n")
    with pytest.raises(InputError, match=r'file\.yaml .*line 3, column 1: the key "name" is given'):
        read(file)


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("content", [b"\xff\xfe", b"a: [", b"a: 2027-99-99", b"[" * 5000, b"? []"])
def test_what_is_no_yaml_is_said_in_one_line(read, content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "file.yaml"
    file.write_bytes(content)
    with pytest.raises(InputError, match=r"file\.yaml is not valid YAML: ") as raised:
        read(file)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("read", READERS)
def test_a_folder_is_no_file(read, tmp_path: Path) -> None:
    (tmp_path / "base.yaml").mkdir()
    with pytest.raises(InputError, match=r"base\.yaml: Is a directory"):
        read(tmp_path if read is load_base else tmp_path / "base.yaml")


@pytest.mark.parametrize(
    "text",
    [
        "a: {b: 1, b: 2}",
        "- {b: 1, 'b': 2}",
        "1: a\n1: b",
        "a: 1\n? a\n: 2",
        "{{a: 1}: 1, {a: 1}: 2}",
    ],
)
def test_repeated_keys_of_every_kind(text: str) -> None:
    with pytest.raises(InputError, match="not valid YAML: line"):
        parse_yaml(text, "file.yaml")


def test_what_may_stand_twice() -> None:
    text = "x: &x {a: 1}\ny: &y {b: 1}\nz:\n  <<: *x\n  <<: *y\n  c: {a: 1}\n"
    assert parse_yaml(text, "file.yaml")["z"] == {"a": 1, "b": 1, "c": {"a": 1}}
    assert parse_yaml("x: &x {a: 1}\nz: {<<: *x, a: 2}", "file.yaml")["z"] == {"a": 2}


BOMBS = {
    "lists": "a0: &a0 [x]\n"
    + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12))
    + "name: *a11\n",
    "merges": "a0: &a0 {x: 1}\n"
    + "".join(f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}]}}\n" for n in range(1, 12)),
    "itself": "name: &a [*a]\n",
}
"""Files of a kilobyte that stand for gigabytes."""


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("kind", BOMBS)
def test_aliases_of_aliases_are_refused(read, kind: str, tmp_path: Path) -> None:
    file = tmp_path / "file.yaml"
    file.write_text(BOMBS[kind])
    with pytest.raises(InputError, match=r"line 1, column 1: its aliases \(\*\) repeat"):
        read(file)


def test_types_are_those_of_the_safe_loader(tmp_path: Path) -> None:
    file = tmp_path / "file.yaml"
    file.write_text("a: 1\nb: [1.5, true, null, text]\n", encoding="utf-8")
    assert read_yaml(file, "the file") == {"a": 1, "b": [1.5, True, None, "text"]}


def test_completion_stays_silent(tmp_path: Path) -> None:
    file = tmp_path / "file.yaml"
    file.write_text("name: a\nname: b\n")
    assert _mapping(file) == {}


@pytest.mark.parametrize("text", ["a:\n\t- b\n", "ä:\n  b: é\n\tc: 1\n"])
def test_a_tab_is_called_a_tab(text: str) -> None:
    with pytest.raises(InputError, match=r"line [23], column 1: there is a tab where only spaces"):
        parse_yaml(text, "file.yaml")
