"""Reports, deltas and logs that somebody changed: the gate, promotion and the tables notice."""

import json
from dataclasses import replace

import pytest
from delta_fakes import write_key_pair

from record_fakes import audit_event
from report_fakes import fake_report
from unsee.core.errors import InputError, PublicationRefused, RevisionUnfit
from unsee.core.files import digest_of
from unsee.deltas import signature
from unsee.deltas.signature import load_signer
from unsee.evaluation.run_folder import sign_report
from unsee.gateway.behind.revisions import RepositoryView, evidence
from unsee.policies import promotion
from unsee.policies.composed_policy import ComposedPolicy
from unsee.policies.tables import history_table
from unsee.repository import ledger, pointer
from unsee.repository.records import Policies


def edit(files, change):
    content = json.loads(files.report.read_text())
    change(content)
    files.report.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: c["erased"][5]["any_frame"]["tuned"].update(hits=0), "do not fit together"),
        (lambda c: c["erased"][0]["any_frame"]["tuned"].update(n=800), "do not fit together"),
        (lambda c: c["erased"][0]["lasting"]["tuned"].update(hits=200), "200 hits of 8 samples"),
        (lambda c: c["target"]["concepts"][0].update(category="object"), "calls Blimbo a object"),
    ],
    ids=["hits", "n", "hits-above-n", "category"],
)
def test_an_edited_report_is_refused_without_force(files, publish_kids, change, words):
    edit(files, change)
    with pytest.raises(PublicationRefused, match=words):
        publish_kids()
    assert publish_kids(force=True, reason="looked at it").unmet != ()


def test_aliases_that_were_added_to_the_policy_later_are_not_measured(files, publish_kids):
    text = files.policy.read_text()
    files.policy.write_text(text.replace("concept: Blimbo,", "concept: Blimbo, aliases: [Blim],"))
    with pytest.raises(PublicationRefused, match="still recognised as Blim"):
        publish_kids()


def test_another_recogniser_or_other_questions_are_refused(files, publish_kids):
    compose = files.compose

    def with_own_evaluation(*arguments):
        made = compose(*arguments)
        return ComposedPolicy(
            made.base, [], None, made.digest, f"sha256:{'1' * 64}", f"sha256:{'2' * 64}"
        )

    files.compose = with_own_evaluation
    with pytest.raises(PublicationRefused) as caught:
        publish_kids()
    assert "another recogniser looked (judge, sha256:9a9e" in str(caught.value)
    assert "did not record its questions" in str(caught.value)
    edit(
        files,
        lambda c: c["settings"].update(
            recogniser_digest=f"sha256:{'1' * 64}", questions_digest=f"sha256:{'3' * 64}"
        ),
    )
    with pytest.raises(PublicationRefused, match="other questions than those of the base"):
        publish_kids()
    edit(files, lambda c: c["settings"].update(questions_digest=f"sha256:{'2' * 64}"))
    assert publish_kids().unmet == ()


def test_a_report_of_another_denoiser_is_refused(files, publish_kids):
    compose = files.compose
    files.compose = lambda *arguments: replace(compose(*arguments), models_digest="sha256:served")
    with pytest.raises(PublicationRefused, match="does not say which denoiser made clips; run"):
        publish_kids()
    edit(files, lambda c: c.update(models={"image": "sha256:served", "video": "sha256:another"}))
    words = r"another denoiser, autoencoder or scheduler \(sha256:another, the .* sha256:served\)"
    with pytest.raises(PublicationRefused, match=words):
        publish_kids()
    edit(files, lambda c: c.update(models={"video": "sha256:served"}))
    assert publish_kids().unmet == ()


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_report_of_other_clips_than_the_service_makes_is_refused(files, publish_kids, place):
    compose, own = files.compose, (8, 25, 4.0)
    files.compose = lambda *arguments: replace(compose(*arguments), clip=own)
    assert publish_kids().unmet == ()
    name = ("num_frames", "num_inference_steps", "guidance_scale")[place]
    edit(files, lambda c: c["settings"].update({name: 2}))
    with pytest.raises(PublicationRefused) as caught:
        publish_kids()
    shown = ("2 frames, 25 steps", "8 frames, 2 steps", "8 frames, 25 steps and guidance 2")[place]
    assert f"the report's clips have {shown}" in str(caught.value)
    assert "those of the repository 8 frames, 25 steps and guidance 4; run" in str(caught.value)


