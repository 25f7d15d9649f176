"""From a request's tensors to a checked `PromptRequest`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from prompt_encoder.refusal import Refusal, quoted

INPUTS = ("input_ids", "attention_mask", "policy", "revision")
POLICY_NAME = re.compile(r"[a-z][a-z0-9-]*")
"""A policy's name is part of a path, so nothing else may be in it."""

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class PromptRequest:
    """Tokens to encode, and by which revision of which policy.

    Args:
        input_ids: INT64 [B, L], padded.
        attention_mask: INT64 [B, L], 1 where the text encoder may look.
    """

    input_ids: Array
    attention_mask: Array
    policy: str
    revision: int


def parse_request(tensors: Mapping[str, Array]) -> PromptRequest:
    """The request in `tensors`: ids and mask [B, L], policy and revision [B, 1], all rows alike.

    Raises Refusal (INVALID_ARGUMENT) for what is wrong.
    """
    for name in INPUTS:
        if name not in tensors:
            raise _invalid(f"{name} is missing")
    ids, mask = tensors["input_ids"], tensors["attention_mask"]
    policies = {_text(value) for value in tensors["policy"].reshape(-1)}
    revisions = {int(value) for value in tensors["revision"].reshape(-1)}
    if len(policies) != 1 or len(revisions) != 1:
        raise _invalid("policy and revision must be the same in all rows of a request")
    (policy,), (revision,) = policies, revisions
    if not POLICY_NAME.fullmatch(policy):
        raise _invalid(f"{quoted(policy)} is no name of a policy")
    if revision < 1:
        raise _invalid(f"revision must be 1 or more, not {revision}")
    if ids.ndim != 2 or not ids.size or ids.shape != mask.shape:
        raise _invalid(
            f"input_ids {list(ids.shape)} and attention_mask {list(mask.shape)} must have one "
            "shape, rows by tokens"
        )
    if not np.isin(mask, (0, 1)).all():
        raise _invalid("attention_mask may hold 0 and 1 only")
    return PromptRequest(ids, mask, policy, revision)


def _text(value: Any) -> str:
    try:
        return value if isinstance(value, str) else bytes(value).decode("utf-8")
    except (UnicodeDecodeError, TypeError):
        raise _invalid("policy is not text in UTF-8") from None


def _invalid(message: str) -> Refusal:
    return Refusal("INVALID_ARGUMENT", message)
