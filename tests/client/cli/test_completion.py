"""What a shell is offered, through click's machinery and a real bash; and what it costs to ask."""

import json
import os
import shutil
import subprocess
import sys

import pytest
from click.shell_completion import ShellComplete

from unsee.cli.completion import VARIABLE
from unsee.cli.main import run, unsee
from unsee.cli.subcommands import SUBCOMMANDS

HEAVY = {"torch", "diffusers", "transformers", "onnx", "onnxruntime", "numpy", "grpc", "pydantic"}


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """Two repositories and a base with an evaluation set."""
    for folder, policies in (("model_repository", ("base", "family")), ("other", ("studio",))):
        states = {name: {"active": 2, "eligible": [1, 2], "history": [1, 2]} for name in policies}
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "policies.json").write_text(json.dumps({"policies": states}))
    (tmp_path / "play").mkdir()
    (tmp_path / "play" / "base.yaml").write_text("name: play\nevaluation: set.yaml\n")
    (tmp_path / "play" / "set.yaml").write_text(
        "concepts:\n"
        "  - {name: Blimbo, category: character}\n"
        "  - {name: Van Gogh, category: style}\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(VARIABLE, raising=False)
    return tmp_path


def offered(*words):
    *args, incomplete = words
    return ShellComplete(unsee, {}, "unsee", VARIABLE).get_completions(list(args), incomplete)


def values(*words):
    return [item.value for item in offered(*words)]


def test_commands_with_their_summaries_and_without_an_import():
    items = offered("p")
    assert [item.value for item in items] == ["publish", "promote", "policies"]
    assert items[0].help == SUBCOMMANDS["publish"].summary


def test_options_and_choices():
    assert values("generate", "--ac") == ["--acceleration"]
    assert values("unlearn", "--category", "st") == ["style"]
    assert values("completion", "") == ["bash", "zsh", "fish"]
    assert values("delta", "v") == ["verify"]


@pytest.mark.parametrize(
    "words",
    [
        ("promote", ""),
        ("rollback", ""),
        ("retire", ""),
        ("history", ""),
        ("generate", "a cat", "--policy", ""),
    ],
)
def test_policies_of_the_usual_repository(words):
    assert values(*words) == ["base", "family"]


def test_policies_of_the_repository_that_is_named():
    assert values("promote", "--repository", "other", "") == ["studio"]
    assert values("promote", "--repository", "nowhere", "") == []


def test_revisions_of_the_policy_that_is_named():
    assert values("promote", "family", "--revision", "") == ["1", "2"]
    assert values("retire", "family", "2") == ["2"]
    assert values("generate", "x", "--policy", "family", "--revision", "1") == ["1"]
    assert values("rollback", "nobody", "--to", "") == []


def test_concepts_of_the_base_that_is_named():
    items = offered("unlearn", "--base", "play", "")
    assert [(item.value, item.help) for item in items] == [
        ("Blimbo", "character"),
        ("Van Gogh", "style"),
    ]
    assert values("unlearn", "--base", "play", "van") == ["Van Gogh"]
    assert values("unlearn", "") == []


def test_files_and_folders_are_the_shells():
    assert [item.type for item in offered("publish", "")] == ["file"]
    assert [item.type for item in offered("export", "--repository", "")] == ["dir"]


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("model_repository/policies.json", "{"),
        ("model_repository/policies.json", "[1]"),
        ("model_repository/policies.json", "[" * 100_000),
        ("model_repository/policies.json", '{"policies": {"family": 3}}'),
        ("model_repository/policies.json", "\udcff"),
        ("play/base.yaml", "a: [\n"),
        ("play/base.yaml", "evaluation: 3\n"),
        ("play/set.yaml", "concepts: {a: b}\n"),
        ("play/set.yaml", "concepts: [1, {name: 2}]\n"),
    ],
)
def test_a_broken_file_is_no_trouble(here, file, content):
    (here / file).write_text(content, errors="surrogateescape")
    assert set(values("promote", "")) <= {"base", "family"}
    assert set(values("promote", "family", "--revision", "")) <= {"1", "2"}
    assert set(values("unlearn", "--base", "play", "")) <= {"Blimbo", "Van Gogh", "2"}


@pytest.mark.process
def test_nothing_heavy_is_imported():
    lines = ("", "promote ", "generate x --policy ", "unlearn --base play ")
    program = f"""if True:
        import os, sys
        from unsee.cli.main import run
        for line in {lines}:
            os.environ["COMP_WORDS"] = "unsee " + line
            os.environ["COMP_CWORD"] = str(line.count(" ") + 1)
            try:
                run()
            except SystemExit:
                print("---")
            assert not {HEAVY} & set(sys.modules), (line, {HEAVY} & set(sys.modules))
    """
    done = subprocess.run(
        [sys.executable, "-c", program],
        check=False,
        capture_output=True,
        text=True,
        env=os.environ | {VARIABLE: "bash_complete"},
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    *answers, _ = done.stdout.split("---\n")
    assert len(answers) == 4
    assert all(answer.startswith("plain,") for answer in answers)


@pytest.mark.process
@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_of_a_shell(shell, capsys):
    assert run(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert f"{VARIABLE}={shell}_complete" in script


def test_the_login_shell_is_the_default(monkeypatch, capsys):
    monkeypatch.setenv("SHELL", "/usr/bin/zsh")
    assert run(["completion"]) == 0
    assert "#compdef unsee" in capsys.readouterr().out


@pytest.mark.process
@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["unsee", "poli"], ["policies"]),
        (["unsee", "promote", "f"], ["family"]),
        (["unsee", "unlearn", "--base", "play", "Van"], ["Van\\ Gogh"]),
    ],
)
def test_a_real_bash(here, words, expected):
    program = here / "bin" / "unsee"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m unsee.cli.main "$@"\n')
    program.chmod(0o755)
    array = " ".join(f"'{word}'" for word in words)
    script = (
        'eval "$(unsee completion bash)"; '
        f"COMP_WORDS=({array}); COMP_CWORD={len(words) - 1}; "
        '_unsee_completion unsee; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    done = subprocess.run(
        ["bash", "--norc", "-c", script],
        check=True,
        capture_output=True,
        text=True,
        env=os.environ | {"PATH": f"{program.parent}{os.pathsep}{os.environ['PATH']}"},
        timeout=60,
    )
    assert done.stderr == ""
    assert done.stdout.splitlines() == expected
