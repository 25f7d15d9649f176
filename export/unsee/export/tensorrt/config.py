"""The Triton configuration of an engine, made from that of its graph.

Knows what Triton's TensorRT backend is told otherwise; the graph's border, batching and name stay
as they are, so that clients cannot tell which engine answers.
"""

from typing import Any

from tritonclient.grpc import model_config_pb2

from unsee.export.engines.engine import BACKENDS

_BACKEND = BACKENDS["tensorrt"]
PLAN_FILE = _BACKEND.model_file


def tensorrt_config(config: Any, profile_index: int = 0) -> Any:
    """The `ModelConfig` of the TensorRT engine of the graph that `config` is for.

    One instance on every GPU that Triton sees, which runs the optimisation profile
    `profile_index`. Tensors keep their types: the borders are FP32 (frames UINT8) whatever the
    precision inside. Parameters are another backend's and are left out.
    """
    changed = model_config_pb2.ModelConfig()
    changed.CopyFrom(config)
    for field in ("backend", "instance_group", "parameters"):
        changed.ClearField(field)
    changed.platform = _BACKEND.platform
    changed.default_model_filename = PLAN_FILE
    changed.instance_group.add(count=1, kind=_BACKEND.instance_kind, profile=[str(profile_index)])
    return changed
