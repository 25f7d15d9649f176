"""Names are found in what the tokenizer reads; a near name is neither forgotten nor kept."""

import unicodedata
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from unsee.core.errors import InputError
from unsee.core.policy import Concept
from unsee.models.base import Base, load_base
from unsee.prompts.naming import Names, in_all_cases, parted
from unsee.unlearning.contexts import contexts_of, word_ids

ZAZA = Concept(name="Zaza Möbl", category="person")
MOBIL = Concept(name="Mobil", category="character", aliases=("Billy",))


@pytest.mark.parametrize(
    "written",
    [
        "Zaza Möbl",
        "zaza  möbl",
        "ZAZA\tMÖBL",
        "Zaza\u00a0Möbl",
        "Zaza\u2003Möbl",
        "Zaza\nMöbl",
        unicodedata.normalize("NFD", "Zaza Möbl"),
    ],
)
def test_what_the_tokenizer_reads_as_the_name_names_the_concept(base: Base, written: str) -> None:
    names = Names.of(base, ZAZA)
    parts = names.split(f"a portrait of {written}, at night")
    assert parts is not None
    assert [word_ids(base, part) for part in parts] == [
        word_ids(base, part) for part in ("a portrait of", "Zaza Möbl", ", at night")
    ]
    other_way_round = Names.of(base, ZAZA.model_copy(update={"name": written}))
    assert other_way_round.split("the face of zaza möbl") is not None


NEAR = [
    "two Mobils",
    "Mobil's hat",
    "Mobil’s hat",
    "the Mobils’ house",
    "ＭＯＢＩＬ",
    "Mo\u00adbil",
    "Mo\u200bbil",
    "Mob\u200dil",
    "M\ufeffobil",
    "Мobil",  # Cyrillic capital Em
    "Mоbil",  # Cyrillic o
    "Mοbil",  # Greek omicron
    "Mobıl",  # dotless i
    "M0bil",
    "Mob1l",
    "Móbil",
    "M-o-b-i-l",
    "Mo.bil",
    "Mo bil",
    "three Billies",
    "Billys",
    "Mobil\u0301 in a tree",
]


@pytest.mark.parametrize("prompt", NEAR)
def test_a_near_name_is_neither_forgotten_nor_kept(base: Base, prompt: str) -> None:
    names = Names.of(base, MOBIL)
    assert names.split(prompt) is None
    assert names.near(prompt) is not None
    asked = (prompt, "a Mobil", "a red house")
    assert parted(asked, [names]) == (["a Mobil"], [prompt], ["a red house"])


@pytest.mark.parametrize(
    "prompt",
    ["automobil", "mobilised", "immobil", "a mob ill", "bill", "a mo b", "Mob", "the mobile phone"],
)
def test_other_words_are_other_words(base: Base, prompt: str) -> None:
    names = Names.of(base, MOBIL)
    assert names.split(prompt) is None
    assert names.near(prompt) is None


@pytest.mark.parametrize("prompt", ["a car", "carpet", "c a r s", "scar", "ca r"])
def test_short_names_are_not_spread_over_others(base: Base, prompt: str) -> None:
    names = Names.of(base, Concept(name="car", category="object"))
    assert names.near(prompt) is None
    assert names.near("two cars") == "cars"


def test_an_alias_takes_a_near_name(base: Base) -> None:
    for alias, prompt in (
        ("Mobils", "two mobils"),
        ("Mobil's", "Mobil's hat"),
        ("Mo bil", "mo  bil"),
    ):
        names = Names.of(base, MOBIL.model_copy(update={"aliases": (alias,)}))
        assert names.split(prompt) is not None
        assert names.near(prompt) is None


def test_unlearning_parts_prompts_as_the_tokenizer_reads_them(base: Base, tmp_path: Path) -> None:
    asked = ["zaza\u00a0möbl on a boat", "Zaza Mo\u0308bl  in a tree", "Zaza Möbls", "a red house"]
    (tmp_path / "prompts.txt").write_text("\n".join(asked))
    spec = base.spec.model_copy(update={"prompts": str(tmp_path / "prompts.txt")})
    contexts = contexts_of(replace(base, spec=spec), ZAZA)
    assert contexts.kept == (word_ids(base, "a red house"),)
    named = {naming.before + naming.name + naming.after for naming in contexts.named}
    for prompt in ("zaza möbl on a boat", "zaza möbl in a tree"):
        assert word_ids(base, prompt) in named
    assert all("möbls" not in str(naming) for naming in contexts.named)


