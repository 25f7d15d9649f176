"""Runs a TensorRT engine on PyTorch tensors, so that it can be compared and timed in one process.

Knows TensorRT's runtime and a graph's border. Serving is Triton's.
"""

from typing import Any

import torch
from torch import Tensor

from unsee.core.errors import EngineBuildFailed
from unsee.export.graphs.graphs import Graph
from unsee.export.tensorrt.build import tensorrt_library

_DTYPES = {"FP32": torch.float32, "INT64": torch.int64, "UINT8": torch.uint8}


class EngineRunner:
    """An engine as a function of its inputs, in the graph's order; tensors are on the GPU.

    It runs on the current stream and returns before the GPU has finished. The library's objects
    must outlive the engine, so they are kept.
    """

    def __init__(self, graph: Graph, plan: bytes) -> None:
        """Raises `EngineBuildFailed` if TensorRT does not load `plan`, `TensorRTMissing` without
        the library."""
        library = tensorrt_library()
        self._graph = graph
        self._runtime = library.Runtime(library.Logger(library.Logger.WARNING))
        self._engine = self._runtime.deserialize_cuda_engine(plan)
        if self._engine is None:
            raise EngineBuildFailed(
                f"TensorRT {library.__version__} does not load the engine of {graph.name}; build "
                "it again on this machine"
            )
        self._context: Any = self._engine.create_execution_context()

    def __call__(self, *inputs: Tensor) -> Tensor:
        """The graph's one output; inputs have the dtypes of the graph's border."""
        kept = [
            tensor.to(_DTYPES[spec.data_type]).contiguous()
            for spec, tensor in zip(self._graph.inputs, inputs, strict=True)
        ]
        for spec, tensor in zip(self._graph.inputs, kept, strict=True):
            if not self._context.set_input_shape(spec.name, tuple(tensor.shape)):
                raise EngineBuildFailed(
                    f"the engine of {self._graph.name} was not built for {spec.name} of the shape "
                    f"{list(tensor.shape)}"
                )
            self._context.set_tensor_address(spec.name, tensor.data_ptr())
        spec = self._graph.outputs[0]
        shape = tuple(self._context.get_tensor_shape(spec.name))
        output = torch.empty(shape, dtype=_DTYPES[spec.data_type], device=kept[0].device)
        self._context.set_tensor_address(spec.name, output.data_ptr())
        stream = torch.cuda.current_stream(output.device).cuda_stream
        if not self._context.execute_async_v3(stream):
            raise EngineBuildFailed(f"the engine of {self._graph.name} did not run")
        return output
