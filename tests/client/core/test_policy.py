"""Policy files: what is read, and that a mistake names the file and the field."""

import unicodedata

import pytest
import yaml

from unsee.core.errors import InputError
from unsee.core.policy import Concept, Policy, load_policy


@pytest.fixture
def write(tmp_path):
    (tmp_path / "deltas" / "blimbo").mkdir(parents=True)
    (tmp_path / "policies").mkdir()

    def write(content):
        file = tmp_path / "policies" / "family.yaml"
        file.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
        return file

    return write


def blimbo(**changes):
    entry = {"concept": "Blimbo", "category": "character", "delta": "../deltas/blimbo"}
    return {"name": "family", "unsee": [entry | changes]}


def test_a_policy_is_read_and_its_delta_paths_become_absolute(write, tmp_path):
    policy = load_policy(write(blimbo(aliases=["Blim"])))
    assert policy.name == "family"
    (concept,) = policy.unsee
    assert isinstance(concept, Concept)
    assert (concept.name, concept.category, concept.aliases) == ("Blimbo", "character", ("Blim",))
    assert concept.delta == str(tmp_path / "deltas" / "blimbo")


def test_a_delta_in_the_home_folder_is_found(write, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (concept,) = load_policy(write(blimbo(delta="~/deltas/blimbo"))).unsee
    assert concept.delta == str(tmp_path / "deltas" / "blimbo")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (blimbo(category="animal"), ["unsee[0].category", "'animal'"]),
        (blimbo(concept=""), ["unsee[0].concept"]),
        (blimbo(delta="../deltas/gone"), ["unsee[0].delta", "gone", "unsee unlearn"]),
        (blimbo(delta="~nobody-here/x"), ["unsee[0].delta", "'~nobody-here/x' cannot be a path"]),
        (blimbo(delta="a\0b"), ["unsee[0].delta", "cannot be a path"]),
        (blimbo(delta="x" * 300), ["unsee[0].delta", "File name too long"]),
        (blimbo(colour="red"), ["unsee[0].colour", "not known"]),
        (blimbo() | {"name": "base"}, ["name", "reserved"]),
        (blimbo() | {"name": "Family"}, ["name", "'Family'"]),
        (blimbo() | {"name": "a" * 33}, ["name"]),
        ({"name": "family", "unsee": []}, ["unsee"]),
        ({"unsee": blimbo()["unsee"]}, ["name", "missing"]),
        ({"name": "family", "unsee": blimbo()["unsee"] * 2}, ["unsee", "listed twice"]),
        ("just words", ["name", "unsee"]),
        ("", ["name", "unsee"]),
        ("name: [", ["not valid YAML"]),
        ("name: !!python/object/apply:os.getcwd []", ["not valid YAML"]),
    ],
)
def test_a_mistake_names_the_file_and_the_field(write, content, words):
    with pytest.raises(InputError) as caught:
        load_policy(write(content))
    for word in ["family.yaml", *words]:
        assert word in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"gone\.yaml: No such file"):
        load_policy(tmp_path / "gone.yaml")


def test_bytes_that_are_no_text(write):
    file = write("")
    file.write_bytes(b"\xff\xfe\x00name")
    with pytest.raises(InputError, match="not valid YAML"):
        load_policy(file)


def test_a_policy_survives_the_round_trip_through_its_own_fields():
    policy = Policy.model_validate(blimbo())
    assert Policy.model_validate(policy.model_dump(by_alias=True)) == policy


def test_a_name_is_one_however_its_accents_are_stored():
    typed, stored = (unicodedata.normalize(form, "árbol") for form in ("NFC", "NFD"))
    assert typed != stored
    for name in (typed, stored):
        concept = Concept(name=name, category="object", aliases=(name,))
        assert (concept.name, concept.aliases) == (typed, (typed,))
