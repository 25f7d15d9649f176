"""Exported graphs as functions: both engines of the CPU give the same numbers."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

from serving_fakes import write_fake_repository
from unsee.core.errors import NotExportable
from unsee.export.engines.engine import Engine
from unsee.export.engines.session import open_graph

SHAPES = {"latents": [1, 4, 3, 2, 2]}


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    folder = write_fake_repository(tmp_path_factory.mktemp("session") / "repository")
    return folder / "vae_decoder" / "1" / "model.onnx"


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_openvino_computes_what_onnx_runtime_computes(file, precision):
    latents = np.linspace(-1, 1, 48, dtype=np.float32).reshape(SHAPES["latents"])
    wanted = open_graph(file, Engine("onnxruntime"), 1, SHAPES)(latents=latents)
    run = open_graph(file, Engine("openvino", precision), 1, SHAPES)
    frames = run(latents=latents)
    assert frames.shape == (1, 3, 16, 16, 3)
    limit = 1 if precision == "float32" else 4
    assert np.abs(frames.astype(int) - wanted.astype(int)).max() <= limit
    again = run(latents=-latents)
    assert not np.array_equal(frames, again), "an output is not overwritten by the next call"


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_a_file_that_is_no_graph_is_refused_in_one_sentence(tmp_path, name):
    file = tmp_path / "video_denoiser" / "1" / "model.onnx"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"no graph")
    with pytest.raises(
        NotExportable, match=f"^{name}-float32 cannot open video_denoiser: "
    ) as caught:
        open_graph(file, Engine(name), 1, SHAPES)
    assert "\n" not in str(caught.value)


def test_an_engine_of_a_gpu_is_refused(file):
    with pytest.raises(NotExportable, match="tensorrt-float16 cannot be run on the CPU"):
        open_graph(file, Engine("tensorrt", "float16"), 1, SHAPES)


def finished(program, *arguments, home):
    """How `program` ends in a process of its own, with `home` as the user's folder."""
    kept = {name: value for name, value in os.environ.items() if name != "CI"}
    path = os.pathsep.join(entry for entry in sys.path if entry)
    return subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)],
        env=kept | {"HOME": str(home), "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


REPORTS = """
import os, sys
HOME = ("os.fork", "socket.getaddrinfo")
sys.addaudithook(lambda event, arguments: os._exit(9) if event in HOME else None)
from unsee.export.engines.machine import this_machine
assert this_machine().capabilities
"""


@pytest.mark.process
def test_openvino_does_not_report_its_use(tmp_path):
    done = finished(REPORTS, home=tmp_path)
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.iterdir()) == []


INTERRUPTED = """
import os, signal, sys
from pathlib import Path
from unsee.export.engines.engine import Engine
from unsee.export.engines.session import open_graph
opened = [open_graph(Path(sys.argv[1]), Engine("openvino"), 1, {"latents": [1, 4, 3, 2, 2]})
          for _ in range(2)]
while opened:
    del opened[0]
try:
    os.kill(os.getpid(), signal.SIGINT)
except KeyboardInterrupt:
    print("interrupted")
"""


@pytest.mark.process
def test_ctrl_c_after_two_openvino_graphs_is_no_crash(file, tmp_path):
    done = finished(INTERRUPTED, file, home=tmp_path)
    assert (done.returncode, done.stdout) == (0, "interrupted\n"), done.stderr
