"""The parity check of engines, with functions that stand for engines."""

from __future__ import annotations

import pytest
import torch

from unsee.core.errors import ParityError
from unsee.export.graphs.graphs import VAEDecoderGraph
from unsee.export.graphs.sizes import Profile
from unsee.export.tensorrt.engine_parity import engine_parity

CPU = torch.device("cpu")
PROFILE = Profile(*({"B": 1, "F": frames, "h": 2, "w": 2} for frames in (1, 2, 3)))


@pytest.fixture
def check(tiny_base):
    vae = tiny_base.t2v_vae()
    graph = VAEDecoderGraph.of(vae)
    exact = graph.wrap(vae)

    def run(change=lambda frames: frames):
        def engine(*inputs):
            with torch.no_grad():
                return change(exact(*inputs))

        return engine_parity(graph, vae, engine, PROFILE, "float32", CPU)

    return run


def test_an_exact_engine_passes_at_the_least_and_the_usual_sizes(check):
    report = check()
    assert [size.sizes["F"] for size in report.sizes] == [1, 2]
    assert (report.difference, report.unit) == (0.0, "level")


def test_an_engine_that_is_wrong_at_one_size_fails(check):
    with pytest.raises(ParityError, match=r"engine of vae_decoder differs .* by 3 level, and 1 is"):
        check(lambda frames: frames ^ 3 if frames.shape[1] == 2 else frames)


def test_numbers_that_are_none_and_other_shapes_fail(check):
    with pytest.raises(ParityError, match=r"\[1, 1, 16, 16, 2\] where PyTorch"):
        check(lambda frames: frames[..., :2])
    with pytest.raises(ParityError, match=r"gives torch\.float32 .* torch\.uint8"):
        check(lambda frames: frames.float())
