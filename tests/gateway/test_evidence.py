"""The evidence of the active revisions among the metrics."""

import pytest
from prometheus_client import CollectorRegistry

from record_fakes import audit_event
from report_fakes import attack_rows, erased_rows, fake_report
from unsee.gateway.observe.evidence import ActiveEvidence
from unsee.repository import ledger
from unsee.repository.layout import POINTER_FILE
from unsee.repository.records import Policies, PolicyState


def write_report(repository, revision, **changes):
    folder = repository / "policy_family" / str(revision)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "report.json").write_text(fake_report(**changes).model_dump_json())
    return folder / "report.json"


def shown(repository, revision):
    registry = CollectorRegistry()
    registry.register(ActiveEvidence(repository, lambda: {"family": revision, "new": None}))
    return {
        (sample.name, sample.labels.get("figure")): sample.value
        for family in registry.collect()
        for sample in family.samples
    }


def published(repository, **changes):
    (repository / POINTER_FILE).write_text('{"schema_version": 2}')
    ledger.note(repository, audit_event(**changes))


def test_the_figures_are_those_that_the_gate_judges(tmp_path):
    write_report(tmp_path, 2, erased=erased_rows("Blimbo", hits=2, n=8))
    figures = shown(tmp_path, 2)
    assert figures["unsee_gateway_evidence", "erased"] == pytest.approx(0.25, abs=0.03)
    assert 0 < figures["unsee_gateway_evidence", "siblings_kept"] <= 1.1
    assert ("unsee_gateway_gate_passed", None) not in figures, "nobody knows who published it"


@pytest.mark.parametrize(("unmet", "passed"), [((), 1.0), (("too little",), 0.0)])
def test_a_revision_that_was_forced_shows(tmp_path, unmet, passed):
    write_report(tmp_path, 2)
    published(tmp_path, unmet=unmet, forced=bool(unmet), reason="because" if unmet else None)
    assert shown(tmp_path, 2)["unsee_gateway_gate_passed", None] == passed


def test_attacks_are_shown_where_they_were_measured(tmp_path):
    write_report(tmp_path, 2, attacks=())
    assert ("unsee_gateway_evidence", "attacked") not in shown(tmp_path, 2)
    write_report(tmp_path, 3, attacks=attack_rows("Blimbo"))
    assert 0 <= shown(tmp_path, 3)["unsee_gateway_evidence", "attacked"] <= 1


@pytest.mark.parametrize("content", [None, "{", '{"schema_version": 2}'])
def test_what_cannot_be_read_leaves_the_other_metrics_alone(tmp_path, content):
    file = write_report(tmp_path, 2)
    file.unlink() if content is None else file.write_text(content)
    assert shown(tmp_path, 2) == {}


def test_the_figures_are_those_of_the_very_file_that_was_checked(tmp_path, monkeypatch):
    file = write_report(tmp_path, 2, erased=erased_rows("Blimbo", hits=2, n=8))
    check = ledger.check_report

    def change_after_the_check(*arguments):
        check(*arguments)
        file.write_text(fake_report(erased=erased_rows("Blimbo", hits=0, n=8)).model_dump_json())

    monkeypatch.setattr(ledger, "check_report", change_after_the_check)
    assert shown(tmp_path, 2)["unsee_gateway_evidence", "erased"] > 0.2


def test_without_a_repository_there_is_none():
    assert shown(None, 2) == {}


def test_a_gateway_shows_it(serve, tmp_path):

    write_report(tmp_path, 2)
    state = PolicyState(active=2, eligible=(2,))
    content = Policies(policies={"family": state}).model_dump_json()
    (tmp_path / POINTER_FILE).write_text(content)
    text = serve(repository=tmp_path).gateway.metrics.text().decode()
    assert 'unsee_gateway_evidence{figure="erased",policy="family",revision="2"}' in text
