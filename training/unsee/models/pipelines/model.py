"""A model that makes pictures or clips, as unlearning and evaluation use it.

What differs between the pipeline classes of diffusers is in the classes derived from this one, a
module each.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from unsee.models.pipelines.noise import NoiseProcess
from unsee.models.quiet import quiet_libraries
from unsee.models.sampling.options import fresh

OnStep = Callable[[int, int], None]


@dataclass(frozen=True)
class Sampling:
    """How samples are made; sizes in pixels."""

    num_frames: int
    height: int
    width: int
    num_inference_steps: int
    guidance_scale: float


@dataclass(frozen=True)
class Parts:
    """What a model is made of: components of diffusers and transformers.

    The text encoder and its tokenizer complete the pipeline; prompts are given as embeddings.
    `num_frames`, `height`, `width` (in pixels) and `fps` are those of the base's clips, `options`
    are the pipeline's own in the model's index, and `scheduler_file` is for messages.
    """

    denoiser: Any
    vae: Any
    scheduler: Any
    text_encoder: Any
    tokenizer: Any
    num_frames: int
    height: int
    width: int
    fps: int
    options: Mapping[str, Any]
    scheduler_file: str


class GenerativeModel(ABC):
    """A denoiser with its autoencoder and its noise process.

    Latents are [N, C, h, w] float32, or [N, C, F, h, w] with F latent frames, which is 1 for a
    picture of most video models.
    """

    pipeline_name: ClassVar[str]
    denoiser_name: ClassVar[str] = "transformer"

    def __init__(self, parts: Parts) -> None:
        self.parts = parts

    @property
    def picture_size(self) -> tuple[int, int]:
        """(height, width) in pixels of a picture: the size of the base's clips."""
        return self.parts.height, self.parts.width

    @property
    def conditions(self) -> Mapping[str, float]:
        """What the denoiser is told beside prompt, size and noise, by name."""
        return {}

    @property
    @abstractmethod
    def process(self) -> NoiseProcess:
        """The noise that the denoiser was trained with. Raises `BaseFolderError` without one."""

    @abstractmethod
    def latents(self, pixels: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """The latents of one picture, [1, 3, H, W] float32 in -1..1, drawn with `generator`."""

    @abstractmethod
    def predict(
        self, noisy: torch.Tensor, timesteps: torch.Tensor, prompt_embeds: torch.Tensor
    ) -> torch.Tensor:
        """What the denoiser predicts, float32 and of the shape of `noisy`.

        `timesteps` [N] are the process's, `prompt_embeds` are [N, L, D] float32. There is a
        gradient to `prompt_embeds`.
        """

    @abstractmethod
    def check(self, where: object, text_width: int) -> None:
        """Raise `BaseFolderError` unless the parts fit together, for states of `text_width`."""

    def options(
        self, sampling: Sampling, prompt_embeds: torch.Tensor, negative: torch.Tensor
    ) -> Mapping[str, Any]:
        """What the pipeline takes beside what all take."""
        return {"num_frames": sampling.num_frames}

    def sample(
        self,
        sampling: Sampling,
        prompt_embeds: torch.Tensor,
        negative_prompt_embeds: torch.Tensor,
        generators: Sequence[torch.Generator],
        on_step: OnStep | None = None,
    ) -> NDArray[np.float32]:
        """Frames [N, F, H, W, 3] in 0..1 by the pipeline of diffusers.

        Embeddings are [N, L, D] each; every sample has a generator of its own. `on_step(step,
        total)` is called after each denoising step.
        """
        steps = {} if on_step is None else self.callback(on_step)
        with quiet_libraries(), torch.no_grad():
            output = self.pipeline(
                prompt_embeds=prompt_embeds,
                negative_prompt_embeds=negative_prompt_embeds,
                height=sampling.height,
                width=sampling.width,
                num_inference_steps=sampling.num_inference_steps,
                guidance_scale=sampling.guidance_scale,
                generator=list(generators),
                output_type="np",
                **steps,
                **self.options(sampling, prompt_embeds, negative_prompt_embeds),
            )
        return self.frames(output)

    def frames(self, output: Any) -> NDArray[np.float32]:
        """The frames of the pipeline's output."""
        return np.asarray(output.frames)

    def callback(self, on_step: OnStep) -> dict[str, Any]:
        """The pipeline's arguments that make it call `on_step`."""

        def on_step_end(pipeline: Any, step: int, timestep: Any, tensors: Any) -> Any:
            on_step(step + 1, pipeline.num_timesteps)
            return tensors

        return {"callback_on_step_end": on_step_end}

    @cached_property
    def pipeline(self) -> Any:
        """The pipeline of diffusers, without a progress bar."""
        import diffusers

        with quiet_libraries():
            made = getattr(diffusers, self.pipeline_name)(**self.components())
        made.set_progress_bar_config(disable=True)
        return made

    def components(self) -> dict[str, Any]:
        """What the pipeline is made of; the scheduler, which it changes, is a copy."""
        parts = self.parts
        return {
            "vae": parts.vae,
            "text_encoder": parts.text_encoder,
            "tokenizer": parts.tokenizer,
            "scheduler": fresh(parts.scheduler),
            self.denoiser_name: parts.denoiser,
        }


def drawn(vae: Any, pixels: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """A draw from the distribution that an autoencoder gives for `pixels`."""
    with torch.no_grad():
        latents: torch.Tensor = vae.encode(pixels.to(vae.device)).latent_dist.sample(
            generator=generator
        )
    return latents


def of_width(values: Any, like: torch.Tensor) -> torch.Tensor:
    """One value a channel, [1, C, 1, 1, 1], for latents [N, C, F, h, w]."""
    return torch.as_tensor(values, dtype=like.dtype, device=like.device).view(1, -1, 1, 1, 1)