def test_a_tokenizer_that_keeps_letters_as_they_are_is_given_the_name_in_all_cases(
    base: Base, pipeline_base_dir: Callable[[str], Path]
) -> None:
    assert in_all_cases(base, MOBIL) == MOBIL
    cased = load_base(pipeline_base_dir("WanPipeline"))
    spelled = in_all_cases(cased, MOBIL)
    assert spelled.name == "Mobil"
    assert spelled.aliases == ("mobil", "MOBIL", "Billy", "billy", "BILLY")
    written = {naming.name for naming in contexts_of(cased, MOBIL).named}
    assert {word_ids(cased, name) for name in ("Mobil", "mobil", "BILLY")} <= written


@pytest.mark.parametrize("written", ["O'Nil", "O’Nil"])
def test_a_name_is_forgotten_with_either_apostrophe(
    base: Base, pipeline_base_dir: Callable[[str], Path], written: str
) -> None:
    concept = Concept(name=written, category="person")
    for one in (base, load_base(pipeline_base_dir("WanPipeline"))):
        named = {naming.name for naming in contexts_of(one, concept).named}
        for typed in ("O'Nil", "O’Nil"):
            assert Names.of(one, concept).split(f"the face of {typed}") is not None
            assert word_ids(one, typed) in named


def test_prompts_are_read_as_the_pipeline_cleans_them(
    pipeline_base_dir: Callable[[str], Path], tmp_path: Path
) -> None:
    cleaned = load_base(pipeline_base_dir("WanPipeline"))
    (tmp_path / "prompts.txt").write_text("Tom &amp; Jim in a tree\na &lt;red&gt; house")
    spec = cleaned.spec.model_copy(update={"prompts": str(tmp_path / "prompts.txt")})
    for name in ("Tom & Jim", "Tom &amp; Jim"):
        contexts = contexts_of(replace(cleaned, spec=spec), Concept(name=name, category="person"))
        assert contexts.kept == (word_ids(cleaned, "a <red> house"),)
        assert word_ids(cleaned, "Tom & Jim") in {naming.name for naming in contexts.named}


@pytest.mark.parametrize(
    ("name", "prompt"),
    [
        ("小猫", "一只小猫在跑"),
        ("ネコバス", "森のネコバスが走る"),
        ("แมวน้อย", "รูปแมวน้อยวิ่ง"),
        ("블림보", "숲에서 블림보가 달린다"),
        ("Mobil", "一只Mobil在跑"),
    ],
)
def test_a_name_needs_no_spaces_in_a_writing_without_them(
    base: Base, name: str, prompt: str
) -> None:
    names = Names.of(base, Concept(name=name, category="character"))
    assert parted([prompt, "a red house"], [names]) == ([prompt], [], ["a red house"])


def test_a_single_sign_of_such_a_writing_may_be_part_of_a_word(base: Base) -> None:
    names = Names.of(base, Concept(name="猫", category="object"))
    assert parted(["猫", "一只熊猫", "狗"], [names]) == (["猫"], ["一只熊猫"], ["狗"])


@pytest.mark.parametrize("name", ["Straße", "İzmir", "ﬁn", unicodedata.normalize("NFD", "Möbl")])
def test_a_name_whose_cases_differ_by_more_than_case_is_found_in_each(
    base: Base, pipeline_base_dir: Callable[[str], Path], name: str
) -> None:
    concept = Concept(name=name, category="person")
    for one in (base, load_base(pipeline_base_dir("WanPipeline"))):
        names = Names.of(one, concept)
        for form in ("NFC", "NFD"):
            for written in (name, name.lower(), name.upper()):
                assert names.split(f"a {unicodedata.normalize(form, written)} here") is not None
        assert contexts_of(one, concept).named


def test_a_name_that_the_tokenizer_knows_nothing_of_is_refused(
    base: Base, pipeline_base_dir: Callable[[str], Path]
) -> None:
    wan = load_base(pipeline_base_dir("WanPipeline"))
    concept = MOBIL.model_copy(update={"aliases": ("Зонтик",)})
    with pytest.raises(InputError, match="knows no part of the name 'Зонтик'"):
        contexts_of(wan, concept)
    assert contexts_of(base, concept).named
