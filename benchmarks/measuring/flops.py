"""Seconds, floating-point operations and peak memory of an operation, and a device's best speed."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import (
    FlopCounterMode,
    sdpa_backward_flop_count,
    sdpa_flop_count,
)

from unsee.deltas.edit import trunk
from unsee.export.graphs.base_graphs import sampling_graphs
from unsee.export.graphs.graphs import Graph
from unsee.export.graphs.sizes import Sizes
from unsee.export.memory import high_water_mark
from unsee.models.base import Base, load_base
from unsee.repository.layout import VAE_DECODER_NEXT, VIDEO_DENOISER

_NOT_TIMED = 2
_MATMULS = 3
_TERA = 1e12

_TENSOR_CORES = {
    "H100 PCIe": {"float32": 378.0, "bfloat16": 756.0, "float16": 756.0},
    "H100": {"float32": 494.7, "bfloat16": 989.4, "float16": 989.4},
    "H200": {"float32": 494.7, "bfloat16": 989.4, "float16": 989.4},
    "RTX 3070": {"float32": 20.3, "bfloat16": 40.6, "float16": 40.6},
}
"""NVIDIA's published dense TFLOP/s with float32 accumulation; float32 as TF32, which convolutions
use by default. The first name that the device's name contains counts."""


class Meter:
    """Told after every repetition of an operation: the first warms up, the second is counted, the
    others are timed."""

    def __init__(self, repeats: int, device: torch.device) -> None:
        self.calls = _NOT_TIMED + repeats
        self.flops = 0
        self.seconds: list[float] = []
        self._device = device
        self._done = 0
        self._counter = _counter()
        self._started = 0.0

    def tick(self, *_: Any) -> None:
        """One more repetition is over."""
        _wait_for(self._device)
        now = time.perf_counter()
        self._done += 1
        if self._done == 1:
            self._counter.__enter__()
        elif self._done == _NOT_TIMED:
            self._counter.__exit__(None, None, None)
            self.flops = self._counter.get_total_flops()
        else:
            self.seconds.append(now - self._started)
        self._started = time.perf_counter()

    def repeat(self, operation: Callable[[], Any]) -> Meter:
        """Repeat `operation` as often as is needed."""
        while self._done < self.calls:
            operation()
            self.tick()
        return self


def count_flops(operation: Callable[[], Any]) -> int:
    """The floating-point operations of one call; on meta tensors nothing is computed."""
    with torch.no_grad(), _counter() as counter:
        operation()
    return int(counter.get_total_flops())


def peak_bytes(device: torch.device) -> int:
    """The most memory that this process has held so far: on the GPU, or resident on the CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return high_water_mark()


def peak_flops(device: torch.device, dtype: torch.dtype, edge: int) -> float:
    """What the device does at best, in operations a second.

    Published for known GPUs, else measured: the fastest product of two square matrices with `edge`
    rows.
    """
    kind = str(dtype).removeprefix("torch.")
    if device.type == "cuda":
        card = torch.cuda.get_device_name(device)
        known = [peaks for name, peaks in _TENSOR_CORES.items() if name in card]
        published = [peaks[kind] for peaks in known[:1] if kind in peaks]
        if published:
            return published[0] * _TERA
    return _fastest_matmul(device, dtype, edge)


@torch.no_grad()
def _fastest_matmul(device: torch.device, dtype: torch.dtype, edge: int) -> float:
    left = torch.randn(edge, edge, device=device).to(dtype)
    seconds = []
    for _ in range(1 + _MATMULS):
        started = time.perf_counter()
        left @ left
        _wait_for(device)
        seconds.append(time.perf_counter() - started)
    return 2 * edge**3 / min(seconds[1:])


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _counter() -> Any:
    return FlopCounterMode(display=False, custom_mapping=_cpu_attention())


def _cpu_attention() -> dict[Any, Any]:
    """The counter's own formulas, for the operators of attention on a CPU, which it leaves out."""

    def forward(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
        return int(sdpa_flop_count(query, key, value))  # type: ignore[no-untyped-call]

    def backward(push: Any, query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
        return int(sdpa_backward_flop_count(push, query, key, value))  # type: ignore[no-untyped-call]

    operators = torch.ops.aten
    return {
        operators._scaled_dot_product_flash_attention_for_cpu: forward,
        operators._scaled_dot_product_flash_attention_for_cpu_backward: backward,
    }


class FlopTable:
    """What the graphs of a base take at any sizes; a policy's edit is too small to count."""

    def __init__(self, base: Base) -> None:
        text_encoder, denoiser, decoders = sampling_graphs(base)
        self.graphs: Mapping[str, Graph] = {
            graph.name: graph for graph in (text_encoder, denoiser, *decoders)
        }
        self._modules = {
            # it looks into its mask, and on meta there are no values to look at
            text_encoder.name: text_encoder.wrap(trunk(base.text_encoder())),
            denoiser.name: _on_meta(denoiser, base.t2v_denoiser()),
            **{graph.name: _on_meta(graph, base.t2v_vae()) for graph in decoders},
        }
        self._clip = base.spec.clip

    def flops(self, name: str, sizes: Sizes) -> int:
        """Of one call of a graph with these sizes; only the text encoder's computes anything."""
        module = self._modules[name]
        device = next(module.parameters()).device
        inputs = [x.to(device) for x in self.graphs[name].example_inputs(sizes, seed=0)]
        return count_flops(lambda: module(*inputs))

    def of_clip_call(self, name: str, **sizes: int) -> int:
        """Of one call while the base's default clip is made, or one that differs in `sizes`."""
        return self.flops(name, self.clip_sizes(name, **sizes))

    def clip_sizes(self, name: str, **sizes: int) -> Sizes:
        """All sizes of such a call."""
        return {**self.graphs[name].clip_sizes(self._clip), **sizes}

    def of_clip(self, steps: int) -> int:
        """Of a whole guided clip of the default size."""
        calls = dict.fromkeys(self.graphs, 1) | {VIDEO_DENOISER: steps}
        if VAE_DECODER_NEXT in calls:
            calls[VAE_DECODER_NEXT] = self.clip_sizes(VIDEO_DENOISER)["F"] - 1
        return sum(count * self.of_clip_call(name) for name, count in calls.items())


def base_flops(base_dir: Path) -> FlopTable:
    """The table of the base in this folder."""
    return FlopTable(load_base(base_dir))


def _on_meta(graph: Graph, model: Any) -> Any:
    return graph.wrap(copy.deepcopy(model)).to("meta")
