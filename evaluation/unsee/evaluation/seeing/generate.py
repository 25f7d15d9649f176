"""Frames from prompt embeddings, through diffusers' own pipelines and a store.

The denoiser sees embeddings alone, so a clip's address is the digest of those, of the seed, of the
settings and of the models: whatever was made once is never made again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from unsee.core.errors import BaseFolderError
from unsee.evaluation.report.schema import Media
from unsee.evaluation.seeing.frame_store import Frames, FrameStore
from unsee.images.few_shot import t2i_pipeline
from unsee.models.base import Base
from unsee.models.digest import tensors_digest
from unsee.models.quiet import quiet_libraries
from unsee.models.sampling.options import fresh

_PIXELS_PER_BATCH = 2**19
_MOST_PER_BATCH = 32

Shape = tuple[int, int, int, int]


@dataclass(frozen=True)
class GenerationSettings:
    """How clips are sampled; an image has one frame and the text-to-image model's own size."""

    num_frames: int
    height: int
    width: int
    num_inference_steps: int
    guidance_scale: float

    @classmethod
    def of(cls, base: Base) -> GenerationSettings:
        """What the base's service does when a request says nothing."""
        clip = base.spec.clip
        return cls(
            clip.num_frames, clip.height, clip.width, clip.num_inference_steps, clip.guidance_scale
        )


@dataclass(frozen=True)
class FrameMaker:
    """Makes frames, or finds them in `store`; `progress(n)` is called for every n finished."""

    base: Base
    store: FrameStore
    settings: GenerationSettings
    progress: Callable[[int], None] | None = None
    _kept: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    def frames(
        self,
        media: Media,
        prompt_embeds: torch.Tensor,
        negative_prompt_embeds: torch.Tensor,
        seeds: Sequence[int],
    ) -> Frames:
        """uint8 [N, F, H, W, 3] for embeddings [N, L, D], their negative [1, L, D] and N seeds.

        F is 1 for images. Every sample has a generator of its own; within rounding it does not
        depend on its batch; one with a value that is not finite is black. Raises `BaseFolderError`
        if the base cannot make `media`.
        """
        shape = self.shape(media)
        keys = [
            self._key(media, row, negative_prompt_embeds[0], seed)
            for row, seed in zip(prompt_embeds, seeds, strict=True)
        ]
        made = {key: found for key in keys if (found := self.store.get(key, shape)) is not None}
        self._report(sum(key in made for key in keys))
        first = {key: row for row, key in reversed(list(enumerate(keys))) if key not in made}
        for rows in _batches(sorted(first.values()), shape):
            batch = [seeds[row] for row in rows]
            fresh = self._generate(media, prompt_embeds[rows], negative_prompt_embeds, batch)
            for row, clip in zip(rows, fresh, strict=True):
                self.store.put(keys[row], clip)
                made[keys[row]] = clip
                self._report(keys.count(keys[row]))
        return np.stack([made[key] for key in keys])

    def shape(self, media: Media) -> Shape:
        """(frames, height, width, 3) of one sample."""
        if media == "video":
            return self.settings.num_frames, self.settings.height, self.settings.width, 3
        pipeline = self._pipeline("image")
        size = pipeline.unet.config.sample_size
        height, width = (size, size) if isinstance(size, int) else size
        factor = pipeline.vae_scale_factor
        return 1, height * factor, width * factor, 3

    def digest(self, media: Media) -> str:
        """`"sha256:…"` of the denoiser, the autoencoder and the scheduler that make `media`."""
        name = f"digest of {media}"
        if name not in self._kept:
            pipeline = self._pipeline(media)
            parts = [_described(pipeline.scheduler)]
            for model in (pipeline.unet, pipeline.vae):
                parts += [_described(model), tensors_digest(model.state_dict())]
            joined = "\0".join(parts).encode()
            self._kept[name] = f"sha256:{hashlib.sha256(joined).hexdigest()}"
        digest: str = self._kept[name]
        return digest

    def _key(self, media: Media, embeds: torch.Tensor, negative: torch.Tensor, seed: int) -> str:
        settings = self.settings
        facts = (
            media,
            self.digest(media),
            self.shape(media),
            settings.num_inference_steps,
            settings.guidance_scale,
            seed,
        )
        sha256 = hashlib.sha256(json.dumps(facts).encode())
        for tensor in (embeds, negative):
            array = tensor.detach().to("cpu", torch.float32).contiguous().numpy()
            sha256.update(json.dumps(array.shape).encode())
            sha256.update(array.astype("<f4", copy=False).tobytes())
        return sha256.hexdigest()

    def _generate(
        self,
        media: Media,
        prompt_embeds: torch.Tensor,
        negative_prompt_embeds: torch.Tensor,
        seeds: Sequence[int],
    ) -> Frames:
        num_frames, height, width, _ = self.shape(media)
        options: dict[str, Any] = {"num_frames": num_frames} if media == "video" else {}
        with quiet_libraries(), torch.no_grad():
            output = self._pipeline(media)(
                prompt_embeds=prompt_embeds.float(),
                negative_prompt_embeds=negative_prompt_embeds.float().expand_as(prompt_embeds),
                height=height,
                width=width,
                num_inference_steps=self.settings.num_inference_steps,
                guidance_scale=self.settings.guidance_scale,
                generator=[torch.Generator().manual_seed(seed) for seed in seeds],
                output_type="np",
                **options,
            )
        pixels = np.asarray(output.frames if media == "video" else output.images[:, None])
        finite = np.isfinite(pixels).reshape(len(pixels), -1).all(axis=1)
        pixels = np.where(finite[:, None, None, None, None], pixels, 0.0)
        return np.asarray((pixels.clip(0, 1) * 255).round(), dtype=np.uint8)

    def _pipeline(self, media: Media) -> Any:
        if media not in self._kept:
            with quiet_libraries():
                make = t2i_pipeline if media == "image" else _t2v_pipeline
                self._kept[media] = make(self.base)
        return self._kept[media]

    def _report(self, finished: int) -> None:
        if self.progress is not None and finished:
            self.progress(finished)


def _described(component: Any) -> str:
    """Class and configuration, without what loading adds to it."""
    config = {name: value for name, value in component.config.items() if name[0] != "_"}
    return json.dumps([type(component).__name__, config], sort_keys=True, default=str)


def _batches(rows: Sequence[int], shape: Shape) -> Iterator[list[int]]:
    num_frames, height, width, _ = shape
    size = max(1, min(_MOST_PER_BATCH, _PIXELS_PER_BATCH // (num_frames * height * width)))
    for start in range(0, len(rows), size):
        yield list(rows[start : start + size])


def _t2v_pipeline(base: Base) -> Any:
    from diffusers import TextToVideoSDPipeline, UNet3DConditionModel

    unet = base.t2v_unet()
    if not isinstance(unet, UNet3DConditionModel):
        raise BaseFolderError(
            f"the video denoiser of the base {base.name!r} is a {type(unet).__name__}; "
            "clips can be evaluated for UNet3DConditionModel only, images with --media image"
        )
    pipeline = TextToVideoSDPipeline(
        vae=base.t2v_vae(),
        text_encoder=base.text_encoder(),
        tokenizer=base.tokenizer(),
        unet=unet,
        scheduler=fresh(base.t2v_scheduler()),
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline
