"""This machine, as far as it decides how fast and how exactly an engine computes here."""

import os
import platform
from importlib import metadata
from pathlib import Path

from unsee.core.validation import ClosedModel
from unsee.export.engines.engine_options import openvino_core

_RUNTIMES = ("onnxruntime", "onnxruntime-gpu", "openvino")


class Machine(ClosedModel):
    """A machine: `capabilities` of its CPU in OpenVINO's words, versions of the runtimes on it."""

    cpu: str
    capabilities: tuple[str, ...]
    threads: int
    has_nvidia_gpu: bool
    versions: dict[str, str]


def this_machine() -> Machine:
    """The machine that this process runs on; `threads` are the cores that it may use."""
    versions = {name: version for name in _RUNTIMES if (version := _version(name))}
    return Machine(
        cpu=_cpu_model(),
        capabilities=_capabilities() if "openvino" in versions else (),
        threads=len(os.sched_getaffinity(0)),
        has_nvidia_gpu=Path("/proc/driver/nvidia").exists(),
        versions=versions,
    )


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def _capabilities() -> tuple[str, ...]:
    offered = openvino_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return tuple(sorted(str(name) for name in offered))


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(models, "") or platform.machine()
