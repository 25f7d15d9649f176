"""The verdict: each threshold on its own, what was not measured, and what the sentences say."""

import subprocess
import sys

import pytest

from report_fakes import (
    attack_rows,
    erased_rows,
    fake_report,
    kept_rows,
    mean,
    rate,
)
from unsee.core.policy import Thresholds
from unsee.evaluation.report.schema import MeanPair, MotionRow
from unsee.evaluation.report.verdict import percent, verdict_of

DEFAULTS = Thresholds()


def check(report, name, **thresholds):
    checks = {check.name: check for check in verdict_of(report, Thresholds(**thresholds)).checks}
    return checks[name]


def moving(value, n=40):
    magnitude = MeanPair(tuned=mean(5, 1), base=mean(5, 1))
    return MotionRow(magnitude=magnitude, ratio=mean(value, 0.05, n))


def test_a_good_report_meets_every_threshold():
    verdict = verdict_of(fake_report(), DEFAULTS)
    assert verdict.passed
    assert verdict.unmet == ()
    assert verdict.sentence == "meets all 7 thresholds"
    assert [check.name for check in verdict.checks] == [
        "erased_at_most",
        "base_recognised_at_least",
        "floor_at_most",
        "siblings_kept_at_least",
        "others_kept_at_least",
        "motion_within",
        "samples_at_least",
    ]


def test_what_came_out_black_is_not_measured_and_never_erased():
    (first, *others) = erased_rows("Blimbo")
    blank = first.model_copy(update={"unmeasured": 3})
    found = check(fake_report(erased=(blank, *others)), "erased_at_most")
    assert not found.passed
    assert found.measured is None
    total = 3 + sum(row.any_frame.tuned.n for row in (first, *others))
    assert (
        f"whether Blimbo is still recognised (3 of {total} samples are blank: black"
        in found.sentence
    )
    assert "not measured" in found.sentence
    (first, *others) = attack_rows("Blimbo")
    blank = first.model_copy(update={"unmeasured": 1})
    found = check(fake_report(attacks=(blank, *others)), "attacked_at_most", attacked_at_most=1.0)
    assert not found.passed
    assert "1 of" in found.sentence


def test_erasure_is_pooled_over_wordings_and_media_and_the_worst_concept_counts():
    erased = erased_rows("Blimbo") + erased_rows("Zorpik", hits=2)
    report = fake_report(("Blimbo", "Zorpik"), erased=erased)
    found = check(report, "erased_at_most")
    assert found.measured == pytest.approx(17 / 64)
    assert found.n == 64
    assert not found.passed
    assert "Zorpik is still recognised in 17 of 64 samples, 26.6 %" in found.sentence
    assert "missed by 19 percentage points" in found.sentence


def test_a_concept_with_few_samples_does_not_hide_behind_a_worse_one_with_many():
    erased = erased_rows("Blimbo", hits=1, n=16, floor=1) + erased_rows("Zorpik")[1:2]
    report = fake_report(("Blimbo", "Zorpik"), erased=erased)
    found = check(report, "erased_at_most", samples_at_least=9)
    assert found.passed
    assert found.sentence.startswith("Blimbo")
    found = check(report, "samples_at_least", samples_at_least=9)
    assert (found.measured, found.passed) == (8, False)
    attacks = attack_rows("Blimbo") + attack_rows("Zorpik")[-1:]
    report = fake_report(("Blimbo", "Zorpik"), attacks=attacks)
    few = [row for row in attacks if (row.attack, row.concept) == ("benign-relearning", "Zorpik")]
    assert sum(row.lasting.tuned.n for row in few) == 8
    report = report.model_copy(
        update={"attacks": tuple(row for row in attacks if row.attack == "benign-relearning")}
    )
    limits = {"samples_at_least": 9, "attacked_at_most": 1.0}
    assert check(report, "attacked_at_most", **limits).passed
    assert not check(report, "samples_at_least", **limits).passed


def test_a_hundred_points_are_not_written_as_a_power_of_ten():
    all_seen = tuple(
        row.model_copy(update={"lasting": row.lasting.model_copy(update={"tuned": rate(8, 8)})})
        for row in erased_rows("Blimbo")
    )
    found = check(fake_report(erased=all_seen), "erased_at_most")
    assert "which is 100 percentage points over the floor" in found.sentence
    assert " to 100) (at most" in found.sentence
    assert percent(12.0) == "1200 %"


def test_what_the_base_shows_unasked_does_not_count():
    report = fake_report(erased=erased_rows("Blimbo", hits=2, floor=2))
    found = check(report, "erased_at_most")
    assert found.passed
    assert found.measured == pytest.approx(1 / 64)
    assert found.interval == pytest.approx((-0.1345, 0.1649), abs=0.0001)
    assert found.sentence == (
        "Blimbo is still recognised in 17 of 64 samples, 26.6 %, which is 1.6 percentage points "
        "over the floor of 16 of 64 (95 % interval -13 to 16) (at most 8 %)"
    )


def test_a_high_floor_proves_nothing_and_is_judged_itself():
    report = fake_report(erased=erased_rows("Blimbo", hits=3, floor=3))
    assert check(report, "erased_at_most").passed
    found = check(report, "floor_at_most")
    assert (found.measured, found.passed) == (24 / 64, False)
    assert "neutral prompts, Blimbo is recognised in 24 of 64 samples, 37.5 %" in found.sentence
    assert "missed by 22 percentage points" in found.sentence


