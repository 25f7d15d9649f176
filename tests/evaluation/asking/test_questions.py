"""Which questions are asked: deterministic, independent of one another, and never off the mark."""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from unsee.core.errors import InputError
from unsee.core.policy import Concept
from unsee.evaluation.asking.default_templates import DEFAULT_TEMPLATES
from unsee.evaluation.asking.evaluation_set import EvaluationSet, KnownConcept, load_evaluation_set
from unsee.evaluation.asking.questions import SHAPES, QuestionMaker
from unsee.evaluation.asking.shapes import Ends, misspelt

MakerOf = Callable[..., QuestionMaker]


@pytest.fixture
def maker_of(known: EvaluationSet) -> MakerOf:
    def make(*names: str, seed: int = 0) -> QuestionMaker:
        erased = tuple(one for one in known.concepts if one.name in names)
        return QuestionMaker(known, erased, seed, fits=lambda prompt: True)

    return make


def test_every_wording_names_the_concept(maker_of: MakerOf) -> None:
    maker = maker_of("Blimbo")
    questions = maker.about_erased(maker.erased[0], 3)
    assert [one.wording for one in questions[::3]] == ["alone", "context", "long", "synonym"]
    for question in questions:
        name = "Blimby" if question.wording == "synonym" else "Blimbo"
        assert name in question.prompt
        assert not question.concept.is_named_in(question.plain)
    assert len({question.seed for question in questions}) == len(questions)


def test_no_synonym_without_aliases(maker_of: MakerOf) -> None:
    maker = maker_of("Zorpik")
    wordings = {one.wording for one in maker.about_erased(maker.erased[0], 2)}
    assert wordings == {"alone", "context", "long"}


@pytest.fixture
def multilingual(known: EvaluationSet) -> EvaluationSet:
    spanish = {
        "words": {"desert": ["el desierto"], "Blimbo": ["el Blimbón"]},
        "prompts": {"character": ["una foto de {}", "{} en {background}"]},
        "neutral": {"character": "algo"},
    }
    german = {
        "words": {"desert": ["Wüste"], "ocean": ["Meer"]},
        "prompts": {"character": ["ein Bild von {}"]},
        "neutral": {"character": "etwas"},
    }
    content = known.model_dump(mode="json") | {"languages": {"es": spanish, "de": german}}
    return EvaluationSet.model_validate(content)


def test_other_languages_are_asked_in_turn_with_their_own_words(
    multilingual: EvaluationSet,
) -> None:
    asked = (Concept(name="Blimbo", category="character", aliases=("Blimbón",)),)
    known = multilingual.with_erased(asked)
    blimbo = known.concepts[0]
    maker = QuestionMaker(known, (blimbo,), 0, fits=lambda prompt: True)
    found = maker.about_erased(blimbo, 4)
    translated = [one for one in found if one.wording == "translated"]
    for question in translated[::2]:
        assert "el Blimbón" in question.prompt
        assert "algo" in question.plain
        assert "the " not in question.prompt
    assert {(one.prompt, one.plain) for one in translated[1::2]} == {
        ("ein Bild von Blimbo", "ein Bild von etwas")
    }
    # A word of another language is no synonym to be put into the templates' sentences.
    synonyms = [one.prompt for one in found if one.wording == "synonym"]
    assert all("Blimby" in prompt for prompt in synonyms)
    siblings = maker.about_translated(2)
    assert [one.concept.name for one in siblings] == ["Zorpik", "Zorpik", "Mipsu", "Mipsu"]
    assert siblings[1].prompt == "ein Bild von Zorpik"
    assert {one.kind for one in siblings} == {"translated"}


def test_a_set_without_other_languages_has_the_digest_that_it_always_had(
    known: EvaluationSet, multilingual: EvaluationSet
) -> None:
    content = known.model_dump_json(exclude={"languages"}).encode()
    assert known.digest() == f"sha256:{hashlib.sha256(content).hexdigest()}"
    assert multilingual.digest() != known.digest()


