"""What the benchmarks of the server are made of; the server itself is started elsewhere."""

import os
import subprocess
import sys

from benchmarks.measuring import processes, timing
from benchmarks.serving import first_frame, footprint
from unsee.client.client import Client
from unsee.client.testing import FakeServer


def test_memory_is_of_all_processes_below_this_one() -> None:
    before = processes.memory_of_children()
    child = (
        "import subprocess, sys; block = bytearray(32 * 2**20); "
        "inner = subprocess.Popen([sys.executable, '-c', 'input()'], stdin=subprocess.PIPE); "
        "print(inner.pid, flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", child], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        grandchild = int(process.stdout.readline())
        below = processes.descendants(os.getpid())
        assert {process.pid, grandchild} <= set(below)
        assert processes.memory_of_children() - before > 32 * 2**20
        process.communicate("\n")
    assert process.pid not in processes.descendants(os.getpid())


def test_the_server_needs_no_pytorch() -> None:
    needed = footprint.closure("serve")
    assert {"unsee", "numpy", "onnxruntime", "openvino", "nvidia-pytriton"} <= needed
    assert not needed & {"torch", "diffusers", "transformers"}
    assert "torch" in footprint.closure("train")
    assert footprint.installed_bytes("numpy") > 10**7
    assert footprint.installed_bytes("there-is-no-such-package") == 0


def test_the_first_frame_is_timed_beside_the_whole_clip() -> None:
    with Client(transport=FakeServer(num_steps=1)) as client:
        found = first_frame.compared(client, {"num_frames": 9}, turns=2)
        whole = first_frame.arrived(client, {"num_frames": 9}, stream_frames=False)
    assert found["parts"] == [1, 4, 4]
    assert (whole.parts, whole.first_frame_s) == ([9], whole.clip_s)
    assert found["first_frame_s"]["streamed"]["most"] < found["clip_s"]["streamed"]["most"]
    assert found["clip"]["num_frames"] == 9


def test_who_begins_changes_with_every_turn() -> None:
    order: list[str] = []
    ways = {name: (lambda name=name: order.append(name)) for name in ("alone", "served")}
    seconds = timing.in_turn(ways, 2)
    assert order == ["served", "alone", "alone", "served"]
    assert {name: len(values) for name, values in seconds.items()} == {"alone": 2, "served": 2}
