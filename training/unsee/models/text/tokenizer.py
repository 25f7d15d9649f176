"""What frames a prompt: special tokens and length; and whether an encoder can read it.

The tokenizer's own ids count, whatever the text encoder's `config.json` says; the length is the
least of what the tokenizers and the encoder's positions allow.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unsee.core.errors import BaseFolderError

_FEWEST_TOKENS = 4
_NAMES = ("bos_token", "eos_token", "pad_token")


@dataclass(frozen=True)
class SpecialTokens:
    """The ids that frame a prompt of `length` tokens."""

    bos: int
    eos: int
    pad: int
    length: int

    @classmethod
    def of(cls, tokenizer: Any) -> "SpecialTokens":
        """Those of a tokenizer that `check_tokenizer` let pass."""
        return cls(
            bos=tokenizer.bos_token_id,
            eos=tokenizer.eos_token_id,
            pad=tokenizer.pad_token_id,
            length=int(tokenizer.model_max_length),
        )

    def free(self, count: int) -> tuple[int, ...]:
        """`count` ids whose embeddings vectors will take the place of.

        They are not the padding's, which an encoder may mask.
        """
        return (self.bos,) * count

    def framed(self, ids: Sequence[int]) -> list[int]:
        """The prompt's ids, cut and padded to `length`."""
        row = [self.bos, *ids[: self.length - 2], self.eos]
        return row + [self.pad] * (self.length - len(row))


def check_tokenizer(where: object, tokenizer: Any, num_embeddings: int) -> None:
    """Raise `BaseFolderError` unless the encoder can read what `tokenizer` gives.

    Args:
        where: the tokenizer's folder, for the sentence.
        num_embeddings: how many token embeddings the text encoder has.
    """
    for name in _NAMES:
        if getattr(tokenizer, f"{name}_id", None) is None:
            raise _no_token(where, name)
    if getattr(tokenizer, "backend_tokenizer", None) is None:
        raise BaseFolderError(
            f"{where} holds a {type(tokenizer).__name__} without a tokenizer.json, which serving "
            "needs; save it again with a CLIPTokenizerFast or a CLIPTokenizer of transformers 5"
        )
    if tokenizer.padding_side != "right":
        raise BaseFolderError(
            f"{where} pads on the {tokenizer.padding_side} (padding_side in its "
            "tokenizer_config.json); prompts are padded on the right, so remove that line"
        )
    framed = list(tokenizer("").input_ids)
    if framed != [tokenizer.bos_token_id, tokenizer.eos_token_id]:
        raise BaseFolderError(
            f"{where} frames the empty prompt as {framed}, not as its bos and eos tokens "
            f"{[tokenizer.bos_token_id, tokenizer.eos_token_id]}; use the tokenizer of the encoder"
        )
    largest = max(tokenizer.get_vocab().values())
    if largest >= num_embeddings:
        raise BaseFolderError(
            f"{where} gives ids up to {largest}, and the text encoder has {num_embeddings} token "
            "embeddings; resize the encoder (resize_token_embeddings, then save_pretrained) or "
            "take the added tokens out of the tokenizer"
        )


def check_tokenizer_config(folder: Path) -> None:
    """Raise `BaseFolderError` if `folder` lacks a vocabulary, or says that a special token is none.

    Without files the library makes a tokenizer of three tokens.
    """
    if not (folder / "tokenizer.json").is_file():
        for name in ("vocab.json", "merges.txt"):
            if not (folder / name).is_file():
                raise BaseFolderError(
                    f"{folder} has neither a tokenizer.json nor a {name}; download it again"
                )
    for file in (folder / "tokenizer_config.json", folder / "special_tokens_map.json"):
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue  # what is missing has its defaults, and loading names what is damaged
        if not isinstance(content, dict):
            continue
        for name in _NAMES:
            if content.get(name, "") is None:
                raise _no_token(folder, name)
        allowed = content.get("model_max_length")
        if allowed is not None and not isinstance(allowed, int | float):
            raise BaseFolderError(
                f"{file} has model_max_length: {allowed!r}, which is no number; set it to the "
                "encoder's number of positions"
            )


def prompt_length(tokenizers: Sequence[Any], num_positions: int) -> int:
    """How many tokens a prompt has: the least of the tokenizers' and the encoder's lengths.

    Raises `BaseFolderError` if no word fits into that.
    """
    length = min(num_positions, *(int(tokenizer.model_max_length) for tokenizer in tokenizers))
    if length < _FEWEST_TOKENS:
        raise BaseFolderError(
            f"prompts may have only {length} tokens, by model_max_length in tokenizer_config.json; "
            f"set it to at most the encoder's {num_positions} positions"
        )
    return length


def check_same_words(where: object, one: Any, other_place: object, other: Any) -> None:
    """Raise `BaseFolderError` if two tokenizers give different ids for a text without padding."""
    for name in _NAMES[:2]:
        mine, its = (getattr(each, f"{name}_id") for each in (one, other))
        if mine != its:
            raise _different(where, other_place, f"{name} is {mine} in one and {its} in the other")
    vocabulary, others = one.get_vocab(), other.get_vocab()
    for token in sorted(vocabulary.keys() | others.keys()):
        if vocabulary.get(token) != others.get(token):
            ids = f"{vocabulary.get(token)} in one and {others.get(token)} in the other"
            raise _different(where, other_place, f"the token {token!r} is {ids}")
    padding = {one.pad_token, other.pad_token}
    if _rules(one, padding) != _rules(other, padding):
        raise _different(where, other_place, "their merges or their normalisation differ")


def check_one_mask(text_encoder: Any, image: Any, video: Any) -> None:
    """Raise `BaseFolderError` if padding is to be masked and the tokenizers pad differently."""
    is_masked = getattr(text_encoder.config, "use_attention_mask", None)
    if is_masked and image.pad_token_id != video.pad_token_id:
        raise BaseFolderError(
            f"the text encoder's config.json has use_attention_mask, and the tokenizers pad with "
            f"{image.pad_token!r} and {video.pad_token!r}; give both the same pad_token"
        )


def _rules(tokenizer: Any, padding: set[str]) -> dict[str, Any]:
    """All of tokenizer.json that makes ids of a text, but for the tokens that pad it."""
    content: dict[str, Any] = json.loads(tokenizer.backend_tokenizer.to_str())
    rules = {name: content.get(name) for name in ("normalizer", "pre_tokenizer", "model")}
    added = [one for one in content.get("added_tokens", []) if one["content"] not in padding]
    return rules | {"added_tokens": added}


def _no_token(where: object, name: str) -> BaseFolderError:
    return BaseFolderError(
        f'{where} names no {name}; add the line "{name}" to its tokenizer_config.json, '
        'such as "<|endoftext|>" to pad as Stable Diffusion 1.x does'
    )


def _different(where: object, other: object, what: str) -> BaseFolderError:
    return BaseFolderError(
        f"{where} and {other} read a prompt differently: {what}; both models must share one "
        "tokenizer, so copy the folder that belongs to the text encoder over the other"
    )
