"""T5's encoders: relative positions, RMS norms without a bias, a prompt that eos alone ends."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from unsee.core.errors import BaseFolderError
from unsee.models.encoders.family import EncoderFamily, stack_parameters

if TYPE_CHECKING:
    import torch


class T5Family(EncoderFamily):
    """`T5EncoderModel`, and `UMT5EncoderModel`, each of whose layers has positions of its own."""

    class_names = ("T5EncoderModel", "UMT5EncoderModel")
    special_tokens = ("eos_token", "pad_token")
    vocabularies = (("tokenizer.json",), ("spiece.model",))
    usual_padding = '"<pad>" to pad as T5 does'

    def start(self, tokenizer: Any) -> tuple[int, ...]:
        """Nothing stands before a prompt."""
        return ()

    def most_tokens(self, config: Any) -> None:
        """Relative positions allow any number."""

    def num_layers(self, config: Any) -> int:
        return int(config.num_layers)

    def width(self, config: Any) -> int:
        return int(config.d_model)

    def config_ids(self, config: Any) -> Mapping[str, int]:
        """The id that ends a prompt."""
        return {"eos_token": config.eos_token_id}

    def token_embedding(self, text_encoder: Any) -> Any:
        """The stack's own table: the one of `get_input_embeddings` shares its weight only."""
        return text_encoder.encoder.embed_tokens

    def paper_parameters(self, text_encoder: Any) -> "dict[str, torch.nn.Parameter]":
        """See `EncoderFamily`; a gated MLP has three linear layers, and none has a bias."""
        stack = getattr(text_encoder, "encoder", None)
        blocks = getattr(stack, "block", ())
        if not blocks or any(len(block.layer) != 2 for block in blocks):
            raise BaseFolderError(
                f"the text encoder {type(text_encoder).__name__} has no stack of layers with a "
                "self-attention and an MLP each; unlearning needs a T5EncoderModel"
            )
        every, last = "layer.1.DenseReluDense", "layer.0.SelfAttention"
        return stack_parameters(text_encoder, "encoder.block", len(blocks), every, last)
