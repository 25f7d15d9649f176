"""Encoders of policies in ONNX Runtime, as the stand-in backend opens them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

ROUNDS = 5
NO_PREPACKING = "session.disable_prepacking"
"""As in `unsee.export.engines.model_config`, whose imports would weigh here."""


def options(*, prepack: bool) -> Any:
    """One thread, no spinning; prepacking copies weights into a form that is faster to multiply."""
    made = onnxruntime.SessionOptions()
    made.intra_op_num_threads = made.inter_op_num_threads = 1
    made.add_session_config_entry("session.intra_op.allow_spinning", "0")
    made.add_session_config_entry(NO_PREPACKING, "0" if prepack else "1")
    made.log_severity_level = 3
    return made


class Encoders:
    """Sessions of one process; the tensors of `frozen` (.npy files by name) are shared by all."""

    def __init__(self, prepack: bool, frozen: Mapping[str, Path]) -> None:
        arrays = {name: np.load(file) for name, file in frozen.items()}
        value = onnxruntime.OrtValue.ortvalue_from_numpy
        self._frozen = {name: value(array) for name, array in arrays.items()}
        self._prepack = prepack
        self._sessions: list[Any] = []

    def open(self, file: Path) -> float:
        """Open one more graph; the seconds until it had computed for the first time."""
        started = time.perf_counter()
        chosen = options(prepack=self._prepack)
        for name, value in self._frozen.items():
            chosen.add_initializer(name, value)
        session = onnxruntime.InferenceSession(file, chosen, providers=["CPUExecutionProvider"])
        self._sessions.append(session)
        session.run(None, _feeds(session))
        return time.perf_counter() - started

    def seconds(self) -> list[float]:
        """The median seconds of one run of each graph, for two prompts of zeros."""
        return [
            statistics.median(_run(session) for _ in range(ROUNDS)) for session in self._sessions
        ]

    def outputs(self, index: int, feeds: Mapping[str, Any]) -> dict[str, Any]:
        """The outputs of one graph by name."""
        session = self._sessions[index]
        names = [output.name for output in session.get_outputs()]
        return dict(zip(names, session.run(names, dict(feeds)), strict=True))


def _run(session: Any) -> float:
    feeds, started = _feeds(session), time.perf_counter()
    session.run(None, feeds)
    return time.perf_counter() - started


def _feeds(session: Any) -> dict[str, Any]:
    dtypes = {"tensor(int64)": np.int64, "tensor(float)": np.float32, "tensor(bool)": np.bool_}
    return {
        value.name: np.zeros(_shape(value.shape), dtypes[value.type])
        for value in session.get_inputs()
    }


def _shape(dims: Sequence[Any]) -> list[int]:
    return [size if isinstance(size, int) else 2 for size in dims]
