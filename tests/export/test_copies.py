"""What Triton's stub reads without a package of this project is a copy that equals its source."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COPIES = {
    "training/unsee/models/sampling/sampler_table.py": (
        "model_repository/text_to_video/1/text_to_video/sampler_table.py"
    ),
    "export/unsee/export/engines/engine_options.py": (
        "serving/unsee/serving/server/backends/shared/engine_options.py"
    ),
    "export/unsee/repository/base.py": "model_repository/text_to_video/1/text_to_video/base.py",
    "export/unsee/repository/layout.py": "model_repository/text_to_video/1/text_to_video/layout.py",
    "model_repository/text_to_video/1/text_to_video/layout.py": (
        "model_repository/prompt_encoder/1/prompt_encoder/layout.py"
    ),
    "model_repository/text_to_video/1/text_to_video/refusal.py": (
        "model_repository/prompt_encoder/1/prompt_encoder/refusal.py"
    ),
    "client/unsee/core/prompt_text.py": (
        "model_repository/text_to_video/1/text_to_video/prompt_text.py"
    ),
    "client/unsee/core/request_schema.py": (
        "model_repository/text_to_video/1/text_to_video/request_schema.py"
    ),
}


@pytest.mark.parametrize(("source", "copy"), COPIES.items())
def test_a_copy_equals_its_source(source, copy):
    assert (ROOT / copy).read_bytes() == (ROOT / source).read_bytes(), f"cp {source} {copy}"
