"""A request to the model `prompt_encoder`: what a revision of a policy makes of token ids."""

from __future__ import annotations

import struct
from typing import Any

from numpy.typing import NDArray
from tritonclient.grpc import service_pb2

from unsee.repository.layout import PROMPT_ENCODER

PROMPT_EMBEDS = "prompt_embeds"


def prompt_request(
    policy: str, revision: int, input_ids: NDArray[Any], attention_mask: NDArray[Any]
) -> Any:
    """The ModelInferRequest for token ids and their mask, each INT64 [B, L].

    Every row names the policy and the revision. The answer has one output, `PROMPT_EMBEDS`, FP32
    [B, L, D].
    """
    request = service_pb2.ModelInferRequest(model_name=PROMPT_ENCODER)
    request.outputs.add(name=PROMPT_EMBEDS)
    rows, text = len(input_ids), policy.encode()
    for name, datatype, shape, raw in (
        ("input_ids", "INT64", input_ids.shape, input_ids.tobytes()),
        ("attention_mask", "INT64", attention_mask.shape, attention_mask.tobytes()),
        ("policy", "BYTES", (rows, 1), rows * (struct.pack("<I", len(text)) + text)),
        ("revision", "INT64", (rows, 1), rows * struct.pack("<q", revision)),
    ):
        request.inputs.add(name=name, datatype=datatype, shape=shape)
        request.raw_input_contents.append(raw)
    return request
