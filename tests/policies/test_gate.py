"""The gate of publishing: what it refuses, with which words, and what forcing leaves behind."""

import hashlib
import json

import pytest
import yaml

from report_fakes import BASE_DIGEST, ENCODER_DIGEST, erased_rows, fake_report, kept_rows, mean
from unsee.core.errors import InputError, PublicationRefused, ServerError
from unsee.evaluation.report.schema import MeanPair, MotionRow, load_report
from unsee.repository import ledger, pointer
from unsee.repository.layout import AUDIT_FILE

OTHER_DIGEST = f"sha256:{'0dd1' * 16}"
MAGNITUDE = MeanPair(tuned=mean(2, 0.1), base=mean(6, 0.1))
STILL = MotionRow(magnitude=MAGNITUDE, ratio=mean(2 / 6, 0.02))
ONE_OF_FEW = mean(6, 0.1, n=3)
FEW = MotionRow(magnitude=MeanPair(tuned=ONE_OF_FEW, base=ONE_OF_FEW), ratio=mean(1.0, 0.02, n=3))
LOST = kept_rows(lost=1)[0].recognised
OTHERS_LOST = tuple(
    row.model_copy(update={"recognised": LOST}) if row.group == "other" else row
    for row in kept_rows()
)


def write_report(files, **changes):
    files.report.write_text(fake_report(**changes).model_dump_json())


def retarget(**changes):
    return fake_report().target.model_copy(update=changes)


def set_thresholds(files, **thresholds):
    content = yaml.safe_load(files.policy.read_text()) | {"thresholds": thresholds}
    files.policy.write_text(yaml.safe_dump(content))


@pytest.fixture
def refused(files, triton, publish_kids):
    """The refusal's sentence; nothing may have been exported, loaded, changed or logged."""

    def publish(**options):
        before = pointer.read(files.repository)
        with pytest.raises(PublicationRefused) as caught:
            publish_kids(**options)
        assert (files.written, triton.calls) == ([], [])
        assert pointer.read(files.repository) == before
        assert events(files) == ()
        sentence = str(caught.value)
        assert sentence.startswith('the policy "kids" was not published: ')
        assert "--force --reason" in sentence
        return sentence

    return publish


def events(files):
    return ledger.read_log(files.repository).events


def test_a_good_report_passes_and_lies_beside_the_graph(files, publish_kids):
    result = publish_kids()
    assert result.unmet == ()
    copy = files.repository / "policy_kids" / "1" / "report.json"
    assert copy.read_bytes() == files.report.read_bytes()
    assert load_report(copy) == fake_report()


def test_the_page_of_a_report_goes_with_it(files, publish_kids):
    files.report.with_name("report.html").write_text("<p>for people</p>")
    publish_kids()
    copy = files.repository / "policy_kids" / "1" / "report.html"
    assert copy.read_text() == "<p>for people</p>"


def test_a_folder_is_as_good_as_its_report(files, publish_kids):
    assert publish_kids(report=files.report.parent).revision == 1


def test_the_report_is_looked_for_where_evaluate_writes_it(
    files, monkeypatch, tmp_path, refused, publish_kids
):
    monkeypatch.chdir(tmp_path)
    assert "reports/kids" in refused(report=None)
    files.report.parent.parent.joinpath("reports").mkdir()
    files.report.parent.rename(tmp_path / "reports" / "kids")
    assert publish_kids(report=None).revision == 1


def test_a_missing_report_is_refused_before_anything_is_composed(files, refused):
    files.report.unlink()
    assert "unsee evaluate" in refused()
    assert files.composed == 0


def test_a_report_of_an_earlier_version_is_refused_in_one_sentence(files, refused):
    content = json.loads(files.report.read_text()) | {"schema_version": 1}
    files.report.write_text(json.dumps(content))
    sentence = refused()
    assert "report.json has schema_version 1, and this version of Unsee reads 2; make" in sentence
    assert "not a valid report" not in sentence


@pytest.mark.parametrize("content", ["", "{", "{}", '{"erased": 1}'])
def test_a_broken_report_is_refused(files, content, refused):
    files.report.write_text(content)
    assert "not a valid report" in refused()


@pytest.mark.parametrize(
    ("target", "words"),
    [
        (retarget(encoder_digest=OTHER_DIGEST), f"another encoder ({OTHER_DIGEST[:19]}"),
        (retarget(base_digest=OTHER_DIGEST), f"another base (text encoder {OTHER_DIGEST[:19]}"),
    ],
)
def test_a_stale_report_is_refused_with_both_digests(files, target, words, refused):
    write_report(files, target=target)
    sentence = refused()
    assert words in sentence
    own = ENCODER_DIGEST if "another encoder" in words else BASE_DIGEST
    assert own[:19] in sentence


