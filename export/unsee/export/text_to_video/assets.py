"""What `text_to_video` reads beside its code: the tokenizer, the sampler tables, the base's limits.

Knows the three files and where their values come from; the code that reads them needs neither
PyTorch nor diffusers nor transformers.
"""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors.numpy import save
from tokenizers import Tokenizer

from unsee.core.files import locked, new_folder, write_file, write_json
from unsee.export.engines.model_config import TEXT_TO_VIDEO, pbtxt, text_to_video_config
from unsee.export.graphs.graphs import VAEDecoderGraph, VideoUNetGraph
from unsee.export.text_to_video.sampler_table import SamplerTable, table_tensors
from unsee.export.text_to_video.serving_code import code_dir
from unsee.models.base import Base

CODE_VERSION = "1"


def write_text_to_video(
    base: Base,
    unet: VideoUNetGraph,
    vae: VAEDecoderGraph,
    tables: Mapping[str, Mapping[int, SamplerTable]],
    computed_by: Mapping[str, str],
    repository_dir: Path,
) -> None:
    """Write `text_to_video/`: code, configuration and assets. What has not changed is not touched.

    `computed_by` goes into every clip's record: the graphs' digests and engines by name. Raises
    `RepositoryError` if this installation lacks the model's code.
    """
    model_dir = repository_dir / TEXT_TO_VIDEO
    copy_code(model_dir / CODE_VERSION)
    write_file(model_dir / "config.pbtxt", pbtxt(text_to_video_config()))
    assets_dir = model_dir / "assets"
    write_file(assets_dir / "samplers.safetensors", save(table_tensors(tables)))
    write_file(assets_dir / "tokenizer.json", tokenizer_json(base.tokenizer()))
    record = base_record(base, unet, vae, list(tables), computed_by)
    write_json(assets_dir / "base.json", record)


def base_record(
    base: Base,
    unet: VideoUNetGraph,
    vae: VAEDecoderGraph,
    schedulers: Sequence[str],
    computed_by: Mapping[str, str],
) -> dict[str, Any]:
    """The content of `base.json`; sizes in pixels, limits as [least, most]."""
    clip, limits = base.spec.clip, base.spec.limits
    own = type(base.t2v_scheduler()).__name__
    return {
        "schema_version": 1,
        "name": base.name,
        "digest": base.digest(),
        "latents": {"channels": unet.channels, "vae_scale": vae.scale},
        "defaults": {
            **clip.model_dump(),
            "scheduler": own if own in schedulers else schedulers[0],
        },
        "limits": {
            "num_frames": [1, limits.num_frames],
            "height": list(limits.height),
            "width": list(limits.width),
            "size_multiple": vae.scale * unet.size_multiple,
            "num_inference_steps": [1, limits.num_inference_steps],
            "guidance_scale": [0.0, limits.guidance_scale],
            "prompt_tokens": unet.sequence_length,
        },
        "schedulers": list(schedulers),
        "graphs": dict(computed_by),
    }


def tokenizer_json(tokenizer: Any) -> str:
    """`tokenizer.json` whose padding section is CLIPTokenizer's `padding="max_length"`."""
    fast = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    fast.no_truncation()
    fast.enable_padding(
        length=tokenizer.model_max_length,
        pad_id=tokenizer.pad_token_id,
        pad_token=tokenizer.pad_token,
    )
    text: str = fast.to_str(pretty=True)
    return text


def copy_code(version_dir: Path) -> None:
    """Copy the code of `text_to_video` to `version_dir` unless that is it, or equals it."""
    template = code_dir()
    if version_dir.resolve() == template.resolve() or _code(version_dir) == _code(template):
        return
    with locked(version_dir.parent), new_folder(version_dir, replace=True) as folder:
        ignored = shutil.ignore_patterns("__pycache__", ".*")
        shutil.copytree(template, folder, ignore=ignored, dirs_exist_ok=True)


def _code(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in files
        if path.parent.name != "__pycache__" and not path.name.startswith(".")
    }
