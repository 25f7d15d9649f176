"""The models of a base that make pictures and clips."""

from pathlib import Path
from typing import Any

from unsee.core.errors import BaseFolderError
from unsee.models.base import Base
from unsee.models.components import hollow, model_index, source_place
from unsee.models.pipelines.cogvideox import CogVideoX
from unsee.models.pipelines.ltx import Ltx
from unsee.models.pipelines.model import GenerativeModel, Parts
from unsee.models.pipelines.unets import AnimateDiff, StableDiffusion, TextToVideoSD
from unsee.models.pipelines.wan import Wan
from unsee.models.spec import Media

_MODELS: tuple[type[GenerativeModel], ...] = (
    StableDiffusion,
    AnimateDiff,
    TextToVideoSD,
    Wan,
    Ltx,
    CogVideoX,
)


def open_model(base: Base, media: Media) -> GenerativeModel:
    """The model of `base` that makes pictures ("image") or clips.

    Without an image model, pictures are clips of one frame. Raises `BaseFolderError` if a component
    is missing, or the pipeline is not known or makes no clips.
    """
    kind = base.pipeline(media)
    if media == "video" and not kind.makes_clips:
        raise BaseFolderError(
            f"base {base.name!r}: {base.spec.t2v} is a {kind.name}, which makes no clips; name a "
            "video model or a motion_adapter, or ask for images alone (--media image)"
        )
    parts = {
        "denoiser": base.denoiser(media),
        "vae": base.vae(media),
        "text_encoder": base.text_encoder(),
        "tokenizer": base.tokenizer(media),
    }
    return _model(base, media, parts)


def hollow_model(base: Base, media: Media) -> GenerativeModel:
    """The same without values and without its text encoder: for what the configurations say.

    It takes a motion adapter for granted.
    """
    place = source_place(base.folder, base.source(media))
    kind = base.pipeline(media)
    parts = {
        "denoiser": hollow(base.name, place, kind.denoiser),
        "vae": hollow(base.name, place, "vae"),
        "text_encoder": None,
        "tokenizer": None,
    }
    return _model(base, media, parts)


def _model(base: Base, media: Media, parts: dict[str, Any]) -> GenerativeModel:
    kind, clip = base.pipeline(media), base.spec.clip
    place = source_place(base.folder, base.source(media))
    index = model_index(base.name, place)
    chosen = next(each for each in _MODELS if each.pipeline_name == kind.name)
    return chosen(
        Parts(
            **parts,
            scheduler=base.scheduler(media),
            num_frames=clip.num_frames,
            height=clip.height,
            width=clip.width,
            fps=clip.fps,
            options={name: value for name, value in index.items() if not isinstance(value, list)},
            scheduler_file=str(Path(str(place)) / "scheduler" / "scheduler_config.json"),
        )
    )
