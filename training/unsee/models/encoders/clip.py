"""CLIP's text encoders: absolute positions, a layer norm at the end, bos and eos around a prompt.

Their denoisers read every position, the padding's too.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from unsee.core.errors import BaseFolderError
from unsee.models.encoders.family import EncoderFamily, stack_parameters
from unsee.models.encoders.frame import PromptRules

if TYPE_CHECKING:
    import torch

_LINEAR_PAIRS = ("quick_gelu", "gelu", "gelu_new", "gelu_pytorch_tanh", "silu", "relu")
"""Activations with f(x) - f(-x) = x, so that two neurons carry one linear value."""


class ClipFamily(EncoderFamily):
    """`CLIPTextModel`, and `CLIPTextModelWithProjection`, whose pooled output is edited too."""

    class_names = ("CLIPTextModel", "CLIPTextModelWithProjection")
    special_tokens = ("bos_token", "eos_token", "pad_token")
    vocabularies = (("tokenizer.json",), ("vocab.json", "merges.txt"))
    usual_padding = '"<|endoftext|>" to pad as Stable Diffusion 1.x does'

    def start(self, tokenizer: Any) -> tuple[int, ...]:
        """The token that begins a prompt."""
        return (tokenizer.bos_token_id,)

    def most_tokens(self, config: Any) -> int:
        """The length of the table of positions."""
        return int(config.max_position_embeddings)

    def num_layers(self, config: Any) -> int:
        return int(config.num_hidden_layers)

    def width(self, config: Any) -> int:
        return int(config.hidden_size)

    def config_ids(self, config: Any) -> Mapping[str, int]:
        """The ids that begin and end a prompt."""
        return {"bos_token": config.bos_token_id, "eos_token": config.eos_token_id}

    def token_embedding(self, text_encoder: Any) -> Any:
        """The table of tokens, to whose rows the positions' are added."""
        return text_encoder.get_input_embeddings()

    def gives_mask(self, config: Any, rules: PromptRules) -> bool:
        """Also where the encoder's config has `use_attention_mask`, as diffusers does."""
        return rules.gives_mask or bool(getattr(config, "use_attention_mask", None))

    def paper_parameters(self, text_encoder: Any) -> "dict[str, torch.nn.Parameter]":
        """See `EncoderFamily`; 59.0 M of ViT-L/14's 123.1 M."""
        prefix, layers = encoder_layers(text_encoder)
        return stack_parameters(text_encoder, prefix, len(layers), "mlp", "self_attn")


def encoder_layers(text_encoder: Any) -> "tuple[str, torch.nn.ModuleList]":
    """The name and the list of the transformer layers.

    Raises `BaseFolderError` if the model is no stack of layers with an mlp and a self_attn each.
    """
    import torch

    depth = text_encoder.config.num_hidden_layers
    for name, module in text_encoder.named_modules():
        if isinstance(module, torch.nn.ModuleList) and _are_layers(module, depth):
            return name, module
    raise BaseFolderError(
        f"the text encoder {type(text_encoder).__name__} has no stack of {depth} transformer "
        "layers with an mlp and a self_attn each; unlearning needs a CLIPTextModel"
    )


def _are_layers(modules: "torch.nn.ModuleList", depth: int) -> bool:
    whole = all(hasattr(module, "mlp") and hasattr(module, "self_attn") for module in modules)
    return whole and len(modules) == depth > 0


def check_carries(text_encoder: Any) -> None:
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
