"""What docs/guide/clients.md says is run as it is written, but for the address."""

import os
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest

from gateway_fakes import FRAMES, TOKENS

pytestmark = pytest.mark.process

PAGE = Path(__file__).parents[2] / "docs" / "guide" / "clients.md"
TOKEN = {"UNSEE_TOKEN": TOKENS["kids"]}


def block(language: str, mentions: str) -> str:
    """The one block of code that is in `language` and mentions that."""
    blocks = re.findall(rf"^```{language}\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    (found,) = (code for code in blocks if mentions in code)
    return str(found)


def test_the_typescript_on_the_page(typescript, served, tmp_path):
    code = block("typescript", "GenerationError").replace("127.0.0.1:9001", served.addresses.grpc)
    assert len(code.splitlines()) < 15
    page = Path(typescript.every_input[-1]).with_name("page.mjs")  # there the package knows itself
    page.write_text(code)
    done = subprocess.run(
        ["node", page], env=_with_path(), capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    *steps, result = done.stdout.splitlines()
    assert steps == [f"step {k} of 3" for k in (1, 2, 3)]
    assert result == f"[ 2, 16, 16, 3 ] undefined {FRAMES.size}"


def test_the_java_on_the_page(java, served, tmp_path):
    code = block("java", "GenerationException").replace("127.0.0.1:9001", served.addresses.grpc)
    source = tmp_path / "Page.java"
    imports = "import io.grpc.*;\nimport java.time.Duration;\n"
    imports += "import unsee.Client;\nimport unsee.TextToVideo.*;\n"
    source.write_text(
        f"{imports}class Page {{ public static void main(String[] arguments) {{\n{code}\n}} }}\n"
    )
    words = [*java.every_input[:-1], source]
    done = subprocess.run(
        words, env=_with_path(), capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        *(f"step {k} of 3" for k in (1, 2, 3)),
        f"null {FRAMES.size}",
    ]


@pytest.mark.parametrize("token", [TOKENS["kids"], "unsee_nobody"])
def test_the_curl_on_the_page(served, tmp_path, token):
    code = block("sh", "curl").replace("127.0.0.1:9000", served.addresses.http)
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", code],
        cwd=tmp_path,
        env=_with_path() | {"UNSEE_TOKEN": token},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    told = (tmp_path / "events.txt").read_text()
    if token == TOKENS["kids"]:
        assert (done.returncode, done.stderr) == (0, "")
        np.testing.assert_array_equal(np.load(tmp_path / "clip.npy"), FRAMES)
        assert told.count("event: progress\n") == 3
    else:
        assert done.returncode == 22
        assert '"UNAUTHENTICATED"' in told


def _with_path() -> dict[str, str]:
    return {"PATH": os.environ["PATH"]} | TOKEN
