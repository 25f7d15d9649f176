"""A Triton backend named `onnxruntime`, written in Python: the stand-in for NVIDIA's C++ backend.

The Triton of the `nvidia-pytriton` wheel has only the Python backend. Put into its backends folder
as `onnxruntime/model.py`, this file makes every model configuration that names
`backend: "onnxruntime"` load there unchanged, on the CPU. It does not know what the graphs compute,
nor that a repository of policies exists; it runs inside Triton's Python stub, so it imports nothing
but numpy, ONNX Runtime and the standard library.

Honoured from the configuration: `default_model_filename`, `max_batch_size` and the parameters
`intra_op_thread_count` and `session.intra_op.allow_spinning` of NVIDIA's backend; the environment
variables UNSEE_ORT_THREADS and UNSEE_ORT_SPINNING are the defaults of these two.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
import triton_python_backend_utils as pb_utils

LOGGER = logging.getLogger("unsee.onnxruntime")

Array = npt.NDArray[Any]
Feeds = dict[str, Array]


class OutputMismatch(Exception):
    """A graph's output has not the dtype or shape that the model configuration promises."""


class TritonPythonModel:
    """One instance of one version of one model."""

    def initialize(self, args: dict[str, str]) -> None:
        """Open `<model>/<version>/<default_model_filename>`; raises TritonModelException."""
        self._config: dict[str, Any] = json.loads(args["model_config"])
        self._name = f"{args['model_name']}, version {args['model_version']}"
        file_name = self._config.get("default_model_filename") or "model.onnx"
        path = Path(args["model_repository"]) / args["model_version"] / file_name
        if not path.is_file():
            raise pb_utils.TritonModelException(f"{self._name}: there is no {file_name}")
        try:
            self._session = onnxruntime.InferenceSession(
                path, _session_options(self._config), providers=["CPUExecutionProvider"]
            )
        except Exception as error:
            LOGGER.exception("%s: ONNX Runtime cannot open %s", self._name, file_name)
            message = f"{self._name}: ONNX Runtime cannot open {file_name} ({type(error).__name__})"
            raise pb_utils.TritonModelException(message) from None
        self._inputs = [value.name for value in self._session.get_inputs()]
        self._outputs = [value.name for value in self._session.get_outputs()]
        self._check_names()

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """Answer each request; those of one shape run as one batch where the model batches."""
        feeds = [self._feeds(request) for request in requests]
        answers: list[Any] = [None] * len(requests)
        for members in self._batches(feeds):
            for index, answer in zip(members, self._run(members, feeds), strict=True):
                answers[index] = self._response(requests[index], answer)
        return answers

    def _check_names(self) -> None:
        for kind, offered in (("input", self._inputs), ("output", self._outputs)):
            configured = {tensor["name"] for tensor in self._config.get(kind, [])}
            if configured != set(offered):
                raise pb_utils.TritonModelException(
                    f"{self._name}: the configuration names the {kind}s {sorted(configured)}, "
                    f"the graph has {sorted(offered)}"
                )

    def _feeds(self, request: Any) -> Feeds:
        return {
            name: pb_utils.get_input_tensor_by_name(request, name).as_numpy()
            for name in self._inputs
        }

    def _batches(self, feeds: Sequence[Feeds]) -> list[list[int]]:
        """Indices of the requests that may be run together: equal shapes but for the batch."""
        if not self._config.get("max_batch_size"):
            return [[index] for index in range(len(feeds))]
        groups: dict[tuple[tuple[int, ...], ...], list[int]] = {}
        for index, feed in enumerate(feeds):
            groups.setdefault(tuple(array.shape[1:] for array in feed.values()), []).append(index)
        return list(groups.values())

    def _run(self, members: list[int], feeds: Sequence[Feeds]) -> list[list[Array] | str]:
        """The outputs, or the error message, of each member; a failed batch is run one by one."""
        first = feeds[members[0]]
        try:
            if len(members) == 1:
                return [self._checked(self._session.run(self._outputs, first), first)]
            joined = {name: np.concatenate([feeds[i][name] for i in members]) for name in first}
            outputs = self._checked(self._session.run(self._outputs, joined), joined)
        except Exception as error:
            LOGGER.exception("%s: a batch of %d failed", self._name, len(members))
            if len(members) == 1:
                return [f"{self._name}: the graph cannot be run ({type(error).__name__})"]
            return [answer for index in members for answer in self._run([index], feeds)]
        ends = np.cumsum([len(feeds[i][self._inputs[0]]) for i in members])[:-1]
        return [list(rows) for rows in zip(*(np.split(o, ends) for o in outputs), strict=True)]

    def _checked(self, outputs: list[Array], feed: Feeds) -> list[Array]:
        tensors = {tensor["name"]: tensor for tensor in self._config["output"]}
        rows = [len(next(iter(feed.values())))] if self._config.get("max_batch_size") else []
        for name, output in zip(self._outputs, outputs, strict=True):
            shape = rows + _dims(tensors[name])
            fits = output.ndim == len(shape) and all(
                wanted in (-1, size) for wanted, size in zip(shape, output.shape, strict=True)
            )
            dtype = np.dtype(pb_utils.triton_string_to_numpy(tensors[name]["data_type"]))
            if not fits or output.dtype != dtype:
                raise OutputMismatch(
                    f"{name} is {output.dtype} {list(output.shape)}, not {dtype} {shape}"
                )
        return outputs

    def _response(self, request: Any, answer: list[Array] | str) -> Any:
        if isinstance(answer, str):
            return pb_utils.InferenceResponse(error=pb_utils.TritonError(answer))
        wanted = set(request.requested_output_names())
        named = zip(self._outputs, answer, strict=True)
        return pb_utils.InferenceResponse(
            [pb_utils.Tensor(name, array) for name, array in named if name in wanted]
        )


def _session_options(config: dict[str, Any]) -> Any:
    options = onnxruntime.SessionOptions()
    threads = _parameter(config, "intra_op_thread_count", os.environ.get("UNSEE_ORT_THREADS", "0"))
    options.intra_op_num_threads = int(threads)
    options.inter_op_num_threads = 1
    key = "session.intra_op.allow_spinning"
    spinning = _parameter(config, key, os.environ.get("UNSEE_ORT_SPINNING", "0"))
    options.add_session_config_entry(key, spinning)
    options.log_severity_level = 3
    return options


def _parameter(config: dict[str, Any], name: str, default: str) -> str:
    value = config.get("parameters", {}).get(name, {}).get("string_value", default)
    return str(value)


def _dims(tensor: dict[str, Any]) -> list[int]:
    if "reshape" in tensor:
        return [int(size) for size in tensor["reshape"].get("shape", [])]
    return [int(size) for size in tensor["dims"]]
