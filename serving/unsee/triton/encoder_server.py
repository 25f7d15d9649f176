"""A running Triton server seen by its operator: load an encoder's versions, list them, ask one.

Knows Triton's repository and inference calls over gRPC, neither policies nor files.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import Enum
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc import InferenceServerClient, InferInput, InferRequestedOutput
from tritonclient.utils import InferenceServerException

from unsee.core.errors import RequestRejected, ServerError, ServerUnreachable

CONNECT_TIMEOUT_S = 5.0
LOAD_TIMEOUT_S = 300.0
PROBE_TIMEOUT_S = 60.0
NOBODY = ("StatusCode.UNAVAILABLE", "StatusCode.DEADLINE_EXCEEDED")


class VersionState(Enum):
    """What a server makes of one version of a model."""

    LOADED = "loaded"
    CHANGING = "being loaded or unloaded"
    FAILED = "could not be loaded"
    UNLOADED = "unloaded"


class EncoderServer:
    """A connection to the server at `url` (host and gRPC port); a context manager."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._client = InferenceServerClient(url)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._client.close()

    def check_live(self) -> None:
        """Raises ServerUnreachable when nobody answers.

        Readiness is not asked for: one model that failed to load makes a server unready, and
        loading its repaired version must still be possible.
        """
        with self._translated_errors():
            self._client.is_server_live(client_timeout=CONNECT_TIMEOUT_S)

    def load(self, model: str, version: int) -> None:
        """Loads what is new in the folder of `model`; `version` is then ready.

        Raises:
            RequestRejected: a version of the model cannot be loaded; the others go on serving.
            ServerError: the server does not see the version.
        """
        self.refresh(model)
        if not self.is_ready(model, version):
            raise ServerError(
                f"the server at {self.url} loaded {model} but not its version {version}; "
                "check that it serves this very repository"
            )

    def refresh(self, model: str) -> None:
        """Loads the versions that are new in the folder of `model`, unloads those that are gone.

        At least one version must be there. Raises RequestRejected as `load`.
        """
        with self._translated_errors():
            self._client.load_model(model, client_timeout=LOAD_TIMEOUT_S)

    def unload(self, model: str) -> None:
        """Unloads every version of `model`; nothing happens if none is loaded."""
        with self._translated_errors():
            self._client.unload_model(model, client_timeout=LOAD_TIMEOUT_S)

    def is_ready(self, model: str, version: int) -> bool:
        """Whether the server says that the version can be asked; a dead process may go unnoticed,
        `probe` notices."""
        with self._translated_errors():
            return bool(
                self._client.is_model_ready(model, str(version), client_timeout=CONNECT_TIMEOUT_S)
            )

    def versions(self, model: str) -> dict[int, VersionState]:
        """What the server knows of the versions of `model`, those that it has unloaded included."""
        with self._translated_errors():
            index = self._client.get_model_repository_index(client_timeout=CONNECT_TIMEOUT_S)
        return {
            int(entry.version): _state(entry.state, entry.reason)
            for entry in index.models
            if entry.name == model and entry.version.isdigit()
        }

    def probe(self, model: str, version: int, golden: Mapping[str, NDArray[Any]]) -> float:
        """How far the served encoder is from what was recorded at its export.

        Args:
            golden: `input_ids` int64 [B, L] and the expected `last_hidden_state` float32 [B, L, D].

        Returns:
            The largest absolute difference over the largest absolute expected value; NaN or inf
            when the answer is not finite or has another shape.
        """
        ids, expected = golden["input_ids"], golden["last_hidden_state"]
        given = InferInput("input_ids", list(ids.shape), "INT64")
        given.set_data_from_numpy(ids)
        with self._translated_errors():
            answer = self._client.infer(
                model,
                [given],
                model_version=str(version),
                outputs=[InferRequestedOutput("last_hidden_state")],
                client_timeout=PROBE_TIMEOUT_S,
            )
        served = answer.as_numpy("last_hidden_state")
        if served is None or served.shape != expected.shape:
            return float("inf")
        return float(np.abs(served - expected).max() / np.abs(expected).max())

    @contextmanager
    def _translated_errors(self) -> Iterator[None]:
        try:
            yield
        except InferenceServerException as error:
            status = str(error.status())
            if status in NOBODY and not self._is_live():
                raise ServerUnreachable(
                    f"no server answers at {self.url}; start one with: unsee serve"
                ) from error
            sentence = _first_reason(str(error.message()))
            raise RequestRejected(sentence, status.removeprefix("StatusCode.")) from error

    def _is_live(self) -> bool:
        try:
            return bool(self._client.is_server_live(client_timeout=CONNECT_TIMEOUT_S))
        except InferenceServerException:
            return False


def _state(state: str, reason: str) -> VersionState:
    if state == "READY":
        return VersionState.LOADED
    if state in ("LOADING", "UNLOADING"):
        return VersionState.CHANGING
    return VersionState.UNLOADED if reason in ("", "unloaded") else VersionState.FAILED


def _first_reason(message: str) -> str:
    """Triton's message in one line, without the source lines that its Python backends append."""
    return " ".join(message.partition("\n\nAt:\n")[0].split()).rstrip(" ;")
