"""The operators that are translated in our own way compute what PyTorch computes."""

import onnx_ir as ir
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from unsee.export.onnx import rewrites
from unsee.export.onnx.lowerings import TRANSLATIONS


def exported(module, *inputs, dynamic=None):
    with torch.no_grad():
        program = torch.onnx.export(
            module.eval(),
            inputs,
            dynamo=True,
            opset_version=20,
            custom_translation_table=TRANSLATIONS,
            dynamic_shapes=dynamic,
            verbose=False,
        )
    return program.model


def run(model, *inputs):
    session = onnxruntime.InferenceSession(
        ir.serde.serialize_model(model).SerializeToString(), providers=["CPUExecutionProvider"]
    )
    names = [value.name for value in session.get_inputs()]
    feeds = dict(zip(names, (x.numpy() for x in inputs), strict=True))
    return torch.from_numpy(session.run(None, feeds)[0])


class Norm(nn.Module):
    def __init__(self, channels, groups):
        super().__init__()
        self.norm = nn.GroupNorm(groups, channels, eps=1e-6)
        nn.init.normal_(self.norm.weight)
        nn.init.normal_(self.norm.bias)

    def forward(self, x):
        return self.norm(x)


class Attention(nn.Module):
    def __init__(self, **options):
        super().__init__()
        self.options = options

    def forward(self, query, key, value):
        return functional.scaled_dot_product_attention(query, key, value, **self.options)


class Gate(nn.Module):
    def __init__(self, width, hidden):
        super().__init__()
        self.proj = nn.Linear(width, 2 * hidden)

    def forward(self, x):
        value, gate = self.proj(x).chunk(2, dim=-1)
        return value * functional.gelu(gate)


@pytest.mark.parametrize("space", [(6, 5), (3, 4, 5)])
def test_group_norm_of_images_and_of_clips(space):
    torch.manual_seed(0)
    module, x = Norm(12, 4), torch.randn(2, 12, *space)
    torch.testing.assert_close(run(exported(module, x), x), module(x), atol=1e-5, rtol=1e-5)


def test_group_norm_takes_other_sizes_than_the_traced_ones():
    torch.manual_seed(0)
    module = Norm(8, 2)
    batch, height = torch.export.Dim("b", max=8), torch.export.Dim("h", max=64)
    model = exported(module, torch.randn(2, 8, 6, 5), dynamic=({0: batch, 2: height},))
    x = torch.randn(5, 8, 11, 5)
    torch.testing.assert_close(run(model, x), module(x), atol=1e-5, rtol=1e-5)


HIDDEN = torch.arange(7) < 5
MASKS = [
    {"attn_mask": mask}
    for mask in (torch.randn(1, 1, 1, 7), torch.randn(2, 1, 7, 7), HIDDEN[None, None, None])
]


@pytest.mark.parametrize("options", [{}, {"scale": 0.3}, {"is_causal": True}, *MASKS], ids=len)
def test_attention(options):
    torch.manual_seed(0)
    inputs = torch.randn(2, 3, 7, 4), torch.randn(2, 3, 7, 4), torch.randn(2, 3, 7, 4)
    module = Attention(**options)
    expected = module(*inputs)
    torch.testing.assert_close(run(exported(module, *inputs), *inputs), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("options", [{}, {"attn_mask": torch.randn(1, 1, 1, 4)}], ids=len)
def test_attention_is_what_engines_recognise(options):
    inputs = [torch.randn(1, 2, 4, 8) for _ in range(3)]
    operators = [node.op_type for node in exported(Attention(**options), *inputs).graph]
    assert operators.count("Transpose") == 1
    assert "Shape" not in operators


class Interleaved(nn.Module):
    """Sums and differences written to every second place of `axis`, as rotary positions are."""

    def __init__(self, axis):
        super().__init__()
        self.axis = axis

    def forward(self, x, y):
        out = torch.empty_like(torch.cat([x, y], dim=self.axis))
        places = [slice(None)] * x.ndim
        places[self.axis] = slice(0, None, 2)
        out[tuple(places)] = x + y
        places[self.axis] = slice(1, None, 2)
        out[tuple(places)] = x - y
        return out


@pytest.mark.parametrize("axis", [1, 2])
def test_what_is_written_to_every_second_place(axis):
    torch.manual_seed(0)
    inputs = torch.randn(2, 3, 4), torch.randn(2, 3, 4)
    batch = torch.export.Dim("b", max=8)
    model = exported(Interleaved(axis), *inputs, dynamic=({0: batch}, {0: batch}))
    assert not [node for node in model.graph if node.op_type.startswith("Scatter")]
    others = torch.randn(5, 3, 4), torch.randn(5, 3, 4)
    torch.testing.assert_close(run(model, *others), Interleaved(axis)(*others))


def test_other_slices_are_written_as_the_exporter_does():
    class Written(nn.Module):
        def forward(self, x, y):
            out = x.clone()
            out[:, 1:5:3] = y
            return out

    torch.manual_seed(0)
    inputs = torch.randn(2, 6), torch.randn(2, 2)
    torch.testing.assert_close(run(exported(Written(), *inputs), *inputs), Written()(*inputs))


@settings(max_examples=3, deadline=None)
@given(width=st.integers(1, 5), hidden=st.integers(1, 6), rows=st.integers(1, 4))
def test_a_gate_becomes_two_products(width, hidden, rows):
    torch.manual_seed(0)
    module, x = Gate(width, hidden), torch.randn(2, rows, width)
    model = exported(module, x)
    assert rewrites.split_gates(model) == 1
    assert "Split" not in {node.op_type for node in model.graph}
    torch.testing.assert_close(run(model, x), module(x), atol=1e-5, rtol=1e-5)


def test_a_split_of_something_else_stays():
    class Halves(nn.Module):
        def forward(self, x):
            first, second = x.chunk(2, dim=-1)
            return first * second

    model = exported(Halves(), torch.randn(2, 6))
    assert rewrites.split_gates(model) == 0


def test_divisions_by_one_go_and_others_stay():
    class Scaled(nn.Module):
        def forward(self, x):
            return (x.sin() / 1.0) / 2.0

    x = torch.randn(3, 4)
    model = exported(Scaled(), x)
    rewrites.drop_divisions_by_one(model)
    assert [node.op_type for node in model.graph].count("Div") <= 1
    torch.testing.assert_close(run(model, x), x.sin() / 2)
