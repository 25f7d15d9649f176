"""The Python models need the standard library, numpy and a package or two, and no more."""

import ast
import subprocess
import sys

import pytest

from serving_fakes import TEMPLATES
from stand_in_fakes import load_backend, load_model
from unsee.serving.server.installation import OWN_BACKENDS_DIR, SHARED_DIR

ALLOWED = {
    "text_to_video": {"numpy", "safetensors", "tokenizers"},
    "prompt_encoder": {"numpy", "onnxruntime"},
}
BLOCKED = ("torch", "diffusers", "transformers", "onnxruntime", "pydantic", "unsee")

PROGRAM = """
import sys
sys.path[:0] = sys.argv[1:3]
sys.modules.update(dict.fromkeys({blocked}, None))
import asyncio, json, types
from pathlib import Path
backend = types.ModuleType("triton_python_backend_utils")
backend.TritonModelException = RuntimeError
sys.modules["triton_python_backend_utils"] = backend
import model
served = model.TritonPythonModel()
served.initialize({{"model_repository": sys.argv[3], "model_config": json.dumps({{}})}})
assert served._tokenizer.encode(prompt="a cat").input_ids.shape == (1, 48)
assert served._tables.table("DDIMScheduler", 4).num_evaluations == 4
"""


def imported_names(folder):
    for file in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                yield from (alias.name.partition(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{file}: the stub knows no parent package"
                yield str(node.module).partition(".")[0]


@pytest.mark.parametrize("model", ALLOWED)
def test_a_python_model_imports_only_what_every_container_has(model):
    third_party = set(imported_names(TEMPLATES / model / "1")) - set(sys.stdlib_module_names)
    assert third_party == ALLOWED[model] | {model, "triton_python_backend_utils"}


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_a_stand_in_backend_imports_only_numpy_and_its_runtime(runtime):
    folders = (OWN_BACKENDS_DIR / runtime, SHARED_DIR)
    imported = {name for folder in folders for name in imported_names(folder)}
    own = {"engine_options", "stand_in", "triton_python_backend_utils"}
    shared = {"numpy", "openvino"}  # the latter when a backend asks for it
    assert imported - set(sys.stdlib_module_names) == {runtime} | shared | own


def test_onnx_runtime_s_stand_in_does_without_openvino(monkeypatch, fake_repository):
    monkeypatch.setitem(sys.modules, "openvino", None)
    backend = load_backend(monkeypatch, "onnxruntime")
    assert load_model(backend, fake_repository, "vae_decoder") is not None


@pytest.mark.process
def test_the_served_model_starts_where_the_heavy_packages_are_missing(fake_repository):
    program = PROGRAM.format(blocked=BLOCKED)
    model_dir = fake_repository / "text_to_video"
    arguments = [str(model_dir / "1"), "", str(model_dir)]
    command = [sys.executable, "-B", "-c", program, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
