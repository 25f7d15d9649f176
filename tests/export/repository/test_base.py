"""`base.json`: what was written comes back, and what does not fit is named."""

import json
from dataclasses import asdict

import pytest

from record_fakes import base_record
from unsee.repository import base


def write(tmp_path, record):
    (tmp_path / "base.json").write_text(json.dumps(record))
    return tmp_path / "base.json"


def test_a_record_comes_back_as_it_was_written(tmp_path):
    record = base_record(
        graphs={"video_denoiser": "sha256:0", "video_denoiser_engine": "onnxruntime"},
        models_digest="sha256:1",
    )
    found = base.read_base(write(tmp_path, record))
    assert json.loads(json.dumps(asdict(found))) == record
    assert found.limits.height == (16, 32)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"schema_version": 2}, r"base\.json has schema_version 2, not 3"),
        ({"colour": "red"}, "not known, 'colour'"),
        ({"limits": {"height": [16]}}, r"base\.json: limits: height is \[16\]"),
        ({"limits": {"height": 16}}, r"height is 16"),
        ({"defaults": {"num_frames": True}}, "num_frames is True"),
        ({"defaults": {"fps": "8"}}, "fps is '8'"),
        ({"graphs": {"video_denoiser": None}}, "video_denoiser is None"),
        ({"prompt": {"padding": "ones"}}, r"base\.json: prompt: padding is 'ones'"),
        ({"latents": {"depth": 1}}, "latents has a field that is not known, 'depth'"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path, changes, words):
    record = base_record() | {"colour": "red"} if "colour" in changes else base_record(**changes)
    with pytest.raises(ValueError, match=words):
        base.read_base(write(tmp_path, record))


def test_a_missing_field_is_named(tmp_path):
    record = base_record()
    del record["defaults"]["height"]
    with pytest.raises(ValueError, match="defaults lacks the field 'height'"):
        base.read_base(write(tmp_path, record))
