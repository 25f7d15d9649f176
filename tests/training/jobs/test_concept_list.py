"""The list of concepts to unlearn."""

import re
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from unsee.core.errors import InputError
from unsee.core.policy import Concept
from unsee.jobs.concept_list import WantedConcept, load_concept_list, named_concepts


def _load(folder: Path, content: object) -> tuple[WantedConcept, ...]:
    file = folder / "concepts.yaml"
    file.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return load_concept_list(file)


def test_a_list(tmp_path: Path) -> None:
    entries = [
        {
            "concept": "Blimbo",
            "category": "character",
            "also": ["Blimby", "the blimb"],
            "anchor": "a cartoon character",
        },
        {"concept": "Van Gogh", "category": "style"},
    ]
    assert _load(tmp_path, {"concepts": entries}) == (
        WantedConcept(
            Concept(name="Blimbo", category="character", aliases=("Blimby", "the blimb")),
            "a cartoon character",
        ),
        WantedConcept(Concept(name="Van Gogh", category="style")),
    )


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("[1, 2]", 'needs the field "concepts"'),
        ("", 'needs the field "concepts"'),
        ("concepts: [", "is not valid YAML"),
        ({"concepts": []}, "concepts: this is empty; give one or more"),
        ({"concept": []}, "concepts: this field is missing"),
        ({"concepts": [{"concept": "A"}]}, "concepts[0].category: this field is missing"),
        (
            {"concepts": [{"concept": "A", "category": "colour"}]},
            "concepts[0].category: this must be 'character'",
        ),
        (
            {"concepts": [{"concept": "A", "category": "style", "alias": "B"}]},
            "concepts[0].alias: this field is not known",
        ),
        (
            {"concepts": [{"concept": 7, "category": "style"}]},
            "concepts[0].concept: this must be text (got 7)",
        ),
        (
            {"concepts": [{"concept": "A", "category": "style", "also": "B"}]},
            "concepts[0].also: this must be a list (got 'B')",
        ),
        (
            {"concepts": [{"concept": name, "category": "style"} for name in ("A b", "a-B")]},
            "'A b' and 'a-B' would share the folder a-b; unlearn one of them alone",
        ),
        (
            {"concepts": [{"concept": name, "category": "style"} for name in ("A b", "a B")]},
            "'A b' and 'a B' would share the folder a-b; name each concept once",
        ),
        (
            {"concepts": [{"concept": name, "category": "style"} for name in ("絵", "A")]},
            "no folder name can be made of '絵'",
        ),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, content: object, words: str) -> None:
    with pytest.raises(InputError, match=re.escape(words)) as caught:
        _load(tmp_path, content)
    assert "\n" not in str(caught.value)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot read the concept list .*: No such file"):
        load_concept_list(tmp_path / "none.yaml")


def test_names_of_a_command_line() -> None:
    both = named_concepts(["Blimbo", "Zorpik"], "character", (), "a cat")
    assert [entry.concept.name for entry in both] == ["Blimbo", "Zorpik"]
    assert {entry.anchor for entry in both} == {"a cat"}
    assert named_concepts(["Blimbo"], "character", ("B",), None)[0].concept.aliases == ("B",)
    with pytest.raises(InputError, match="2 concepts are given"):
        named_concepts(["Blimbo", "Zorpik"], "character", ("B",), None)


@pytest.mark.parametrize(
    ("name", "folder_name"),
    [("Édouard  Ménilles!", "edouard-menilles"), ("Blimbo", "blimbo"), (" R2-D2 ", "r2-d2")],
)
def test_folder_names(name: str, folder_name: str) -> None:
    assert WantedConcept(Concept(name=name, category="style")).folder_name == folder_name


@given(st.text(min_size=1, max_size=60).filter(lambda text: text.strip() != ""))
def test_a_folder_name_is_one_plain_path_component(name: str) -> None:
    wanted = WantedConcept(Concept(name=name, category="style"))
    try:
        folder_name = wanted.folder_name
    except InputError as error:
        assert "name the output with -o" in str(error)  # noqa: PT017
    else:
        assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", folder_name)
