"""Whether a server still makes clips after `text_to_video` was killed.

Triton exchanges tensors with a model's process in shared memory, under locks that a killed process
may hold for ever. A thread of Triton that waits for such a lock no longer serves its own model, the
process of which is alive and well. Only a clip can tell, and only if nothing is being computed
meanwhile: else the clip just waits for its turn. Knows requests, not processes.
"""

from __future__ import annotations

import threading
from pathlib import Path

import grpc
from tritonclient.grpc import service_pb2_grpc

from unsee.client.messages import build_request
from unsee.core.errors import InputError
from unsee.repository import pointer

LONGEST_S = 600.0
SHORT = {"prompt": "x", "num_inference_steps": 1, "guidance_scale": 1.0}


class Doubt:
    """Asks in the background for a clip of one step of every policy; an error is an answer too."""

    def __init__(self, url: str, repository_dir: Path) -> None:
        self._url = url
        self._repository_dir = repository_dir
        self._asking = threading.Thread(target=self._ask, daemon=True)
        self._asking.start()

    def is_over(self) -> bool:
        """Whether all have been answered."""
        return not self._asking.is_alive()

    def _ask(self) -> None:
        try:
            policies = list(pointer.read(self._repository_dir).policies)
        except InputError:
            return
        with grpc.insecure_channel(self._url) as channel:
            stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
            for policy in policies:
                request = build_request(SHORT | {"policy": policy})
                try:
                    list(stub.ModelStreamInfer(iter([request]), timeout=LONGEST_S))
                except grpc.RpcError:
                    continue