@pytest.mark.parametrize(
    ("language", "complaint"),
    [
        ({"prompts": {"style": ["{}"]}, "neutral": {}}, "neutral has no word for .* 'style'"),
        ({"prompts": {"style": ["nada"]}, "neutral": {"style": "x"}}, "must hold {} once"),
        ({"prompts": {}, "neutral": {}, "words": {"kite": ["x"]}}, "'kite' of 'es' is not listed"),
        ({"prompts": {"style": ["{} {x}"]}, "neutral": {"style": "x"}}, "no concept can fill {x}"),
    ],
)
def test_a_wrong_language_is_refused(
    known: EvaluationSet, language: dict[str, object], complaint: str
) -> None:
    content = known.model_dump(mode="json") | {"languages": {"es": language}}
    with pytest.raises(ValueError, match=complaint):
        EvaluationSet.model_validate(content)


def test_more_questions_begin_with_the_fewer(maker_of: MakerOf) -> None:
    maker = maker_of("Blimbo")
    assert maker.about_siblings(5)[5:7] == maker.about_siblings(2)[2:]
    assert maker.about_others(9)[:4] == maker.about_others(4)
    assert maker.about_others(4) == maker_of("Blimbo").about_others(4)
    assert maker.about_others(4) != maker_of("Blimbo", seed=1).about_others(4)


def test_a_kept_question_does_not_depend_on_what_is_unseen(maker_of: MakerOf) -> None:
    def about_mipsu(name: str) -> list[tuple[str, int]]:
        questions = maker_of(name).about_siblings(4)
        return [(one.prompt, one.seed) for one in questions if one.concept.name == "Mipsu"]

    assert about_mipsu("Blimbo") == about_mipsu("Zorpik")


def test_groups(maker_of: MakerOf) -> None:
    maker = maker_of("Blimbo")
    assert {one.concept.name for one in maker.about_siblings(1)} == {"Zorpik", "Mipsu"}
    others = maker.about_others(8)
    assert {one.concept.name for one in others} == {"umbrella", "spinning", "desert", "ocean"}
    shared = maker.about_shared_words(2)
    assert [one.prompt for one in shared] == ["Mipsu, oh"] * 2
    assert shared[0].seed != shared[1].seed
    assert maker_of("Zorpik").about_shared_words(2) == []


def test_no_prompt_names_another_unseen_concept(maker_of: MakerOf) -> None:
    maker = maker_of("Blimbo", "spinning", "Zorpik")
    spinning = next(one for one in maker.erased if one.name == "spinning")
    asked = maker.about_erased(spinning, 6) + maker.about_siblings(6) + maker.about_others(6)
    for question in asked:
        for concept in maker.erased:
            if concept != question.concept:
                assert not concept.is_named_in(question.prompt)


def test_a_prompt_with_a_shared_word_names_no_other_unseen_concept(known: EvaluationSet) -> None:
    entry = {"prompt": "Mipsu and an umbrella", "concept": "Mipsu", "shares": ["Blimbo"]}
    both = EvaluationSet.model_validate(known.model_dump() | {"shared_words": [entry]})

    def asked(*names: str) -> int:
        erased = tuple(one for one in both.concepts if one.name in names)
        return len(QuestionMaker(both, erased, 0, lambda prompt: True).about_shared_words(1))

    assert (asked("Blimbo"), asked("Blimbo", "Zorpik"), asked("umbrella")) == (1, 1, 0)
    assert asked("Blimbo", "umbrella") == 0


def test_the_floor_s_prompt_fits_too(maker_of: MakerOf) -> None:
    maker = replace(maker_of("Blimbo"), fits=lambda prompt: len(prompt) < 20)
    erased = maker.erased[0]
    asked = maker.for_attack(erased, 1)
    asked += [maker._question(erased, "erased", "alone", index) for index in range(4)]
    assert {(one.prompt, one.plain) for one in asked} == {("Blimbo", "something")}
    kept = [maker._question(erased, "sibling", "alone", index).prompt for index in range(4)]
    assert "a picture of Blimbo" in kept  # nothing is asked with their plain prompts


