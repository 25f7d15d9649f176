"""The client stays light: what its import brings with it."""

import subprocess
import sys

import pytest

HEAVY = (
    *("torch", "diffusers", "transformers", "onnxruntime"),
    *("imageio", "imageio_ffmpeg", "PIL", "rich", "click", "yaml", "c2pa"),
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
