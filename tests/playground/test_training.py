"""The training loop: mixed precision is right, and a cut run resumes as if it was not."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor, nn

from unsee.playground.networks import mixed_precision, models
from unsee.playground.networks.mixed_precision import use_fast_products, use_mixed_precision
from unsee.playground.networks.muon import orthogonalised
from unsee.playground.training import latents, stage
from unsee.playground.training.loop import Budget, StepRandom, Trainer, learning_rate_at
from unsee.playground.training.stage import Places
from unsee.playground.training.train import main
from unsee.playground.training.train_autoencoder import (
    AutoencoderTask,
    fold_normalisation,
    latent_statistics,
)
from unsee.playground.world.dataset import Dataset, DataSpec, build_dataset


class ToyTask:
    """Fits a small net to a fixed linear map."""

    name = "toy"
    seed = 3

    def __init__(self) -> None:
        torch.manual_seed(self.seed)
        self.net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
        self.modules = nn.ModuleDict({"net": self.net})

    def loss(self, random: StepRandom, step: int) -> tuple[Tensor, dict[str, float]]:
        x = torch.randn(16, 4, generator=random.torch)
        return (self.net(x) - x[:, :2]).square().mean(), {}


BUDGET = Budget(steps=12, learning_rate=1e-2, warmup_steps=3, log_steps=5)


def test_resumed_run_equals_an_uninterrupted_one(tmp_path: Path) -> None:
    whole = Trainer(ToyTask(), BUDGET, tmp_path / "whole")
    assert whole.run()
    cut = Trainer(ToyTask(), BUDGET, tmp_path / "cut")
    assert not cut.run(stop_at_step=5)
    resumed = Trainer(ToyTask(), BUDGET, tmp_path / "cut")
    assert resumed.step == 5
    assert resumed.run()
    for name, value in whole.ema.average.items():
        assert torch.equal(value, resumed.ema.average[name]), name
    for a, b in zip(whole.parameters, resumed.parameters, strict=True):
        assert torch.equal(a, b)


def test_a_checkpoint_that_a_killed_process_had_set_aside_is_found(tmp_path: Path) -> None:
    folder = tmp_path / "toy"
    Trainer(ToyTask(), BUDGET, folder).run(stop_at_step=5)
    other = tmp_path / ".unfinished-1-old"
    Trainer(ToyTask(), BUDGET, tmp_path / "another").run(stop_at_step=7)
    (tmp_path / "another").rename(other)
    record = other / "record.json"
    record.write_text(record.read_text().replace('"toy"', '"another"'))
    folder.rename(tmp_path / ".unfinished-2-old")
    half_written = tmp_path / ".unfinished-3"
    half_written.mkdir()
    os.utime(half_written, (0, 0))
    assert Trainer(ToyTask(), BUDGET, folder).step == 5
    assert not half_written.exists()
    assert other.exists()


def test_latents_are_encoded_once_and_only_those_that_lack(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(latents, "FRAMES_PER_PIECE", 2)
    items = np.arange(5, dtype=np.uint8).reshape(5, 1, 1, 1, 1)
    dataset = Dataset(items, np.zeros((5, 4), dtype=np.uint8))
    seen: list[int] = []

    def encode(rows: npt.NDArray[np.uint8]) -> latents.Latents:
        seen.extend(rows.flatten())
        return rows.astype(np.float16)

    for missing in ("none", "000002.npy"):
        (tmp_path / missing).unlink(missing_ok=True)
        found = latents.cached_latents(dataset, tmp_path, encode)
        np.testing.assert_array_equal(found, items)
    assert seen == [0, 1, 2, 3, 4, 2, 3]


def test_autoencoder_resumes_exactly(tmp_path: Path) -> None:
    data = tmp_path / "data"
    stills = build_dataset(DataSpec("stills", 4, seed=1), data, workers=1)
    clips = build_dataset(DataSpec("clips", 2, seed=1), data, workers=1)

    def trainer(folder: str) -> Trainer:
        budget = Budget(steps=2, learning_rate=1e-3, warmup_steps=1)
        return Trainer(AutoencoderTask(stills, clips, batch_size=2), budget, tmp_path / folder)

    whole = trainer("whole")
    whole.run()
    trainer("cut").run(stop_at_step=1)
    resumed = trainer("cut")
    resumed.run()
    for name, value in whole.ema.average.items():
        torch.testing.assert_close(value, resumed.ema.average[name], atol=1e-6, rtol=1e-5)


def test_interrupt_saves_and_leaves_cleanly(tmp_path: Path) -> None:
    class Interrupting(ToyTask):
        def loss(self, random: StepRandom, step: int) -> tuple[Tensor, dict[str, float]]:
            if step == 4:
                os.kill(os.getpid(), signal.SIGINT)
            return super().loss(random, step)

    trainer = Trainer(Interrupting(), BUDGET, tmp_path / "run")
    assert not trainer.run()
    assert Trainer(ToyTask(), BUDGET, tmp_path / "run").step == 5
    assert {f.suffix for f in (tmp_path / "run").iterdir()} == {".safetensors", ".json"}


def test_exploding_loss_is_an_error(tmp_path: Path) -> None:
    class Exploding(ToyTask):
        def loss(self, random: StepRandom, step: int) -> tuple[Tensor, dict[str, float]]:
            loss, metrics = super().loss(random, step)
            return loss * float("nan"), metrics

    with pytest.raises(FloatingPointError, match="toy"):
        Trainer(Exploding(), BUDGET, tmp_path / "run").run()


def test_learning_rate_warms_up_and_decays() -> None:
    budget = Budget(steps=100, learning_rate=1.0, warmup_steps=10)
    assert learning_rate_at(0.0, 0, budget) == pytest.approx(0.1)
    assert learning_rate_at(0.1, 10, budget) > 0.9
    assert learning_rate_at(1.0, 100, budget) == pytest.approx(0.02)


@pytest.mark.parametrize("size", [8, 40])
def test_mixed_convolution_has_the_exact_ones_gradients(size: int) -> None:
    torch.manual_seed(0)
    exact = nn.Conv2d(6, 5, 3, padding=1)
    mixed = nn.Conv2d(6, 5, 3, padding=1)
    mixed.load_state_dict(exact.state_dict())
    use_mixed_precision(mixed)
    x = torch.randn(2, 6, size, size)
    inputs = [x.clone().requires_grad_(), x.clone().requires_grad_()]
    for layer, value in zip((exact, mixed), inputs, strict=True):
        layer(value).square().mean().backward()
    pairs = [
        (inputs[0].grad, inputs[1].grad),
        (exact.weight.grad, mixed.weight.grad),
        (exact.bias.grad, mixed.bias.grad),
    ]
    for wanted, found in pairs:
        assert (wanted - found).norm() < 0.02 * wanted.norm()


def test_mixed_convolution_passes_gradients_through_when_frozen() -> None:
    layer = nn.Conv2d(6, 5, 3, padding=1).requires_grad_(False)
    use_mixed_precision(layer)
    x = torch.randn(2, 6, 8, 8, requires_grad=True)
    layer(x).square().mean().backward()
    assert x.grad is not None
    assert layer.weight.grad is None


def test_mixed_temporal_convolution_is_the_exact_one() -> None:
    torch.manual_seed(0)
    exact = nn.Conv3d(6, 5, (3, 1, 1), padding=(1, 0, 0))
    mixed = nn.Conv3d(6, 5, (3, 1, 1), padding=(1, 0, 0))
    mixed.load_state_dict(exact.state_dict())
    use_mixed_precision(mixed)
    x = torch.randn(2, 6, 4, 3, 3)
    outputs = [exact(x), mixed(x)]
    for output in outputs:
        output.square().mean().backward()
    for wanted, found in [outputs, (exact.weight.grad, mixed.weight.grad)]:
        assert (wanted - found).norm() < 0.02 * wanted.norm()


@pytest.mark.parametrize("pays", [True, False])
def test_products_are_in_bfloat16_only_where_that_pays(
    pays: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mixed_precision, "bfloat16_pays", lambda: pays)
    layer = use_fast_products(nn.Conv2d(6, 5, 3, padding=1))
    assert (type(layer) is nn.Conv2d) == (not pays)


def test_a_run_keeps_the_precision_that_it_began_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = Places(tmp_path / "build", tmp_path / "base")
    places.build_dir.mkdir()
    for pays in (False, True):
        monkeypatch.setattr(stage, "bfloat16_pays", lambda pays=pays: pays)
        assert places.precision == "float32"
        assert not places.mixed


@pytest.mark.parametrize("shape", [(8, 30), (30, 8)])
def test_orthogonalised_evens_out_singular_values(shape: tuple[int, int]) -> None:
    random = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    left, _, right = torch.linalg.svd(random, full_matrices=False)
    spread = torch.logspace(0, -1.5, min(shape))  # largest to smallest: 32
    values = torch.linalg.svdvals(orthogonalised(left @ torch.diag(spread) @ right).float())
    assert values.max() < 2.1
    assert values.max() / values.min() < 8


def test_folding_normalises_latents_and_keeps_reconstructions() -> None:
    torch.manual_seed(0)
    vae = models.new_autoencoder().eval()
    images = torch.rand(4, 3, 64, 64) * 2 - 1
    with torch.no_grad():
        before = vae.decode(vae.encode(images).latent_dist.mean).sample
        fold_normalisation(vae, *latent_statistics(vae, images))
        latents = vae.encode(images).latent_dist.mean
        after = vae.decode(latents).sample
    torch.testing.assert_close(after, before, atol=1e-4, rtol=1e-3)
    assert latents.mean(dim=(0, 2, 3)).abs().max() < 1e-3
    assert (latents.std(dim=(0, 2, 3)) - 1).abs().max() < 1e-3


def test_a_stage_without_its_predecessor_says_so(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="autoencoder"):
        Places(tmp_path, tmp_path).average("autoencoder")
    assert main(["--stage", "t2i", "--build-dir", str(tmp_path)]) == 2
