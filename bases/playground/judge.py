"""The judge: names what a frame or a clip shows.

It is trained on the renderer's pictures alone and never sees the generator, so its verdict
on generated frames is independent evidence. It does not know prompts.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from playground.world import LABELS, NONE, find_concept, head_of

FRAME_HEADS = ("subject", "style", "background")
CHUNK = 64
Probabilities = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Verdict:
    """What one clip (or still) shows; ``None`` means: nothing of that kind.

    ``probabilities`` maps a head to the probability of each of its labels (None: no
    action, because a still has none); ``per_frame`` maps subject, style and background to
    [num_frames, labels].
    """

    subject: str | None
    style: str | None
    background: str | None
    action: str | None
    probabilities: Mapping[str, Probabilities]
    per_frame: Mapping[str, Probabilities]

    def sees(self, concept_name: str, *, any_frame: bool = False) -> bool:
        """Whether the concept (an alias will do) is the verdict of its kind.

        ``any_frame`` asks whether a single frame would be named so; actions have no frames.
        """
        concept = find_concept(concept_name)
        head = head_of(concept.category)
        if any_frame and head != "action":
            winners = self.per_frame[head].argmax(axis=1)
            return LABELS[head].index(concept.name) in winners
        named: str | None = getattr(self, head)
        return named == concept.name


def block(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )


class Judge(nn.Module):
    """A small convolutional net per frame, and temporal convolutions over its features."""

    def __init__(self, width: int = 32, features: int = 192) -> None:
        super().__init__()
        self.config = {"width": width, "features": features}
        w = width
        self.body = nn.Sequential(
            block(3, w, 2),
            block(w, 2 * w, 2),
            block(2 * w, 2 * w, 1),
            block(2 * w, 3 * w, 2),
            block(3 * w, 3 * w, 1),
            block(3 * w, 4 * w, 1),
        )
        # 8x8 cells pooled to 4x4: where things are matters for the action.
        self.neck = nn.Sequential(
            nn.AdaptiveAvgPool2d(4),
            nn.Flatten(),
            nn.Linear(4 * w * 16, features),
            nn.ReLU(),
        )
        self.frame_heads = nn.ModuleDict(
            {head: nn.Linear(features, len(LABELS[head])) for head in FRAME_HEADS}
        )
        self.temporal = nn.Sequential(
            nn.Conv1d(features, 96, 3, padding=1),
            nn.ReLU(),
            nn.Conv1d(96, 96, 3, padding=1),
            nn.ReLU(),
        )
        self.action_head = nn.Linear(96 * 2, len(LABELS["action"]))

    def frame_features(self, frames: Tensor) -> Tensor:
        """float [N, 3, H, W] in 0..1 -> [N, features]."""
        scaled: Tensor = self.neck(self.body((frames - 0.5) * 4))
        return scaled

    def frame_logits(self, features: Tensor) -> dict[str, Tensor]:
        return {head: layer(features) for head, layer in self.frame_heads.items()}

    def action_logits(self, features: Tensor) -> Tensor:
        """[N, F, features] -> [N, actions]."""
        steps = self.temporal(features.transpose(1, 2))
        summary = torch.cat([steps.mean(dim=2), steps.amax(dim=2)], dim=1)
        logits: Tensor = self.action_head(summary)
        return logits

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> Judge:
        """Loads ``config.json`` and ``model.safetensors``.

        Raises:
            ValueError: the judge was trained for other labels than this world's.
        """
        config: dict[str, Any] = json.loads((Path(folder) / "config.json").read_text())
        labels = {head: tuple(names) for head, names in config.pop("labels").items()}
        if labels != dict(LABELS):
            raise ValueError(f"the judge in {folder} was trained for other labels; retrain it")
        judge = cls(**config)
        weights = load_file(Path(folder) / "model.safetensors")
        judge.load_state_dict(
            {k: v.float() if v.is_floating_point() else v for k, v in weights.items()}
        )
        return judge.eval()

    def save_pretrained(self, folder: str | Path) -> None:
        """Writes the weights in float16."""
        Path(folder).mkdir(parents=True, exist_ok=True)
        config = {**self.config, "labels": {k: list(v) for k, v in LABELS.items()}}
        (Path(folder) / "config.json").write_text(json.dumps(config, indent=1) + "\n")
        weights = {
            k: v.half() if v.is_floating_point() else v for k, v in self.state_dict().items()
        }
        save_file(weights, Path(folder) / "model.safetensors")

    @torch.no_grad()
    def classify(self, frames: npt.NDArray[np.uint8]) -> list[Verdict]:
        """Names what uint8 [N, F, H, W, 3] shows; with F = 1 there is no action.

        Raises:
            ValueError: the array is not uint8 of that shape.
        """
        if frames.ndim != 5 or frames.shape[-1] != 3 or frames.dtype != np.uint8:
            raise ValueError(
                f"expected uint8 [N, F, H, W, 3], got {frames.dtype} {list(frames.shape)}"
            )
        verdicts: list[Verdict] = []
        for start in range(0, len(frames), CHUNK):
            verdicts += self.classify_chunk(frames[start : start + CHUNK])
        return verdicts

    def classify_chunk(self, frames: npt.NDArray[np.uint8]) -> list[Verdict]:
        count, num_frames = frames.shape[:2]
        pixels = torch.from_numpy(frames.copy()).flatten(0, 1).permute(0, 3, 1, 2).float() / 255
        features = self.frame_features(pixels)
        per_frame = {
            head: F.softmax(logits, dim=1).reshape(count, num_frames, -1).numpy()
            for head, logits in self.frame_logits(features).items()
        }
        overall = {head: values.mean(axis=1) for head, values in per_frame.items()}
        if num_frames > 1:
            clips = features.reshape(count, num_frames, -1)
            overall["action"] = F.softmax(self.action_logits(clips), dim=1).numpy()
        return [
            make_verdict(
                {k: v[i] for k, v in overall.items()}, {k: v[i] for k, v in per_frame.items()}
            )
            for i in range(count)
        ]


def make_verdict(
    probabilities: Mapping[str, Probabilities], per_frame: Mapping[str, Probabilities]
) -> Verdict:
    names: dict[str, str | None] = dict.fromkeys(LABELS)
    for head, values in probabilities.items():
        name = LABELS[head][int(values.argmax())]
        names[head] = None if name == NONE else name
    return Verdict(**names, probabilities=probabilities, per_frame=per_frame)
