"""CLIP as a pair of functions: frames and texts to unit vectors.

Pixels are prepared here in plain torch, by the values in the model's `preprocessor_config.json`, so
that no further image library is needed.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from unsee.core.errors import InputError
from unsee.evaluation.seeing.recognise import Frames
from unsee.models.digest import tensors_digest
from unsee.models.quiet import quiet_libraries

_CHUNK = 32
_PREPROCESSOR_FILE = "preprocessor_config.json"
# CLIP's published constants (Radford et al., arXiv 2103.00020), for models that do not state them.
_MEAN = (0.48145466, 0.4578275, 0.40821073)
_STD = (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True)
class ClipModel:
    """A `transformers.CLIPModel` with its tokenizer and the constants of its preprocessing."""

    model: Any
    tokenizer: Any
    mean: tuple[float, ...] = _MEAN
    std: tuple[float, ...] = _STD

    @classmethod
    def from_pretrained(cls, source: str) -> ClipModel:
        """Load a folder or hub id. Raises `InputError` if it is no CLIP model."""
        from safetensors import SafetensorError
        from transformers import CLIPModel, CLIPTokenizer

        try:
            with quiet_libraries():
                model = CLIPModel.from_pretrained(source, use_safetensors=True, dtype=torch.float32)
                tokenizer = CLIPTokenizer.from_pretrained(source)
                constants = _preprocessing(source)
        except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise InputError(f"no CLIP model can be loaded from {source!r}: {reason}") from error
        mean, std = constants.get("image_mean", _MEAN), constants.get("image_std", _STD)
        return cls(model.eval().requires_grad_(False), tokenizer, tuple(mean), tuple(std))

    def digest(self) -> str:
        """`"sha256:…"` of the weights."""
        return tensors_digest(self.model.state_dict())

    @property
    def logit_scale(self) -> float:
        """The learned factor between cosines and logits."""
        return float(self.model.logit_scale.exp())

    @torch.no_grad()
    def image_embeds(self, images: Frames) -> torch.Tensor:
        """Unit vectors [M, D] of uint8 images [M, H, W, 3]."""
        chunks = [
            self.model.get_image_features(
                pixel_values=self._pixel_values(images[start : start + _CHUNK])
            ).pooler_output
            for start in range(0, len(images), _CHUNK)
        ]
        return F.normalize(torch.cat(chunks), dim=-1)

    @torch.no_grad()
    def text_embeds(self, texts: Sequence[str]) -> torch.Tensor:
        """Unit vectors [T, D]; a text beyond the tokenizer's length is cut."""
        length = self.model.config.text_config.max_position_embeddings
        with quiet_libraries():
            tokens = self.tokenizer(
                list(texts),
                padding=True,
                truncation=True,
                max_length=length,
                return_tensors="pt",
            )
        features = self.model.get_text_features(
            input_ids=tokens.input_ids, attention_mask=tokens.attention_mask
        )
        return F.normalize(features.pooler_output, dim=-1)

    def _pixel_values(self, images: Frames) -> torch.Tensor:
        """[M, 3, S, S]: the shorter edge resized to S, cropped about the centre, standardised."""
        size: int = self.model.config.vision_config.image_size
        pixels = torch.from_numpy(images.copy()).permute(0, 3, 1, 2).float() / 255
        height, width = pixels.shape[-2:]
        scale = size / min(height, width)
        target = (max(size, round(height * scale)), max(size, round(width * scale)))
        resized = F.interpolate(
            pixels, target, mode="bicubic", antialias=True, align_corners=False
        ).clamp(0, 1)
        top, left = (target[0] - size) // 2, (target[1] - size) // 2
        cropped = resized[..., top : top + size, left : left + size]
        mean, std = (torch.tensor(values).view(3, 1, 1) for values in (self.mean, self.std))
        return (cropped - mean) / std


def _preprocessing(source: str) -> dict[str, Any]:
    folder = Path(source)
    if folder.is_dir():
        file = folder / _PREPROCESSOR_FILE
        if not file.is_file():
            return {}
    else:
        from huggingface_hub import hf_hub_download

        file = Path(hf_hub_download(source, _PREPROCESSOR_FILE))
    content = json.loads(file.read_text(encoding="utf-8"))
    return content if isinstance(content, dict) else {}
