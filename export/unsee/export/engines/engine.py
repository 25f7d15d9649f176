"""Engines: with what and in which precision an exported graph is computed.

Knows the engines, what `config.pbtxt` says of each and which of them this machine could run. It
measures nothing and writes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Literal

from unsee.core.errors import NotExportable
from unsee.export.engines.machine import Machine
from unsee.repository.layout import MODEL_FILE, PLAN_FILE
from unsee.repository.records import GraphPrecision

EngineName = Literal["onnxruntime", "openvino", "tensorrt"]
Precision = Literal["float32", "bfloat16", "float16"]
InstanceKind = Literal["KIND_AUTO", "KIND_CPU", "KIND_GPU"]
Auto = Literal["auto"]
AUTO: Auto = "auto"

MANY_SHAPES, FEW_SHAPES = 4, 2
LARGE_GRAPH_BYTES = 2**30


@dataclass(frozen=True)
class Backend:
    """What Triton calls an engine; `precisions` are those it offers, the most exact first."""

    backend: str
    platform: str
    model_file: str
    instance_kind: InstanceKind
    precisions: tuple[Precision, ...]


BACKENDS: Mapping[EngineName, Backend] = {
    "onnxruntime": Backend("onnxruntime", "", MODEL_FILE, "KIND_AUTO", ("float32",)),
    "openvino": Backend("openvino", "", MODEL_FILE, "KIND_CPU", ("float32", "bfloat16")),
    "tensorrt": Backend("", "tensorrt_plan", PLAN_FILE, "KIND_GPU", ("float32", "float16")),
}


@dataclass(frozen=True)
class Engine:
    """One way to compute a graph. Raises `NotExportable` for a precision that it does not offer."""

    name: EngineName
    precision: Precision = "float32"

    def __post_init__(self) -> None:
        offered = self.backend.precisions
        if self.precision not in offered:
            raise NotExportable(
                f"the engine {self.name} computes in {' or '.join(offered)}, "
                f"not in {self.precision}; choose another with --precision"
            )

    def __str__(self) -> str:
        return f"{self.name}-{self.precision}"

    @classmethod
    def of(cls, text: str) -> Engine:
        """The engine that `str` wrote. Raises `NotExportable` for any other text."""
        for engine in ALL_ENGINES:
            if str(engine) == text:
                return engine
        known = ", ".join(str(engine) for engine in ALL_ENGINES)
        raise NotExportable(f"there is no engine {text!r}; there are {known}")

    @property
    def backend(self) -> Backend:
        """What Triton calls it."""
        return BACKENDS[self.name]

    @property
    def compiles_shapes(self) -> bool:
        """Whether its Python stand-in is faster where a graph is compiled for exact shapes."""
        return self.name == "openvino"

    def parameters(self, static_shapes: int = 0) -> dict[str, str]:
        """The parameters of its `config.pbtxt`; STATIC_SHAPES is our stand-in's own.

        `static_shapes` is how many shapes are kept compiled, 0 for one graph that serves all.
        """
        if self.name != "openvino":
            return {}
        parameters = {"NUM_STREAMS": "1", "PERFORMANCE_HINT": "LATENCY"}
        if self.precision == "bfloat16":
            parameters["HINT_BF16"] = "YES"
        if static_shapes:
            parameters["STATIC_SHAPES"] = str(static_shapes)
        return parameters


ALL_ENGINES = tuple(
    Engine(name, p) for name, backend in BACKENDS.items() for p in backend.precisions
)
"""Every engine, the simpler ones first: an engine must earn its place before another."""

ONNXRUNTIME = Engine("onnxruntime")


def candidates(
    name: EngineName | Auto, precision: Precision | Auto, machine: Machine
) -> tuple[Engine, ...]:
    """The engines for `name` and `precision` that `machine` can run.

    The simpler ones come first. TensorRT, whose engines are built for one GPU, is never a candidate
    of an "auto" engine; of an "auto" precision it is only the fastest. Raises `NotExportable` in
    one sentence where there is none.
    """
    if name != AUTO and precision != AUTO:
        asked = [Engine(name, precision)]
    else:
        asked = [engine for engine in ALL_ENGINES if _is_asked(engine, name, precision)]
    obstacles = {engine: obstacle(engine, machine) for engine in asked}
    able = tuple(engine for engine, reason in obstacles.items() if reason is None)
    if able:
        return able[-1:] if able[0].name == "tensorrt" else able
    reasons = "; ".join(dict.fromkeys(reason for reason in obstacles.values() if reason))
    raise NotExportable(reasons or f"no engine of this machine computes in {precision}")


def obstacle(engine: Engine, machine: Machine) -> str | None:
    """Why `machine` cannot run the engine, in one sentence, or None."""
    if engine.name == "openvino" and "openvino" not in machine.versions:
        return 'the engine openvino needs its package; install with: pip install "unsee[export]"'
    if engine.name == "tensorrt" and not (machine.has_nvidia_gpu and find_spec("tensorrt")):
        return "the engine tensorrt needs an NVIDIA GPU and the package tensorrt on this machine"
    if engine.precision == "bfloat16" and "BF16" not in machine.capabilities:
        return f"{engine} needs a CPU with bfloat16 units, which {machine.cpu} has not"
    return None


def graph_precision(engines: Sequence[Engine]) -> GraphPrecision:
    """The precision in which graphs are exported for these engines.

    TensorRT computes in what a graph says; the others take float32 and round by themselves.
    """
    halves = [engine.name == "tensorrt" and engine.precision == "float16" for engine in engines]
    return "float16" if all(halves) else "float32"


def shapes_kept(graph_bytes: int) -> int:
    """How many shapes an engine that compiles for exact shapes keeps of a graph of this size.

    Each has weights of its own, so that a large model must do with few.
    """
    return FEW_SHAPES if graph_bytes > LARGE_GRAPH_BYTES else MANY_SHAPES


def _is_asked(engine: Engine, name: str, precision: str) -> bool:
    if name == AUTO and engine.name == "tensorrt":
        return False
    return name in (AUTO, engine.name) and precision in (AUTO, engine.precision)
