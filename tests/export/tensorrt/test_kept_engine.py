"""An engine is loaded only if it was built from and for just what is asked."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest
import torch

from unsee.core.errors import ParityError, TensorRTMissing
from unsee.export.graphs.decoder_graphs import VAEDecoderGraph
from unsee.export.graphs.sizes import Profile
from unsee.export.tensorrt import kept_engine as module
from unsee.export.tensorrt.build import BuiltEngine, Device, current_device, tensorrt_library
from unsee.export.tensorrt.kept_engine import (
    EngineKey,
    find_engine,
    keep_engine,
    reusable_timings,
    write_engine,
)
from unsee.repository.records import ParityReport

DEVICE = Device(gpu="a GPU", compute_capability="9.0", driver="570.1", tensorrt="10.15.1")
PROFILE = Profile({"B": 1, "F": 1}, {"B": 2, "F": 8}, {"B": 8, "F": 16})
KEY = EngineKey(
    device=DEVICE,
    graph="video_denoiser",
    graph_digest="sha256:00",
    precision="float16",
    profile=PROFILE,
)
BUILT = BuiltEngine(b"plan", b"timings", 12.3456)
PARITY = ParityReport(tolerance=1, unit="level", sizes=())
OTHER_DEVICES = [
    DEVICE.model_copy(update={field: "another"}) for field in sorted(Device.model_fields)
]


def engine_fits(key, folder):
    return find_engine(key, folder) is not None


@pytest.fixture
def folder(tmp_path):
    write_engine(tmp_path, KEY, BUILT, PARITY)
    return tmp_path


def test_an_engine_is_found_again_by_its_key(folder):
    record = find_engine(KEY, folder)
    assert record is not None
    assert (record.key, record.build_seconds) == (KEY, 12.346)
    assert sorted(path.name for path in folder.iterdir()) == [
        "engine.json",
        "model.plan",
        "timing.cache",
    ]


CHANGES = [
    *[{"device": device} for device in OTHER_DEVICES],
    {"graph": "vae_decoder"},
    {"graph_digest": "sha256:01"},
    {"precision": "float32"},
    {"profile": Profile({"B": 1, "F": 2}, PROFILE.optimum, PROFILE.maximum)},
    {"profile": Profile(PROFILE.minimum, {"B": 1, "F": 8}, PROFILE.maximum)},
    {"profile": Profile(PROFILE.minimum, PROFILE.optimum, {"B": 8, "F": 17})},
    {"builder_version": KEY.builder_version + 1},
]
OTHERS = [KEY.model_copy(update=change) for change in CHANGES]


@pytest.mark.parametrize("other", OTHERS)
def test_whatever_differs_the_engine_does_not_fit(folder, other):
    assert engine_fits(KEY, folder)
    assert not engine_fits(other, folder)


def test_the_order_of_axes_does_not_matter(folder):
    turned = Profile(*(dict(reversed(s.items())) for s in vars(PROFILE).values()))
    assert engine_fits(KEY.model_copy(update={"profile": turned}), folder)


@pytest.mark.parametrize("damage", ["plan", "record", "no plan", "no record", "more in the record"])
def test_a_damaged_engine_does_not_fit(folder, damage):
    plan, record = folder / "model.plan", folder / "engine.json"
    if damage == "plan":
        plan.write_bytes(b"plam")
    elif damage == "record":
        record.write_text("{")
    elif damage == "more in the record":
        record.write_text(record.read_text().replace("{", '{"more": 1,', 1))
    else:
        (plan if damage == "no plan" else record).unlink()
    assert not engine_fits(KEY, folder)


def test_an_interrupted_write_leaves_no_engine_that_fits(folder, monkeypatch):
    module = "unsee.export.tensorrt.kept_engine.write_file"
    monkeypatch.setattr(module, lambda file, data: file.write_bytes(data[:1]) and 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_engine(folder, KEY, BUILT, PARITY)
    assert not engine_fits(KEY, folder)


def test_timings_are_used_again_on_the_very_same_device(folder):
    assert reusable_timings(DEVICE, folder) == b"timings"
    assert [reusable_timings(device, folder) for device in OTHER_DEVICES] == [b""] * 4
    (folder / "model.plan").unlink()
    assert reusable_timings(DEVICE, folder) == b"timings"
    (folder / "timing.cache").write_bytes(b"timinqs")
    assert reusable_timings(DEVICE, folder) == b""
    (folder / "timing.cache").unlink()
    assert reusable_timings(DEVICE, folder) == b""


@pytest.fixture
def keep(monkeypatch, tmp_path):
    """`keep_engine` with a builder that gives the next of its plans and notes the timings it got.

    Returns the plan that lies there then.
    """
    plans, timings_given = [b"plan", b"another plan", b"a third plan"], []

    def build(graph, file, profile, timings):
        timings_given.append(timings)
        return BuiltEngine(plans.pop(0), b"measured", 1.0)

    monkeypatch.setattr(module, "build_engine", build)

    def keep(check=lambda plan: PARITY, **changes):
        key = KEY.model_copy(update=changes)
        keep_engine(VAEDecoderGraph(3, 1), tmp_path / "model.onnx", key, tmp_path, check)
        return (tmp_path / "model.plan").read_bytes()

    keep.timings_given = timings_given
    return keep


def test_an_engine_is_built_once_and_again_when_anything_differs(keep):
    assert [keep(), keep()] == [b"plan"] * 2
    assert keep(graph_digest="sha256:01") == b"another plan"
    assert keep(device=DEVICE.model_copy(update={"driver": "571.0"})) == b"a third plan"
    assert keep.timings_given == [b"", b"measured", b""]


def test_an_engine_that_fails_its_check_is_not_kept(keep, tmp_path):
    def fail(plan):
        raise ParityError("too far off")

    with pytest.raises(ParityError):
        keep(check=fail)
    assert not (tmp_path / "engine.json").exists()
    assert keep() == b"another plan"
    assert find_engine(KEY, tmp_path).parity == PARITY


def test_without_tensorrt_or_a_gpu_one_sentence_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(TensorRTMissing, match="pip install tensorrt"):
        tensorrt_library()
    monkeypatch.setitem(sys.modules, "tensorrt", SimpleNamespace(__version__="11.0.0"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(TensorRTMissing, match="no NVIDIA GPU"):
        current_device()
