"""Ctrl-C: every command ends with exit code 130 and one word, whatever it is about to do.

The signal comes from inside the process, at the import of a given module, so that a test does not
depend on how fast the machine is.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from unsee.cli.subcommands import SUBCOMMANDS

pytestmark = pytest.mark.process

PLAYGROUND = Path(__file__).parents[3] / "bases" / "playground"
INTERRUPTED_AT = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
module = sys.argv.pop(1)
sent = []

class Watch:
    def find_spec(self, name, path, target=None):
        if name == module and not sent:
            sent.append(name)
            os.kill(os.getpid(), signal.SIGINT)

from unsee.cli.start import main
sys.meta_path.insert(0, Watch())
main()
"""
WITH_RUN = """
import os, signal, sys, threading, time
signal.signal(signal.SIGINT, signal.default_int_handler)
import unsee.cli.main
from unsee.cli.start import main

def run():
{body}

unsee.cli.main.run = run
main()
"""


def ended(program: str, *arguments: str, folder: Path | None = None) -> tuple[int, str]:
    """The exit code and stderr of a Python program."""
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    return done.returncode, done.stderr


@pytest.mark.parametrize("name", SUBCOMMANDS)
def test_while_the_command_is_looked_up(name: str) -> None:
    modules = [SUBCOMMANDS[name].module]
    if name == "version":
        modules.append("click")  # before any name is looked up
    for module in modules:
        code, said = ended(INTERRUPTED_AT, module, name, "--help")
        assert (code, said.split()) == (130, ["interrupted"]), module


def arguments_of(folder: Path) -> dict[str, list[str]]:
    """What each command needs to begin its work, which then fails for want of files."""
    delta = folder / "delta"
    delta.mkdir()
    (delta / "card.json").write_text("{}")
    policy = folder / "family.yaml"
    policy.write_text("name: a\nunsee: [{concept: B, category: style, delta: delta}]\n")
    (folder / "gateway.yaml").write_text("tenants: []")
    (folder / "policies.json").write_text("{}")
    here = ["--repository", str(folder)]
    base = ["--base", str(PLAYGROUND)]
    return {
        "unlearn": ["Blimbo", "--category", "style", *base, "-o", "out"],
        "base": ["check", str(PLAYGROUND)],
        "delta": ["show", "delta"],
        "apply": ["delta", "--base", "base", "-o", "encoder"],
        "evaluate": [str(policy), *base],
        "export": base,
        "serve": here,
        "publish": [str(policy), *base, *here],
        "promote": ["family", *here],
        "policies": here,
        "status": [],
        "history": here,
        "rollback": ["family", "--reason", "r", *here],
        "retire": ["family", "1", *here],
        "repair": here,
        "gateway": [],
        "follow": ["--store", str(folder), *here],
        "generate": ["x", "--url", "127.0.0.1:1"],
        "completion": ["bash"],
        "version": [],
    }


WORK = {
    "unlearn": ["torch", "unsee.models.base"],
    "base": ["unsee.models.base"],
    "delta": ["torch"],
    "apply": ["torch"],
    "evaluate": ["torch"],
    "export": ["torch"],
    "serve": ["unsee.serving.server.triton"],
    "publish": ["unsee.policies.publish"],
    "promote": ["unsee.policies.promotion"],
    "policies": ["unsee.repository.pointer"],
    "status": ["unsee.gateway.observe.status"],
    "history": ["unsee.repository.ledger"],
    "rollback": ["unsee.policies.promotion"],
    "retire": ["unsee.policies.retirement"],
    "repair": ["unsee.policies.recovery"],
    "gateway": ["unsee.gateway.server"],
    "follow": ["unsee.policies.following.follower"],
    "generate": ["numpy._core._multiarray_umath", "grpc"],
    "completion": ["click.shell_completion"],
    "version": ["importlib.metadata"],
}
"""Modules that each command imports once it works."""


@pytest.mark.parametrize("name", SUBCOMMANDS)
def test_while_it_imports_what_it_works_with(name: str, tmp_path: Path) -> None:
    arguments = arguments_of(tmp_path)[name]
    for module in WORK[name]:
        code, said = ended(INTERRUPTED_AT, module, name, *arguments, folder=tmp_path)
        assert code == 130, f"{module}: {code} {said}"
        assert said.strip().endswith("interrupted"), said
        assert "Traceback" not in said, said


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("eval('signal.raise_signal(2)')", "Python then dies by the signal, though it is caught"),
        ("raise_in_c()", "C code raised an ImportError instead"),
        ("Dropped()", "raised where Python cannot pass it on"),
    ],
)
def test_where_python_makes_something_else_of_it(body: str, why: str) -> None:
    lines = f"""
    def raise_in_c():
        try:
            signal.raise_signal(2)
        except KeyboardInterrupt as error:
            sys.excepthook(type(error), error, error.__traceback__)
        raise ImportError("numpy._core.umath failed to import")

    class Dropped:
        def __del__(self):
            signal.raise_signal(2)

    try:
        {body}
        time.sleep(5)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return 0
"""
    code, said = ended(WITH_RUN.format(body=lines))
    assert (code, said.split()) == (130, ["interrupted"]), why


def test_while_threads_are_waited_for_at_the_end() -> None:
    lines = """
    def last():
        time.sleep(0.3)
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(30)
    threading.Thread(target=last).start()
    return 0
"""
    assert ended(WITH_RUN.format(body=lines)) == (130, "")


def test_who_ignores_the_signal_is_left_alone() -> None:
    lines = """
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(0.2)
    return 0
"""
    program = WITH_RUN.replace("signal.default_int_handler", "signal.SIG_IGN")
    assert ended(program.format(body=lines)) == (0, "")


@pytest.mark.parametrize("code", [0, 1, 2, 3])
def test_without_it_the_exit_code_and_the_output_are_the_commands(code: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITH_RUN.format(body=f"    print('out')\n    return {code}")],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert (done.returncode, done.stdout, done.stderr) == (code, "out\n", "")


def test_a_defect_still_has_its_traceback() -> None:
    code, said = ended(WITH_RUN.format(body="    raise ZeroDivisionError('a defect')"))
    assert code == 1
    assert "Traceback" in said
    assert "a defect" in said
