"""Machines that are not there, for tests of the choice of engines."""

from __future__ import annotations

from unsee.export.engines.machine import Machine


def machine(
    capabilities: tuple[str, ...] = ("BF16", "FP32"), openvino: bool = True, nvidia: bool = False
) -> Machine:
    """A machine with two threads."""
    versions = {"onnxruntime": "1.31"} | ({"openvino": "2026.4"} if openvino else {})
    return Machine(
        cpu="Some CPU",
        capabilities=capabilities,
        threads=2,
        has_nvidia_gpu=nvidia,
        versions=versions,
    )
