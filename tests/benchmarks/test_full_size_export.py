"""The benchmark of full-size exports: published sizes, a run on the tiny ones, and its page."""

import importlib
import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from click.testing import CliRunner

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module


@pytest.mark.parametrize("name", ["modelscope", "animatediff"])
def test_the_sizes_are_the_published_ones(load: Callable[[str], ModuleType], name: str) -> None:
    from unsee.models.motion_unet import motion_unet

    real = load("real_size")
    size = real.VIDEO_SIZES[name]
    with torch.device("meta"):
        unet, adapter = real.video_unet(size), real.motion_adapter(size)
        models = {"unet": unet}
        if adapter is not None:
            models = {"motion": adapter, "unet": motion_unet(unet, adapter)}
    counts = {part: sum(p.numel() for p in model.parameters()) for part, model in models.items()}
    assert counts == size.parameters


@pytest.mark.parametrize("name", ["tiny-modelscope", "tiny-animatediff"])
def test_a_written_base_has_no_dead_branch(
    load: Callable[[str], ModuleType], tmp_path: Path, name: str
) -> None:
    from unsee.models.base import load_base

    load("real_size").write_video_base(tmp_path, name)
    base = load_base(tmp_path)
    base.check_shared_text_encoder()
    for model in (base.t2v_unet(), base.t2v_vae(), base.text_encoder()):
        for parameter in model.parameters():
            assert parameter.any()
            assert parameter.dtype == torch.float32
    assert torch.get_default_dtype() == torch.float32


@pytest.fixture
def benchmark(
    load: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[..., Any]:
    """Runs the command in this process."""
    command = load("full_size_export")
    monkeypatch.setattr(command, "in_own_process", lambda function, *given: function(*given))

    def run(*arguments: str) -> Any:
        output_dir = ["--output-dir", str(tmp_path / "build")]
        return CliRunner().invoke(command.full_size_export, [*output_dir, *arguments])

    return run


@pytest.mark.slow
def test_a_run_is_recorded_found_again_and_shown(
    benchmark: Callable[..., Any], tmp_path: Path
) -> None:
    page = tmp_path / "page.md"
    page.write_text("# Before\n<!-- table: begin -->\nold\n<!-- table: end -->\nAfter\n")
    command = ["--size", "tiny-modelscope", "--precision", "float16", "--page", str(page)]
    result = benchmark(*command)
    assert result.exit_code == 0, result.output
    record = json.loads(result.stdout)
    exports = {row["export"]["graph"]: row["export"] for row in record["graphs"]}
    precisions = {name: export["precision"] for name, export in exports.items()}
    assert precisions == {
        "text_encoder": "float32",
        "vae_decoder": "float16",
        "video_unet": "float16",
    }
    assert record["sampling"]["psnr_db"] > 35
    assert [record["sampling"][axis] for axis in ("num_frames", "height", "width")] == [2, 16, 16]
    text = page.read_text()
    assert text.startswith("# Before\n")
    assert text.endswith("\nAfter\n")
    assert "old" not in text
    assert text.count("| tiny-modelscope |") == 4
    assert json.loads((tmp_path / "page.json").read_text()) == [record]
    again = json.loads(benchmark(*command).stdout)
    assert [row["export"] for row in again["graphs"]] == [row["export"] for row in record["graphs"]]
    assert page.read_text().count("| tiny-modelscope |") == 4


def test_a_page_without_a_place_for_the_table_is_refused_first(
    benchmark: Callable[..., Any], tmp_path: Path
) -> None:
    page = tmp_path / "page.md"
    page.write_text("no place")
    result = benchmark("--size", "tiny-modelscope", "--page", str(page))
    assert result.exit_code == 2
    assert "has no lines" in result.stderr
    assert [file.name for file in tmp_path.iterdir()] == ["page.md"]
