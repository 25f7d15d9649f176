"""Triton model configurations, built as `ModelConfig` protobufs and printed as `config.pbtxt`.

Knows Triton's vocabulary, a graph's border and what an engine is called; knows no file and no
model. Nothing in a configuration says which server or backend implementation will load it.
"""

import json
from dataclasses import dataclass
from typing import Any

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from unsee.core.request_schema import INPUTS
from unsee.export.engines.engine import ONNXRUNTIME, Engine
from unsee.export.graphs.graphs import Graph, TensorSpec, sized
from unsee.export.graphs.sizes import Sizes
from unsee.repository.layout import PROMPT_ENCODER, TEXT_TO_VIDEO


@dataclass(frozen=True)
class Service:
    """How a graph is served: its engine and, if that compiles for exact shapes, which and how many.

    `static_shapes` is how many shapes are kept compiled (0: one graph serves all), `warm_up` the
    sizes that are compiled before the model counts as ready.
    """

    engine: Engine = ONNXRUNTIME
    static_shapes: int = 0
    warm_up: Sizes | None = None


def graph_config(graph: Graph, model_name: str, service: Service = Service()) -> Any:
    """The `ModelConfig` of an exported graph under the name `model_name`."""
    backend = service.engine.backend
    config = model_config_pb2.ModelConfig(
        name=model_name,
        backend=backend.backend,
        platform=backend.platform,
        default_model_filename=backend.model_file,
        max_batch_size=graph.max_batch_size,
    )
    for entries, tensors in ((config.input, graph.inputs), (config.output, graph.outputs)):
        for tensor in tensors:
            _add_tensor(entries, tensor)
    kind = getattr(model_config_pb2.ModelInstanceGroup, backend.instance_kind)
    config.instance_group.add(count=1, kind=kind)  # without it Triton makes two of each on a CPU
    for name, value in service.engine.parameters(service.static_shapes).items():
        config.parameters[name].string_value = value
    if service.warm_up is not None:
        config.parameters["WARM_UP_SHAPES"].string_value = _warm_up_shapes(graph, service.warm_up)
    return config


def batched_config(graph: Graph, service: Service = Service()) -> Any:
    """As `graph_config`; requests that wait together share a batch.

    None is made to wait for others: that would cost every step of a lone clip, and with several
    some wait anyway while one is computed. There are no queue policies: with one instance they
    stall dispatch by up to 500 ms (Triton 24.10).
    """
    config = graph_config(graph, graph.name, service)
    config.dynamic_batching.SetInParent()
    return config


def policy_config(graph: Graph, model_name: str, *, all_versions: bool) -> Any:
    """The `ModelConfig` with which a server can load a policy as a model of its own.

    `prompt_encoder` needs none. Without `all_versions` the newest alone is loaded: a configuration
    has one border, and the graphs of edits and of tuned encoders have different ones.
    """
    config = graph_config(graph, model_name)
    if all_versions:
        config.version_policy.all.SetInParent()
    return config


def prompt_encoder_config(max_batch_size: int) -> Any:
    """The `ModelConfig` of the Python model that runs the policies, for batches of that many rows.

    Requests of different policies share a batch, and prompts of different lengths.
    """
    config = model_config_pb2.ModelConfig(
        name=PROMPT_ENCODER, backend="python", max_batch_size=max_batch_size
    )
    int64, string = model_config_pb2.TYPE_INT64, model_config_pb2.TYPE_STRING
    for name in ("input_ids", "attention_mask"):
        config.input.add(name=name, data_type=int64, dims=[-1], allow_ragged_batch=True)
    config.input.add(name="policy", data_type=string, dims=[1])
    config.input.add(name="revision", data_type=int64, dims=[1])
    fp32 = model_config_pb2.TYPE_FP32
    config.output.add(name="prompt_embeds", data_type=fp32, dims=[-1, -1])
    config.instance_group.add(count=1, kind=model_config_pb2.ModelInstanceGroup.KIND_CPU)
    config.dynamic_batching.SetInParent()
    return config


def text_to_video_config() -> Any:
    """The `ModelConfig` of the decoupled Python model that clients call."""
    config = model_config_pb2.ModelConfig(name=TEXT_TO_VIDEO, backend="python", max_batch_size=0)
    config.model_transaction_policy.decoupled = True
    for name, known in INPUTS.items():
        called = "STRING" if known.datatype == "BYTES" else known.datatype
        data_type = getattr(model_config_pb2, f"TYPE_{called}")
        config.input.add(name=name, data_type=data_type, dims=[1], optional=not known.required)
    config.output.add(name="event", data_type=model_config_pb2.TYPE_STRING, dims=[1])
    config.output.add(name="frames", data_type=model_config_pb2.TYPE_UINT8, dims=[-1, -1, -1, 3])
    config.instance_group.add(count=1, kind=model_config_pb2.ModelInstanceGroup.KIND_CPU)
    return config


def pbtxt(config: Any) -> str:
    """The configuration as the text of `config.pbtxt`."""
    text: str = text_format.MessageToString(config)
    return text


def _add_tensor(entries: Any, tensor: TensorSpec) -> None:
    data_type = getattr(model_config_pb2, f"TYPE_{tensor.data_type}")
    dims = [-1 if isinstance(dim, str) else dim for dim in tensor.dims[1:]]  # the batch is implied
    entry = entries.add(name=tensor.name, data_type=data_type, dims=dims or [1])
    if not dims:  # one number per row: dims may not be empty, the reshaped dims may
        entry.reshape.SetInParent()


def _warm_up_shapes(graph: Graph, sizes: Sizes) -> str:
    """The shape of every input as JSON: Triton's own `model_warmup` makes requests of one row."""
    return json.dumps({tensor.name: sized(tensor.dims, sizes) for tensor in graph.inputs})
