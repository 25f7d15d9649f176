"""The stages of training, in order, and what each one hands to the next.

    autoencoder -> t2i -> t2v, and judge on its own

Every stage writes its finished weights into ``build_dir`` and, where they belong to the
base, into ``base_dir`` too, at each checkpoint.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from torch import Tensor

from playground import models, train_data
from playground.checkpoint import read_folder
from playground.export_base import export_t2i, export_t2v, under
from playground.judge import Judge
from playground.latents import cached_latents
from playground.loop import Budget, Trainer
from playground.mixed_precision import use_mixed_precision
from playground.tokenizer import new_tokenizer
from playground.train_autoencoder import (
    AutoencoderTask,
    fold_normalisation,
    latent_statistics,
    to_unit_range,
)
from playground.train_judge import JudgeTask
from playground.train_t2i import ImageTask
from playground.train_t2v import VideoTask

STATISTICS_FRAMES = 2048


@dataclass(frozen=True)
class Places:
    """Where training reads and writes."""

    build_dir: Path = train_data.BUILD_DIR
    base_dir: Path = train_data.BASE_DIR

    def checkpoint(self, stage: str) -> Path:
        return self.build_dir / "checkpoints" / stage

    def average(self, stage: str) -> dict[str, Tensor]:
        """The averaged weights of a stage's last checkpoint."""
        if not (self.checkpoint(stage) / "record.json").exists():
            raise FileNotFoundError(
                f"stage {stage} has no checkpoint in {self.build_dir}; train it first"
            )
        return read_folder(self.checkpoint(stage))[0]["average"]


def normalised_vae(places: Places) -> AutoencoderKL:
    """The trained autoencoder with its latents' statistics folded in."""
    vae = models.new_autoencoder()
    vae.load_state_dict(under("vae", places.average("autoencoder")))
    use_mixed_precision(vae)
    vae.eval().to(memory_format=torch.channels_last)
    frames = train_data.stills(places.build_dir).frames[:STATISTICS_FRAMES, 0]
    images = to_unit_range(torch.from_numpy(frames.copy()))
    fold_normalisation(vae, *latent_statistics(vae, images))
    return vae


def train_autoencoder(budget: Budget, places: Places) -> bool:
    stills, clips = train_data.stills(places.build_dir), train_data.clips(places.build_dir)
    trainer = Trainer(AutoencoderTask(stills, clips), budget, places.checkpoint("autoencoder"))
    return trainer.run()


def train_t2i(budget: Budget, places: Places) -> bool:
    vae, tokenizer = normalised_vae(places), new_tokenizer()
    stills = train_data.stills(places.build_dir)
    latents = cached_latents(vae, stills, places.build_dir / "latents" / "stills.npy")

    def export(average: Mapping[str, Tensor], step: int) -> None:
        text_encoder, unet = models.new_text_encoder_for(tokenizer), models.new_image_unet()
        text_encoder.load_state_dict(under("text_encoder", average))
        unet.load_state_dict(under("unet", average))
        scheduler = models.new_scheduler()
        export_t2i(places.base_dir / "t2i", tokenizer, text_encoder, vae, unet, scheduler)

    task = ImageTask(latents, stills.labels, tokenizer)
    return Trainer(task, budget, places.checkpoint("t2i"), export).run()


def train_t2v(budget: Budget, places: Places) -> bool:
    vae, tokenizer = normalised_vae(places), new_tokenizer()
    clips = train_data.clips(places.build_dir)
    latents = cached_latents(vae, clips, places.build_dir / "latents" / "clips.npy")
    average = places.average("t2i")
    text_encoder, image_unet = models.new_text_encoder_for(tokenizer), models.new_image_unet()
    text_encoder.load_state_dict(under("text_encoder", average))
    image_unet.load_state_dict(under("unet", average))

    def export(average: Mapping[str, Tensor], step: int) -> None:
        unet = models.new_video_unet()
        unet.load_state_dict(under("unet", average))
        export_t2v(places.base_dir / "t2v", unet, models.new_scheduler())

    task = VideoTask(latents, clips.labels, tokenizer, text_encoder, image_unet)
    return Trainer(task, budget, places.checkpoint("t2v"), export).run()


def train_judge(budget: Budget, places: Places) -> bool:
    stills, clips = train_data.stills(places.build_dir), train_data.clips(places.build_dir)

    def export(average: Mapping[str, Tensor], step: int) -> None:
        judge = Judge()
        judge.load_state_dict(under("judge", average))
        judge.save_pretrained(places.base_dir / "judge")

    task = JudgeTask(stills, clips)
    return Trainer(task, budget, places.checkpoint("judge"), export).run()


@dataclass(frozen=True)
class Stage:
    train: Callable[[Budget, Places], bool]
    budget: Budget


STAGES: Mapping[str, Stage] = {
    "autoencoder": Stage(
        train_autoencoder,
        Budget(steps=20_000, learning_rate=4e-3, minutes=18, ema_decay=0.995, weight_decay=0.0),
    ),
    "t2i": Stage(train_t2i, Budget(steps=20_000, learning_rate=2e-3, minutes=25, ema_decay=0.998)),
    "t2v": Stage(
        train_t2v, Budget(steps=20_000, learning_rate=1.5e-3, minutes=28, ema_decay=0.998)
    ),
    "judge": Stage(train_judge, Budget(steps=2200, learning_rate=3e-3, ema_decay=0.99)),
}
