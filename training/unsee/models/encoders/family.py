"""What a family of text encoders is: all that differs between those that can be edited.

An edit acts on the states that enter the encoder's final normalisation; how those are standardised
follows from the normalisation itself (see `unsee.deltas.edit`).
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from unsee.core.errors import BaseFolderError
from unsee.models.encoders.frame import PromptFrame, PromptRules

if TYPE_CHECKING:
    import torch

_FEWEST_TOKENS = 4


class EncoderFamily(ABC):
    """Text encoders of the transformers classes `class_names`, and their tokenizers.

    `special_tokens` are the attributes of the tokenizer that a prompt is framed with,
    `vocabularies` the sets of files of which one must lie in its folder, and `usual_padding` an
    example of what pads, for a sentence.
    """

    class_names: ClassVar[tuple[str, ...]]
    special_tokens: ClassVar[tuple[str, ...]]
    vocabularies: ClassVar[tuple[tuple[str, ...], ...]]
    usual_padding: ClassVar[str]

    @abstractmethod
    def start(self, tokenizer: Any) -> tuple[int, ...]:
        """The ids before a prompt's own."""

    @abstractmethod
    def most_tokens(self, config: Any) -> int | None:
        """How many positions the encoder has; None: any number."""

    @abstractmethod
    def num_layers(self, config: Any) -> int:
        """How many transformer layers it has."""

    @abstractmethod
    def width(self, config: Any) -> int:
        """D, the size of a state."""

    @abstractmethod
    def config_ids(self, config: Any) -> Mapping[str, int]:
        """The ids of `special_tokens` by the encoder's own config, but for the padding's."""

    @abstractmethod
    def token_embedding(self, text_encoder: Any) -> Any:
        """The module that makes vectors [B, L, d] of ids, as `text_encoder` calls it."""

    @abstractmethod
    def paper_parameters(self, text_encoder: Any) -> "dict[str, torch.nn.Parameter]":
        """The paper's trainable parameters by their full names.

        They are the weights and biases of both linear layers of every MLP and of the self-attention
        of the last layer (Fuchi & Takagi, arXiv 2405.07288). Raises `BaseFolderError` if the model
        is no stack of such layers.
        """

    def gives_mask(self, config: Any, rules: PromptRules) -> bool:
        """Whether the encoder is given the mask of the padding."""
        return rules.gives_mask

    def frame(self, tokenizer: Any, config: Any, rules: PromptRules) -> PromptFrame:
        """What frames a prompt of `tokenizer`, whose `model_max_length` is the prompt's length."""
        return PromptFrame(
            start=self.start(tokenizer),
            eos=tokenizer.eos_token_id,
            pad=tokenizer.pad_token_id,
            length=int(tokenizer.model_max_length),
            gives_mask=self.gives_mask(config, rules),
            reads_padding=rules.reads_padding,
            cleans=rules.cleans,
        )

    def length(self, tokenizers: list[Any], config: Any, rules: PromptRules) -> int:
        """How many tokens a prompt has: what the pipeline says, else the least of what the
        tokenizers and the encoder allow.

        Raises `BaseFolderError` if no word fits into that.
        """
        positions = self.most_tokens(config)
        allowed = [int(tokenizer.model_max_length) for tokenizer in tokenizers]
        if rules.length is not None:
            allowed = [rules.length]
        length = min(allowed if positions is None else [positions, *allowed])
        if length < _FEWEST_TOKENS:
            raise BaseFolderError(
                f"prompts may have only {length} tokens, by model_max_length in "
                "tokenizer_config.json; set it to the number of tokens that the encoder reads"
            )
        return length


def stack_parameters(
    text_encoder: Any, prefix: str, depth: int, of_every: str, of_last: str
) -> "dict[str, torch.nn.Parameter]":
    """The parameters below `of_every` in each of `depth` layers, and below `of_last` in the last.

    `prefix` is the name of the list of layers.
    """
    beginnings = (
        *(f"{prefix}.{index}.{of_every}." for index in range(depth)),
        f"{prefix}.{depth - 1}.{of_last}.",
    )
    return {
        name: parameter
        for name, parameter in text_encoder.named_parameters()
        if name.startswith(beginnings)
    }