def test_the_terms_of_a_publication_are_in_the_log(files, publish_kids):
    loose = "thresholds: {erased_at_most: 0.5}\n"
    files.policy.write_text(files.policy.read_text() + loose)
    files.report.with_name("report.html").write_text("<p>for people</p>")
    publish_kids()
    (event,) = ledger.read_log(files.repository).events
    assert event.thresholds.erased_at_most == 0.5
    assert event.recogniser == "judge"
    assert event.recogniser_digest == fake_report().settings.recogniser_digest
    assert event.page_digest == digest_of(b"<p>for people</p>")
    shown = history_table([event])
    assert "seen by judge (9a9e9a9e)" in shown
    assert "erased_at_most is 0.5, looser than the default 0.08" in shown


@pytest.mark.parametrize("name", ["report.json", "report.html"])
def test_a_report_that_was_changed_after_publication_is_no_evidence(files, publish_kids, name):
    files.report.with_name("report.html").write_text("<p>for people</p>")
    publish_kids()
    file = files.repository / "policy_kids" / "1" / name
    before = file.read_bytes()
    file.write_bytes(before.replace(b"p", b"q"))
    with pytest.raises(RevisionUnfit, match=str(file)):
        promotion.promote(files.repository, "kids")
    assert pointer.read(files.repository).state("kids").active is None
    file.write_bytes(before)
    assert promotion.promote(files.repository, "kids").state("kids").active == 1


def test_require_signed_says_whose_signature_counts(publish_kids):
    with pytest.raises(InputError, match="--verify-with"):
        publish_kids(require_signed=True)


def test_policies_with_odd_names_are_refused(repository):
    content = json.loads((repository / "policies.json").read_text())
    content["policies"]["family/../text_to_video"] = content["policies"]["family"]
    (repository / "policies.json").write_text(json.dumps(content))
    with pytest.raises(InputError):
        pointer.read(repository)
    with pytest.raises(ValueError, match="policies"):
        Policies.model_validate(content)


def test_history_spells_control_characters_out():
    shown = history_table([audit_event(reason="\x1b[2Jall \x07 is well \u202e")])
    assert "\x1b" not in shown
    assert r"\x1b[2Jall \x07 is well \u202e" in shown


@pytest.fixture
def keys(tmp_path):
    return write_key_pair(tmp_path)


def test_a_report_is_signed_and_a_change_breaks_the_signature(files, publish_kids, keys):
    private, public = keys
    files.report.with_name("report.html").write_text("<p>for people</p>")
    folder = files.report.parent
    sign_report(folder, load_signer(private).sign_contents)
    edit(files, lambda content: content.update(versions={"torch": "9"}))
    with pytest.raises(PublicationRefused, match="was not made over them"):
        publish_kids(verify_with=public)
    sign_report(folder, load_signer(private).sign_contents)
    publish_kids(verify_with=public)
    (event,) = ledger.read_log(files.repository).events
    assert event.signed_with == digest_of(public.read_bytes())
    version_dir = files.repository / "policy_kids" / "1"
    kept = version_dir / "report.sig"
    assert kept.read_bytes() == (folder / "report.sig").read_bytes()
    promotion.promote(files.repository, "kids", verify_with=public)
    assert evidence(files.repository, "kids", 1, public)["report.html"] == b"<p>for people</p>"
    kept.unlink()
    for check in (
        lambda: promotion.promote(files.repository, "kids", verify_with=public),
        lambda: evidence(files.repository, "kids", 1, public),
    ):
        with pytest.raises(RevisionUnfit, match="no signed report"):
            check()
    assert evidence(files.repository, "kids", 1, None)


def test_a_page_is_served_as_it_was_checked_and_held_once(files, publish_kids, monkeypatch):
    files.report.with_name("report.html").write_text("<p>for people</p>")
    publish_kids(promote=True)
    page = files.repository / "policy_kids" / "1" / "report.html"
    view, check = RepositoryView(files.repository), ledger.check_report
    shown = view.report_page("kids")
    assert view.report_page("kids") is shown  # however many callers take it slowly

    def change_after_the_check(*arguments):
        check(*arguments)
        page.write_text("changed")

    monkeypatch.setattr(ledger, "check_report", change_after_the_check)
    assert view.report_page("kids").content == b"<p>for people</p>"
    assert view.report_page("kids") is None


def test_unsigned_deltas_and_reports_are_refused_where_signatures_are_required(
    files, publish_kids, keys, monkeypatch
):
    with pytest.raises(InputError, match="blimbo"):
        publish_kids(verify_with=keys[1], require_signed=True)
    monkeypatch.setattr(signature, "verify_folder", lambda folder, key: None)
    with pytest.raises(PublicationRefused, match="the report is not signed"):
        publish_kids(verify_with=keys[1], require_signed=True)
