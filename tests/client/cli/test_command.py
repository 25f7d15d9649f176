"""The root command: its page, its exit codes, and that it imports nothing before it must."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest

from unsee.cli import main
from unsee.cli.main import run
from unsee.cli.page import every_command
from unsee.cli.progress import say
from unsee.cli.subcommands import SUBCOMMANDS
from unsee.core.errors import FileNotWritable, InputError, ServerError, UnseeError


@pytest.fixture
def fails_with(monkeypatch):
    """Makes `unsee generate` raise the given error."""

    def prepare(error):
        @click.command()
        def generate():
            raise error

        monkeypatch.setattr(main.LazyGroup, "get_command", lambda self, ctx, name: generate)

    return prepare


def test_help_is_a_page_in_the_order_of_the_work(capsys):
    assert run(["--help"]) == 0
    page = capsys.readouterr().out
    positions = [page.index(f"\n  {name} ") for name in SUBCOMMANDS]
    assert positions == sorted(positions)
    assert "Example:" in page
    assert max(map(len, page.splitlines())) <= 100
    codes = set(map(int, re.findall(r"^ +(\d+) ", page, re.MULTILINE)))
    assert codes == {0, UnseeError.exit_code, InputError.exit_code, ServerError.exit_code, 130}


@pytest.mark.process
def test_no_help_needs_a_heavy_import():
    program = (
        "import sys; from unsee.cli.main import run; run(['--help']); "
        "loaded = {m for m in sys.modules if m.startswith('unsee.')}; "
        "assert not {m.split('.')[1] for m in loaded} - {'cli', 'core'}, loaded; "
        "assert {m for m in loaded if m.startswith('unsee.cli.')} == "
        "{'unsee.cli.main', 'unsee.cli.start', 'unsee.cli.subcommands'}, loaded; "
        "assert not {'numpy', 'grpc', 'pydantic', 'rich'} & set(sys.modules)\n"
        "heavy = {'torch', 'diffusers', 'transformers', 'onnx', 'onnxruntime', 'numpy', 'grpc'}\n"
        f"for name in {list(SUBCOMMANDS)}:\n"
        "    assert run([name, '--help']) == 0, name\n"
        "    assert not heavy & set(sys.modules), (name, heavy & set(sys.modules))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], check=False, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    pages = re.findall(r"^Usage: unsee ([a-z]+)", done.stdout, re.MULTILINE)
    assert pages == list(SUBCOMMANDS)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UnseeError("oh"), 1),
        (InputError("oh"), 2),
        (ServerError("oh"), 3),
        (OSError("oh"), 1),
        (FileNotWritable("oh"), 1),
    ],
)
def test_an_error_is_one_line_and_its_exit_code(fails_with, capsys, error, code):
    fails_with(error)
    assert run(["generate"]) == code
    assert capsys.readouterr().err == "error: oh\n"


def test_a_file_that_is_nested_too_deeply_is_one_line(fails_with, capsys):
    with pytest.raises(RecursionError) as deep:
        json.loads("[" * 100_000)
    fails_with(deep.value)
    assert run(["generate"]) == 2
    assert "nested too deeply to be read" in capsys.readouterr().err


def test_what_a_file_or_a_server_says_does_not_move_the_cursor(fails_with, capsys):
    fails_with(InputError("the concept 'a\x1b[2J\x9b\r\u202e' is not\nknown"))
    assert run(["generate"]) == 2
    said = "error: the concept 'a\\x1b[2J\\x9b\\r\\u202e' is not\nknown\n"
    assert capsys.readouterr().err == said
    say("a\x1b[2J")
    assert capsys.readouterr().err == "a\\x1b[2J\n"


def test_a_traceback_on_request(fails_with, monkeypatch):
    fails_with(InputError("oh"))
    monkeypatch.setenv("UNSEE_TRACEBACK", "1")
    with pytest.raises(InputError):
        run(["generate"])


def test_an_interrupt_is_130(fails_with, capsys):
    fails_with(KeyboardInterrupt())
    assert run(["generate"]) == 130
    assert capsys.readouterr().err.strip() == "interrupted"


def test_a_missing_package_names_the_install(fails_with, capsys):
    fails_with(ModuleNotFoundError("No module named 'onnx.helper'", name="onnx.helper"))
    assert run(["generate"]) == 2
    expected = 'error: this command needs onnx; install it with: pip install "unsee[export]"\n'
    assert capsys.readouterr().err == expected


def test_a_missing_module_of_our_own_is_a_bug_and_shows(fails_with):
    fails_with(ModuleNotFoundError("No module named 'unsee.nowhere'", name="unsee.nowhere"))
    with pytest.raises(ModuleNotFoundError):
        run(["generate"])


@pytest.mark.process  # platform asks uname, once a process
def test_the_version_is_told(capsys):
    assert run(["--version"]) == 0
    assert capsys.readouterr().out.startswith("unsee, version ")
    assert run(["version", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["packages"].keys() >= {"torch", "nvidia-pytriton"}
    assert run(["version"]) == 0
    assert f"unsee {found['unsee']}, Python {found['python']}" in capsys.readouterr().out


def test_no_command_shows_the_page_and_is_wrong_input(capsys):
    assert run([]) == 2
    assert "Exit code:" in capsys.readouterr().err


def examples(text):
    """The command lines in a help text, without what the shell does with them."""
    for line in text.replace("\\\n", " ").splitlines():
        words = shlex.split(line) if " unsee " in f" {line.strip()} " and line[:1] == " " else []
        while words and "=" in words[0]:
            words = words[1:]
        if words[:1] == ["unsee"]:
            ends = [words.index(sign) for sign in ("&", ">", ">>", "|") if sign in words]
            yield words[1 : min(ends, default=None)]


def all_examples():
    for context in every_command():
        text = f"{context.command.help}\n{context.command.epilog or ''}"
        for words in examples(text):
            yield context.command_path, words


@pytest.mark.parametrize("words", [words for _, words in all_examples()], ids=" ".join)
def test_every_example_in_a_help_is_what_the_command_takes(words, monkeypatch):
    parsed = []
    monkeypatch.setattr(click.Command, "invoke", lambda self, ctx: parsed.append(ctx.command_path))
    main.unsee.main(words, prog_name="unsee", standalone_mode=False)
    assert parsed[-1].split()[1] == words[0]


def test_every_subcommand_has_an_example():
    shown = {words[0] for path, words in all_examples() if path.startswith(f"unsee {words[0]}")}
    assert shown == set(SUBCOMMANDS)


def test_every_option_says_what_it_is_for():
    silent = [
        f"{context.command_path} {parameter.opts[-1]}"
        for context in every_command()
        for parameter in context.command.params
        if isinstance(parameter, click.Option) and not parameter.help
    ]
    assert silent == []


def test_every_command_that_prints_json_has_its_keys_in_the_documents():
    page = (Path(__file__).parents[3] / "docs" / "reference" / "command_line.md").read_text()
    table = page.partition("## JSON")[2].partition("\n## ")[0]
    silent = [
        context.command_path
        for context in every_command()
        if any(parameter.name == "as_json" for parameter in context.command.params)
        and f"`{context.command_path.removeprefix('unsee ')}" not in table
    ]
    assert silent == []


@pytest.mark.process
def test_the_page_in_the_documents_is_the_help(tmp_path):
    """In a process of its own: a command that has run by itself keeps the help of then."""
    page = (Path(__file__).parents[3] / "docs" / "reference" / "command_line.md").read_text()
    written = tmp_path / "page.md"
    written.write_text(page)
    subprocess.run([sys.executable, "-m", "unsee.cli.page", written], check=True, timeout=60)
    assert written.read_text() == page, (
        "rewrite it with: python -m unsee.cli.page docs/reference/command_line.md"
    )


@pytest.mark.process
@pytest.mark.parametrize("arguments", [["--help"], ["version", "--json"]])
def test_a_closed_pipe_ends_quietly(arguments):
    process = subprocess.Popen(
        [sys.executable, "-m", "unsee.cli.main", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait(timeout=60) == 1


@pytest.mark.process
@pytest.mark.parametrize(
    ("line", "code"),
    [("version >&-", 0), ("generate x --url 127.0.0.1:9 -o x.npy 2>&-", 3)],
)
def test_a_stream_that_is_closed_changes_neither_the_work_nor_its_exit_code(line, code, tmp_path):
    done = subprocess.run(
        ["sh", "-c", f'exec "{sys.executable}" -m unsee.cli.main {line}'],
        cwd=tmp_path,
        check=False,
        capture_output=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout, done.stderr) == (code, b"", b"")


@pytest.mark.process
def test_a_name_that_the_terminal_cannot_show_is_spelled_out():
    program = (
        "import click, unsee.cli.main\n"
        "unsee.cli.main.run = lambda: click.echo('\\udcff \\u7d75 \\xe9') or 0\n"
        "unsee.cli.main.main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        check=False,
        env={**os.environ, "PYTHONIOENCODING": "latin-1"},
        capture_output=True,
        timeout=60,
    )
    shown = b"\\udcff \\u7d75 \xe9\n"
    assert (done.returncode, done.stdout, done.stderr) == (0, shown, b"")


@pytest.mark.process
def test_a_full_disk_is_one_sentence():
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "unsee.cli.main", "version"],
            check=False,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
        )
    assert done.returncode == 1
    assert done.stderr == "error: No space left on device\n"
