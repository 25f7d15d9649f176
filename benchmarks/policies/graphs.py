"""The encoders of several policies as graphs, whole and in parts that they can share.

A policy made by the anchored mode is the base's encoder with one appended layer. Two of them are
exported with the code of `unsee export`; what differs between the two graphs is the policy's own,
and further policies are the same graph with other numbers there.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir
from onnx import numpy_helper

from unsee.export.onnx.shared_weights import SMALL_BYTES, SharedWith, save_beside

GRAPH = "model.onnx"


@dataclass(frozen=True)
class Graphs:
    """Files of the policies' encoders.

    Args:
        whole: one file each.
        linked: as `unsee publish` writes them, the base's weights beside the graph by a link.
        frozen: the tensors that do not differ between policies, as .npy files by name.
        trunk: the part of the graph that all policies share.
        heads: what of each policy's graph comes after the trunk.
    """

    whole: tuple[Path, ...]
    linked: tuple[Path, ...]
    frozen: dict[str, Path]
    trunk: Path
    heads: tuple[Path, ...]
    own_bytes: int
    all_bytes: int


def write_graphs(text_encoder: Any, tokens: int, count: int, folder: Path) -> Graphs:
    """Write the graphs of `count` policies of a `CLIPTextModel` into `folder`."""
    whole = [folder / "whole" / str(number) / GRAPH for number in range(1, count + 1)]
    base = folder / "base" / GRAPH
    for number, file in enumerate((*whole[:2], base)):
        file.parent.mkdir(parents=True)
        _export(text_encoder, tokens, None if file == base else number, file)
    models = [onnx.load(file) for file in whole[:2]]
    own = _different(*models)
    tensors = {t.name: t for t in models[0].graph.initializer}
    frozen = _write_frozen([t for name, t in tensors.items() if name not in own], folder / "frozen")
    trunk_names = _without(models[0], own)
    linked, heads = [], []
    for number, file in enumerate(whole):
        model = _with_other_numbers(models[min(number, 1)], own, number)
        if number > 1:
            file.parent.mkdir(parents=True)
            onnx.save(model, file)
        linked.append(_write_linked(model, base, folder / "linked" / str(number + 1)))
        heads.append(_write_part(model, trunk_names, folder / "head" / str(number + 1), head=True))
    trunk = _write_part(models[0], trunk_names, folder / "trunk", head=False)
    sizes = {name: len(tensor.raw_data) for name, tensor in tensors.items()}
    own_bytes = sum(sizes[name] for name in own)
    return Graphs(
        tuple(whole), tuple(linked), frozen, trunk, tuple(heads), own_bytes, sum(sizes.values())
    )


def _export(text_encoder: Any, tokens: int, seed: int | None, file: Path) -> None:
    """The policy of that number, or the base itself."""
    import torch

    from unsee.deltas.appended_layer import with_appended_layer
    from unsee.deltas.edit import Edit
    from unsee.export.graphs.graphs import TextEncoderGraph
    from unsee.export.onnx.exporter import export_onnx

    if seed is None:
        export_onnx(TextEncoderGraph.of(text_encoder, tokens), text_encoder, file, save_beside)
        return
    size = text_encoder.config.hidden_size
    chance = torch.Generator().manual_seed(seed)
    up = torch.randn(size, size, generator=chance)
    edit = Edit(up / size, torch.randn(size, size, generator=chance), torch.zeros(size))
    edited = with_appended_layer(text_encoder, edit).eval()
    export_onnx(TextEncoderGraph.of(edited, tokens), edited, file)


def _different(one: Any, other: Any) -> frozenset[str]:
    """The initializers in which the two graphs differ; they must agree in everything else."""
    values = [
        {t.name: t.SerializeToString() for t in model.graph.initializer} for model in (one, other)
    ]
    nodes = [[n.SerializeToString() for n in model.graph.node] for model in (one, other)]
    if nodes[0] != nodes[1] or values[0].keys() != values[1].keys():
        raise RuntimeError("two policies were exported as graphs of different form")
    return frozenset(name for name in values[0] if values[0][name] != values[1][name])


def _with_other_numbers(model: Any, own: Iterable[str], seed: int) -> Any:
    if seed < 2:
        return model
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    chance = np.random.default_rng(seed)
    for tensor in changed.graph.initializer:
        if tensor.name in own:
            array = numpy_helper.to_array(tensor)
            noise = 1 + 0.01 * chance.standard_normal(array.shape)
            tensor.raw_data = (array * noise).astype(array.dtype).tobytes()
    return changed


def _write_frozen(tensors: Iterable[Any], folder: Path) -> dict[str, Path]:
    folder.mkdir()
    files = {}
    for number, tensor in enumerate(tensors):
        if len(tensor.raw_data) >= SMALL_BYTES:
            files[tensor.name] = folder / f"{number}.npy"
            np.save(files[tensor.name], numpy_helper.to_array(tensor))
    return files


def _write_linked(model: Any, base: Path, place: Path) -> Path:
    place.mkdir(parents=True)
    SharedWith(base).save(onnx_ir.from_proto(model), place / GRAPH)
    return place / GRAPH


def _without(model: Any, own: Iterable[str]) -> frozenset[str]:
    """The outputs of those nodes that depend on nothing of the policy's own."""
    touched, free = set(own), set[str]()
    for node in model.graph.node:
        (touched if touched & set(node.input) else free).update(node.output)
    return frozenset(free)


def _write_part(model: Any, trunk_names: frozenset[str], folder: Path, *, head: bool) -> Path:
    """The trunk, or what comes after it, as a graph of its own."""
    graph = model.graph
    heads = [node for node in graph.node if not trunk_names & set(node.output)]
    trunk = [node for node in graph.node if trunk_names & set(node.output)]
    between = sorted({name for node in heads for name in node.input} & trunk_names)
    values = {
        value.name: value for value in onnx.shape_inference.infer_shapes(model).graph.value_info
    }
    crossing = [values[name] for name in between]
    nodes = heads if head else trunk
    used = {name for node in nodes for name in node.input}
    part = onnx.helper.make_graph(
        nodes,
        "head" if head else "trunk",
        crossing if head else list(graph.input),
        list(graph.output) if head else crossing,
        [tensor for tensor in graph.initializer if tensor.name in used],
    )
    folder.mkdir(parents=True)
    made = onnx.helper.make_model(
        part, opset_imports=model.opset_import, ir_version=model.ir_version
    )
    onnx.save(made, folder / GRAPH)
    return folder / GRAPH
