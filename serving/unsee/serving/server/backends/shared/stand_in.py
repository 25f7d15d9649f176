"""What the stand-in backends share: one version of one model, as Triton's Python stub wants it.

The launcher copies this file beside each backend's `model.py`. It knows Triton's requests and the
model configuration; it knows no runtime, nor what the graphs compute. It runs inside the stub, so
it imports nothing but numpy and the standard library.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
import numpy.typing as npt
import triton_python_backend_utils as pb_utils

LOGGER = logging.getLogger("unsee.stand_in")
ALIVE = "unsee_alive"
"""A parameter of a request that is answered with zeros."""

Array = npt.NDArray[Any]
Feeds = dict[str, Array]


class LoadRefused(Exception):
    """A model cannot be served as it is configured; the message is one sentence that says why."""


class OutputMismatch(Exception):
    """A graph's output has not the dtype or shape that the model configuration promises."""


class Session(Protocol):
    """A graph that a runtime has opened; `inputs` and `outputs` are its names, in its order.

    `joins_requests`: requests of one shape may be run as one batch and give the same bytes.
    """

    @property
    def joins_requests(self) -> bool: ...
    @property
    def inputs(self) -> Sequence[str]: ...
    @property
    def outputs(self) -> Sequence[str]: ...
    def run(self, feeds: Feeds) -> list[Array]:
        """The outputs in order; raises whatever the runtime raises."""


class StandIn:
    """One instance of one version of one model; a backend adds `runtime` and `open_session`."""

    runtime: ClassVar[str]

    def open_session(self, path: Path, parameters: Mapping[str, str]) -> Session:
        """Open the graph in `path`; raises LoadRefused, or whatever the runtime raises."""
        raise NotImplementedError

    def initialize(self, args: dict[str, str]) -> None:
        """Open `<model>/<version>/<default_model_filename>`; raises TritonModelException."""
        self._config: dict[str, Any] = json.loads(args["model_config"])
        self._name = f"{args['model_name']}, version {args['model_version']}"
        file_name = self._config.get("default_model_filename") or "model.onnx"
        path = Path(args["model_repository"]) / args["model_version"] / file_name
        try:
            if not path.is_file():
                raise LoadRefused(f"there is no {file_name}")
            self._session = self.open_session(path, _parameters(self._config))
            self._check_names()
        except LoadRefused as refusal:
            raise pb_utils.TritonModelException(f"{self._name}: {refusal}") from None
        except Exception as error:
            LOGGER.exception("%s: %s cannot open %s", self._name, self.runtime, file_name)
            message = f"{self._name}: {self.runtime} cannot open {file_name}"
            message += f" ({type(error).__name__})"
            raise pb_utils.TritonModelException(message) from None

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """Answer each request; those of one shape run as one batch where session and model may."""
        feeds = [self._feeds(request) for request in requests]
        answers: dict[int, list[Array] | str] = {
            index: self._zeros(feeds[index])
            for index, request in enumerate(requests)
            if _only_asks(request)
        }
        asked = {index: feed for index, feed in enumerate(feeds) if index not in answers}
        for members in self._batches(asked):
            answers |= zip(members, self._run(members, feeds), strict=True)
        return [self._response(request, answers[i]) for i, request in enumerate(requests)]

    def _check_names(self) -> None:
        session = self._session
        for kind, offered in (("input", session.inputs), ("output", session.outputs)):
            configured = {tensor["name"] for tensor in self._config.get(kind, [])}
            if configured != set(offered):
                raise LoadRefused(
                    f"the configuration names the {kind}s {sorted(configured)}, "
                    f"the graph has {sorted(offered)}"
                )

    def _feeds(self, request: Any) -> Feeds:
        return {
            name: pb_utils.get_input_tensor_by_name(request, name).as_numpy()
            for name in self._session.inputs
        }

    def _batches(self, feeds: Mapping[int, Feeds]) -> list[list[int]]:
        """Indices of the requests that may be run together: equal shapes but for the batch."""
        if not (self._session.joins_requests and self._config.get("max_batch_size")):
            return [[index] for index in feeds]
        groups: dict[tuple[tuple[int, ...], ...], list[int]] = {}
        for index, feed in feeds.items():
            groups.setdefault(tuple(array.shape[1:] for array in feed.values()), []).append(index)
        return list(groups.values())

    def _run(self, members: list[int], feeds: Sequence[Feeds]) -> list[list[Array] | str]:
        """The outputs, or the error message, of each member; a failed batch is run one by one."""
        first = feeds[members[0]]
        try:
            if len(members) == 1:
                return [self._checked(self._session.run(first), first)]
            joined = {name: np.concatenate([feeds[i][name] for i in members]) for name in first}
            outputs = self._checked(self._session.run(joined), joined)
        except Exception as error:
            LOGGER.exception("%s: a batch of %d failed", self._name, len(members))
            if len(members) == 1:
                return [f"{self._name}: the graph cannot be run ({type(error).__name__})"]
            return [answer for index in members for answer in self._run([index], feeds)]
        ends = np.cumsum([len(next(iter(feeds[i].values()))) for i in members])[:-1]
        return [list(rows) for rows in zip(*(np.split(o, ends) for o in outputs), strict=True)]

    def _checked(self, outputs: list[Array], feed: Feeds) -> list[Array]:
        tensors = {tensor["name"]: tensor for tensor in self._config["output"]}
        rows = [len(next(iter(feed.values())))] if self._config.get("max_batch_size") else []
        for name, output in zip(self._session.outputs, outputs, strict=True):
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

    def _zeros(self, feed: Feeds) -> list[Array]:
        """Outputs of the configured dtypes and of the least shapes, nothing being computed."""
        tensors = {tensor["name"]: tensor for tensor in self._config["output"]}
        rows = [len(next(iter(feed.values())))] if self._config.get("max_batch_size") else []
        return [
            np.zeros(
                rows + [max(1, size) for size in _dims(tensors[name])],
                pb_utils.triton_string_to_numpy(tensors[name]["data_type"]),
            )
            for name in self._session.outputs
        ]

    def _response(self, request: Any, answer: list[Array] | str) -> Any:
        if isinstance(answer, str):
            return pb_utils.InferenceResponse(error=pb_utils.TritonError(answer))
        wanted = set(request.requested_output_names())
        named = zip(self._session.outputs, answer, strict=True)
        return pb_utils.InferenceResponse(
            [pb_utils.Tensor(name, array) for name, array in named if name in wanted]
        )


