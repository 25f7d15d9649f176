"""What a supervisor asks of a Triton server: which versions it calls ready, load, unload.

Knows the repository API and the version folders. It does not know whether "ready" is true.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
from tritonclient.grpc import service_pb2, service_pb2_grpc

from unsee.core.errors import ServerError, ServerUnreachable
from unsee.serving.supervisor.stubs import ModelVersion

ASK_TIMEOUT_S = 5.0
LOAD_TIMEOUT_S = 300.0
ENDED = ("", "UNAVAILABLE")
"""States of a version that holds no request."""


class ServedModels:
    """The models of the server at `url` (host and gRPC port) that serves `repository_dir`.

    Every method raises ServerUnreachable when nobody answers, ServerError when the server refuses
    or takes too long.
    """

    def __init__(self, url: str, repository_dir: Path) -> None:
        self._url = url
        self._repository_dir = repository_dir

    def ready(self) -> set[ModelVersion]:
        """The versions that the server calls ready."""
        return {version for version, state in self._states().items() if state == "READY"}

    def holds(self, model: str) -> bool:
        """Whether any version of `model` is loaded, or unloaded but not yet out of requests."""
        states = self._states().items()
        return any(found.model == model and state not in ENDED for found, state in states)

    def reload(self, wanted: ModelVersion) -> None:
        """Replace the process of one version; requests of the model's other versions go on.

        A load call loads a version again whose folder is newer than when it was loaded, so the
        folder's time is set. In a repository that cannot be written to, every version of the model
        is unloaded and loaded. Nothing happens if the version's folder is gone.
        """
        folder = self._repository_dir / wanted.model / str(wanted.version)
        try:
            os.utime(folder)
        except FileNotFoundError:
            return
        except OSError:
            self.unload(wanted.model)
        request = service_pb2.RepositoryModelLoadRequest(model_name=wanted.model)
        with self._connected() as server:
            server.RepositoryModelLoad(request, timeout=LOAD_TIMEOUT_S)

    def unload(self, model: str) -> None:
        """Take no more requests for `model`; those that it has go on, and so does this call."""
        request = service_pb2.RepositoryModelUnloadRequest(model_name=model)
        with self._connected() as server:
            server.RepositoryModelUnload(request, timeout=ASK_TIMEOUT_S)

    def _states(self) -> dict[ModelVersion, str]:
        request = service_pb2.RepositoryIndexRequest()
        with self._connected() as server:
            index = server.RepositoryIndex(request, timeout=ASK_TIMEOUT_S)
        return {
            ModelVersion(entry.name, int(entry.version)): entry.state
            for entry in index.models
            if entry.version.isdigit()
        }

    @contextmanager
    def _connected(self) -> Iterator[Any]:
        """A connection of its own each time: an old one may wait long to find a new server.

        Not `InferenceServerClient`: interrupted while it is made, it complains on stderr.
        """
        try:
            with grpc.insecure_channel(self._url) as channel:
                yield service_pb2_grpc.GRPCInferenceServiceStub(channel)
        except grpc.RpcError as error:
            if error.code() is grpc.StatusCode.UNAVAILABLE:
                raise ServerUnreachable(f"no server answers at {self._url}") from error
            words = " ".join(str(error.details()).split())
            raise ServerError(f"the server at {self._url} says: {words}") from error
