"""The ablation's variants."""

from __future__ import annotations

from unsee.core.unlearning_settings import AnchoredMode
from unsee.playground.experiments.ablation import subjects, variants


def test_each_variant_changes_exactly_one_setting() -> None:
    usual = AnchoredMode(attackers=3)
    found = variants(usual)
    assert next(iter(found.items())) == ("as it is", usual)
    for title, settings in list(found.items())[1:]:
        names = AnchoredMode.__dataclass_fields__
        changed = [name for name in names if getattr(settings, name) != getattr(usual, name)]
        assert len(changed) == 1, title


def test_what_is_the_default_already_is_no_variant() -> None:
    assert "rank 16" not in variants(AnchoredMode(rank=16))
    without = variants(AnchoredMode(attackers=0))
    assert "no attackers" not in without
    assert not any("weigh" in title for title in without)


def test_six_concepts_of_all_categories_are_taken() -> None:
    assert len({concept.name for concept in subjects()}) == 6
    assert [concept.category for concept in subjects()].count("person") == 2
    assert len({concept.category for concept in subjects()}) == 5
