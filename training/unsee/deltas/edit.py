"""Edits: a low-rank change of what a text encoder says, and the layer that carries it.

An edit acts on z, the last hidden state standardised as a layer norm does it, before the encoder's
own final layer norm: z -> z - up (down z - offset). `with_edit` puts it into one appended
`CLIPEncoderLayer`, so that the result is an ordinary `CLIPTextModel` with a layer more.
"""

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F

from unsee.core.errors import BaseFolderError
from unsee.models.encoders.clip import check_carries, encoder_layers

EDIT_NAMES = ("edit.up", "edit.down", "edit.offset")
_OF_VERSION_0_1 = ("evidence.kept", "evidence.mean")
"""Tensors that version 0.1 stored beside an edit; they take no part in it."""
_MOST_GAIN = 1024.0
_LARGEST_VALUE = 2.0**15
"""Half of what float16 can hold: the unedited state is added to it."""


@dataclass(frozen=True)
class Edit:
    """z -> z - up (down z - offset): `up` [D, r], `down` [r, D], `offset` [r], all float32."""

    up: torch.Tensor
    down: torch.Tensor
    offset: torch.Tensor

    def __call__(self, standardised: torch.Tensor) -> torch.Tensor:
        """The edited states [..., D] of standardised ones."""
        return standardised - (standardised @ self.down.T - self.offset) @ self.up.T

    def tensors(self) -> dict[str, torch.Tensor]:
        """The edit as a delta's tensors."""
        values = (self.up, self.down, self.offset)
        return {
            name: value.detach().to("cpu", torch.float32).contiguous()
            for name, value in zip(EDIT_NAMES, values, strict=True)
        }

    @classmethod
    def of(cls, tensors: Mapping[str, torch.Tensor]) -> "Edit":
        """The edit of a delta's tensors."""
        up, down, offset = (tensors[name] for name in EDIT_NAMES)
        return cls(up, down, offset)


def is_edit(tensors: Mapping[str, torch.Tensor]) -> bool:
    """Whether a delta's tensors are an edit."""
    return set(tensors) - set(_OF_VERSION_0_1) == set(EDIT_NAMES)


def standardised(hidden: torch.Tensor) -> torch.Tensor:
    """Each state [..., D] with mean 0 and variance 1, as a layer norm without weights makes it."""
    return F.layer_norm(hidden, hidden.shape[-1:])


def with_edit(text_encoder: Any, matrix: torch.Tensor, bias: torch.Tensor) -> Any:
    """Return a copy of the `CLIPTextModel` that ends with z -> matrix z + bias.

    `matrix` [D, D] and `bias` [D] are float64. The appended layer's attention is silent; its MLP
    adds gain * (matrix' z + bias') to the unedited state d z + m. The final layer norm takes away
    the common part m and the length, so that with matrix' = matrix + d/gain (matrix - 1) and bias'
    = (1 + d/gain) bias the sum is the edited state; d is taken as its median, and a position whose
    own differs misses 1/gain of the difference. The gain is large for that, and so small that
    nothing leaves float16. Raises `BaseFolderError` if the encoder's activation or MLP cannot carry
    a linear map.
    """
    check_carries(text_encoder)
    edited = copy.deepcopy(text_encoder)
    _, layers = encoder_layers(edited)
    layer: Any = copy.deepcopy(layers[-1])
    for parameter in layer.parameters():
        parameter.data.zero_()
    size = matrix.shape[0]
    deviation = _typical_deviation(text_encoder)
    gain = _gain(matrix, bias, deviation)
    share = deviation / gain
    scaled = gain * (matrix + share * (matrix - torch.eye(size, dtype=matrix.dtype)))
    with torch.no_grad():
        layer.layer_norm1.weight.fill_(1.0)
        layer.layer_norm2.weight.fill_(1.0)
        layer.mlp.fc1.weight[: 2 * size].copy_(torch.cat([torch.eye(size), -torch.eye(size)]))
        layer.mlp.fc2.weight[:, : 2 * size].copy_(torch.cat([scaled, -scaled], dim=1))
        layer.mlp.fc2.bias.copy_(gain * (1 + share) * bias)
    layers.append(layer)
    edited.config.num_hidden_layers += 1
    return edited


def _gain(matrix: torch.Tensor, bias: torch.Tensor, deviation: float) -> float:
    """At most 1024 deviations, such that no state can leave float16; exact in bfloat16.

    A standardised state is at most sqrt(D) long, so no value of matrix z + bias passes `largest`.
    """
    largest = float((matrix.norm(dim=1) * math.sqrt(len(matrix)) + bias.abs()).max())
    most = min(_MOST_GAIN * deviation, _LARGEST_VALUE / largest)
    step = 2.0 ** (math.floor(math.log2(most)) - 3)
    return math.floor(most / step) * step


def final_layer_norm(text_encoder: Any) -> torch.nn.LayerNorm:
    """The layer norm that ends the encoder. Raises `BaseFolderError` if there is none."""
    for name, module in text_encoder.named_modules():
        if name.endswith("final_layer_norm") and isinstance(module, torch.nn.LayerNorm):
            return module
    raise BaseFolderError(
        f"the text encoder {type(text_encoder).__name__} has no final layer norm; "
        "an edit needs a CLIPTextModel"
    )


@torch.no_grad()
def _typical_deviation(text_encoder: Any) -> float:
    """The median standard deviation of the last hidden state, over positions of tokens at even
    distances in the vocabulary: the config's own ids may be another tokenizer's."""
    length = text_encoder.config.max_position_embeddings
    last = text_encoder.get_input_embeddings().num_embeddings - 1
    ids = torch.linspace(0, last, length, dtype=torch.float64).long()[None]
    found: list[torch.Tensor] = []
    norm = final_layer_norm(text_encoder)
    handle = norm.register_forward_pre_hook(lambda module, inputs: found.append(inputs[0]))
    try:
        text_encoder(ids)
    finally:
        handle.remove()
    return float(found[0].float().std(-1).median())
