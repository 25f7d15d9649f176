"""The Python models: their code and configuration, and what `text_to_video` reads beside its code.

Knows the three files and where their values come from; the code that reads them needs neither
PyTorch nor diffusers nor transformers.
"""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal

from safetensors.numpy import save
from tokenizers import Tokenizer

from unsee.core.files import locked, new_folder, write_file, write_json
from unsee.export.engines.model_config import pbtxt, prompt_encoder_config, text_to_video_config
from unsee.export.graphs.decoder_graphs import FirstFrameGraph, VAEDecoderGraph
from unsee.export.graphs.denoiser_graph import VideoDenoiserGraph
from unsee.export.graphs.prompt_graphs import TextEncoderGraph
from unsee.export.text_to_video.sampler_tables import Tables, table_tensors
from unsee.export.text_to_video.serving_code import code_dir
from unsee.models.base import Base
from unsee.models.digest import models_digest
from unsee.models.encoders.frame import PromptFrame
from unsee.repository.base import SCHEMA_VERSION, Defaults, Latents, Limits, Prompt
from unsee.repository.base import Base as BaseRecord
from unsee.repository.layout import (
    BASE_FILE,
    CONFIG_FILE,
    PROMPT_ENCODER,
    SAMPLERS_FILE,
    TEXT_TO_VIDEO,
    TOKENIZER_FILE,
    assets_dir,
    version_dir,
)


def write_text_to_video(
    base: Base,
    denoiser: VideoDenoiserGraph,
    decoder: VAEDecoderGraph | FirstFrameGraph,
    tables: Tables,
    computed_by: Mapping[str, str],
    largest_clip_bytes: int,
    repository_dir: Path,
) -> None:
    """Write `text_to_video/`: code, configuration and assets. What has not changed is not touched.

    `computed_by` goes into every clip's record: the graphs' digests and engines by name;
    `largest_clip_bytes` is what a clip at the limits takes of memory. Raises
    `RepositoryError` if this installation lacks the model's code.
    """
    _write_model(TEXT_TO_VIDEO, text_to_video_config(), repository_dir)
    assets = assets_dir(repository_dir)
    write_file(assets / SAMPLERS_FILE, save(table_tensors(tables)))
    write_file(assets / TOKENIZER_FILE, tokenizer_json(base.tokenizer()))
    record = base_record(base, denoiser, decoder, list(tables), computed_by, largest_clip_bytes)
    digest = models_digest(base.t2v_denoiser(), base.t2v_vae(), base.t2v_scheduler())
    write_json(assets / BASE_FILE, asdict(replace(record, models_digest=digest)))


def write_prompt_encoder(repository_dir: Path) -> None:
    """Write `prompt_encoder/`: code and configuration. What has not changed is not touched.

    Raises `RepositoryError` if this installation lacks the model's code.
    """
    config = prompt_encoder_config(TextEncoderGraph.max_batch_size)
    _write_model(PROMPT_ENCODER, config, repository_dir)


def _write_model(model: str, config: Any, repository_dir: Path) -> None:
    copy_code(model, version_dir(repository_dir, model))
    write_file(repository_dir / model / CONFIG_FILE, pbtxt(config))


def base_record(
    base: Base,
    denoiser: VideoDenoiserGraph,
    decoder: VAEDecoderGraph | FirstFrameGraph,
    schedulers: Sequence[str],
    computed_by: Mapping[str, str],
    largest_clip_bytes: int = 0,
) -> BaseRecord:
    """The content of `base.json`; sizes in pixels."""
    clip, limits = base.spec.clip, base.spec.limits
    return BaseRecord(
        schema_version=SCHEMA_VERSION,
        name=base.name,
        digest=base.digest(),
        prompt=prompt_record(base.prompt_frame()),
        latents=Latents(denoiser.channels, decoder.scale, decoder.frames_per_latent),
        defaults=Defaults(**clip.model_dump(), scheduler=type(base.t2v_scheduler()).__name__),
        limits=Limits(
            num_frames=(1, limits.num_frames),
            height=limits.height,
            width=limits.width,
            size_multiple=decoder.scale * denoiser.size_multiple,
            num_inference_steps=(1, limits.num_inference_steps),
            guidance_scale=(0.0, limits.guidance_scale),
            prompt_tokens=denoiser.sequence_length,
        ),
        schedulers=tuple(schedulers),
        graphs=dict(computed_by),
        largest_clip_bytes=largest_clip_bytes,
    )


def prompt_record(frame: PromptFrame) -> Prompt:
    """How `text_to_video` is to pad prompts that are framed by `frame`."""
    padding: Literal["read", "zeros"] = "zeros" if frame.cuts_padding else "read"
    return Prompt(masks_padding=frame.gives_mask, padding=padding, cleans=frame.cleans)


def tokenizer_json(tokenizer: Any) -> str:
    """`tokenizer.json` whose padding section is that of `padding="max_length"`."""
    fast = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    fast.no_truncation()
    fast.enable_padding(
        length=tokenizer.model_max_length,
        pad_id=tokenizer.pad_token_id,
        pad_token=tokenizer.pad_token,
    )
    text: str = fast.to_str(pretty=True)
    return text


def copy_code(model: str, folder: Path) -> None:
    """Copy the code of a Python model to `folder` unless that is it, or equals it."""
    template = code_dir(model)
    if folder.resolve() == template.resolve() or _code(folder) == _code(template):
        return
    with locked(folder.parent), new_folder(folder, replace=True) as new:
        ignored = shutil.ignore_patterns("__pycache__", ".*")
        shutil.copytree(template, new, ignore=ignored, dirs_exist_ok=True)


def _code(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in files
        if path.parent.name != "__pycache__" and not path.name.startswith(".")
    }
