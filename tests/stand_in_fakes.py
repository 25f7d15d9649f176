"""A stand-in backend without Triton: its module, models of it, and requests to them.

Takes the place of `triton_python_backend_utils` and puts a configuration into a model as Triton
does. Knows no graph and no runtime.
"""

from __future__ import annotations

import importlib.util
import json
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf import json_format, text_format
from tritonclient.grpc import model_config_pb2

from unsee.serving.server.installation import OWN_BACKENDS_DIR


class Tensor:
    def __init__(self, name: str, array: Any) -> None:
        self.name, self.array = name, array

    def as_numpy(self) -> Any:
        return self.array


class Request:
    """Asks for `outputs`; tensors by name."""

    def __init__(self, outputs: list[str], **tensors: Any) -> None:
        self.outputs = outputs
        self.said: dict[str, Any] = {}
        self.tensors = {name: Tensor(name, array) for name, array in tensors.items()}

    def requested_output_names(self) -> list[str]:
        return self.outputs

    def parameters(self) -> str:
        return json.dumps(self.said)


class Response:
    def __init__(self, tensors: Any = (), error: str | None = None) -> None:
        self.tensors = {tensor.name: tensor.array for tensor in tensors}
        self.error = error


def load_backend(monkeypatch: Any, name: str) -> types.ModuleType:
    """The module of the backend `name`; undone at the end of the test."""
    utils: Any = types.ModuleType("triton_python_backend_utils")
    dtypes = {"TYPE_FP32": np.float32, "TYPE_UINT8": np.uint8, "TYPE_INT64": np.int64}
    utils.triton_string_to_numpy = dtypes.__getitem__
    utils.get_input_tensor_by_name = lambda request, name: request.tensors[name]
    utils.Tensor, utils.InferenceResponse = Tensor, Response
    utils.TritonError, utils.TritonModelException = str, RuntimeError
    monkeypatch.setitem(sys.modules, utils.__name__, utils)
    monkeypatch.delitem(sys.modules, "stand_in", raising=False)
    path = OWN_BACKENDS_DIR / name / "model.py"
    spec = importlib.util.spec_from_file_location(f"{name}_stand_in_backend", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.delitem(sys.modules, "stand_in")  # it holds on to this test's utils
    return module


def load_model(backend: Any, repository_dir: Path, name: str, **changes: Any) -> Any:
    """Version 1 of a model of `repository_dir`, its configuration changed in fields by name."""
    text = (repository_dir / name / "config.pbtxt").read_text()
    config = text_format.Parse(text, model_config_pb2.ModelConfig())
    record = json_format.MessageToDict(config, preserving_proto_field_name=True) | changes
    model = backend.TritonPythonModel()
    model.initialize(
        {
            "model_config": json.dumps(record),
            "model_name": name,
            "model_repository": str(repository_dir / name),
            "model_version": "1",
        }
    )
    return model


def parameters(**values: str) -> dict[str, dict[str, str]]:
    """Parameters as they lie in a model configuration."""
    return {name: {"string_value": value} for name, value in values.items()}
