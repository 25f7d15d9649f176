"""The stages of training, in order, and what each one hands to the next.

    autoencoder -> t2i -> t2v, and judge on its own

Every stage writes its finished weights into ``build_dir`` and, where they belong to the
base, into ``base_dir`` too, at each checkpoint.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import torch
from diffusers import AutoencoderKL
from torch import Tensor

from unsee.playground.networks import models
from unsee.playground.networks.judge import Judge
from unsee.playground.networks.mixed_precision import use_fast_products
from unsee.playground.networks.tokenizer import new_tokenizer
from unsee.playground.training import train_data
from unsee.playground.training.export_base import export_t2i, export_t2v, under
from unsee.playground.training.latents import EncodeItems, cached_latents, encode_frames
from unsee.playground.training.loop import Budget, Trainer
from unsee.playground.training.stage import Places, Stage, run_recorded
from unsee.playground.training.train_autoencoder import (
    AutoencoderTask,
    fold_normalisation,
    latent_statistics,
    to_unit_range,
)
from unsee.playground.training.train_denoisers import ImageTask, VideoTask
from unsee.playground.training.train_judge import JudgeTask

STATISTICS_FRAMES = 2048


def normalised_vae(places: Places) -> AutoencoderKL:
    """The trained autoencoder with its latents' statistics folded in."""
    vae = models.new_autoencoder()
    vae.load_state_dict(under("vae", places.average("autoencoder")))
    use_fast_products(vae)
    vae.eval().to(memory_format=torch.channels_last)
    wide = train_data.opened(places.seen(train_data.WIDE_STILLS), places.build_dir)
    frames = wide.frames[:STATISTICS_FRAMES, 0]
    images = to_unit_range(torch.from_numpy(frames.copy()))
    fold_normalisation(vae, *latent_statistics(vae, images))
    return vae


def encoder(vae: AutoencoderKL) -> EncodeItems:
    """What `cached_latents` calls, with the autoencoder ready for it."""
    use_fast_products(vae)
    vae.eval().to(memory_format=torch.channels_last)
    return partial(encode_frames, vae)


def train_autoencoder(budget: Budget, places: Places) -> bool:
    stills = train_data.opened(places.seen(train_data.WIDE_STILLS), places.build_dir)
    clips = train_data.opened(places.seen(train_data.WIDE_CLIPS), places.build_dir)
    task = AutoencoderTask(stills, clips, mixed=places.mixed)
    trainer = Trainer(task, budget, places.checkpoint("autoencoder"))
    return run_recorded(trainer, places, places.precision)


def train_t2i(budget: Budget, places: Places) -> bool:
    vae, tokenizer = normalised_vae(places), new_tokenizer()
    stills = train_data.opened(places.seen(train_data.STILLS), places.build_dir)
    latents = cached_latents(stills, places.build_dir / "latents" / "stills", encoder(vae))

    def export(average: Mapping[str, Tensor], step: int) -> None:
        text_encoder, unet = models.new_text_encoder_for(tokenizer), models.new_image_unet()
        text_encoder.load_state_dict(under("text_encoder", average))
        unet.load_state_dict(under("unet", average))
        scheduler = models.new_scheduler()
        export_t2i(places.base_dir / "t2i", tokenizer, text_encoder, vae, unet, scheduler)

    task = ImageTask(latents, stills.labels, tokenizer, mixed=places.mixed)
    task.unet.compile(dynamic=False)
    trainer = Trainer(task, budget, places.checkpoint("t2i"), export)
    return run_recorded(trainer, places, places.precision)


def train_t2v(budget: Budget, places: Places) -> bool:
    vae, tokenizer = normalised_vae(places), new_tokenizer()
    clips = train_data.opened(places.seen(train_data.CLIPS), places.build_dir)
    latents = cached_latents(clips, places.build_dir / "latents" / "clips", encoder(vae))
    average = places.average("t2i")
    text_encoder, image_unet = models.new_text_encoder_for(tokenizer), models.new_image_unet()
    text_encoder.load_state_dict(under("text_encoder", average))
    image_unet.load_state_dict(under("unet", average))

    def export(average: Mapping[str, Tensor], step: int) -> None:
        unet = models.new_video_unet()
        unet.load_state_dict(under("unet", average))
        export_t2v(places.base_dir / "t2v", unet, models.new_scheduler())

    task = VideoTask(latents, clips.labels, tokenizer, text_encoder, image_unet, mixed=places.mixed)
    task.unet.compile(dynamic=False)
    trainer = Trainer(task, budget, places.checkpoint("t2v"), export)
    return run_recorded(trainer, places, places.precision)


def train_judge(budget: Budget, places: Places) -> bool:
    stills = train_data.opened(train_data.WIDE_STILLS, places.build_dir)
    clips = train_data.opened(train_data.WIDE_CLIPS, places.build_dir)

    def export(average: Mapping[str, Tensor], step: int) -> None:
        judge = Judge()
        judge.load_state_dict(under("judge", average))
        judge.save_pretrained(places.base_dir / "judge")

    task = JudgeTask(stills, clips)
    trainer = Trainer(task, budget, places.checkpoint("judge"), export)
    return run_recorded(trainer, places, "float32")


STAGES: Mapping[str, Stage] = {
    "autoencoder": Stage(
        train_autoencoder,
        Budget(steps=1402, learning_rate=4e-3, ema_decay=0.995, weight_decay=0.0),
    ),
    "t2i": Stage(train_t2i, Budget(steps=3600, learning_rate=2e-3, ema_decay=0.998)),
    "t2v": Stage(train_t2v, Budget(steps=1100, learning_rate=1.5e-3, ema_decay=0.998)),
    "judge": Stage(train_judge, Budget(steps=2600, learning_rate=3e-3, ema_decay=0.99)),
}
