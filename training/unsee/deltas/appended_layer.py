"""An edit as one more layer of a `CLIPTextModel`: an ordinary model that any program can load."""

import copy
import math
from typing import Any

import torch

from unsee.deltas.edit import Edit, final_layer_norm
from unsee.models.encoders.clip import check_carries, encoder_layers

_MOST_GAIN = 1024.0
_LARGEST_VALUE = 2.0**15
"""Half of what float16 can hold: the unedited state is added to it."""


def with_appended_layer(text_encoder: Any, edit: Edit) -> Any:
    """Return a copy of the `CLIPTextModel` with a layer more, which says what `edit` makes of it.

    With the edit as z -> matrix z + bias, the appended layer's attention is silent; its MLP
    adds gain * (matrix' z + bias') to the unedited state d z + m. The final layer norm takes away
    the common part m and the length, so that with matrix' = matrix + d/gain (matrix - 1) and bias'
    = (1 + d/gain) bias the sum is the edited state; d is taken as its median, and a position whose
    own differs misses 1/gain of the difference. The gain is large for that, and so small that
    nothing leaves float16. Raises `BaseFolderError` if the encoder's activation or MLP cannot carry
    a linear map.
    """
    check_carries(text_encoder)
    matrix, bias = _affine(edit)
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


def _affine(edit: Edit) -> tuple[torch.Tensor, torch.Tensor]:
    """The edit as z -> matrix z + bias, [D, D] and [D] float64."""
    up, down = edit.up.double(), edit.down.double()
    unit = torch.eye(len(up), dtype=torch.float64)
    return unit - up @ down, up @ edit.offset.double()


def _gain(matrix: torch.Tensor, bias: torch.Tensor, deviation: float) -> float:
    """At most 1024 deviations, such that no state can leave float16; exact in bfloat16.

    A standardised state is at most sqrt(D) long, so no value of matrix z + bias passes `largest`.
    """
    largest = float((matrix.norm(dim=1) * math.sqrt(len(matrix)) + bias.abs()).max())
    most = min(_MOST_GAIN * deviation, _LARGEST_VALUE / largest)
    step = 2.0 ** (math.floor(math.log2(most)) - 3)
    return math.floor(most / step) * step


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
