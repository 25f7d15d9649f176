"""A `text_to_video` that makes grey clips at once: what is left of a request is its transport.

Triton's Python backend runs it. It knows the contract's inputs and outputs, and no graph.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils

RECORD = {
    "policy": "base",
    "revision": 1,
    "base": "blank",
    "base_digest": "sha256:" + "0" * 64,
    "seed": 0,
    "scheduler": "none",
    "guidance_scale": 1.0,
    "fps": 8.0,
    "started_at": "2026-01-01T00:00:00Z",
}


class TritonPythonModel:
    """Answers each request with `num_inference_steps` events and a clip of the size asked for."""

    async def execute(self, requests: list[Any]) -> None:
        """Answer each request through its own stream."""
        for request in requests:
            sender = request.get_response_sender()
            steps, num_frames, height, width = (
                _integer(request, name)
                for name in ("num_inference_steps", "num_frames", "height", "width")
            )
            for step in range(1, steps + 1):
                event = {"type": "progress", "step": step, "num_inference_steps": steps}
                sender.send(pb_utils.InferenceResponse([_event(event)]))
            prompt = pb_utils.get_input_tensor_by_name(request, "prompt").as_numpy()[0].decode()
            record = RECORD | {
                "prompt": prompt,
                "num_inference_steps": steps,
                "num_frames": num_frames,
                "height": height,
                "width": width,
            }
            frames = np.full((num_frames, height, width, 3), 128, np.uint8)
            outputs = [
                _event({"type": "result", "record": record}),
                pb_utils.Tensor("frames", frames),
            ]
            final = pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL
            sender.send(pb_utils.InferenceResponse(outputs), flags=final)


def _integer(request: Any, name: str) -> int:
    return int(pb_utils.get_input_tensor_by_name(request, name).as_numpy()[0])


def _event(content: dict[str, Any]) -> Any:
    return pb_utils.Tensor("event", np.array([json.dumps(content).encode()], np.object_))
