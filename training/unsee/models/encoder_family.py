"""Which text encoders can be edited: asked of the class names in `model_index.json` alone.

Loads no weights and knows nothing of how an encoder is edited.
"""

from typing import Any

from unsee.core.errors import BaseFolderError
from unsee.models.base import Base, component_class, model_index, source_place

EDITABLE = "CLIPTextModel"
_T5_SUFFIX = "T5EncoderModel"  # T5, UMT5 and MT5
_T5_LACKS = (
    "an edit of a T5 stack is not written: it has RMS norms without a bias, relative positions "
    "and no final layer norm of CLIP's kind to append a layer before"
)
_PROJECTION_LACKS = (
    "what its denoiser is given is also a pooled projection, and an edit of that is not written"
)


def check_encoder(base: Base) -> None:
    """Raise `BaseFolderError` unless each model of `base` reads prompts through one CLIPTextModel.

    The sentence names the base, the model's folder or hub id, the class that stands there and what
    editing it would need.
    """
    for source in (base.spec.t2i, base.spec.t2v):
        place = source_place(base.folder, source)
        _, class_name = component_class(base.name, place, "text_encoder")
        if class_name != EDITABLE:
            raise BaseFolderError(
                f"base {base.name!r}: {place} reads prompts with a {class_name}, and only a "
                f"{EDITABLE} can be edited: {_lacking(class_name)}"
            )
        for component, second in _further_encoders(model_index(base.name, place)).items():
            raise BaseFolderError(
                f"base {base.name!r}: {place} has a second text encoder ({component}, a {second}) "
                f"that would still know the concept; only bases with one {EDITABLE} can be edited"
            )


def _further_encoders(index: dict[str, Any]) -> dict[str, str]:
    """The class names of `text_encoder_2` and so on, by component; those left empty not counted."""
    return {
        component: str(entry[-1])
        for component, entry in index.items()
        if component.startswith("text_encoder_") and isinstance(entry, list) and any(entry)
    }


def _lacking(class_name: str) -> str:
    if class_name.endswith(_T5_SUFFIX):
        return _T5_LACKS
    if class_name == "CLIPTextModelWithProjection":
        return _PROJECTION_LACKS
    return f"choose a base with a {EDITABLE}, as Stable Diffusion 1.x and ModelScope have"
