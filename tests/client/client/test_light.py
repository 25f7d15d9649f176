"""The client stays light: what its import brings with it, and how long it takes."""

import subprocess
import sys

import pytest

HEAVY = (
    *("torch", "diffusers", "transformers", "onnxruntime"),
    *("imageio", "imageio_ffmpeg", "PIL", "rich", "click", "yaml", "c2pa"),
)
MOST_SECONDS = 0.3
TIMED = (
    "import time; start = time.process_time(); import unsee.client; "
    "print(time.process_time() - start)"
)


def printed(program):
    command = [sys.executable, "-c", program]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout


@pytest.mark.process
@pytest.mark.parametrize("name", ["Client", "AsyncClient"])
def test_importing_a_client_brings_nothing_that_it_does_not_need_yet(name):
    program = (
        f"import sys; from unsee.client import {name}; {name}('127.0.0.1:1'); "
        f"print(sorted(set({HEAVY}) & set(sys.modules)))"
    )
    assert printed(program) == "[]\n"


@pytest.mark.process
def test_the_import_takes_no_longer_than_the_guide_says():
    assert any(float(printed(TIMED)) <= MOST_SECONDS for _ in range(5))
