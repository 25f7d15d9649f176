"""Reports that were changed by hand: what does not fit together is found."""

import json

import pytest
from pydantic import ValidationError

from report_fakes import fake_report
from unsee.core.policy import Thresholds
from unsee.evaluation.report.consistency import inconsistencies
from unsee.evaluation.report.schema import Rate, Report
from unsee.evaluation.report.verdict import verdict_of


def edited(change):
    """A good report whose JSON went through `change`."""
    content = json.loads(fake_report().model_dump_json())
    change(content)
    return Report.model_validate(content)


def test_a_report_as_it_was_made_is_consistent():
    assert inconsistencies(fake_report()) == ()


def first(content):
    return content["erased"][0]["any_frame"]["tuned"]


def test_a_number_that_no_share_can_be_made_of_is_no_count():
    for huge in (2**31, 10**400):
        with pytest.raises(ValidationError, match="n\n"):
            Rate(hits=1, n=huge, low=0.0, high=1.0)


def test_no_share_is_of_more_hits_than_samples_or_has_an_end_that_is_no_number():
    with pytest.raises(ValidationError, match="9 hits of 8 samples"):
        edited(lambda c: first(c).update(hits=9))
    with pytest.raises(ValidationError, match="finite number"):
        edited(lambda c: first(c).update(high=float("nan")))


EDITS = {
    "hits-set-to-0": lambda c: c["erased"][5]["any_frame"]["tuned"].update(hits=0),
    "only-n": lambda c: first(c).update(n=80),
    "n-with-its-interval": lambda c: first(c).update(n=80, low=0.0, high=0.0458),
    "interval": lambda c: first(c).update(high=0.1),
    "both-n": lambda c: [
        c["erased"][0][kind][side].update(hits=0, n=0, low=0.0, high=1.0)
        for kind in ("any_frame", "mean_frame")
        for side in ("tuned", "base")
    ],
    "a-row-taken-out": lambda c: c["erased"].pop(0),
    "no-row-in-another-language": lambda c: c["settings"].update(
        translated=[c["target"]["concepts"][0]["category"]]
    ),
    "a-row-twice": lambda c: c["erased"].append(c["erased"][0]),
    "a-sibling-twice": lambda c: c["kept"].append(c["kept"][0]),
    "an-attack-twice": lambda c: c["attacks"].append(c["attacks"][0]),
    "an-attack-not-in-clips": lambda c: c["attacks"].pop(1),
    "no-clips-of-the-concept": lambda c: c.update(
        erased=[row for row in c["erased"] if row["media"] == "image"]
    ),
    "no-other-shapes": lambda c: c["settings"].update(prompts_per_shape=2),
    "fewer-siblings-than-asked": lambda c: c["settings"].update(prompts_per_sibling=8),
    "a-lost-other-taken-out": lambda c: c["kept"].remove(
        next(row for row in c["kept"] if (row["group"], row["media"]) == ("other", "video"))
    ),
    "motion-made-up": lambda c: c["motion"]["ratio"].update(value=1.0, low=0.9, high=1.1),
    "motion-of-more": lambda c: c["motion"]["ratio"].update(n=80),
    "endless": lambda c: c["motion"]["ratio"].update(low=float("-inf")),
    "an-attack-of-fewer": lambda c: c["attacks"][0]["any_frame"]["tuned"].update(n=4),
    "a-floor-of-more": lambda c: c["erased"][5]["lasting"]["floor"].update(
        hits=4, low=0.2152, high=0.7848
    ),
    "frames-of-one-side": lambda c: c["erased"][5]["frames_shown"].update(tuned=[0] * 8),
    "more-frames-than-there-are": lambda c: c["erased"][5]["frames_shown"].update(
        tuned=[9, *[0] * 7]
    ),
    "no-frames": lambda c: (
        c["erased"][5].update(frames_shown=None),
        c["erased"][5]["lasting"].update(tuned=c["erased"][0]["lasting"]["tuned"]),
    ),
    "kept-of-more": lambda c: c["kept"][0]["recognised"]["tuned"].update(hits=9, n=9, low=0.7),
    "motion": lambda c: c["motion"]["ratio"].update(value=1.0, low=0.2, high=0.3),
    "drift": lambda c: c["drift"][0]["tuned"].update(value=0.0),
    "settings": lambda c: c["settings"].update(prompts_per_wording=80),
    "aliases-added": lambda c: (
        c["target"]["concepts"][0].update(aliases=["Blim"]),
        c.update(erased=[row for row in c["erased"] if row["wording"] != "synonym"]),
    ),
}


@pytest.mark.parametrize("change", EDITS.values(), ids=EDITS)
def test_an_edited_figure_is_found(change):
    assert inconsistencies(edited(change)) != ()


def test_a_recogniser_that_does_not_see_the_concept_anywhere_proves_nothing():
    def blind(content):
        for row in content["erased"]:
            for kind in ("any_frame", "lasting", "mean_frame"):
                row[kind]["base"] = row[kind]["tuned"] = {
                    "hits": 0, "n": 8, "low": 0.0, "high": 0.3244076,
                }  # fmt: skip
            row["frames_shown"]["base"] = row["frames_shown"]["tuned"] = [0] * 8

    verdict = verdict_of(edited(blind), Thresholds())
    (failed,) = [check for check in verdict.checks if not check.passed]
    assert failed.name == "base_recognised_at_least"
    assert "with the unmodified encoder, Blimbo is recognised in 0 of 64" in failed.sentence


def test_loosened_thresholds_are_named():
    assert Thresholds().loosened() == ()
    strict = Thresholds(erased_at_most=0.05, samples_at_least=20, erased_interval_at_most=0.2)
    assert strict.loosened() == ()
    (hidden,) = Thresholds(floor_at_most=0.9).loosened()
    assert hidden == "floor_at_most is 0.9, looser than the default 0.15"
    loose = Thresholds(erased_at_most=0.5, siblings_kept_at_least=0.1, motion_within=0.9)
    assert [sentence.split()[0] for sentence in loose.loosened()] == [
        "erased_at_most",
        "siblings_kept_at_least",
        "motion_within",
    ]
