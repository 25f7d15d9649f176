"""Attention to the prompt computes what PyTorch computes, its keys and values once a clip."""

import collections

import onnx_ir as ir
import onnxruntime
import pytest
import torch
from diffusers.models.attention_processor import Attention
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from unsee.export.onnx.lowerings import TRANSLATIONS
from unsee.export.onnx.prompt_attention import fold_frames

CHANNELS, WIDTH, LENGTH = 8, 6, 5


class Frames(nn.Module):
    """Images [B, F, T, C] that attend to their clip's prompt [B, L, D], repeated by `repeat`."""

    def __init__(self, repeat, bias=False):
        super().__init__()
        torch.manual_seed(0)
        self.repeat = repeat
        self.attention = Attention(CHANNELS, WIDTH, heads=2, dim_head=4, bias=bias).eval()

    def forward(self, images, prompts):
        frames = images.shape[1]
        mixed = self.attention(images.flatten(0, 1), self.repeat(prompts, frames))
        return mixed.reshape(images.shape)


def each_row_in_turn(prompts, frames):
    return prompts.repeat_interleave(frames, dim=0)


def all_rows_again_and_again(prompts, frames):
    return prompts.repeat(frames, 1, 1)


def example(batch=2, frames=3, tokens=4):
    return (
        torch.randn(batch, frames, tokens, CHANNELS),
        torch.randn(batch, LENGTH, WIDTH),
    )


def exported(module):
    batch, frames, tokens = (torch.export.Dim(name, min=1, max=64) for name in "BFT")
    with torch.no_grad():
        return torch.onnx.export(
            module,
            example(),
            dynamo=True,
            opset_version=20,
            custom_translation_table=TRANSLATIONS,
            dynamic_shapes=({0: batch, 1: frames, 2: tokens}, {0: batch}),
            verbose=False,
        ).model


def session_of(model):
    proto = ir.serde.serialize_model(model).SerializeToString()
    return onnxruntime.InferenceSession(proto, providers=["CPUExecutionProvider"])


def check(module, session, inputs):
    names = [each.name for each in session.get_inputs()]
    feeds = {name: x.numpy() for name, x in zip(names, inputs, strict=True)}
    with torch.no_grad():
        expected = module(*inputs)
    found = torch.from_numpy(session.run(None, feeds)[0])
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@pytest.fixture(scope="module")
def folded():
    module = Frames(each_row_in_turn)
    model = exported(module)
    assert fold_frames(model) == 1
    return module, model


def test_keys_and_values_are_projected_before_they_meet_the_frames(folded):
    _, model = folded
    prompt = model.graph.inputs[1]
    users = collections.Counter(use.node.op_type for use in prompt.uses())
    assert users["MatMul"] == 2


@settings(max_examples=10, deadline=None)
@given(sizes=st.tuples(*[st.integers(1, 5)] * 3))
def test_any_size_gives_the_same(folded, sizes):
    module, model = folded
    check(module, session_of(model), example(*sizes))


@pytest.mark.parametrize("repeat", [all_rows_again_and_again, lambda prompts, frames: prompts])
def test_another_order_or_no_repetition_stays_as_it_is(repeat):
    module = Frames(repeat)
    inputs = example(frames=1) if repeat is not all_rows_again_and_again else example()
    with torch.no_grad():
        model = torch.onnx.export(
            module, inputs, dynamo=True, custom_translation_table=TRANSLATIONS, verbose=False
        ).model
    assert fold_frames(model) == 0
    check(module, session_of(model), inputs)


def test_keys_with_a_bias_stay_as_they_are():
    module = Frames(each_row_in_turn, bias=True)
    model = exported(module)
    assert fold_frames(model) == 0
    check(module, session_of(model), example())
