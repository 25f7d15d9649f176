"""Progress where there is a terminal and where there is none; never on stdout."""

import os
import pty
import subprocess
import sys

import pytest

from unsee.cli.progress import shown_stages, stage_progress

WORK = """
from unsee.cli.progress import stage_progress, shown_stages
with stage_progress("learning [x]") as report:
    for step in range(1, 21):
        report(step, 20, "erased [b]")
with shown_stages() as say:
    say("composing [y]")
    say("loading")
print("result")
"""


@pytest.mark.parametrize(
    ("total", "stride", "said"),
    [
        (3, 1, [1, 2, 3]),
        (100, 1, [*range(10, 101, 10)]),
        (96, 12, [*range(12, 97, 12)]),
        (1000, 300, [300, 600, 900]),
    ],
)
def test_a_line_for_every_tenth_however_far_the_steps_are_apart(capsys, total, stride, said):
    with stage_progress("learning") as report:
        for step in range(stride, total + 1, stride):
            report(step, total, "well")
            report(step, total, "well")
    lines = capsys.readouterr().err.splitlines()
    assert lines == [f"learning {step}/{total} well" for step in said]


def test_a_note_does_not_move_the_cursor(capsys):
    with stage_progress("clips") as report:
        report(1, 1, "a cat\x1b[2J")
    assert capsys.readouterr().err == "clips 1/1 a cat\\x1b[2J\n"


def test_a_line_for_each_stage(capsys):
    with shown_stages() as say:
        say("composing")
        assert capsys.readouterr().err == "composing\n"
        say("loading")
    assert capsys.readouterr() == ("", "loading\n")


def shown(**environment):
    """What WORK writes on a terminal that is its stderr, and on its stdout."""
    ours, theirs = pty.openpty()
    kept = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "TERM")}
    process = subprocess.Popen(
        [sys.executable, "-c", WORK],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=theirs,
        env=kept | {"COLUMNS": "100", **environment},
    )
    os.close(theirs)
    written = bytearray()
    try:
        while part := os.read(ours, 4096):
            written += part
    except OSError:  # how Linux says that the other end is closed
        pass
    finally:
        os.close(ours)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert out == b"result\n", "stdout has the result alone"
    return written.decode()


@pytest.mark.process
def test_a_terminal_shows_a_bar_and_the_seconds_of_a_stage():
    screen = shown(TERM="xterm-256color")
    assert "━" in screen
    assert "\x1b[" in screen
    assert "20/20" in screen
    assert "learning [x]" in screen
    assert "erased [b]" in screen
    assert "composing [y] (0.0 s)" in screen


@pytest.mark.process
def test_no_color_means_none():
    coloured = ("\x1b[3", "\x1b[38;", "\x1b[1;3")
    assert any(sign in shown(TERM="xterm-256color") for sign in coloured)
    assert not any(sign in shown(TERM="xterm-256color", NO_COLOR="1") for sign in coloured)


@pytest.mark.process
def test_a_dumb_terminal_gets_plain_lines():
    screen = shown(TERM="dumb")
    assert "\x1b" not in screen
    assert "learning [x] 2/20 erased [b]\r\n" in screen
    assert screen.endswith("composing [y]\r\nloading\r\n")
