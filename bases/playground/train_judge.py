"""Trains the judge on renders, roughened so that a generator's softness is no surprise."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from playground.dataset import Dataset
from playground.judge import FRAME_HEADS, Judge
from playground.loop import StepRandom
from playground.world import HEADS


def soften(frames: Tensor, size: int) -> Tensor:
    """Loses detail by going through a smaller picture."""
    small = F.interpolate(frames, size=(size, size), mode="area")
    return F.interpolate(small, size=frames.shape[-2:], mode="bilinear", align_corners=False)


def roughen(frames: Tensor, random: StepRandom) -> Tensor:
    """Blur, colour shift, contrast, blotches and noise on float [N, 3, H, W] in 0..1."""
    count = len(frames)

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(count, *shape, generator=random.torch)

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
    """Each batch has stills, for the frame heads, and clips, for all heads."""

    name = "judge"

    def __init__(
        self,
        stills: Dataset,
        clips: Dataset,
        num_stills: int = 48,
        num_clips: int = 8,
        seed: int = 4,
    ) -> None:
        torch.manual_seed(seed)
        self.judge = Judge()
        self.judge.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.modules = nn.ModuleDict({"judge": self.judge})
        self.stills, self.clips = stills, clips
        self.num_stills, self.num_clips, self.seed = num_stills, num_clips, seed

    def loss(self, random: StepRandom, step: int) -> tuple[Tensor, dict[str, float]]:
        stills = np.sort(random.numpy.integers(len(self.stills.frames), size=self.num_stills))
        clips = np.sort(random.numpy.integers(len(self.clips.frames), size=self.num_clips))
        num_frames = self.clips.frames.shape[1]
        frames = torch.cat(
            [to_pixels(self.stills.frames[stills]), to_pixels(self.clips.frames[clips])]
        )
        features = self.judge.frame_features(roughen(frames, random))
        clip_labels = torch.from_numpy(self.clips.labels[clips].astype(np.int64))
        still_labels = torch.from_numpy(self.stills.labels[stills].astype(np.int64))
        labels = torch.cat([still_labels, clip_labels.repeat_interleave(num_frames, dim=0)])
        losses, metrics = [], {}
        for head, logits in self.judge.frame_logits(features).items():
            wanted = labels[:, HEADS.index(head)]
            losses.append(F.cross_entropy(logits, wanted))
            metrics[head] = (logits.argmax(1) == wanted).float().mean().item()
        moving = features[self.num_stills :].reshape(self.num_clips, num_frames, -1)
        action_logits = self.judge.action_logits(moving)
        wanted = clip_labels[:, HEADS.index("action")]
        losses.append(F.cross_entropy(action_logits, wanted))
        metrics["action"] = (action_logits.argmax(1) == wanted).float().mean().item()
        return torch.stack(losses).sum(), metrics


def accuracy(judge: Judge, stills: Dataset, clips: Dataset) -> dict[str, float]:
    """Share of right verdicts: frame heads on stills and clips, the action on clips."""
    right: dict[str, list[bool]] = {head: [] for head in HEADS}
    for dataset in (stills, clips):
        verdicts = judge.classify(np.ascontiguousarray(dataset.frames))
        heads = HEADS if dataset is clips else FRAME_HEADS
        for verdict, row in zip(verdicts, dataset.labels, strict=True):
            for head in heads:
                winner = int(verdict.probabilities[head].argmax())
                right[head].append(winner == row[HEADS.index(head)])
    return {head: float(np.mean(values)) for head, values in right.items()}
