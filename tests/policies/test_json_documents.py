"""`--json` of what an operator runs: one document on stdout, with the keys that are documented."""

import json
import re
from pathlib import Path

import pytest

from publish_fakes import write_next_revision
from unsee.cli.main import run
from unsee.policies import publish

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "command_line.md"


def documented(command):
    """The keys that the page's table names for a command."""
    rows = (line.split("|") for line in PAGE.read_text().splitlines() if line.startswith("| `"))
    (keys,) = [row[2] for row in rows if f"`{command}`" in row[1]]
    return set(re.findall(r"`(\w+)`", keys))


@pytest.mark.parametrize(
    ("command", "line"),
    [
        ("policies", "policies"),
        ("promote", "promote family --revision 1"),
        ("rollback", "rollback family --to 1 --reason why"),
        ("status --repository", "status"),
        ("retire", "retire family 1"),
        ("repair", "repair --url URL"),
    ],
)
def test_the_keys_are_those_of_the_page(repository, triton, capsys, command, line):
    words = line.replace("URL", triton.url).split()
    assert run([*words, "--repository", str(repository), "--json"]) == 0
    assert json.loads(capsys.readouterr().out).keys() == documented(command)


def test_those_of_a_publication_and_of_the_version(monkeypatch, capsys):
    result = publish.PublishResult("family", 2, 1e-6, False, 1.25)
    monkeypatch.setattr(publish, "publish", lambda *arguments, **options: result)
    assert run(["publish", "family.yaml", "--base", "b", "--json"]) == 0
    assert json.loads(capsys.readouterr().out).keys() == documented("publish")
    assert run(["version", "--json"]) == 0
    assert json.loads(capsys.readouterr().out).keys() == documented("version")


def test_no_process_is_started_for_the_version(monkeypatch):
    def start(*arguments, **options):
        raise RuntimeError("a process is started")

    monkeypatch.setattr("platform._platform_cache", {})
    monkeypatch.setattr("platform._uname_cache", None)
    monkeypatch.setattr("subprocess.Popen", start)
    assert run(["version"]) == 0


def test_a_history_is_a_list_also_when_it_is_empty(repository, capsys):
    assert run(["history", "--repository", str(repository), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []


def test_what_could_not_be_repaired_is_in_the_document_too(repository, capsys):
    write_next_revision(repository, "family")
    words = ["repair", "--repository", str(repository), "--url", "127.0.0.1:9", "--json"]
    assert run(words) == 3
    printed = capsys.readouterr()
    found = json.loads(printed.out)
    assert "revision 3" in found["done"][0]
    assert "no server answers" in found["remaining"][0]
    assert printed.err.startswith("error: ")
