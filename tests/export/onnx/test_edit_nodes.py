"""Edits as graphs: what PyTorch computes, for either kind of normalisation, masked or not."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn
from transformers.models.t5.modeling_t5 import T5LayerNorm

from unsee.deltas.edit import Edit, EditedNorm
from unsee.export.graphs.prompt_graphs import EditGraph
from unsee.export.onnx.edit_nodes import write_edit
from unsee.export.onnx.exporter import OPSET
from unsee.export.onnx.parity import check_parity

SIZE, LENGTH, RANK = 24, 7, 3
GRAPH = EditGraph(LENGTH, SIZE)


def randomised(norm):
    drawn = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in norm.parameters():
            parameter.copy_(1 + 0.5 * torch.randn(parameter.shape, generator=drawn))
    return norm.eval()


def edit(seed):
    drawn = torch.Generator().manual_seed(seed)
    shapes = (SIZE, RANK), (RANK, SIZE), (RANK,)
    return Edit(*(torch.randn(shape, generator=drawn) for shape in shapes))


NORMS = {
    "layer norm": lambda: nn.LayerNorm(SIZE, eps=1e-4),
    "without a bias": lambda: nn.LayerNorm(SIZE, bias=False),
    "RMS norm": lambda: T5LayerNorm(SIZE, eps=1e-3),
}


@pytest.fixture(params=NORMS)
def norm(request):
    return randomised(NORMS[request.param]())


@pytest.mark.parametrize("edits", [False, True])
def test_the_graph_computes_what_the_module_computes(norm, edits, tmp_path):
    if edits:
        norm = EditedNorm(norm, edit(0)).eval()
    num_nodes = write_edit(GRAPH, norm, tmp_path / "model.onnx")
    report = check_parity(GRAPH, norm, tmp_path / "model.onnx")
    assert report.difference < 1e-5
    model = onnx.load(tmp_path / "model.onnx", load_external_data=False)
    assert len(model.graph.node) == num_nodes
    assert [(one.domain, one.version) for one in model.opset_import] == [("", OPSET)]
    onnx.checker.check_model(model, full_check=True)


def test_what_the_mask_hides_is_left_alone_unless_the_denoiser_reads_it(norm, tmp_path):
    edited = EditedNorm(norm, edit(0)).eval()
    states = torch.randn(2, LENGTH, SIZE, generator=torch.Generator().manual_seed(2))
    mask = torch.ones(2, LENGTH, dtype=torch.int64)
    mask[:, 4:] = 0
    answers = {}
    for name, module in (("edited", edited), ("unedited", norm)):
        write_edit(GRAPH, module, tmp_path / "model.onnx")
        session = onnxruntime.InferenceSession(
            tmp_path / "model.onnx", providers=["CPUExecutionProvider"]
        )
        feeds = {"states": states.numpy(), "attention_mask": mask.numpy()}
        answers[name] = session.run(None, feeds)[0]
    moved = np.abs(answers["edited"] - answers["unedited"]).max(-1)
    assert moved[:, :4].min() > 1e-3
    if edited.reads_padding:
        assert moved[:, 4:].min() > 1e-3
    else:
        assert moved[:, 4:].max() == 0


def test_the_same_edit_gives_the_same_bytes(norm, tmp_path):
    for name in ("a", "b"):
        write_edit(GRAPH, EditedNorm(norm, edit(0)), tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
