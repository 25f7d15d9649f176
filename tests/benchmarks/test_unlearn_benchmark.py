"""The benchmark of unlearning: its sizes are the published ones, and it runs on the smallest."""

import importlib
import json
import os
import signal
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


@pytest.fixture
def benchmark(
    load: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Any]:
    """Runs the command in this process."""
    command = load("unlearn")
    monkeypatch.setattr(command, "in_own_process", lambda function, *given: function(*given))

    def run(*arguments: str) -> Any:
        return CliRunner().invoke(command.unlearn, ["--size", "tiny", "--turns", "1", *arguments])

    return run


@pytest.mark.parametrize("name", ["sd1", "sd2"])
def test_the_sizes_are_the_published_ones(load: Callable[[str], ModuleType], name: str) -> None:
    real = load("real_size")
    size = real.SIZES[name]
    tokenizer = real._tokenizer(size)
    with torch.device("meta"):
        models = {
            "text_encoder": real.text_encoder(size, tokenizer),
            "unet": real.unet(size, size.pixels),
            "vae": real.vae(size, size.pixels),
        }
    counts = {part: sum(p.numel() for p in model.parameters()) for part, model in models.items()}
    assert counts == size.parameters
    assert models["unet"].config.sample_size == 64


def test_every_variant_is_measured(benchmark: Callable[..., Any]) -> None:
    result = benchmark("--repeats", "1", "--json", "--batch-size", "2")
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
    load: Callable[[str], ModuleType],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    command, failed = load("unlearn"), load("own_process").ProcessFailed

    def in_own_process(function: Callable[..., Any], *given: Any) -> Any:
        if getattr(given[0], "variant", "") == "as-written":
            raise failed("it was killed, as the system does when memory runs out")
        return function(*given)

    monkeypatch.setattr(command, "in_own_process", in_own_process)
    result = benchmark("--repeats", "1", "--variant", "as-written", "--variant", "paper")
    assert result.exit_code == 0, result.output
    assert "as-written gave no result: it was killed" in result.stdout
    assert "paper mode: step" in result.stdout


def test_pixels_that_no_latent_grid_fits(benchmark: Callable[..., Any]) -> None:
    result = benchmark("--pixels", "100")
    assert result.exit_code == 2
    assert "100 is not a multiple of 64" in result.stderr


def test_a_process_of_its_own(load: Callable[[str], ModuleType]) -> None:
    own = load("own_process")
    assert own.in_own_process(os.getpid) != os.getpid()
    with pytest.raises(own.ProcessFailed, match="ValueError: invalid literal"):
        own.in_own_process(int, "x")
    with pytest.raises(own.ProcessFailed, match="killed, as the system does"):
        own.in_own_process(signal.raise_signal, signal.SIGKILL)


def test_the_counter_knows_attention_on_the_cpu(load: Callable[[str], ModuleType]) -> None:
    meter = load("meter").Meter(1, torch.device("cpu"))
    query = torch.randn(1, 2, 32, 8, requires_grad=True)

    def attend() -> None:
        torch.nn.functional.scaled_dot_product_attention(query, query, query).sum().backward()

    product = 2 * 2 * 32 * 32 * 8
    assert meter.repeat(attend).flops == (2 + 5) * product
    assert len(meter.seconds) == 1
