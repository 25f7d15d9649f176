"""The benchmark of unlearning: its sizes are the published ones, and it runs on the smallest."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner

from benchmarks.measuring import flops, processes, real_size
from benchmarks.unlearning import encoders, speed
from unsee.models.base import load_base
from unsee.unlearning.anchors import Naming
from unsee.unlearning.contexts import word_ids
from unsee.unlearning.moments import StateReader


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Runs the command in this process."""
    monkeypatch.setattr(speed, "in_own_process", lambda function, *given: function(*given))

    def run(*arguments: str) -> Any:
        return CliRunner().invoke(speed.unlearn, ["--size", "tiny", "--turns", "1", *arguments])

    return run


@pytest.mark.parametrize("name", ["sd1", "sd2"])
def test_the_sizes_are_the_published_ones(name: str) -> None:
    size = real_size.SIZES[name]
    with torch.device("meta"):
        models = {
            "text_encoder": real_size.text_encoder(size),
            "unet": real_size.unet(size, size.pixels),
            "vae": real_size.vae(size, size.pixels),
        }
    counts = {part: sum(p.numel() for p in model.parameters()) for part, model in models.items()}
    assert counts == size.parameters
    assert models["unet"].config.sample_size == 64


def test_every_variant_is_measured(benchmark: Callable[..., Any]) -> None:
    result = benchmark("--repeats", "1", "--batch-size", "2")
    assert result.exit_code == 0, result.output
    record = json.loads(result.stdout)
    assert record["failures"] == {}
    rows = {row["operation"]: row for row in record["rows"]}
    assert len(rows) == 6
    for row in rows.values():
        assert row["seconds"] > 0
        assert row["flops"] > 0
        assert row["total_s"] == pytest.approx(row["calls"] * row["seconds"])
    assert rows["paper as written: step"]["times_faster"] == 1
    written, ours = rows["paper as written: step"], rows["paper mode: step"]
    assert written["calls"] == ours["calls"] == 10  # 4 images, 5 epochs, 2 a step
    assert ours["flops"] < 0.7 * written["flops"]  # no weight gradients, no encoding of images


def test_a_variant_that_fails_is_told_and_the_others_go_on(
    benchmark: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:

    def in_own_process(function: Callable[..., Any], *given: Any) -> Any:
        if getattr(given[0], "variant", "") == "as-written":
            raise processes.ProcessFailed("it was killed, as the system does when memory runs out")
        return function(*given)

    monkeypatch.setattr(speed, "in_own_process", in_own_process)
    result = benchmark("--repeats", "1", "--variant", "as-written", "--variant", "paper")
    assert result.exit_code == 0, result.output
    record = json.loads(result.stdout)
    assert record["failures"]["as-written"].startswith("it was killed")
    assert [row["operation"] for row in record["rows"]] == ["paper mode: step"]


def test_pixels_that_no_latent_grid_fits(benchmark: Callable[..., Any]) -> None:
    result = benchmark("--pixels", "100")
    assert result.exit_code == 2
    assert "100 is not a multiple of 64" in result.stderr


def test_the_counter_knows_attention_on_the_cpu() -> None:
    meter = flops.Meter(1, torch.device("cpu"))
    query = torch.randn(1, 2, 32, 8, requires_grad=True)

    def attend() -> None:
        torch.nn.functional.scaled_dot_product_attention(query, query, query).sum().backward()

    product = 2 * 2 * 32 * 32 * 8
    assert meter.repeat(attend).flops == (2 + 5) * product
    assert len(meter.seconds) == 1


@pytest.mark.parametrize("name", ["TextToVideoSDPipeline", "WanPipeline"])
def test_only_an_encoder_that_looks_both_ways_changes_before_a_name(
    pipeline_base_dir: Callable[[str], Path], name: str
) -> None:
    base = load_base(pipeline_base_dir(name))
    before, named, after = (word_ids(base, words) for words in ("a cat", "dog", "on the sea"))
    namings = [Naming(before, named, after), Naming((), named, after)]
    reader = StateReader(base.text_encoder(), base.prompt_frame())
    shares = encoders.change_by_place(reader, namings, word_ids(base, "bird"), base)
    assert sum(shares.values()) == pytest.approx(1)
    assert shares["name"] > 0
    assert (shares["before"] == 0) == (name == "TextToVideoSDPipeline")


def test_every_token_of_a_prompt_has_its_place() -> None:
    naming = Naming((7, 8), (9,), (10, 11))
    places = [encoders.place_of(position, naming, first=1) for position in range(8)]
    assert places == [*["before"] * 3, "name", "after", "after", "end", "end"]