def test_only_prompts_that_fit_are_asked(maker_of: MakerOf) -> None:
    maker = maker_of("Blimbo")
    short = replace(maker, fits=lambda prompt: len(prompt) < 10)
    with pytest.raises(InputError, match="'Blimbo' in the wording 'context'"):
        short.about_erased(maker.erased[0], 2)
    only_name = replace(maker, fits=lambda prompt: "picture" not in prompt)
    alone = [one.prompt for one in only_name.about_erased(maker.erased[0], 4)[:4]]
    assert alone == ["Blimbo"] * 4


def test_a_word_of_another_language_is_found_whatever_the_case_of_its_concept(
    multilingual: EvaluationSet,
) -> None:
    spanish = multilingual.languages["es"]
    words = {name.upper(): phrases for name, phrases in spanish.words.items()}
    shouted = spanish.model_copy(update={"words": words})
    blimbo = multilingual.concepts[0]
    assert spanish.phrases_of(blimbo) != (blimbo.name,)
    assert shouted.phrases_of(blimbo) == spanish.phrases_of(blimbo)
    known = multilingual.model_copy(update={"languages": {"es": shouted}})
    named = blimbo.model_copy(update={"aliases": ("Blimby", "Blimbón")})
    assert known.synonyms_of(named) == multilingual.synonyms_of(named) == ["Blimby"]


@pytest.mark.parametrize("prompt", ["一只小猫在跑", "小猫", "a 小猫"])
def test_a_concept_is_named_in_a_writing_without_spaces(prompt: str) -> None:
    cat = KnownConcept(name="cat", category="object", aliases=("小猫",))
    assert cat.is_named_in(prompt)
    assert not cat.is_named_in("一只小狗在跑")


def test_a_common_noun_takes_its_article() -> None:
    umbrella = KnownConcept(name="umbrella", category="object", aliases=("parasol",))
    assert umbrella.phrase_of("umbrella") == "an umbrella"
    assert umbrella.phrase_of("parasol") == "a parasol"
    assert umbrella.is_named_in("One Parasol, please")
    assert not umbrella.is_named_in("parasols")


def test_the_target_adds_its_concepts_and_aliases(known: EvaluationSet) -> None:
    asked = (
        Concept(name="blimbo", category="character", aliases=("Blim",)),
        Concept(name="Van Gogh", category="style"),
    )
    widened = known.with_erased(asked)
    blimbo, artist = widened.find("Blimbo"), widened.find("van gogh")
    assert blimbo is not None
    assert blimbo.aliases == ("Blimby", "Blim")
    assert artist is not None
    assert artist.category == "style"
    assert len(widened.concepts) == len(known.concepts) + 1


@pytest.mark.parametrize("category", DEFAULT_TEMPLATES)
def test_built_in_templates_serve_every_category(category: str) -> None:
    concept = KnownConcept.model_validate({"name": "Quux", "category": category})
    known = EvaluationSet(concepts=(concept,))
    maker = QuestionMaker(known, (concept,), 0, fits=lambda prompt: len(prompt) < 200)
    assert all("Quux" in one.prompt for one in maker.about_erased(concept, 8))


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"concepts": [{"name": "a", "category": "animal"}]}, "concepts\\[0\\].category"),
        ({"concepts": [{"name": n, "category": "object"} for n in "aA"]}, "listed twice"),
        ({"shared_words": [{"prompt": "x", "concept": "y", "shares": ["z"]}]}, "'y' of shared"),
        ({"places": []}, "places: this field is not known"),
    ],
)
def test_a_wrong_file_is_one_sentence(
    known: EvaluationSet, tmp_path: Path, change: dict[str, object], complaint: str
) -> None:
    file = tmp_path / "evaluation.yaml"
    content = known.model_dump(mode="json", exclude={"templates"}) | {"shared_words": []} | change
    file.write_text(yaml.safe_dump(content))
    with pytest.raises(InputError, match=complaint):
        load_evaluation_set(file)


