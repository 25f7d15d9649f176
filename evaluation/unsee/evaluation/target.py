"""What is evaluated: a policy, a delta or a text encoder, as one encoder with its concepts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from unsee.core.errors import BaseFolderError, InputError
from unsee.core.policy import Concept, Thresholds, load_policy
from unsee.deltas.composition import compose
from unsee.deltas.encoder_folder import read_encoder_record
from unsee.deltas.files import CARD_FILE
from unsee.deltas.folder import load_delta, load_policy_deltas
from unsee.models.base import Base
from unsee.models.components import load_encoder
from unsee.models.digest import tensors_digest

_CONFIG_FILE = "config.json"


@dataclass(frozen=True)
class EvaluationTarget:
    """A tuned text encoder and the concepts that it should not show.

    `encoder_digest` is `tensors_digest` of its state; `thresholds` are the policy's, else the
    usual ones.
    """

    kind: Literal["policy", "delta", "encoder"]
    name: str
    concepts: tuple[Concept, ...]
    text_encoder: Any
    encoder_digest: str
    thresholds: Thresholds


def open_target(path: Path, base: Base, concept: Concept | None = None) -> EvaluationTarget:
    """Open a policy file, a delta folder or a folder with a text encoder of the base's class.

    An encoder does not say what it unlearned, so `concept` must, unless `save_encoder` wrote it;
    the others know it, and giving it is an error. Raises `InputError` if `path` is none of these or
    does not fit `base`.
    """
    if path.is_file():
        _reject(concept, "policy")
        return _policy(path, base)
    if (path / CARD_FILE).is_file():
        _reject(concept, "delta")
        return _delta(path, base)
    if (path / _CONFIG_FILE).is_file():
        return _encoder(path, base, concept)
    if not path.exists():
        raise InputError(f"there is no {path}; give a policy file, or the folder of a delta")
    raise InputError(
        f"{path} is neither a policy file, nor a delta folder ({CARD_FILE}), nor a text encoder "
        f"({_CONFIG_FILE})"
    )


def _policy(path: Path, base: Base) -> EvaluationTarget:
    policy = load_policy(path)
    encoder = compose(base.text_encoder(), load_policy_deltas(policy))
    concepts = tuple(
        Concept(name=one.name, category=one.category, aliases=one.aliases) for one in policy.unsee
    )
    return target_of("policy", policy.name, concepts, encoder, policy.thresholds)


def _delta(path: Path, base: Base) -> EvaluationTarget:
    delta = load_delta(path)
    encoder = compose(base.text_encoder(), [delta])
    return target_of("delta", path.resolve().name, (delta.card.concept,), encoder)


def _encoder(path: Path, base: Base, concept: Concept | None) -> EvaluationTarget:
    record = read_encoder_record(path)
    concepts: tuple[Concept, ...] = () if concept is None else (concept,)
    if record is not None:
        concepts = record.concepts
        _reject(concept, "composed encoder")
        if record.base_digest != base.digest():
            raise InputError(
                f"the text encoder in {path} was composed for the base {record.base!r} with the "
                f"encoder {record.base_digest[:19]}, not for {base.name!r}; give that base"
            )
    elif concept is None:
        raise InputError(
            f"{path} is a text encoder and does not say what it should not show; "
            "add --concept NAME --category CATEGORY"
        )
    try:
        encoder = load_encoder(path, type(base.text_encoder()))
    except BaseFolderError as error:
        kind = type(base.text_encoder()).__name__
        raise InputError(f"{path} holds no {kind} that can be loaded: {error}") from error
    if not _is_tuned(encoder, base):
        raise InputError(
            f"the text encoder in {path} has other tensors than that of the base {base.name!r}; "
            "give the base that it was tuned from"
        )
    return target_of("encoder", path.resolve().name, concepts, base.as_read_here(encoder))


def target_of(
    kind: Literal["policy", "delta", "encoder"],
    name: str,
    concepts: tuple[Concept, ...],
    encoder: Any,
    thresholds: Thresholds | None = None,
) -> EvaluationTarget:
    """The encoder, which is frozen, as a target; the thresholds are the usual ones if not given."""
    digest = tensors_digest(encoder.state_dict())
    frozen = encoder.requires_grad_(False)
    return EvaluationTarget(kind, name, concepts, frozen, digest, thresholds or Thresholds())


def _is_tuned(encoder: Any, base: Base) -> bool:
    """Whether the encoder has the base's tensors, and at most the layer of an edit beside them."""
    own = base.text_encoder()
    shapes, expected = _shapes(encoder), _shapes(own)
    more = shapes.keys() - expected.keys()
    depth = base.family().num_layers(own.config)
    return all(shapes.get(name) == shape for name, shape in expected.items()) and all(
        f".layers.{depth}." in f".{name}" for name in more
    )


def _shapes(encoder: Any) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in encoder.state_dict().items()}


def _reject(concept: Concept | None, kind: str) -> None:
    if concept is not None:
        raise InputError(f"a {kind} says itself what it unsees; leave out --concept and --category")
