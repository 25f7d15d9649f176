"""Trains the judge on renders, roughened so that a generator's softness is no surprise."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unsee.playground.networks.judge import Judge
from unsee.playground.training.loop import StepRandom
from unsee.playground.world.dataset import Dataset
from unsee.playground.world.world import HEADS


def soften(frames: Tensor, size: int) -> Tensor:
    """Loses detail by going through a smaller picture."""
    small = F.interpolate(frames, size=(size, size), mode="area")
    return F.interpolate(small, size=frames.shape[-2:], mode="bilinear", align_corners=False)


def roughen(frames: Tensor, random: StepRandom, num_frames: int = 1) -> Tensor:
    """Blur, colour shift, contrast, blotches and noise on float [N, 3, H, W] in 0..1.

    Blotches and noise differ from frame to frame, the rest stays for ``num_frames`` frames.
    """
    count = len(frames)

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        drawn = torch.rand(count // num_frames, *shape, generator=random.torch)
        return low + (high - low) * drawn.repeat_interleave(num_frames, dim=0)

    blurred = soften(frames, int(random.numpy.integers(24, 49)))
    mix = uniform(-0.2, 1.0, 1, 1, 1).clamp_min(0)
    frames = frames * (1 - mix) + blurred * mix
    frames = (frames - 0.5) * uniform(0.85, 1.1, 1, 1, 1) + 0.5
    frames = frames + uniform(-0.06, 0.06, 3, 1, 1)
    blotches = torch.randn(count, 3, 8, 8, generator=random.torch)
    blotches = F.interpolate(blotches, size=frames.shape[-2:], mode="bilinear")
    frames = frames + blotches * uniform(0, 0.05, 1, 1, 1)
    noise = torch.randn(frames.shape, generator=random.torch)
    return (frames + noise * uniform(0, 0.04, 1, 1, 1)).clamp(0, 1)


def to_pixels(frames: npt.NDArray[np.uint8]) -> Tensor:
    """uint8 [..., H, W, 3] -> float [N, 3, H, W] in 0..1."""
    flat = torch.from_numpy(frames.reshape(-1, *frames.shape[-3:]))
    return flat.permute(0, 3, 1, 2).float() / 255


class JudgeTask:
    """Each batch has stills, for the frame heads, and clips, for all heads.

    Some clips are frozen at one frame: whatever they show, nothing in them acts.
    """

    name = "judge"

    def __init__(
        self,
        stills: Dataset,
        clips: Dataset,
        num_stills: int = 32,
        num_clips: int = 8,
        num_frozen: int = 1,
        seed: int = 4,
    ) -> None:
        torch.manual_seed(seed)
        self.judge = Judge()
        self.judge.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.modules = nn.ModuleDict({"judge": self.judge})
        self.stills, self.clips = stills, clips
        self.num_stills, self.num_clips, self.num_frozen = num_stills, num_clips, num_frozen
        self.seed = seed

    def clip_batch(self, random: StepRandom) -> tuple[Tensor, Tensor]:
        """Frames [clips * F, 3, H, W] and labels [clips, heads]; the first clips are frozen."""
        chosen = np.sort(random.numpy.integers(len(self.clips.frames), size=self.num_clips))
        random.numpy.shuffle(chosen)
        frames = self.clips.frames[chosen]
        labels = torch.from_numpy(self.clips.labels[chosen].astype(np.int64))
        moments = random.numpy.integers(frames.shape[1], size=self.num_frozen)
        for clip, moment in enumerate(moments):
            frames[clip] = frames[clip, moment]
        labels[: self.num_frozen, HEADS.index("action")] = 0
        return roughen(to_pixels(frames), random, frames.shape[1]), labels

    def loss(self, random: StepRandom, step: int) -> tuple[Tensor, dict[str, float]]:
        stills = np.sort(random.numpy.integers(len(self.stills.frames), size=self.num_stills))
        still_frames = roughen(to_pixels(self.stills.frames[stills]), random)
        clip_frames, clip_labels = self.clip_batch(random)
        num_frames = self.clips.frames.shape[1]
        cells = self.judge.frame_cells(torch.cat([still_frames, clip_frames]))
        still_labels = torch.from_numpy(self.stills.labels[stills].astype(np.int64))
        labels = torch.cat([still_labels, clip_labels.repeat_interleave(num_frames, dim=0)])
        losses, metrics = [], {}
        for head, logits in self.judge.frame_logits(cells).items():
            wanted = labels[:, HEADS.index(head)]
            losses.append(F.cross_entropy(logits, wanted))
            metrics[head] = (logits.argmax(1) == wanted).float().mean().item()
        clips_cells = cells[self.num_stills :].reshape(self.num_clips, num_frames, -1)
        action_logits = self.judge.motion_logits(clips_cells)
        wanted = clip_labels[:, HEADS.index("action")]
        losses.append(F.cross_entropy(action_logits, wanted))
        metrics["action"] = (action_logits.argmax(1) == wanted).float().mean().item()
        return torch.stack(losses).sum(), metrics
