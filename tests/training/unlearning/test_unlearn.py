"""Paper mode: what it changes, what it minimises, that it repeats, that it can be stopped."""

import copy
from pathlib import Path

import pytest
import torch
from PIL import Image
from pydantic import ValidationError
from transformers import CLIPTextModel

from fakes import write_tiny_base
from unsee.core.errors import InputError, UnlearnDiverged
from unsee.core.policy import Concept
from unsee.core.unlearning_settings import PaperMode
from unsee.deltas.composition import compose
from unsee.images.denoising import Denoising, load_denoising
from unsee.images.latents import encode_images
from unsee.models.base import Base, load_base
from unsee.models.digest import tensors_digest
from unsee.prompts.tokens import padded_token_ids
from unsee.unlearning.estimate import Estimate
from unsee.unlearning.unlearn import unlearn

QUICK = PaperMode(learning_rate=1e-3, epochs=2)


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction", "sample"])
def test_loss_against_the_equations(tmp_path: Path, prediction_type: str) -> None:
    base = load_base(write_tiny_base(tmp_path, prediction_type=prediction_type))
    frozen = load_denoising(base)
    generator = torch.Generator().manual_seed(3)
    latents = torch.randn(3, 4, 8, 8, generator=generator)
    noise = torch.randn(3, 4, 8, 8, generator=generator)
    prompt_embeds = torch.randn(3, 48, 32, generator=generator)
    timesteps = torch.tensor([0, 500, 999])

    scheduler = base.scheduler()
    alpha_bar = scheduler.alphas_cumprod[timesteps].reshape(3, 1, 1, 1)
    signal, spread = alpha_bar.sqrt(), (1 - alpha_bar).sqrt()
    targets = {
        "epsilon": noise,
        "v_prediction": signal * noise - spread * latents,
        "sample": latents,
    }
    target = targets[prediction_type]
    noisy = scheduler.add_noise(latents, noise, timesteps)
    torch.testing.assert_close(noisy, signal * latents + spread * noise)
    prediction = base.denoiser()(noisy, timesteps, encoder_hidden_states=prompt_embeds).sample
    expected = ((prediction - target) ** 2).mean()

    torch.testing.assert_close(frozen.process.target(latents, noise, timesteps), target)
    torch.testing.assert_close(frozen.loss(latents, noise, timesteps, prompt_embeds), expected)


def test_only_the_papers_tensors_change(
    base: Base, blimbo: Concept, images: list[Image.Image]
) -> None:
    before = copy.deepcopy(base.text_encoder().state_dict())
    told: list[Estimate] = []
    delta = unlearn(base, blimbo, images, QUICK, 0, progress=told.append)
    after = base.text_encoder().state_dict()
    assert all(torch.equal(after[name], before[name]) for name in before)

    trained = set(base.family().paper_parameters(base.text_encoder()))
    # a key's bias moves every attention score of a query alike, so softmax hides it
    hidden = {name for name in trained if name.endswith("self_attn.k_proj.bias")}
    assert trained - hidden <= set(delta.tensors) <= trained
    tuned = compose(base.text_encoder(), [delta]).state_dict()
    changed = {name for name in before if not torch.equal(tuned[name], before[name])}
    assert changed == set(delta.tensors)

    assert told == [Estimate(k, 4, loss) for k, loss in enumerate(delta.card.losses, start=1)]
    assert len(told) == 4
    assert all(loss < 0 for loss in delta.card.losses)
    assert delta.card.base_digest == base.digest()
    assert delta.card.settings == PaperMode(learning_rate=1e-3, epochs=2, shots=4)
    assert (delta.card.method, delta.card.concept, delta.card.seed) == ("paper", blimbo, 0)
    assert delta.card.stopped == "all 4 steps of the paper's schedule were taken"
    assert (delta.card.erased, delta.card.kept, delta.card.anchor) == (None, None, None)
    assert delta.card.tensors_digest == tensors_digest(delta.tensors)


def test_first_step_is_adams(base: Base, blimbo: Concept, images: list[Image.Image]) -> None:
    once = PaperMode(learning_rate=1e-3, epochs=1, batch_size=4, eps=1e-30, weight_decay=0.0)
    delta = unlearn(base, blimbo, images, once, 0)
    moved = torch.cat([t.flatten().abs() for n, t in delta.tensors.items() if "mlp" in n])
    torch.testing.assert_close(moved[moved > 0].median(), torch.tensor(1e-3), rtol=1e-3, atol=0)


def test_it_climbs_the_denoising_error(
    base: Base, blimbo: Concept, images: list[Image.Image]
) -> None:
    delta = unlearn(base, blimbo, images, PaperMode(learning_rate=3e-3, epochs=8), 0)

    def error(text_encoder: CLIPTextModel) -> float:
        generator = torch.Generator().manual_seed(1)
        latents = encode_images(base, images, generator).repeat(4, 1, 1, 1)
        noise = torch.randn(latents.shape, generator=generator)
        ids = torch.tensor(padded_token_ids(base, ["a picture of Blimbo"]))
        with torch.no_grad():
            embeds = text_encoder(ids).last_hidden_state.expand(len(latents), -1, -1)
            timesteps = torch.linspace(0, 999, len(latents)).long()
            return load_denoising(base).loss(latents, noise, timesteps, embeds).item()

    assert error(compose(base.text_encoder(), [delta])) > error(base.text_encoder())


def test_the_seed_decides_every_bit(base: Base, blimbo: Concept, images: list[Image.Image]) -> None:
    def digest(seed: int) -> str:
        torch.rand(7)  # the global generator must not matter
        return unlearn(base, blimbo, images, QUICK, seed).card.tensors_digest

    assert digest(0) == digest(0) != digest(1)


def test_an_interrupt_passes_through_and_leaves_the_base_alone(
    base: Base, blimbo: Concept, images: list[Image.Image]
) -> None:
    digest = base.digest()

    def interrupt(estimate: Estimate) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        unlearn(base, blimbo, images, QUICK, 0, progress=interrupt)
    assert load_base(base.folder).digest() == digest
    compose(base.text_encoder(), [])


def test_divergence_is_said_not_saved(
    base: Base, blimbo: Concept, images: list[Image.Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    def overflow(self: Denoising, *inputs: torch.Tensor) -> torch.Tensor:
        return inputs[-1].sum() * torch.inf

    monkeypatch.setattr(Denoising, "loss", overflow)
    with pytest.raises(UnlearnDiverged, match=r"at step 1: .* use a learning rate below 0\.001"):
        unlearn(base, blimbo, images, QUICK, 0)


def test_no_images(base: Base, blimbo: Concept) -> None:
    with pytest.raises(InputError, match="no images of 'Blimbo'"):
        unlearn(base, blimbo, [], QUICK, 0)


@pytest.mark.parametrize(
    "wrong", [{"epochs": 0}, {"learning_rate": 0.0}, {"betas": (0.9, 1.0)}, {"batch_size": 0}]
)
def test_settings_have_bounds(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        PaperMode(**wrong)  # type: ignore[arg-type]


def test_paper_defaults() -> None:
    paper = PaperMode()
    assert (paper.learning_rate, paper.betas, paper.eps) == (1e-5, (0.9, 0.98), 1e-6)
    assert (paper.weight_decay, paper.batch_size, paper.epochs) == (1e-8, 2, 5)