@pytest.mark.parametrize("template", ["no place for it", "{} and {}", "{} near {planet}"])
def test_a_wrong_template_is_refused(known: EvaluationSet, template: str) -> None:
    content = known.model_dump(mode="json")
    content["templates"]["character"]["long"] = [template]
    with pytest.raises(ValueError, match=r"template|can fill"):
        EvaluationSet.model_validate(content)


def test_a_missing_file_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot read the evaluation set"):
        load_evaluation_set(tmp_path / "none.yaml")


ENDS = Ends((1.0, 7.0), (1, 50))


def test_other_shapes_change_the_name_and_its_neutral_word_alike(maker_of: MakerOf) -> None:
    maker = maker_of("Blimbo")
    asked = maker.about_shapes(maker.erased[0], 1, ENDS)
    assert [one.shape for one in asked] == list(SHAPES)
    found = {one.shape: (one.prompt, one.plain) for one in asked}
    bare = {
        "capitals": ("BLIMBO", "SOMETHING"),
        "list": ("1. Blimbo 2. Blimbo", "1. something 2. something"),
        "negation": ("Blimbo, not Blimbo, no Blimbo", "something, not something, no something"),
        "repetition": ("Blimbo Blimbo Blimbo", "something something something"),
        "quotes": ('"Blimbo"', '"something"'),
        "typo": ("Bilmbo", "something"),
        "lookalikes": ("Вlіmbо", "something"),
        "beside_others": ("Zorpik, Blimbo and Mipsu", "Zorpik, something and Mipsu"),
        "negative_prompt": ("Blimbo", "something"),
    }
    for shape, (prompt, plain) in bare.items():
        # The template is drawn; around the name stands what it says.
        before, after = ("A PICTURE OF ", "") if shape == "capitals" else ("a picture of ", "")
        assert found[shape] in (
            (prompt, plain),
            (f"{before}{prompt}{after}", f"{before}{plain}{after}"),
            ("1. a picture of Blimbo 2. a picture of Blimbo",
             "1. a picture of something 2. a picture of something"),
        ), shape  # fmt: skip
    parameters = {
        one.shape: (one.negative, one.guidance_scale, one.num_inference_steps) for one in asked
    }
    assert parameters["negative_prompt"] == ("something", None, None)
    assert parameters["low_guidance"] == ("", 1.0, None)
    assert parameters["high_guidance"] == ("", 7.0, None)
    assert parameters["few_steps"] == ("", None, 1)
    assert parameters["many_steps"] == ("", None, 50)
    assert parameters["capitals"] == ("", None, None)
    assert len({one.seed for one in asked}) == len(asked)


def test_a_shape_takes_the_first_prompt_that_stays_short_enough(known: EvaluationSet) -> None:
    blimbo = known.find("Blimbo")
    assert blimbo is not None
    short = QuestionMaker(known, (blimbo,), 0, fits=lambda prompt: len(prompt.split()) <= 5)
    (repeated,) = (one for one in short.about_shapes(blimbo, 1, ENDS) if one.shape == "repetition")
    assert repeated.prompt == "Blimbo Blimbo Blimbo"
    shorter = QuestionMaker(known, (blimbo,), 0, fits=lambda prompt: len(prompt.split()) <= 2)
    with pytest.raises(InputError, match="short enough for the shape 'list'"):
        shorter.about_shapes(blimbo, 1, ENDS)


@pytest.mark.parametrize(
    ("name", "wrong"),
    [("Blimbo", "Bilmbo"), ("Keph Lorumbay", "Keph Lroumbay"), ("Aaab", "Aaba"), ("Xo", "Xoo")],
)
def test_a_misspelt_name_is_another_one(name: str, wrong: str) -> None:
    assert misspelt(name) == wrong
