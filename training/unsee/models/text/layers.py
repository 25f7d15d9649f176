"""Which parameters of a text encoder unlearning trains.

Finds them in the model's own modules, whatever its depth, width or prefix.
"""

import torch
from transformers import CLIPTextModel

from unsee.core.errors import BaseFolderError

_LINEAR_PAIRS = ("quick_gelu", "gelu", "gelu_new", "gelu_pytorch_tanh", "silu", "relu")
"""Activations with f(x) - f(-x) = x, so that two neurons carry one linear value."""


def paper_parameters(text_encoder: CLIPTextModel) -> dict[str, torch.nn.Parameter]:
    """Return the paper's trainable parameters by their full names.

    They are the weights and biases of both linear layers of every MLP and of the self-attention of
    the last layer (Fuchi & Takagi, arXiv 2405.07288): 59.0 M of CLIP ViT-L/14's 123.1 M. Raises
    `BaseFolderError` if the model is no stack of such layers.
    """
    prefix, layers = encoder_layers(text_encoder)
    last = f"{prefix}.{len(layers) - 1}"
    trained = (*(f"{prefix}.{index}.mlp." for index in range(len(layers))), f"{last}.self_attn.")
    return {
        name: parameter
        for name, parameter in text_encoder.named_parameters()
        if name.startswith(trained)
    }


def encoder_layers(text_encoder: CLIPTextModel) -> tuple[str, torch.nn.ModuleList]:
    """The name and the list of the transformer layers.

    Raises `BaseFolderError` if the model is no stack of layers with an mlp and a self_attn each.
    """
    depth = text_encoder.config.num_hidden_layers
    for name, module in text_encoder.named_modules():
        if isinstance(module, torch.nn.ModuleList) and _are_layers(module, depth):
            return name, module
    raise BaseFolderError(
        f"the text encoder {type(text_encoder).__name__} has no stack of {depth} transformer "
        "layers with an mlp and a self_attn each; unlearning needs a CLIPTextModel"
    )


def _are_layers(modules: torch.nn.ModuleList, depth: int) -> bool:
    whole = all(hasattr(module, "mlp") and hasattr(module, "self_attn") for module in modules)
    return whole and len(modules) == depth > 0


def check_carries(text_encoder: CLIPTextModel) -> None:
    """Raise `BaseFolderError` unless a layer of this encoder can carry an edit's linear map."""
    config = text_encoder.config
    if config.hidden_act not in _LINEAR_PAIRS:
        raise BaseFolderError(
            f"the text encoder's activation {config.hidden_act!r} cannot carry an edit; "
            f"known are {', '.join(_LINEAR_PAIRS)}"
        )
    if config.intermediate_size < 2 * config.hidden_size:
        raise BaseFolderError(
            f"the text encoder's MLPs have {config.intermediate_size} neurons for "
            f"{config.hidden_size} values; an edit needs twice as many neurons as values"
        )
