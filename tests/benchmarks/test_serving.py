"""What the benchmarks of the server are made of; the server itself is started elsewhere."""

import json
import os
import subprocess
import sys
from pathlib import Path

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from benchmarks.measuring import processes, timing
from benchmarks.policies import many
from benchmarks.serving import footprint


def test_policies_are_copies_that_leave_the_original_alone(tmp_path: Path) -> None:
    original, copy = tmp_path / "original", tmp_path / "copy"
    version = original / "text_encoder_base" / "1"
    version.mkdir(parents=True)
    (version / "model.onnx").write_bytes(b"weights")
    (version.parent / "config.pbtxt").write_text('name: "text_encoder_base"\nmax_batch_size: 16\n')
    entry = {"active": 1, "eligible": [1], "history": [1]}
    policies = {"schema_version": 1, "default_policy": None, "policies": {"base": entry}}
    (original / "policies.json").write_text(json.dumps(policies))
    names = many.write_policies(original, copy, 3)
    assert names == ["base", "policy-2", "policy-3"]
    assert json.loads((original / "policies.json").read_text()) == policies
    written = json.loads((copy / "policies.json").read_text())
    assert written["policies"] == dict.fromkeys(names, entry)
    for name in names:
        model = copy / f"text_encoder_{name}"
        assert (model / "1" / "model.onnx").samefile(version / "model.onnx")
        text = (model / "config.pbtxt").read_text()
        config = text_format.Parse(text, model_config_pb2.ModelConfig())
        assert (config.name, config.max_batch_size) == (model.name, 16)


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


def test_who_begins_changes_with_every_turn() -> None:
    order: list[str] = []
    ways = {name: (lambda name=name: order.append(name)) for name in ("alone", "served")}
    seconds = timing.in_turn(ways, 2)
    assert order == ["served", "alone", "alone", "served"]
    assert {name: len(values) for name, values in seconds.items()} == {"alone": 2, "served": 2}
