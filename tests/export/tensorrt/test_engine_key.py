"""An engine is loaded only if it was built from and for just what is asked."""

from __future__ import annotations

import pytest

from unsee.export.graphs.sizes import Profile
from unsee.export.tensorrt.engine_key import (
    Device,
    engine_fits,
    engine_key,
    find_engine,
    reusable_timings,
    write_engine,
)

DEVICE = Device(gpu="a GPU", compute_capability="9.0", driver="570.1", tensorrt="10.15.1")
PROFILE = Profile({"B": 1, "F": 1}, {"B": 2, "F": 8}, {"B": 8, "F": 16})
KEY = engine_key(DEVICE, "video_unet", "sha256:00", "float16", PROFILE)
OTHER_DEVICES = [
    DEVICE.model_copy(update={field: "another"}) for field in sorted(Device.model_fields)
]


@pytest.fixture
def folder(tmp_path):
    write_engine(tmp_path, KEY, b"plan", b"timings", 12.3456, None)
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


OTHERS = [
    *[KEY.model_copy(update={"device": device}) for device in OTHER_DEVICES],
    engine_key(DEVICE, "vae_decoder", "sha256:00", "float16", PROFILE),
    engine_key(DEVICE, "video_unet", "sha256:01", "float16", PROFILE),
    engine_key(DEVICE, "video_unet", "sha256:00", "float32", PROFILE),
    *[
        engine_key(DEVICE, "video_unet", "sha256:00", "float16", profile)
        for profile in (
            Profile({"B": 1, "F": 2}, PROFILE.optimum, PROFILE.maximum),
            Profile(PROFILE.minimum, {"B": 1, "F": 8}, PROFILE.maximum),
            Profile(PROFILE.minimum, PROFILE.optimum, {"B": 8, "F": 17}),
        )
    ],
    KEY.model_copy(update={"builder_version": KEY.builder_version + 1}),
]


@pytest.mark.parametrize("other", OTHERS)
def test_whatever_differs_the_engine_does_not_fit(folder, other):
    assert engine_fits(KEY, folder)
    assert not engine_fits(other, folder)


def test_the_order_of_axes_does_not_matter(folder):
    turned = Profile(*(dict(reversed(s.items())) for s in vars(PROFILE).values()))
    assert engine_fits(engine_key(DEVICE, "video_unet", "sha256:00", "float16", turned), folder)


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
    module = "unsee.export.tensorrt.engine_key.write_file"
    monkeypatch.setattr(module, lambda file, data: file.write_bytes(data[:1]) and 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_engine(folder, KEY, b"plan", b"timings", 1.0, None)
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
