"""`unsee promote`, `unsee policies` and the options of `unsee publish`, without a server."""

import json
from pathlib import Path

import pytest

from unsee.client.command import run
from unsee.serving import audit, pointer, publish


@pytest.fixture
def repository(tmp_path):
    base = {"active": 1, "eligible": [1], "history": [1]}
    content = {"schema_version": 1, "default_policy": None, "policies": {"base": base}}
    (tmp_path / pointer.POINTER_FILE).write_text(json.dumps(content))
    write_record(tmp_path, "base", 1, [])
    return tmp_path


def write_record(repository, policy, revision, concepts):
    folder = repository / f"text_encoder_{policy}" / str(revision)
    folder.mkdir(parents=True)
    record = {"concepts": [{"name": name, "category": "character"} for name in concepts]}
    (folder / "revision.json").write_text(json.dumps(record))


def test_promote_says_what_is_active(repository, capsys):
    pointer.eligible(repository, "family", 1)
    pointer.eligible(repository, "family", 2)
    assert run(["promote", "family", "--repository", str(repository), "--default"]) == 0
    assert capsys.readouterr().out == "family: revision 2 is active, and the default\n"
    arguments = ["promote", "family", "--revision", "1", "--repository", str(repository), "--json"]
    assert run(arguments) == 0
    expected = {"policy": "family", "active": 1, "eligible": [1, 2], "history": [2, 1]}
    assert json.loads(capsys.readouterr().out) == expected


def test_promoting_what_is_not_there_is_one_sentence(repository, capsys):
    assert run(["promote", "famly", "--repository", str(repository)]) == 2
    error = capsys.readouterr().err
    assert error == 'error: there is no policy "famly" in this repository; it has: base\n'


def test_policies_is_a_table_of_revisions_and_concepts(repository, capsys):
    pointer.eligible(repository, "family", 1)
    pointer.eligible(repository, "studio-x", 3)
    pointer.promote(repository, "family", default=True)
    write_record(repository, "family", 1, ["Blimbo", "Van Gogh"])
    write_record(repository, "studio-x", 3, ["Zorpik"])
    assert run(["policies", "--repository", str(repository)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "policy            active  eligible  unsees",
        "base              1       1         nothing",
        "family (default)  1       1         Blimbo, Van Gogh",
        "studio-x          none    3         Zorpik",
    ]


def test_policies_as_json_is_the_pointer_file(repository, capsys):
    assert run(["policies", "--repository", str(repository), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["policies"]["base"]["active"] == 1


def test_policies_of_no_repository(tmp_path, capsys):
    assert run(["policies", "--repository", str(tmp_path)]) == 2
    assert "unsee export" in capsys.readouterr().err


def fake_publish(unmet=(), seen=None):
    def publish_nothing(
        policy_file, base_path, repository_dir, url, *, report, force, reason, promote, say
    ):
        if seen is not None:
            seen.update(report=report, force=force, reason=reason)
        say("exporting the text encoder")
        return publish.PublishResult("family", 2, "text_encoder_family", 1e-6, promote, 1.25, unmet)

    return publish_nothing


@pytest.mark.parametrize("promoted", [False, True])
def test_publish_shows_stages_on_stderr_and_the_result_on_stdout(monkeypatch, capsys, promoted):
    monkeypatch.setattr(publish, "publish", fake_publish())
    arguments = ["publish", "family.yaml", "--base", "b", *(["--promote"] if promoted else [])]
    assert run(arguments) == 0
    printed = capsys.readouterr()
    word = "active" if promoted else "eligible"
    assert printed.out == f"family: revision 2 is {word} (1.2 s)\n"
    assert ("unsee promote family" in printed.err) is not promoted
    assert run([*arguments, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["active"] is promoted


def test_publish_passes_on_the_report_and_the_override_and_says_what_was_forced(
    monkeypatch, capsys
):
    seen = {}
    monkeypatch.setattr(publish, "publish", fake_publish(("there is no report at r",), seen))
    arguments = ["publish", "family.yaml", "--base", "b", "--report", "r", "--force"]
    assert run([*arguments, "--reason", "court order", "--json"]) == 0
    assert seen == {"report": Path("r"), "force": True, "reason": "court order"}
    printed = capsys.readouterr()
    assert "forced although there is no report at r" in printed.err
    assert json.loads(printed.out)["unmet"] == ["there is no report at r"]


@pytest.mark.parametrize(
    "options", [["--force"], ["--reason", "why"], ["--force", "--reason", " "]]
)
def test_force_and_reason_only_come_together(capsys, options):
    assert run(["publish", "family.yaml", "--base", "b", *options]) == 2
    error = capsys.readouterr().err
    assert "--force" in error
    assert "--reason" in error


def test_promote_is_written_into_the_audit_log(repository):
    pointer.eligible(repository, "family", 1)
    assert run(["promote", "family", "--repository", str(repository)]) == 0
    (event,) = audit.read(repository)
    assert (event.action, event.policy, event.revision) == ("promote", "family", 1)


def test_a_refused_promotion_leaves_no_line(repository, capsys):
    assert run(["promote", "base", "--revision", "7", "--repository", str(repository)]) == 2
    assert audit.read(repository) == ()


def test_a_promotion_that_cannot_be_logged_does_not_happen(repository, capsys):
    pointer.eligible(repository, "family", 1)
    (repository / audit.AUDIT_FILE).mkdir()
    assert run(["promote", "family", "--repository", str(repository)]) == 2
    assert "audit log" in capsys.readouterr().err
    assert pointer.read(repository).state("family").active is None
