"""AnimateDiff's video UNet: an image UNet whose layers are interleaved with a motion adapter's.

Guo et al., AnimateDiff, arXiv 2307.04725.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from diffusers import UNetMotionModel


def motion_unet(unet: Any, motion_adapter: Any) -> "UNetMotionModel":
    """The `UNetMotionModel` of a `UNet2DConditionModel` and a `MotionAdapter`, with their tensors.

    It is built as diffusers' `from_unet2d` does, without its second copy of the weights. Raises
    ValueError if the two do not fit, in diffusers' words, or are not of these classes.
    """
    import torch
    from diffusers import MotionAdapter, UNet2DConditionModel, UNetMotionModel

    for model, wanted in ((unet, UNet2DConditionModel), (motion_adapter, MotionAdapter)):
        if not isinstance(model, wanted):
            raise ValueError(f"a {wanted.__name__} is needed, not a {type(model).__name__}")
    weights = {**unet.state_dict(), **motion_adapter.state_dict()}
    with torch.device("meta"):
        model = UNetMotionModel.from_unet2d(unet, motion_adapter, load_weights=False)
    try:
        model.load_state_dict(weights, assign=True)
    except RuntimeError as error:
        raise ValueError(f"their tensors do not fit: {error}") from error
    return model.eval().requires_grad_(False)