def _only_asks(request: Any) -> bool:
    """Whether the sender only wants to know if this process still answers."""
    return ALIVE in json.loads(request.parameters() or "{}")


def thread_count(parameters: Mapping[str, str], name: str) -> int:
    """The parameter `name`, else the environment's UNSEE_THREADS, else 0: the runtime decides."""
    return whole_number({name: os.environ.get("UNSEE_THREADS", "0"), **parameters}, name, 0)


def whole_number(parameters: Mapping[str, str], name: str, default: int) -> int:
    """The parameter as a number from 0 on; raises LoadRefused for any other text."""
    text = parameters.get(name, str(default))
    if not (text.isascii() and text.isdigit()):
        raise LoadRefused(f"the parameter {name} must be a whole number from 0 on, not {text!r}")
    return int(text)


def one_of(parameters: Mapping[str, str], name: str, offered: Sequence[str], default: str) -> str:
    """The parameter, one of `offered` in any case; raises LoadRefused for any other text."""
    text = parameters.get(name, default)
    if text.upper() not in offered:
        raise LoadRefused(f"the parameter {name} must be {' or '.join(offered)}, not {text!r}")
    return text.upper()


def _parameters(config: Mapping[str, Any]) -> dict[str, str]:
    values = config.get("parameters") or {}
    return {name: str(value.get("string_value", "")) for name, value in values.items()}


def _dims(tensor: Mapping[str, Any]) -> list[int]:
    if "reshape" in tensor:
        return [int(size) for size in tensor["reshape"].get("shape", [])]
    return [int(size) for size in tensor["dims"]]
