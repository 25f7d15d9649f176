"""Whether an encoder can read what a tokenizer gives, and whether two tokenizers read alike.

The tokenizer's own ids count, whatever the text encoder's `config.json` says.
"""

import json
from pathlib import Path
from typing import Any

from unsee.core.errors import BaseFolderError
from unsee.models.encoders.family import EncoderFamily


def check_tokenizer(
    where: object, tokenizer: Any, family: EncoderFamily, num_embeddings: int
) -> None:
    """Raise `BaseFolderError` unless the encoder can read what `tokenizer` gives.

    Args:
        where: the tokenizer's folder, for the sentence.
        family: that of the text encoder.
        num_embeddings: how many token embeddings the text encoder has.
    """
    for name in family.special_tokens:
        if getattr(tokenizer, f"{name}_id", None) is None:
            raise _no_token(where, name, family)
    if getattr(tokenizer, "backend_tokenizer", None) is None:
        raise BaseFolderError(
            f"{where} holds a {type(tokenizer).__name__} without a tokenizer.json, which serving "
            "needs; save it again with transformers 5, whose tokenizers write one"
        )
    if tokenizer.padding_side != "right":
        raise BaseFolderError(
            f"{where} pads on the {tokenizer.padding_side} (padding_side in its "
            "tokenizer_config.json); prompts are padded on the right, so remove that line"
        )
    framed, expected = list(tokenizer("").input_ids), _framed_empty(tokenizer, family)
    if framed != list(expected.values()):
        names = " and ".join(name.removesuffix("_token") for name in expected)
        raise BaseFolderError(
            f"{where} frames the empty prompt as {framed}, not as its {names} tokens "
            f"{list(expected.values())}; use the tokenizer of the encoder"
        )
    largest = max(tokenizer.get_vocab().values())
    if largest >= num_embeddings:
        raise BaseFolderError(
            f"{where} gives ids up to {largest}, and the text encoder has {num_embeddings} token "
            "embeddings; resize the encoder (resize_token_embeddings, then save_pretrained) or "
            "take the added tokens out of the tokenizer"
        )


def check_tokenizer_config(folder: Path, family: EncoderFamily) -> None:
    """Raise `BaseFolderError` if `folder` lacks a vocabulary, or says that a special token is none.

    Without files the library makes a tokenizer of the special tokens alone.
    """
    whole, parts = family.vocabularies
    if not all((folder / name).is_file() for name in whole):
        for name in parts:
            if not (folder / name).is_file():
                raise BaseFolderError(
                    f"{folder} has neither a {whole[0]} nor a {name}; download it again"
                )
    for file in (folder / "tokenizer_config.json", folder / "special_tokens_map.json"):
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue  # what is missing has its defaults, and loading names what is damaged
        if not isinstance(content, dict):
            continue
        for name in family.special_tokens:
            if content.get(name, "") is None:
                raise _no_token(folder, name, family)
        allowed = content.get("model_max_length")
        if allowed is not None and not isinstance(allowed, int | float):
            raise BaseFolderError(
                f"{file} has model_max_length: {allowed!r}, which is no number; set it to the "
                "encoder's number of positions"
            )


def check_same_words(
    where: object, one: Any, other_place: object, other: Any, family: EncoderFamily
) -> None:
    """Raise `BaseFolderError` if two tokenizers give different ids for a text without padding."""
    for name in _framed_empty(one, family):
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


def check_one_mask(is_masked: bool, image: Any, video: Any) -> None:
    """Raise `BaseFolderError` if padding is to be masked and the tokenizers pad differently."""
    if is_masked and image.pad_token_id != video.pad_token_id:
        raise BaseFolderError(
            "the padding is masked (use_attention_mask in the text encoder's config.json, or by "
            f"the pipeline), and the tokenizers pad with {image.pad_token!r} and "
            f"{video.pad_token!r}; give both the same pad_token"
        )


def _rules(tokenizer: Any, padding: set[str]) -> dict[str, Any]:
    """All of tokenizer.json that makes ids of a text, but for the tokens that pad it."""
    content: dict[str, Any] = json.loads(tokenizer.backend_tokenizer.to_str())
    rules = {name: content.get(name) for name in ("normalizer", "pre_tokenizer", "model")}
    added = [one for one in content.get("added_tokens", []) if one["content"] not in padding]
    return rules | {"added_tokens": added}


def _framed_empty(tokenizer: Any, family: EncoderFamily) -> dict[str, int]:
    """The ids of a prompt without words, by the name of the token."""
    names = [name for name in family.special_tokens if name != "pad_token"]
    return {name: getattr(tokenizer, f"{name}_id") for name in names}


def _no_token(where: object, name: str, family: EncoderFamily) -> BaseFolderError:
    return BaseFolderError(
        f'{where} names no {name}; add the line "{name}" to its tokenizer_config.json, '
        f"such as {family.usual_padding}"
    )


def _different(where: object, other: object, what: str) -> BaseFolderError:
    return BaseFolderError(
        f"{where} and {other} read a prompt differently: {what}; both models must share one "
        "tokenizer, so copy the folder that belongs to the text encoder over the other"
    )
