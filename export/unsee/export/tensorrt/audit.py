"""Every node of an ONNX graph that TensorRT's parser would refuse, by name and with the reason.

A graph is held against `operators.json`, the parser's published table of operators and types; that
needs neither TensorRT nor a GPU. What only a build shows (memory, tactics, accuracy) is not found
here, and what cannot be judged counts as refused.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import onnx
from google.protobuf.message import DecodeError

from unsee.core.errors import InputError
from unsee.core.validation import ClosedModel

ONNX_DOMAINS = ("", "ai.onnx")
_TABLE = Path(__file__).with_name("operators.json")
_TYPE_NAMES = {
    "FLOAT": "FP32",
    "FLOAT16": "FP16",
    "BFLOAT16": "BF16",
    "DOUBLE": "FP64",
    "UNDEFINED": "a type that could not be inferred",
}
_MAKE_THEIR_TYPE = ("Cast", "CastLike", "Constant", "ConstantOfShape")


class OperatorTable(ClosedModel):
    """The content of `operators.json`, as published for one version of TensorRT.

    `operators` gives each operator that is taken the name of its set in `types`; ONNX's names of
    types there are FP32, FP16, BF16, INT64, UINT8 and so on. `restrictions_not_checked` lists those
    operators with published restrictions that the audit has no rule for.
    """

    source: str
    tensorrt: str
    opset_min: int
    opset_max: int
    types: dict[str, tuple[str, ...]]
    operators: dict[str, str]
    restrictions_not_checked: tuple[str, ...]

    def types_of(self, operator: str) -> tuple[str, ...] | None:
        """The types in which `operator` is taken, or None if it is not."""
        kind = self.operators.get(operator)
        return None if kind is None else self.types[kind]


@cache
def operator_table() -> OperatorTable:
    """The table that this package comes with."""
    return OperatorTable.model_validate_json(_TABLE.read_bytes())


@dataclass(frozen=True)
class Problem:
    """Why a graph is refused: `node` and `operator` are None where it is the graph as a whole."""

    node: str | None
    operator: str | None
    reason: str

    def __str__(self) -> str:
        return self.reason if self.node is None else f"{self.operator} {self.node}: {self.reason}"


def audit(file: Path) -> tuple[Problem, ...]:
    """What TensorRT would refuse of the ONNX file as it is.

    Raises `InputError` if it is not one.
    """
    return audit_model(load_graph(file))


def load_graph(file: Path) -> onnx.ModelProto:
    """The model in `file`; weights kept outside of it stay there.

    Raises `InputError` if it cannot be read.
    """
    try:
        return onnx.load(file, load_external_data=False)
    except (OSError, DecodeError) as error:
        raise InputError(f"{file} cannot be read as an ONNX model: {error}") from error


def audit_model(model: onnx.ModelProto) -> tuple[Problem, ...]:
    """As `audit`, of a model in memory; its weights need not be loaded."""
    opset = next((o.version for o in model.opset_import if o.domain in ONNX_DOMAINS), 0)
    tensors = _Tensors(onnx.shape_inference.infer_shapes(model).graph)
    problems = list(_graph_problems(opset))
    for node in model.graph.node:
        problems += _node_problems(node, tensors)
    return tuple(problems)


class _Tensors:
    """What is known of a graph's tensors after inference: type, rank, whether constant."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        infos = (*graph.value_info, *graph.input, *graph.output)
        self._types = {info.name: info.type.tensor_type.elem_type for info in infos}
        self._types |= {weight.name: weight.data_type for weight in graph.initializer}
        self._ranks = {
            info.name: len(info.type.tensor_type.shape.dim)
            for info in infos
            if info.type.tensor_type.HasField("shape")
        }
        self._constants = {weight.name for weight in graph.initializer}
        self._constants |= {node.output[0] for node in graph.node if node.op_type == "Constant"}
        self.outputs = {info.name for info in graph.output}

    def type_of(self, name: str) -> str:
        onnx_name: str = onnx.TensorProto.DataType.Name(self._types.get(name, 0))
        return _TYPE_NAMES.get(onnx_name, onnx_name)

    def rank_of(self, name: str) -> int | None:
        return self._ranks.get(name)

    def is_constant(self, name: str) -> bool:
        return name in self._constants


