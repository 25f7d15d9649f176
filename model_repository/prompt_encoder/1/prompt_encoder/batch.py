"""One batch of requests: each by its own policy, all of them through one call of the text encoder.

`Encode` is all it sees of the text encoder.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from prompt_encoder.graphs import Graph, PolicyGraphs
from prompt_encoder.refusal import Refusal
from prompt_encoder.request import PromptRequest

LOGGER = logging.getLogger("unsee.prompt_encoder")

Array = npt.NDArray[Any]
Encode = Callable[[Array, Array], Array]
"""`input_ids`, `attention_mask` INT64 [B, L] -> states FP32 [B, L, D]; raises Refusal."""

MAX_STRETCH = 2
"""A prompt is never padded to so many times its length, so a batch at most doubles its tokens."""


def encode_batch(
    requests: Sequence[PromptRequest], graphs: PolicyGraphs, encode: Encode
) -> list[Array | Refusal]:
    """`prompt_embeds` FP32 [B, L, D] of each request, or why it has none.

    The states of all requests whose policies edit them are computed together; if that fails, one
    request after the other, so that none fails for another.
    """
    opened = [_tried(graphs.graph, one.policy, one.revision) for one in requests]
    edited = [
        index
        for index, graph in enumerate(opened)
        if not isinstance(graph, Refusal) and graph.kind == "edit"
    ]
    states = dict(zip(edited, _states([requests[i] for i in edited], encode), strict=True))
    return [
        graph if isinstance(graph, Refusal) else _embeds(graph, one, states.get(index))
        for index, (one, graph) in enumerate(zip(requests, opened, strict=True))
    ]


def _states(requests: Sequence[PromptRequest], encode: Encode) -> list[Array | Refusal]:
    """The states of each request; those of which none is twice as long as another share a call."""
    answers: dict[int, Array | Refusal] = {}
    waiting = sorted(range(len(requests)), key=lambda index: -_length(requests[index]))
    while waiting:
        longest = _length(requests[waiting[0]])
        members = [index for index in waiting if MAX_STRETCH * _length(requests[index]) > longest]
        waiting = waiting[len(members) :]
        together = [requests[index] for index in members]
        answers |= zip(members, _states_of_one_call(together, encode), strict=True)
    return [answers[index] for index in range(len(requests))]


def _states_of_one_call(requests: Sequence[PromptRequest], encode: Encode) -> list[Array | Refusal]:
    """The states of requests that are padded under their masks to the longest of them.

    That moves no state by more than rounding: a text encoder whose prompts may differ in length has
    relative positions, and what its mask hides weighs nothing.
    """
    longest = max(map(_length, requests))
    ids = np.concatenate([_padded(one.input_ids, longest) for one in requests])
    mask = np.concatenate([_padded(one.attention_mask, longest) for one in requests])
    states = _tried(encode, ids, mask)
    if not isinstance(states, Refusal):
        ends = np.cumsum([len(one.input_ids) for one in requests])[:-1]
        parts = zip(np.split(states, ends), requests, strict=True)
        return [np.ascontiguousarray(part[:, : _length(one)]) for part, one in parts]
    if len(requests) == 1:
        return [states]
    return [_tried(encode, one.input_ids, one.attention_mask) for one in requests]


def _length(request: PromptRequest) -> int:
    return int(request.input_ids.shape[1])


def _padded(rows: Array, length: int) -> Array:
    """`rows` [B, L] with zeros behind, [B, length]."""
    return np.pad(rows, ((0, 0), (0, length - rows.shape[1])))


def _embeds(
    graph: Graph, request: PromptRequest, states: Array | Refusal | None
) -> Array | Refusal:
    if isinstance(states, Refusal):
        return states
    first = request.input_ids if states is None else states
    embeds: Array | Refusal = _tried(graph.run, first, request.attention_mask)
    return embeds


def _tried(function: Callable[..., Any], *arguments: Any) -> Any:
    """What the function gives, or the refusal that a caller may read."""
    try:
        return function(*arguments)
    except Refusal as refusal:
        if refusal.__cause__ is not None:
            LOGGER.error("a request was refused: %s", refusal, exc_info=refusal.__cause__)
        return refusal
    except Exception:
        LOGGER.exception("a request failed")
        return Refusal("INTERNAL", "the server failed; its log says why")
