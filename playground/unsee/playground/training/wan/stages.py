"""The stages of the second base, in order: autoencoder -> stills -> clips.

The transformer and the text encoder learn single frames first (64 tokens each), then clips of 17
frames (5 latent frames, 320 tokens) beside single frames, so that one frame stays as good as many.
The judge is the first base's. From the first checkpoint of ``stills`` on, ``base_dir/t2v`` is a
WanPipeline folder that can be looked at.

A stage begins where the one before it ended: at its checkpoint in the build folder or, where there
is none, at the base's folder. So one stage can be trained on one machine, the next on another.

How long it takes on two quiet cores of an AMD EPYC with avx512_bf16 and without matrix units:

    data, drawn once, 2.9 GB                      2 min
    autoencoder   1,300 steps of 0.38 s, and then 1,300 of 0.9 s
    latents of stills and clips                   4 min
    stills        1,900 steps of 1.5 s
    clips         2,300 steps of 1.65 s

Without bfloat16 a step of the autoencoder takes 1.2 (stills) to 1.5 times (clips) as long.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from diffusers import AutoencoderKLWan, WanTransformer3DModel
from torch import Tensor
from transformers import T5TokenizerFast, UMT5EncoderModel

from unsee.playground.networks.t5_tokenizer import NUM_CAPTIONS, kept_tokenizer
from unsee.playground.networks.wan import (
    CLIP,
    SIZES,
    WanSizes,
    new_scheduler,
    new_text_encoder,
    new_transformer,
)
from unsee.playground.training import train_data
from unsee.playground.training.checkpoint import digest
from unsee.playground.training.export_base import save_half, under
from unsee.playground.training.latents import cached_latents
from unsee.playground.training.loop import Budget, Trainer
from unsee.playground.training.stage import Places, Stage, run_recorded
from unsee.playground.training.wan.autoencoder import (
    AutoencoderBatch,
    VideoAutoencoderTask,
    encode_normalised,
    finished_autoencoder,
)
from unsee.playground.training.wan.export import export_wan
from unsee.playground.training.wan.transformer import FlowTask, Source
from unsee.playground.world.dataset import Dataset, DataSpec

BASE_DIR = train_data.REPOSITORY / "bases" / "playground-wan"
BUILD_DIR = train_data.REPOSITORY / "build" / "playground-wan"
WIDE_CLIPS = replace(train_data.WIDE_CLIPS, num_frames=CLIP.num_frames)
CLIPS = replace(train_data.CLIPS, num_frames=CLIP.num_frames)
AUTOENCODER_BATCH = AutoencoderBatch()
BUDGETS: Mapping[str, Budget] = {
    "autoencoder": Budget(steps=2600, learning_rate=4e-3, ema_decay=0.995, weight_decay=0.0),
    "stills": Budget(steps=1900, learning_rate=2e-3, ema_decay=0.998),
    "clips": Budget(steps=2300, learning_rate=1e-3, ema_decay=0.998),
}


@dataclass(frozen=True)
class WanTraining:
    """The stages' functions, and all that a trial run makes smaller."""

    sizes: WanSizes = SIZES
    wide_stills: DataSpec = train_data.WIDE_STILLS
    wide_clips: DataSpec = WIDE_CLIPS
    stills: DataSpec = train_data.STILLS
    clips: DataSpec = CLIPS
    autoencoder_batch: AutoencoderBatch = AUTOENCODER_BATCH
    statistics_items: int = 96  # clips, and as many stills times their frames
    stills_batch: tuple[int, int] = (32, 2)  # captions, draws of noise for each
    clips_batch: tuple[int, int] = (16, 1)
    stills_beside_clips: tuple[int, int] = (16, 2)
    text_only_steps: int = 150
    num_captions: int = NUM_CAPTIONS  # of each language, to train the tokenizer
    compiled: bool = True

    def train_autoencoder(self, budget: Budget, places: Places) -> bool:
        stills = train_data.opened(places.seen(self.wide_stills), places.build_dir)
        clips = train_data.opened(places.seen(self.wide_clips), places.build_dir)
        task = VideoAutoencoderTask(
            stills, clips, self.autoencoder_batch, self.sizes, mixed=places.mixed
        )
        trainer = Trainer(task, budget, places.checkpoint("autoencoder"))
        finished = run_recorded(trainer, places, places.precision)
        if finished:
            save_half(self.autoencoder(places), pipeline_dir(places) / "vae")
        return finished

    def train_stills(self, budget: Budget, places: Places) -> bool:
        vae = self.autoencoder(places)
        stills = self.source(vae, self.stills, self.stills_batch, places)
        task = self.flow_task("stills", [stills], self.text_only_steps, 2, places)
        return self.train_flow(task, vae, budget, places)

    def train_clips(self, budget: Budget, places: Places) -> bool:
        start = self.trained_on_stills(places)
        vae = self.autoencoder(places)
        clips = self.source(vae, self.clips, self.clips_batch, places)
        stills = self.source(vae, self.stills, self.stills_beside_clips, places)
        task = self.flow_task("clips", [clips, stills], 0, 3, places)
        task.modules.load_state_dict(start, strict=places.has_checkpoint("stills"))
        return self.train_flow(task, vae, budget, places)

    def train_flow(
        self, task: FlowTask, vae: AutoencoderKLWan, budget: Budget, places: Places
    ) -> bool:
        if self.compiled:
            task.transformer.compile_repeated_blocks(dynamic=False)

        def export(average: Mapping[str, Tensor], step: int) -> None:
            text_encoder = new_text_encoder(task.tokenizer, self.sizes)
            transformer = new_transformer(self.sizes)
            text_encoder.load_state_dict(under("text_encoder", average))
            transformer.load_state_dict(under("transformer", average))
            folder = pipeline_dir(places)
            export_wan(folder, task.tokenizer, text_encoder, vae, transformer, new_scheduler())

        trainer = Trainer(task, budget, places.checkpoint(task.name), export)
        return run_recorded(trainer, places, places.precision)

    def flow_task(
        self, name: str, sources: Sequence[Source], text_only_steps: int, seed: int, places: Places
    ) -> FlowTask:
        tokenizer = self.tokenizer(places)
        return FlowTask(name, sources, tokenizer, text_only_steps, self.sizes, seed, places.mixed)

    def tokenizer(self, places: Places) -> T5TokenizerFast:
        """The base's, for its trainer gives another one in every run; else a new one."""
        finished = pipeline_dir(places) / "tokenizer"
        folder = finished if finished.exists() else places.build_dir / "tokenizer"
        return kept_tokenizer(folder, self.num_captions)

    def trained_on_stills(self, places: Places) -> dict[str, Tensor]:
        """Weights of the last checkpoint or, without one, of the base's folder (no label heads)."""
        if places.has_checkpoint("stills") or not (pipeline_dir(places) / "transformer").exists():
            return places.average("stills")
        modules = {"text_encoder": UMT5EncoderModel, "transformer": WanTransformer3DModel}
        return {
            f"{name}.{key}": value
            for name, kind in modules.items()
            for key, value in from_folder(kind, pipeline_dir(places) / name).state_dict().items()
        }

    def autoencoder(self, places: Places) -> AutoencoderKLWan:
        """The last checkpoint's, else the base's, with its latents' statistics."""
        finished = pipeline_dir(places) / "vae"
        if finished.exists() and not places.has_checkpoint("autoencoder"):
            vae: AutoencoderKLWan = from_folder(AutoencoderKLWan, finished)
            return vae.eval().requires_grad_(False)
        weights = under("vae", places.average("autoencoder"))
        stills = train_data.opened(places.seen(self.wide_stills), places.build_dir)
        clips = train_data.opened(places.seen(self.wide_clips), places.build_dir)
        count = self.statistics_items
        num_stills = count * (1 + (self.wide_clips.num_frames - 1) // 4)
        return finished_autoencoder(
            weights, stills.frames[:num_stills], clips.frames[:count], self.sizes
        )

    def source(
        self, vae: AutoencoderKLWan, spec: DataSpec, batch: tuple[int, int], places: Places
    ) -> Source:
        """The data set's latents by this autoencoder, encoded first if they are not there yet."""
        dataset: Dataset = train_data.opened(places.seen(spec), places.build_dir)
        folder = places.build_dir / "latents" / f"{spec.kind}-{digest(vae.state_dict())[:12]}"
        latents = cached_latents(dataset, folder, partial(encode_normalised, vae))
        return Source(spec.kind, latents, dataset.labels, *batch)


def pipeline_dir(places: Places) -> Path:
    """The base's WanPipeline folder."""
    return places.base_dir / "t2v"


def from_folder(kind: Any, folder: Path) -> Any:
    """A module of the base, its float16 weights as float32."""
    return kind.from_pretrained(folder).float()


def stages_of(training: WanTraining) -> Mapping[str, Stage]:
    return {
        "autoencoder": Stage(training.train_autoencoder, BUDGETS["autoencoder"]),
        "stills": Stage(training.train_stills, BUDGETS["stills"]),
        "clips": Stage(training.train_clips, BUDGETS["clips"]),
    }


STAGES = stages_of(WanTraining())