def _graph_problems(opset: int) -> Iterator[Problem]:
    table = operator_table()
    if not table.opset_min <= opset <= table.opset_max:
        reason = (
            f"opset {opset} is not among {table.opset_min} to {table.opset_max}, which TensorRT "
            f"{table.tensorrt} takes"
        )
        yield Problem(node=None, operator=None, reason=reason)


def _node_problems(node: onnx.NodeProto, tensors: _Tensors) -> Iterator[Problem]:
    for reason in _reasons(node, tensors):
        name = node.name or ", ".join(node.output)
        yield Problem(node=name, operator=node.op_type, reason=reason)


def _reasons(node: onnx.NodeProto, tensors: _Tensors) -> Iterator[str]:
    table = operator_table()
    if node.domain not in ONNX_DOMAINS:
        yield f"it is of the domain {node.domain}, not ONNX's own"
        return
    types = table.types_of(node.op_type)
    if types is None:
        yield "there is no such operator in TensorRT's parser"
        return
    if node.op_type in table.restrictions_not_checked:
        yield "it is taken with restrictions that this audit does not check"
    for name in _judged_by_type(node):
        if (found := tensors.type_of(name)) not in types:
            yield f"{name} is of {found}; the operator takes {', '.join(types)}"
    for name in node.output:
        if tensors.type_of(name) == "UINT8" and name not in tensors.outputs:
            yield f"{name} is UINT8 inside the graph; UINT8 may only be an input or an output"
    if rule := _RULES.get(node.op_type):
        yield from rule(node, tensors)


def _judged_by_type(node: onnx.NodeProto) -> list[str]:
    """The tensors whose type the table speaks of: the first input, and what a maker makes."""
    made = list(node.output[:1]) if node.op_type in _MAKE_THEIR_TYPE else []
    return [*node.input[:1], *made]


def _attention(node: onnx.NodeProto, tensors: _Tensors) -> Iterator[str]:
    for name in ("softcap", "qk_matmul_output_mode", "softmax_precision"):
        if name in _attributes(node):
            yield f"the attribute {name} is not taken, whatever its value"
    if any(node.input[4:]):
        yield "past keys, past values and their lengths are not taken"
    yield from _one_output(node, tensors)
    for name in filter(None, node.input[:4]):
        if tensors.rank_of(name) != 4:
            yield f"{name} has the rank {tensors.rank_of(name)}, and 4 is needed"


_RESIZE = {
    "mode": ("nearest", "linear"),
    "coordinate_transformation_mode": (
        "half_pixel",
        "pytorch_half_pixel",
        "tf_half_pixel_for_nn",
        "asymmetric",
        "align_corners",
    ),
    "nearest_mode": ("floor", "ceil", "round_prefer_floor", "round_prefer_ceil"),
    "keep_aspect_ratio_policy": ("stretch",),
    "antialias": (0,),
}


def _resize(node: onnx.NodeProto, tensors: _Tensors) -> Iterator[str]:
    attributes = _attributes(node)
    for name, taken in _RESIZE.items():
        if (value := attributes.get(name, taken[0])) not in taken:
            yield f"{name} = {value}; taken are {', '.join(map(str, taken))}"
    if "axes" in attributes:
        yield "the attribute axes is not judged here"


def _one_output(node: onnx.NodeProto, tensors: _Tensors) -> Iterator[str]:
    if any(node.output[1:]):
        yield "only its first output is taken"


def _constant_axes(node: onnx.NodeProto, tensors: _Tensors) -> Iterator[str]:
    for name in filter(None, node.input[1:2]):
        if not tensors.is_constant(name):
            yield f"its axes ({name}) are not a constant"


_REDUCTIONS = ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "Sum", "SumSquare")
_RULES: dict[str, Callable[[onnx.NodeProto, _Tensors], Iterator[str]]] = {
    "Attention": _attention,
    "LayerNormalization": _one_output,
    "Resize": _resize,
    "Squeeze": _constant_axes,
    "Unsqueeze": _constant_axes,
} | {f"Reduce{kind}": _constant_axes for kind in _REDUCTIONS}


def _attributes(node: onnx.NodeProto) -> dict[str, Any]:
    """Attribute values by name, texts as `str`."""
    values = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    return {n: v.decode() if isinstance(v, bytes) else v for n, v in values.items()}
