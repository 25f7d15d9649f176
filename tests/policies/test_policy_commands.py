"""The commands about policies: what they print, what they take, how they end."""

import json
from pathlib import Path

import pytest

from publish_fakes import write_next_revision
from record_fakes import audit_event, revision_record
from unsee.cli.main import run
from unsee.policies import publish
from unsee.repository import ledger
from unsee.repository.layout import AUDIT_FILE, INCIDENTS_FILE


def concepts(repository, policy, revision, *names):
    file = repository / f"policy_{policy}" / str(revision) / "revision.json"
    digest = json.loads(file.read_text())["graph_digest"]
    file.write_text(revision_record(policy, revision, digest, names).model_dump_json())


def unsee(repository, *arguments):
    return run([*arguments, "--repository", str(repository)])


def test_promote_says_what_is_active(repository, capsys):
    assert unsee(repository, "promote", "family", "--revision", "1", "--default") == 0
    assert capsys.readouterr().out == "family: revision 1 is active, and the default\n"
    assert unsee(repository, "promote", "family", "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["policy"], shown["active"], shown["eligible"]) == ("family", 2, [1, 2])
    assert shown["history"] == [1, 2, 1, 2]


def test_rollback_says_what_is_active_and_needs_a_reason(repository, capsys):
    assert unsee(repository, "rollback", "family", "--to", "1") == 2
    assert "--reason" in capsys.readouterr().err
    assert unsee(repository, "rollback", "family", "--to", "1", "--reason", "siblings") == 0
    assert capsys.readouterr().out == "family: revision 1 is active\n"


def test_policies_is_a_table_of_revisions_verdicts_and_concepts(repository, capsys):
    concepts(repository, "family", 1, "Blimbo", "Van Gogh")
    concepts(repository, "studio", 1, "Zorpik")
    assert unsee(repository, "rollback", "family", "--to", "1", "--reason", "why") == 0
    assert unsee(repository, "promote", "studio", "--default") == 0
    capsys.readouterr()
    assert unsee(repository, "policies") == 0
    assert capsys.readouterr().out.splitlines() == [
        "policy            active  eligible            retired  verdict        unsees",
        "base              1       1                   none     -              nothing",
        "family            1       1, 2 (rolled back)  none     not on record  Blimbo, Van Gogh",
        "studio (default)  1       1                   none     not on record  Zorpik",
    ]


@pytest.mark.parametrize(
    ("unmet", "verdict"), [((), "met"), (("too few", "too many"), "forced, 2 unmet")]
)
def test_the_verdict_is_the_gates_by_the_log(repository, capsys, unmet, verdict):
    ledger.note(repository, audit_event(forced=bool(unmet), unmet=unmet))
    assert unsee(repository, "policies") == 0
    (line,) = [x for x in capsys.readouterr().out.splitlines() if x.startswith("family")]
    assert verdict in line


def test_history_shows_who_did_what_and_why(repository, capsys):
    unsee(repository, "rollback", "family", "--to", "1", "--reason", "two\nlines")
    unsee(repository, "promote", "studio")
    capsys.readouterr()
    assert unsee(repository, "history") == 0
    header, first, second = capsys.readouterr().out.splitlines()
    assert header.split()[2:6] == ["who", "action", "policy", "revision"]
    assert "@" in first
    assert first.endswith("left 2; two lines")
    assert "studio" in second
    assert unsee(repository, "history", "studio", "--json") == 0
    (event,) = json.loads(capsys.readouterr().out)
    assert (event["action"], event["policy"]) == ("promote", "studio")


@pytest.mark.parametrize("command", ["history", "status"])
def test_lines_that_cannot_be_read_are_counted_and_the_others_shown(repository, command, capsys):
    unsee(repository, "promote", "studio")
    log = repository / AUDIT_FILE
    log.write_bytes(b"rubbish\n" + log.read_bytes())
    capsys.readouterr()
    assert unsee(repository, command) == 0
    shown = capsys.readouterr()
    assert "studio" in shown.out
    assert shown.err == f"line 1 of {log} cannot be read and is left out\n"
    log.write_bytes(log.read_bytes() + b'\xff\n{"at": "2026-')
    assert unsee(repository, command) == 0
    words = f"3 lines of {log} cannot be read and are left out, first line 1\n"
    assert capsys.readouterr().err == words


def test_status_counts_the_incidents_that_cannot_be_read(repository, capsys):
    (repository / INCIDENTS_FILE).write_text("rubbish\n")
    assert unsee(repository, "status") == 0
    words = f"line 1 of {repository / INCIDENTS_FILE} cannot be read and is left out\n"
    assert capsys.readouterr().err == words


def test_retire_and_repair_say_what_they_did(repository, triton, capsys):
    url = ["--url", triton.url]
    assert unsee(repository, "retire", "family", "1", "--reason", "old") == 0
    printed = capsys.readouterr()
    assert printed.out.startswith("family: revision 1 is retired and kept in ")
    assert unsee(repository, "retire", "family", "1", "--json") == 0
    retired = json.loads(capsys.readouterr().out)
    assert (retired["policy"], retired["revision"]) == ("family", 1)
    assert Path(retired["archive"]).is_dir()
    assert unsee(repository, "repair", *url) == 0
    assert capsys.readouterr().out == "nothing to repair\n"
    write_next_revision(repository, "family")
    assert unsee(repository, "repair", *url) == 0
    assert "revision 3" in capsys.readouterr().out
    assert unsee(repository, "repair", "--url", "127.0.0.1:9") == 3
    assert "no server answers" in capsys.readouterr().err


def fake_publish(unmet=(), seen=None):
    def publish_nothing(wanted, server, say):
        if seen is not None:
            seen.append(wanted)
        say("exporting")
        return publish.PublishResult("family", 2, 1e-6, wanted.promote, 1.25, unmet)

    return publish_nothing


@pytest.mark.parametrize("promoted", [False, True])
def test_publish_shows_stages_on_stderr_and_the_result_on_stdout(monkeypatch, capsys, promoted):
    monkeypatch.setattr(publish, "publish", fake_publish())
    arguments = ["publish", "family.yaml", "--base", "b", "--repository", "mes modèles"]
    arguments += ["--promote"] if promoted else []
    assert run(arguments) == 0
    printed = capsys.readouterr()
    word = "active" if promoted else "eligible"
    assert printed.out == f"family: revision 2 is {word} (1.2 s)\n"
    command = "unsee promote family --repository 'mes modèles'\n"
    assert (command in printed.err) is not promoted
    assert run([*arguments, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["active"] is promoted


def test_publish_passes_on_the_report_and_the_override_and_says_what_was_forced(
    monkeypatch, capsys
):
    seen = []
    monkeypatch.setattr(publish, "publish", fake_publish(("there is no report at r",), seen))
    arguments = ["publish", "family.yaml", "--base", "b", "--report", "r", "--force"]
    assert run([*arguments, "--reason", "court order", "--json"]) == 0
    (wanted,) = seen
    assert (wanted.policy_file, wanted.base_path) == (Path("family.yaml"), Path("b"))
    assert (wanted.report, wanted.force, wanted.reason) == (Path("r"), True, "court order")
    assert (wanted.verify_with, wanted.require_signed, wanted.promote) == (None, False, False)
    printed = capsys.readouterr()
    assert "forced although there is no report at r" in printed.err
    assert json.loads(printed.out)["unmet"] == ["there is no report at r"]
