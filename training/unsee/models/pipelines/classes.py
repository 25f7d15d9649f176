"""Which pipeline class a model folder is of, by its `model_index.json` alone; loads nothing."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from unsee.core.errors import BaseFolderError
from unsee.models.encoders.frame import PromptRules

_COMPONENTS = ("unet", "transformer")


@dataclass(frozen=True)
class PipelineClass:
    """A pipeline of diffusers: its denoiser, and how it gives prompts to encoder and denoiser.

    Args:
        name: of the class.
        denoiser, denoiser_class: the component and its class, by which a folder is recognised.
        prompts: what its `encode_prompt` does.
        makes_clips: whether it makes more than stills.
        is_served: whether a base of it can be exported and served.
        not_served_with: options of its index that must not be set where it is to be.
    """

    name: str
    denoiser: str
    denoiser_class: str
    prompts: PromptRules
    makes_clips: bool = True
    is_served: bool = True
    not_served_with: tuple[str, ...] = ()


_ALL = PromptRules()

PIPELINES = (
    PipelineClass(
        "StableDiffusionPipeline", "unet", "UNet2DConditionModel", _ALL, makes_clips=False
    ),
    PipelineClass("AnimateDiffPipeline", "unet", "UNetMotionModel", _ALL),
    PipelineClass("TextToVideoSDPipeline", "unet", "UNet3DConditionModel", _ALL),
    PipelineClass(
        "WanPipeline",
        "transformer",
        "WanTransformer3DModel",
        PromptRules(length=512, gives_mask=True, reads_padding=False, cleans=True),
        not_served_with=("expand_timesteps",),
    ),
    PipelineClass(
        "LTXPipeline",
        "transformer",
        "LTXVideoTransformer3DModel",
        PromptRules(length=128, reads_padding=False),
        is_served=False,
    ),
    PipelineClass(
        "CogVideoXPipeline",
        "transformer",
        "CogVideoXTransformer3DModel",
        PromptRules(length=226),
        is_served=False,
    ),
)
"""LTX's denoiser is given the mask of the padding in place of rows of zeros, to the same effect."""


def pipeline_class(base: str, place: object, index: Mapping[str, Any]) -> PipelineClass:
    """The pipeline class of the model at `place` with the content `index` of its index file.

    A model with a UNet is known by the class of that, whatever pipeline it is for. Raises
    `BaseFolderError` in one sentence that names the denoiser or the pipeline that is not known.
    """
    component, class_name = _denoiser(base, place, index)
    known = {each.denoiser_class: each for each in PIPELINES}
    if class_name not in known:
        raise BaseFolderError(
            f"base {base!r}: {place} gives {component} as {class_name}, which nothing here can "
            f"make pictures with; known are {', '.join(known)}"
        )
    found, pipeline = known[class_name], index.get("_class_name")
    if component == "transformer" and pipeline != found.name:
        raise BaseFolderError(
            f"base {base!r}: {place} is a {pipeline}, and of the pipelines with a {class_name} "
            f"{found.name} alone is known; it takes text and nothing else"
        )
    for second in ("unet_2", "transformer_2"):
        if _is_given(index, second):
            raise BaseFolderError(
                f"base {base!r}: {place} has a second denoiser ({second}, a {index[second][-1]}); "
                "only pipelines with one denoiser are known"
            )
    return found


def _denoiser(base: str, place: object, index: Mapping[str, Any]) -> tuple[str, str]:
    for component in _COMPONENTS:
        if _is_given(index, component):
            return component, str(index[component][-1])
    raise BaseFolderError(
        f"base {base!r} has no unet and no transformer: {place} lists neither, so it has no "
        "denoiser"
    )


def _is_given(index: Mapping[str, Any], component: str) -> bool:
    entry = index.get(component)
    return isinstance(entry, list) and any(entry)
