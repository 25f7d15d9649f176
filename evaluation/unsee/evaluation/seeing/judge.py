"""A small classifier of frames and clips, read from a folder: `config.json`, `model.safetensors`.

What it is trained on is the trainer's business; a base ships one as the independent witness of what
its models show.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from pydantic import Field, ValidationError
from pydantic import model_validator as validates
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from unsee.core.errors import InputError
from unsee.core.validation import ClosedModel, describe

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
CHUNK = 64
Probabilities = npt.NDArray[np.float32]
Width = Annotated[int, Field(ge=1)]


class JudgeConfig(ClosedModel):
    """The content of `config.json`.

    `labels` maps a head to its labels, of which the first means "nothing of that kind";
    `categories` maps a head to the categories of concept that it names. `motion_head` is the head
    that reads whole clips; the others read single frames.
    """

    labels: Mapping[str, Annotated[tuple[str, ...], Field(min_length=1)]]
    categories: Mapping[str, tuple[str, ...]]
    motion_head: str
    width: Width = 32
    features: Width = 192
    motion_width: Width = 96

    @validates(mode="after")
    def _each_head_has_labels(self) -> JudgeConfig:
        for head in (self.motion_head, *self.categories):
            if head not in self.labels:
                raise ValueError(f"labels has none for the head {head!r}")
        return self

    @property
    def frame_heads(self) -> tuple[str, ...]:
        """The heads that read single frames."""
        return tuple(head for head in self.labels if head != self.motion_head)


@dataclass(frozen=True)
class Judgement:
    """Probabilities of N clips: per frame head [N, F, labels]; `motion` [N, labels].

    `motion` is None for stills, which cannot move.
    """

    per_frame: Mapping[str, Probabilities]
    motion: Probabilities | None


def _block(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )


class Judge(nn.Module):
    """A convolutional net per frame; motion is read from what changes between frames.

    The motion head is given only the differences of successive frames' features, so a clip that
    stands still looks the same to it whatever it shows.
    """

    def __init__(self, config: JudgeConfig) -> None:
        super().__init__()
        self.config = config
        w = config.width
        self.body = nn.Sequential(
            _block(3, w, 2),
            _block(w, 2 * w, 2),
            _block(2 * w, 2 * w, 1),
            _block(2 * w, 3 * w, 2),
            _block(3 * w, 3 * w, 1),
            _block(3 * w, 4 * w, 1),
        )
        # Cells pooled to 4x4: where things are matters for motion.
        self.cells = nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten())
        self.frame_neck = nn.Sequential(nn.Linear(64 * w, config.features), nn.ReLU())
        self.frame_heads = nn.ModuleDict(
            {h: nn.Linear(config.features, len(config.labels[h])) for h in config.frame_heads}
        )
        m = config.motion_width
        self.motion_neck = nn.Linear(64 * w, config.features, bias=False)
        self.motion = nn.Sequential(
            nn.Conv1d(config.features, m, 3, padding=1),
            nn.ReLU(),
            nn.Conv1d(m, m, 3, padding=1),
            nn.ReLU(),
            nn.Conv1d(m, m, 3, padding=1),
            nn.ReLU(),
        )
        self.motion_head = nn.Linear(2 * m, len(config.labels[config.motion_head]))

    def frame_cells(self, frames: Tensor) -> Tensor:
        """float [N, 3, H, W] in 0..1 -> [N, cells]."""
        cells: Tensor = self.cells(self.body((frames - 0.5) * 4))
        return cells

    def frame_logits(self, cells: Tensor) -> dict[str, Tensor]:
        """[N, cells] -> per frame head [N, labels]."""
        features = self.frame_neck(cells)
        return {head: layer(features) for head, layer in self.frame_heads.items()}

    def motion_logits(self, cells: Tensor) -> Tensor:
        """[N, F, cells] with F > 1 -> [N, labels of the motion head]."""
        features = self.motion_neck(cells)
        steps = self.motion((features[:, 1:] - features[:, :-1]).transpose(1, 2))
        logits: Tensor = self.motion_head(torch.cat([steps.mean(dim=2), steps.amax(dim=2)], dim=1))
        return logits

    @torch.no_grad()
    def judge(self, frames: npt.NDArray[np.uint8]) -> Judgement:
        """What uint8 [N, F, H, W, 3] shows. Raises `ValueError` for another shape or dtype."""
        if frames.ndim != 5 or frames.shape[-1] != 3 or frames.dtype != np.uint8:
            raise ValueError(
                f"expected uint8 [N, F, H, W, 3], got {frames.dtype} {list(frames.shape)}"
            )
        if not len(frames):
            raise ValueError("there are no clips to judge")
        chunks = [
            self._judge_chunk(frames[start : start + CHUNK])
            for start in range(0, len(frames), CHUNK)
        ]
        motions = [chunk.motion for chunk in chunks if chunk.motion is not None]
        return Judgement(
            {h: np.concatenate([c.per_frame[h] for c in chunks]) for h in self.config.frame_heads},
            np.concatenate(motions) if motions else None,
        )

    def _judge_chunk(self, frames: npt.NDArray[np.uint8]) -> Judgement:
        count, num_frames = frames.shape[:2]
        pixels = torch.from_numpy(frames.copy()).flatten(0, 1).permute(0, 3, 1, 2).float() / 255
        cells = self.frame_cells(pixels)
        per_frame = {
            head: F.softmax(logits, dim=1).reshape(count, num_frames, -1).numpy()
            for head, logits in self.frame_logits(cells).items()
        }
        if num_frames == 1:
            return Judgement(per_frame, None)
        motion = F.softmax(self.motion_logits(cells.reshape(count, num_frames, -1)), dim=1)
        return Judgement(per_frame, motion.numpy())

    def head_of(self, category: str) -> str | None:
        """The head that names concepts of `category`, or None."""
        categories = self.config.categories
        return next((head for head in categories if category in categories[head]), None)

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> Judge:
        """The judge in `folder`, in eval mode.

        Raises `InputError` if a file is missing or does not fit the other.
        """
        path = Path(folder)
        try:
            config = JudgeConfig.model_validate_json((path / CONFIG_FILE).read_bytes())
            weights = load_file(path / WEIGHTS_FILE)
        except ValidationError as error:
            raise InputError(f"{path / CONFIG_FILE}: {describe(error)}") from error
        except (OSError, SafetensorError) as error:
            raise InputError(f"no judge can be read from {path}: {error}") from error
        judge = cls(config)
        try:
            judge.load_state_dict({k: _widened(v) for k, v in weights.items()})
        except RuntimeError as error:
            raise InputError(
                f"{path / WEIGHTS_FILE} does not fit {CONFIG_FILE} beside it; train the judge again"
            ) from error
        return judge.eval()

    def save_pretrained(self, folder: str | Path) -> None:
        """Writes both files; the weights in float16."""
        path = Path(folder)
        path.mkdir(parents=True, exist_ok=True)
        config: dict[str, Any] = self.config.model_dump(mode="json")
        (path / CONFIG_FILE).write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
        narrowed = {
            k: v.half() if v.is_floating_point() else v for k, v in self.state_dict().items()
        }
        save_file(narrowed, path / WEIGHTS_FILE)


def _widened(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.is_floating_point() else tensor
