"""Frames from prompt embeddings, through diffusers' own pipelines and a store.

The denoiser sees embeddings alone, so a clip's address is the digest of those, of the seed, of the
settings and of the models: whatever was made once is never made again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from unsee.core.files import digest_of
from unsee.evaluation.report.schema import Media
from unsee.evaluation.seeing.frame_store import Frames, FrameStore
from unsee.models.base import Base
from unsee.models.digest import models_digest
from unsee.models.generative import open_model
from unsee.models.pipelines.model import GenerativeModel, Sampling

_PIXELS_PER_BATCH = 2**19
_MOST_PER_BATCH = 32

Shape = tuple[int, int, int, int]


def clip_sampling(base: Base) -> Sampling:
    """How the base's service makes a clip when a request says nothing."""
    clip = base.spec.clip
    return Sampling(
        clip.num_frames, clip.height, clip.width, clip.num_inference_steps, clip.guidance_scale
    )


@dataclass(frozen=True)
class FrameMaker:
    """Makes frames, or finds them in `store`; `progress(n)` is called for every n finished.

    `settings` are those of clips; an image has one frame and the size of the model that makes it.
    """

    base: Base
    store: FrameStore
    settings: Sampling
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
        settings = self.settings
        if media == "video":
            return settings.num_frames, settings.height, settings.width, 3
        return 1, *self._model(media).picture_size, 3

    def digest(self, media: Media) -> str:
        """`"sha256:…"` of the denoiser, the autoencoder and the scheduler that make `media`.

        Where the denoiser is told more than prompt, size and noise, that is in it.
        """
        name = f"digest of {media}"
        if name not in self._kept:
            model = self._model(media)
            made_of = model.parts
            found = models_digest(made_of.denoiser, made_of.vae, made_of.scheduler)
            told = json.dumps(dict(model.conditions), sort_keys=True)
            self._kept[name] = digest_of(f"{found}{told}".encode()) if model.conditions else found
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
        pixels = self._model(media).sample(
            replace(self.settings, num_frames=num_frames, height=height, width=width),
            prompt_embeds.float(),
            negative_prompt_embeds.float().expand_as(prompt_embeds),
            [torch.Generator().manual_seed(seed) for seed in seeds],
        )
        finite = np.isfinite(pixels).reshape(len(pixels), -1).all(axis=1)
        pixels = np.where(finite[:, None, None, None, None], pixels, 0.0)
        return np.asarray((pixels.clip(0, 1) * 255).round(), dtype=np.uint8)

    def _model(self, media: Media) -> GenerativeModel:
        if media not in self._kept:
            self._kept[media] = open_model(self.base, media)
        model: GenerativeModel = self._kept[media]
        return model

    def _report(self, finished: int) -> None:
        if self.progress is not None and finished:
            self.progress(finished)


def _batches(rows: Sequence[int], shape: Shape) -> Iterator[list[int]]:
    num_frames, height, width, _ = shape
    size = max(1, min(_MOST_PER_BATCH, _PIXELS_PER_BATCH // (num_frames * height * width)))
    for start in range(0, len(rows), size):
        yield list(rows[start : start + size])
