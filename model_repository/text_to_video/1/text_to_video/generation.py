"""One clip, from a checked request to frames and their record.

`Graphs` is all it sees of the models. The order is: encode the negative and the positive prompt
with the policy's revision, sample with classifier-free guidance (both rows in one batched call of
the video denoiser; Ho and Salimans, arXiv 2207.12598, in diffusers' form), decode.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from text_to_video.base import Base, prompt_rows
from text_to_video.policies import Revision
from text_to_video.refusal import Refusal
from text_to_video.request_schema import GenerationRequest
from text_to_video.sampler import sample
from text_to_video.sampler_table import SamplerTable
from text_to_video.tokens import Tokens

Array = npt.NDArray[Any]


class Graphs(Protocol):
    """The models of a clip, wherever they run. Each call raises Refusal on failure."""

    async def prompt_encoder(self, revision: Revision, tokens: Tokens) -> Array:
        """INT64 [B, L] -> `prompt_embeds` FP32 [B, L, D]."""

    async def video_denoiser(self, sample: Array, timestep: Array, hidden: Array) -> Array:
        """FP32 [B, C, F, h, w], FP32 [B], FP32 [B, L, D] -> `noise_pred` FP32 [B, C, F, h, w]."""

    async def vae_decoder(self, latents: Array) -> Array:
        """FP32 [1, C, F, h, w] -> `frames` UINT8 [1, F, H, W, 3]."""

    async def vae_decoder_step(self, latents: Array, cache: Array | None) -> tuple[Array, Array]:
        """One latent frame, FP32 [1, C, 1, h, w] -> its `frames`, UINT8 [1, F, H, W, 3], and what
        the step after it is to be given as `cache`; None before the clip's first.
        """


@dataclass(frozen=True)
class Plan:
    """A request that has passed every check: what it takes to make the clip."""

    request: GenerationRequest
    revision: Revision
    tokens: Tokens
    table: SamplerTable


class Stopwatch:
    """Seconds per stage; the time between two laps belongs to the later one."""

    def __init__(self) -> None:
        self.started_at = datetime.now(UTC).isoformat(timespec="milliseconds")
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, stage: str) -> None:
        """Book the time since the last lap under `stage`."""
        now = time.perf_counter()
        self.seconds[stage] = round(now - self._last, 6)
        self._last = now


async def generate(
    plan: Plan,
    graphs: Graphs,
    base: Base,
    after_step: Callable[[int], None],
    after_part: Callable[[int, Array], None] = lambda first_frame, frames: None,
) -> tuple[Array, dict[str, Any]]:
    """Make the clip: frames UINT8 [F, H, W, 3] and the record of what made them; raises Refusal.

    `after_step` is called after each evaluation of the denoiser, `after_part` with frames as soon
    as they are decoded and the place of the first of them in the clip. Both may raise to stop.
    """
    request = plan.request
    watch = Stopwatch()
    guided = request.guidance_scale > 1.0
    tokens = plan.tokens if guided else plan.tokens.last()
    hidden = await graphs.prompt_encoder(plan.revision, tokens)
    if base.prompt.padding == "zeros":
        rows = prompt_rows(hidden.shape[1], base.limits.prompt_tokens)
        hidden = zero_padded(hidden, tokens.attention_mask, rows)
    watch.lap("text_encoder")

    async def predict_noise(model_input: Array, timestep: float) -> Array:
        rows = np.broadcast_to(model_input, (len(hidden), *model_input.shape))
        timesteps = np.full(len(hidden), timestep, np.float32)
        noise_pred = await graphs.video_denoiser(np.ascontiguousarray(rows), timesteps, hidden)
        return guide(noise_pred, request.guidance_scale)

    shape = _latent_shape(request, base)
    latents = await sample(predict_noise, plan.table, shape, request.seed, after_step)
    if not np.isfinite(latents).all():
        raise Refusal("INTERNAL", "the video denoiser gave values that are not finite")
    watch.lap("video_denoiser")
    parts: list[Array] = []
    async for part in decode(latents, graphs, base):
        after_part(sum(map(len, parts)), part)
        parts.append(part)
    watch.lap("vae_decoder")
    return np.concatenate(parts), _record(plan, base, watch)


async def decode(latents: Array, graphs: Graphs, base: Base) -> AsyncIterator[Array]:
    """The frames UINT8 [F, H, W, 3] of latents [C, F, h, w], in parts as they are decoded.

    Raises Refusal if a latent frame gives another number of frames than it stands for.
    """
    if base.latents.frames_per_latent == 1:
        yield (await graphs.vae_decoder(latents[None]))[0]
        return
    cache: Array | None = None
    for index in range(latents.shape[1]):
        frame = np.ascontiguousarray(latents[None, :, index : index + 1])
        frames, cache = await graphs.vae_decoder_step(frame, cache)
        wanted = base.latents.frames_per_latent if index else 1
        if frames.shape[1] != wanted:
            cause = RuntimeError(f"latent frame {index} gave {frames.shape}, not {wanted} frames")
            raise Refusal(
                "INTERNAL", "the VAE decoder gave an answer of the wrong shape"
            ) from cause
        yield frames[0]


def zero_padded(hidden: Array, mask: Array, length: int) -> Array:
    """`hidden` FP32 [B, L, D] where `mask` [B, L] is 1, zeros elsewhere: FP32 [B, length, D]."""
    rows = np.zeros((len(hidden), length, hidden.shape[2]), np.float32)
    rows[:, : mask.shape[1]][mask == 1] = hidden[mask == 1]
    return rows


def guide(noise_pred: Array, guidance_scale: float) -> Array:
    """Classifier-free guidance of the rows [unconditional, conditional]; one row stays itself."""
    unconditional, conditional = noise_pred[0], noise_pred[-1]
    guided: Array = unconditional + np.float32(guidance_scale) * (conditional - unconditional)
    return guided


def _latent_shape(request: GenerationRequest, base: Base) -> tuple[int, int, int, int]:
    height, width = (
        request.height // base.latents.vae_scale,
        request.width // base.latents.vae_scale,
    )
    num_frames = base.latents.latent_frames(request.num_frames)
    return (base.latents.channels, num_frames, height, width)


def _record(plan: Plan, base: Base, watch: Stopwatch) -> dict[str, Any]:
    """What made the clip; how its frames were sent has no part in that."""
    asked = asdict(plan.request)
    del asked["stream_frames"]
    return asked | {
        "policy": plan.revision.policy,
        "revision": plan.revision.number,
        "edit_digest": plan.revision.edit_digest,
        "base": base.name,
        "base_digest": base.digest,
        "fps": base.defaults.fps,
        "started_at": watch.started_at,
        "seconds": watch.seconds,
        "graphs": base.graphs,
    }
