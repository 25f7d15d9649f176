"""What a graph that is exported is: what it is called, takes, gives and wraps.

A graph owns its tensors' names, dtypes and dims, the sizes at which it is traced, checked and used,
the tolerances of its parity check and the PyTorch wrapper. It knows neither ONNX nor Triton.
The graphs themselves are in `prompt_graphs`, `denoiser_graph` and `decoder_graphs`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol

import torch
from torch import Tensor, nn

from unsee.export.graphs.sizes import Profile, Sizes
from unsee.models.spec import ClipDefaults, Limits
from unsee.repository.records import GraphPrecision

DataType = Literal["INT64", "FP32", "UINT8"]

GUIDED_ROWS = 2
"""The negative and the positive prompt."""


@dataclass(frozen=True)
class TensorSpec:
    """A tensor at a graph's border; a dim that is a string is an axis of dynamic size.

    The first dim is the batch `"B"`.
    """

    name: str
    data_type: DataType
    dims: tuple[int | str, ...]


@dataclass(frozen=True)
class Tolerance:
    """The largest difference from PyTorch that a graph may show, in any element at any size.

    In units of `"std"` (the standard deviation of PyTorch's output) or of `"level"` (of 256).
    """

    limit: float
    unit: Literal["std", "level"]


IN_DEVIATIONS: Mapping[GraphPrecision, Tolerance] = {
    "float32": Tolerance(1e-4, "std"),
    "float16": Tolerance(5e-2, "std"),
}
"""Of latents."""

CARRIED: Mapping[GraphPrecision, Tolerance] = {
    "float32": Tolerance(1e-3, "std"),
    "float16": Tolerance(1e-1, "std"),
}
"""Of what a graph gives beside its first output: features in the middle of a network, some of which
were divided by a norm near zero."""


class Graph(Protocol):
    """What the exporter, the parity check and the model configuration need of a graph.

    The first of its `outputs` is what it is for; others go into a later call.
    `tolerances` says in which precisions it can be exported and how exact each must be;
    `multiples` gives the axes whose size must be a multiple, `largest_sizes` those that have an
    end; `traced_sizes` is the size of every axis for the trace, `checked_sizes` those of the
    parity check besides, none of them 1 in the trace, which would take such an axis for a constant.
    `clip_sizes` is the size of every axis while a clip is made with guidance, `profile` that of any
    call that the base's limits allow. `wrap` makes a module with the graph's signature.
    """

    name: ClassVar[str]
    max_batch_size: ClassVar[int]
    tolerances: ClassVar[Mapping[GraphPrecision, Tolerance]]

    @property
    def inputs(self) -> tuple[TensorSpec, ...]: ...
    @property
    def outputs(self) -> tuple[TensorSpec, ...]: ...
    @property
    def multiples(self) -> Sizes: ...
    @property
    def largest_sizes(self) -> Sizes: ...
    @property
    def traced_sizes(self) -> Sizes: ...
    @property
    def checked_sizes(self) -> tuple[Sizes, ...]: ...
    def clip_sizes(self, clip: ClipDefaults) -> Sizes: ...
    def profile(self, clip: ClipDefaults, limits: Limits) -> Profile: ...
    def wrap(self, model: Any) -> nn.Module: ...
    def example_inputs(self, sizes: Sizes, seed: int) -> tuple[Tensor, ...]: ...


def sized(dims: tuple[int | str, ...], sizes: Sizes) -> tuple[int, ...]:
    """A tensor's shape: `dims` with the size of each axis that is named."""
    return tuple(sizes[dim] if isinstance(dim, str) else dim for dim in dims)


def generator(seed: int) -> torch.Generator:
    """What example inputs are drawn from."""
    return torch.Generator().manual_seed(seed)
