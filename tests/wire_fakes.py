"""The wire format of `text_to_video` as tests write and read it, without the code under test."""

import json
import struct
from concurrent import futures
from typing import Any

import grpc
import numpy as np
from tritonclient.grpc import service_pb2, service_pb2_grpc

RECORD = {
    "prompt": "a cat",
    "policy": "family",
    "revision": 2,
    "base": "tiny",
    "base_digest": "sha256:bb",
    "seed": 7,
    "scheduler": "DDIMScheduler",
    "num_inference_steps": 3,
    "guidance_scale": 3.5,
    "num_frames": 2,
    "height": 16,
    "width": 16,
    "fps": 8,
    "started_at": "2026-01-01T00:00:00Z",
    "seconds": {"text_encoder": 0.1, "video_denoiser": 0.7},
}


class LocalServer(service_pb2_grpc.GRPCInferenceServiceServicer):
    """Answers at `url`, in this process, from when it is made until `stop`."""

    def __init__(self, *interceptors: grpc.ServerInterceptor) -> None:
        self._server = grpc.server(futures.ThreadPoolExecutor(4), interceptors=interceptors)
        service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(self, self._server)
        self.url = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def stop(self) -> None:
        self._server.stop(grace=None).wait()

    def ServerLive(self, request: Any, context: Any) -> Any:
        return service_pb2.ServerLiveResponse(live=True)


def event(content: dict[str, Any], frames: np.ndarray | None = None) -> Any:
    """A response of `text_to_video`."""
    text = json.dumps(content).encode()
    response = service_pb2.ModelInferResponse(model_name="text_to_video")
    if frames is not None:  # first, so that a reader must not rely on the order
        response.outputs.add(name="frames", datatype="UINT8", shape=frames.shape)
        response.raw_output_contents.append(frames.tobytes())
    response.outputs.add(name="event", datatype="BYTES", shape=[1])
    response.raw_output_contents.append(struct.pack("<I", len(text)) + text)
    return service_pb2.ModelStreamInferResponse(infer_response=response)


def progress(step: int) -> Any:
    return event({"type": "progress", "step": step, "num_inference_steps": 3})


def in_parts(record: dict[str, Any], frames: np.ndarray) -> list[Any]:
    """Responses that bring one frame each, and the last, which has the record alone."""
    common = {"type": "part", "num_frames": len(frames), "fps": 8}
    parts = [event(common | {"first_frame": k}, frames[k : k + 1]) for k in range(len(frames))]
    return [*parts, event({"type": "result", "record": record})]


def error(text: str) -> Any:
    return service_pb2.ModelStreamInferResponse(error_message=text)


def decoded(request: Any) -> dict[str, Any]:
    """The inputs of a request."""
    formats = {"INT64": "<q", "INT32": "<i", "FP32": "<f", "BOOL": "<?"}
    values: dict[str, Any] = {}
    for tensor, raw in zip(request.inputs, request.raw_input_contents, strict=True):
        assert list(tensor.shape) == [1]
        if tensor.datatype == "BYTES":
            assert struct.unpack_from("<I", raw)[0] == len(raw) - 4
            values[tensor.name] = raw[4:].decode()
        else:
            (values[tensor.name],) = struct.unpack(formats[tensor.datatype], raw)
    return values