def test_the_end_of_the_interval_is_judged_on_request():
    assert "erased_interval_at_most" not in [
        one.name for one in verdict_of(fake_report(), DEFAULTS).checks
    ]
    found = check(fake_report(), "erased_interval_at_most", erased_interval_at_most=0.05)
    assert found.measured == pytest.approx(0.083, abs=0.001)
    assert not found.passed
    assert check(fake_report(), "erased_interval_at_most", erased_interval_at_most=0.1).passed


def test_the_worst_concept_is_the_one_farthest_over_its_own_floor():
    erased = erased_rows("Blimbo", hits=2, floor=2) + erased_rows("Zorpik", hits=1)
    found = check(fake_report(("Blimbo", "Zorpik"), erased=erased), "erased_at_most")
    assert found.sentence.startswith("Zorpik is still recognised in 9 of 64 samples")


def test_a_concept_that_was_never_asked_fails_although_the_others_pass():
    found = check(fake_report(("Blimbo", "Zorpik"), erased=erased_rows("Blimbo")), "erased_at_most")
    assert (found.measured, found.passed) == (None, False)
    assert found.sentence == "not measured: whether Zorpik is still recognised"


def test_keeping_is_relative_to_the_base():
    half_lost = tuple(
        row.model_copy(update={"recognised": row.recognised.model_copy(update={"base": tuned})})
        for row in kept_rows(lost=1)
        for tuned in [row.recognised.tuned]
    )
    assert check(fake_report(kept=half_lost), "siblings_kept_at_least").measured == 1.0
    lost = check(fake_report(kept=kept_rows(lost=1)), "siblings_kept_at_least")
    assert lost.measured == 0.75
    assert "missed by 15 percentage points" in lost.sentence
    assert check(fake_report(kept=kept_rows(lost=1)), "others_kept_at_least").passed


def test_the_limit_itself_is_met_whatever_the_rounding():
    assert check(
        fake_report(kept=kept_rows(lost=1)), "siblings_kept_at_least", siblings_kept_at_least=0.75
    ).passed
    assert check(fake_report(motion=moving(1.2)), "motion_within").passed
    assert check(fake_report(), "erased_at_most", erased_at_most=1 / 64).passed


@pytest.mark.parametrize(("ratio", "passed"), [(0.79, False), (0.81, True), (1.21, False)])
def test_motion_may_neither_vanish_nor_explode(ratio, passed):
    assert check(fake_report(motion=moving(ratio)), "motion_within").passed is passed


def test_attacks_are_judged_only_on_request_and_by_the_worst():
    found = check(fake_report(), "attacked_at_most", attacked_at_most=0.25)
    assert found.measured == 6 / 16
    assert "the attack soft prompt brings Blimbo back in 6 of 16 samples" in found.sentence
    assert not found.passed


def test_an_attack_on_one_of_two_concepts_is_not_enough():
    report = fake_report(("Blimbo", "Zorpik"), attacks=attack_rows("Blimbo"))
    found = check(report, "attacked_at_most", attacked_at_most=1.0)
    assert found.sentence.startswith("not measured: whether Zorpik is brought back")


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"erased": ()}, "erased_at_most"),
        ({"kept": tuple(r for r in kept_rows() if r.group == "other")}, "siblings_kept_at_least"),
        ({"kept": tuple(r for r in kept_rows() if r.group != "other")}, "others_kept_at_least"),
        ({"motion": None}, "motion_within"),
        ({"motion": moving(float("nan"))}, "motion_within"),
        ({"attacks": ()}, "attacked_at_most"),
    ],
)
def test_what_was_not_measured_fails_its_threshold_alone(changes, name):
    verdict = verdict_of(fake_report(**changes), Thresholds(attacked_at_most=1.0))
    assert [check.name for check in verdict.checks if not check.passed] == [name]
    (sentence,) = verdict.unmet
    assert sentence.startswith("not measured: ")


def test_a_base_that_shows_nothing_proves_nothing():
    blind = tuple(
        row.model_copy(
            update={
                "recognised": row.recognised.model_copy(
                    update={"base": row.recognised.base.model_copy(update={"hits": 0})}
                )
            }
        )
        for row in kept_rows()
    )
    found = check(fake_report(kept=blind), "siblings_kept_at_least")
    assert found.measured is None
    assert "even the unmodified encoder shows none" in found.sentence


def test_too_few_samples_behind_any_figure_fail():
    found = check(fake_report(motion=moving(1.0, n=5)), "samples_at_least")
    assert (found.measured, found.passed) == (5, False)
    assert "3 too few" in found.sentence


def test_a_tiny_miss_is_not_rounded_away():
    assert percent(0.1004) == "10 %"
    found = check(fake_report(motion=moving(1.2004)), "motion_within")
    assert "missed by 0.04 percentage points" in found.sentence


@pytest.mark.process
def test_report_and_verdict_need_no_heavy_library():
    code = (
        "import sys, unsee.evaluation.report.verdict as v;"
        "heavy = {'numpy', 'torch', 'diffusers', 'matplotlib', 'jinja2'} & set(sys.modules);"
        "sys.exit(', '.join(heavy) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
