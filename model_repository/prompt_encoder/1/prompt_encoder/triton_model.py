"""The Triton model: its requests and responses, the call of `text_encoder`, and the metrics.

Triton puts requests that wait together into one call of `execute`, whatever their policies. All is
answered there and then: of requests that were answered later, those that wait would never hear
anything once this process has died.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy.typing as npt
import triton_python_backend_utils as pb_utils

from prompt_encoder.batch import encode_batch
from prompt_encoder.graphs import OUTPUT, PolicyGraphs
from prompt_encoder.layout import TEXT_ENCODER
from prompt_encoder.refusal import Refusal
from prompt_encoder.request import INPUTS, PromptRequest, parse_request

TRITON_CODES = {"INVALID_ARGUMENT": "INVALID_ARG"}
MAX_OPEN_MIB = 4096

Array = npt.NDArray[Any]


class TritonPythonModel:
    """`prompt_encoder`: `input_ids`, `attention_mask`, `policy`, `revision` -> `prompt_embeds`."""

    def initialize(self, args: dict[str, str]) -> None:
        """Open nothing yet: graphs are opened when they are asked for."""
        parameters = json.loads(args["model_config"]).get("parameters", {})
        limit_mib = int(parameters.get("max_open_mib", {}).get("string_value", MAX_OPEN_MIB))
        repository_dir = Path(args["model_repository"]).parent
        self._graphs = PolicyGraphs(repository_dir, limit_mib * 2**20)
        self._metrics = Metrics()

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """Answer each request: its embeddings, or an error of one sentence."""
        started = time.perf_counter()
        parsed = [_parsed(request) for request in requests]
        good = [one for one in parsed if isinstance(one, PromptRequest)]
        results = encode_batch(good, self._graphs, _states)
        seconds = time.perf_counter() - started
        for one, result in zip(good, results, strict=True):
            refused = result.status if isinstance(result, Refusal) else None
            if refused != "NOT_FOUND":
                self._metrics.note(one, seconds, refused is not None, self._graphs.count)
        answers = iter(results)
        return [_response(one if isinstance(one, Refusal) else next(answers)) for one in parsed]


class Metrics:
    """Counters by policy and revision in Triton's own `/metrics`, written in the background."""

    def __init__(self) -> None:
        counter, gauge = pb_utils.MetricFamily.COUNTER, pb_utils.MetricFamily.GAUGE
        self._families = tuple(
            pb_utils.MetricFamily(name, description, kind)
            for name, description, kind in (
                ("unsee_policy_requests_total", "Requests for a revision of a policy", counter),
                ("unsee_policy_failures_total", "Of these, requests that failed", counter),
                ("unsee_policy_seconds_total", "Seconds from a batch's begin to its end", counter),
                ("unsee_policies_open", "Revisions whose graph is open", gauge),
            )
        )
        self._open = self._families[3].Metric(labels={})
        self._counters: dict[tuple[str, int], list[Any]] = {}
        self._writer = ThreadPoolExecutor(1, "metrics")

    def note(self, request: PromptRequest, seconds: float, failed: bool, num_open: int) -> None:
        """Count a request that was answered."""
        key = request.policy, request.revision
        self._writer.submit(self._write, key, (1, int(failed), seconds), num_open)

    def _write(
        self, key: tuple[str, int], increments: tuple[int, int, float], num_open: int
    ) -> None:
        if key not in self._counters:
            labels = {"policy": key[0], "revision": str(key[1])}
            self._counters[key] = [one.Metric(labels=labels) for one in self._families[:3]]
        for counter, increment in zip(self._counters[key], increments, strict=True):
            if increment:
                counter.increment(increment)
        self._open.set(num_open)


def _states(input_ids: Array, attention_mask: Array) -> Array:
    """The text encoder's states FP32 [B, L, D]; raises Refusal (UNAVAILABLE)."""
    call = pb_utils.InferenceRequest(
        model_name=TEXT_ENCODER,
        requested_output_names=["states"],
        inputs=[
            pb_utils.Tensor("input_ids", input_ids),
            pb_utils.Tensor("attention_mask", attention_mask),
        ],
        preferred_memory=pb_utils.PreferredMemory(pb_utils.TRITONSERVER_MEMORY_CPU),
    )
    response = call.exec()
    if response.has_error():
        cause = RuntimeError(f"{TEXT_ENCODER}: {response.error().message()}")
        raise Refusal("UNAVAILABLE", "the text encoder cannot be used at the moment") from cause
    states: Array = pb_utils.get_output_tensor_by_name(response, "states").as_numpy()
    return states.copy()  # the original lies in memory that Triton takes back with the response


def _parsed(request: Any) -> PromptRequest | Refusal:
    found = {name: pb_utils.get_input_tensor_by_name(request, name) for name in INPUTS}
    tensors = {name: tensor.as_numpy() for name, tensor in found.items() if tensor is not None}
    try:
        return parse_request(tensors)
    except Refusal as refusal:
        return refusal


def _response(answer: Array | Refusal) -> Any:
    if isinstance(answer, Refusal):
        code = getattr(pb_utils.TritonError, TRITON_CODES.get(answer.status, answer.status))
        error = pb_utils.TritonError(f"{answer.status}: {answer}", code)
        return pb_utils.InferenceResponse(error=error)
    return pb_utils.InferenceResponse([pb_utils.Tensor(OUTPUT, answer)])