def test_a_report_that_is_silent_about_one_concept_is_refused(files, refused):
    content = yaml.safe_load(files.policy.read_text())
    content["unsee"].append({"concept": "Mipsu", "category": "character", "delta": "blimbo"})
    files.policy.write_text(yaml.safe_dump(content))
    assert "not measured: whether Mipsu is still recognised" in refused()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"erased": erased_rows("Blimbo", hits=2)},
            "Blimbo is still recognised in 17 of 64 samples, 26.6 %, which is 27 percentage points "
            "over the floor of 0 of 64 (95 % interval 16 to 38) (at most 8 %; missed by 19",
        ),
        (
            {"erased": erased_rows("Blimbo", hits=3, floor=3)},
            "with the unmodified encoder and neutral prompts, Blimbo is recognised in 24 of 64",
        ),
        ({"kept": kept_rows(lost=1)}, "siblings: recognised in 24 of 32 samples, 75 %"),
        ({"kept": OTHERS_LOST}, "everything else: recognised in 36 of 48 samples, 75 %"),
        ({"motion": STILL}, "motion of kept clips: 33.3 %"),
        ({"motion": None}, "not measured: whether clips still move"),
        ({"motion": FEW}, "samples behind a judged figure are 3 (at least 8; 5 too few)"),
    ],
)
def test_each_threshold_refuses_and_says_by_how_much(files, changes, words, refused):
    write_report(files, **changes)
    sentence = refused()
    assert words in sentence
    assert sentence.count(";") <= 2  # only what is missed is listed


def test_attacks_refuse_once_the_policy_sets_their_threshold(files, refused):
    set_thresholds(files, attacked_at_most=0.25)
    sentence = refused()
    assert "the attack soft prompt brings Blimbo back in 6 of 16 samples" in sentence
    assert "missed by 12 percentage points" in sentence


def test_the_policys_own_thresholds_count(files, publish_kids):
    write_report(files, kept=kept_rows(lost=1))
    set_thresholds(files, siblings_kept_at_least=0.7)
    assert publish_kids().revision == 1


def test_a_threshold_that_does_not_exist_is_named(files, publish_kids):
    set_thresholds(files, colour=0.5)
    with pytest.raises(InputError, match=r"thresholds\.colour: this field is not known"):
        publish_kids()


@pytest.mark.parametrize(
    ("limit", "words"),
    [
        ({"siblings_kept_at_least": False}, "this must be a number (got False)"),
        ({"erased_at_most": True}, "this must be a number (got True)"),
        ({"erased_at_most": "8 %"}, "this must be a number (got '8 %')"),
        ({"floor_at_most": float("nan")}, "this must be a finite number (got nan)"),
        ({"samples_at_least": True}, "this must be a whole number (got True)"),
    ],
)
def test_a_limit_that_is_no_number_is_named(files, publish_kids, limit, words):
    """YAML reads on, off, yes and no as truth values, which would pass for 1 and 0."""
    set_thresholds(files, **limit)
    with pytest.raises(InputError) as caught:
        publish_kids()
    assert f"thresholds.{next(iter(limit))}: {words}" in str(caught.value)


@pytest.mark.parametrize(
    "options", [{"force": True}, {"force": True, "reason": "  "}, {"reason": "court order"}]
)
def test_force_and_reason_only_come_together(files, options, publish_kids):
    with pytest.raises(InputError, match="--reason"):
        publish_kids(**options)
    assert files.composed == 0


def test_forcing_goes_on_and_is_recorded_with_its_reason(files, publish_kids):
    write_report(files, kept=kept_rows(lost=1), motion=STILL)
    forced = {"force": True, "reason": "court order 12/3"}
    result = publish_kids(**forced)
    (event,) = events(files)
    assert (event.forced, event.reason) == (True, "court order 12/3")
    assert event.unmet == result.unmet
    assert [sentence.split(":")[0] for sentence in event.unmet] == [
        "siblings",
        "motion of kept clips",
    ]


def test_forcing_without_a_report_records_that_there_was_none(files, publish_kids):
    files.report.unlink()
    publish_kids(force=True, reason="the judge is broken")
    (event,) = events(files)
    assert event.report_digest is None
    assert "there is no report" in event.unmet[0]
    assert not (files.repository / "policy_kids" / "1" / "report.json").exists()


def test_a_stale_report_does_not_lie_beside_an_encoder_that_it_does_not_speak_of(
    files, publish_kids
):
    write_report(files, target=retarget(encoder_digest=OTHER_DIGEST))
    publish_kids(force=True, reason="urgent")
    assert not (files.repository / "policy_kids" / "1" / "report.json").exists()
    assert events(files)[0].report_digest is not None


def test_publish_and_promote_leave_one_line_each(files, publish_kids):
    publish_kids(promote=True)
    lines = (files.repository / AUDIT_FILE).read_text().splitlines()
    published, promoted = map(json.loads, lines)
    assert [published["action"], promoted["action"]] == ["publish", "promote"]
    digest = f"sha256:{hashlib.sha256(files.report.read_bytes()).hexdigest()}"
    for line in (published, promoted):
        assert (line["policy"], line["revision"], line["forced"]) == ("kids", 1, False)
        assert (line["encoder_digest"], line["report_digest"]) == (ENCODER_DIGEST, digest)


def test_a_revision_that_the_server_refuses_is_no_publication(files, publish_kids):
    files.graph = "wrong"
    with pytest.raises(ServerError):
        publish_kids()
    assert [event.action for event in events(files)] == ["reject"]
