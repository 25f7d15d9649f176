"""The benchmark of full-size exports: published sizes, and a run on the tiny ones."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner

from benchmarks.engines import full_size, large_encoder
from benchmarks.measuring import real_size


@pytest.mark.parametrize("name", ["modelscope", "animatediff", "middle"])
def test_the_sizes_are_those_that_the_pages_say(name: str) -> None:
    from unsee.models.pipelines.motion_unet import motion_unet

    size = real_size.VIDEO_SIZES[name]
    with torch.device("meta"):
        unet, adapter = real_size.video_unet(size), real_size.motion_adapter(size)
        models = {"unet": unet}
        if adapter is not None:
            models = {"motion": adapter, "unet": motion_unet(unet, adapter)}
    counts = {part: sum(p.numel() for p in model.parameters()) for part, model in models.items()}
    assert counts == size.parameters


@pytest.mark.parametrize("name", ["tiny-modelscope", "tiny-animatediff"])
def test_a_written_base_has_no_dead_branch(tmp_path: Path, name: str) -> None:
    from unsee.models.base import load_base

    real_size.write_video_base(tmp_path, name)
    base = load_base(tmp_path)
    base.check_shared_text_encoder()
    for model in (base.t2v_denoiser(), base.t2v_vae(), base.text_encoder()):
        for parameter in model.parameters():
            assert parameter.any()
            assert parameter.dtype == torch.float32
    assert torch.get_default_dtype() == torch.float32


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Any]:
    """Runs the command in this process."""
    monkeypatch.setattr(full_size, "in_own_process", lambda function, *given: function(*given))

    def run(*arguments: str) -> Any:
        output_dir = ["--output-dir", str(tmp_path / "build")]
        return CliRunner().invoke(full_size.full_size_export, [*output_dir, *arguments])

    return run


@pytest.mark.slow
def test_a_run_is_recorded_and_found_again(
    benchmark: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(full_size, "MEASURED", tmp_path)
    command = ["--size", "tiny-modelscope", "--precision", "float16", "--write"]
    result = benchmark(*command)
    assert result.exit_code == 0, result.output
    record = json.loads(result.stdout)
    exports = {row["export"]["graph"]: row["export"] for row in record["graphs"]}
    precisions = {name: export["precision"] for name, export in exports.items()}
    assert precisions == {
        "text_encoder": "float32",
        "vae_decoder": "float16",
        "video_denoiser": "float16",
    }
    assert record["sampling"]["psnr_db"] > 35
    assert [record["sampling"][axis] for axis in ("num_frames", "height", "width")] == [2, 16, 16]
    kept = tmp_path / "real_models.json"
    assert json.loads(kept.read_text()) == [record]
    again = json.loads(benchmark(*command).stdout)
    assert [row["export"] for row in again["graphs"]] == [row["export"] for row in record["graphs"]]
    assert len(json.loads(kept.read_text())) == 1


@pytest.mark.slow
def test_a_large_encoder_is_exported_with_some_of_its_layers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = {"vocab_size": 300, "d_model": 32, "d_kv": 8, "d_ff": 64, "num_heads": 4}
    for name, value in small.items():
        monkeypatch.setitem(real_size.UMT5_XXL, name, value)
    monkeypatch.setattr(large_encoder, "in_own_process", lambda function, *given: function(*given))
    monkeypatch.setattr(large_encoder, "CACHE_DIR", tmp_path)
    result = CliRunner().invoke(large_encoder.large_encoder, ["--layers", "1"])
    assert result.exit_code == 0, result.output
    (row,) = json.loads(result.stdout)["encoders"]
    parity = row["export"]["parity"]
    assert max(size["max_rel"] for size in parity["sizes"]) < parity["tolerance"]
    assert row["layers"] == 1
    assert row["disk_bytes"] > 4 * row["export"]["num_parameters"]
    assert set(row["engines"]) == {"onnxruntime-float32", "openvino-float32"}
    assert list(tmp_path.iterdir()) == []
