"""The root command: its page, its exit codes, and that it imports nothing before it must."""

import subprocess
import sys

import click
import pytest

from unsee.client import command
from unsee.client.command import SUBCOMMANDS, run
from unsee.client.errors import InputError, ServerError, UnseeError


@pytest.fixture
def fails_with(monkeypatch):
    """Makes `unsee generate` raise the given error."""

    def prepare(error):
        @click.command()
        def generate():
            raise error

        monkeypatch.setattr(command.LazyGroup, "get_command", lambda self, ctx, name: generate)

    return prepare


def test_help_is_a_page_in_the_order_of_the_work(capsys):
    assert run(["--help"]) == 0
    page = capsys.readouterr().out
    positions = [page.index(f"\n  {name} ") for name in SUBCOMMANDS]
    assert positions == sorted(positions)
    assert "Example:" in page
    assert max(map(len, page.splitlines())) <= 100


def test_help_imports_no_subcommand():
    program = (
        "import sys; from unsee.client.command import run; run(['--help']); "
        "loaded = {m for m in sys.modules if m.startswith('unsee.')}; "
        "assert loaded == {'unsee.client', 'unsee.client.command', 'unsee.client.errors'}, loaded; "
        "assert not {'numpy', 'grpc', 'pydantic', 'rich'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, timeout=60)


@pytest.mark.parametrize("name", SUBCOMMANDS)
def test_every_subcommand_has_its_own_help_and_needs_no_heavy_import_for_it(name):
    program = (
        "import sys; from unsee.client.command import run; "
        f"code = run(['{name}', '--help']); "
        "heavy = {'torch', 'diffusers', 'transformers', 'onnx', 'onnxruntime', 'numpy', 'grpc'}; "
        "assert not heavy & set(sys.modules), heavy & set(sys.modules); sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], check=False, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"Usage: unsee {name}")


@pytest.mark.parametrize(
    ("error", "code"),
    [(UnseeError("oh"), 1), (InputError("oh"), 2), (ServerError("oh"), 3), (OSError("oh"), 1)],
)
def test_an_error_is_one_line_and_its_exit_code(fails_with, capsys, error, code):
    fails_with(error)
    assert run(["generate"]) == code
    assert capsys.readouterr().err == "error: oh\n"


def test_a_traceback_on_request(fails_with, monkeypatch):
    fails_with(InputError("oh"))
    monkeypatch.setenv("UNSEE_TRACEBACK", "1")
    with pytest.raises(InputError):
        run(["generate"])


def test_an_interrupt_is_130(fails_with, capsys):
    fails_with(KeyboardInterrupt())
    assert run(["generate"]) == 130
    assert capsys.readouterr().err.strip() == "interrupted"


@pytest.mark.parametrize(
    ("module", "package", "extra"),
    [
        ("torch", "torch", "train"),
        ("onnx.helper", "onnx", "export"),
        ("pytriton", "pytriton", "serve"),
    ],
)
def test_a_missing_package_names_the_install(fails_with, capsys, module, package, extra):
    fails_with(ModuleNotFoundError(f"No module named {module!r}", name=module))
    assert run(["generate"]) == 2
    expected = (
        f'error: this command needs {package}; install it with: pip install "unsee[{extra}]"\n'
    )
    assert capsys.readouterr().err == expected


def test_the_install_is_the_one_that_the_subcommand_needs_in_all():
    assert 'unsee[export]"' in str(command.missing_extra("torch", "publish"))
    assert 'unsee[serve]"' in str(command.missing_extra("onnxruntime", "serve"))


def test_a_missing_module_of_our_own_is_a_bug_and_shows(fails_with):
    fails_with(ModuleNotFoundError("No module named 'unsee.nowhere'", name="unsee.nowhere"))
    with pytest.raises(ModuleNotFoundError):
        run(["generate"])


def test_wrong_usage_is_2_and_the_version_is_told(capsys):
    assert run(["paint"]) == 2
    assert "paint" in capsys.readouterr().err
    assert run(["--version"]) == 0
    assert capsys.readouterr().out.startswith("unsee, version ")
