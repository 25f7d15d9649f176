"""What an edit is measured on: first and second moments of the encoder's states.

All losses of an edit but the attackers' are quadratic in it, so these moments are all that is kept
of the prompts.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F

from unsee.deltas.edit import final_layer_norm, standardised
from unsee.models.encoders.frame import PromptFrame
from unsee.models.encoders.reading import read_positions
from unsee.prompts.encoding import SlottedPrompts, encode_vectors
from unsee.unlearning.anchors import Naming, anchored, anchored_positions

PROMPTS_PER_CALL = 16
_UNCHANGED = 1e-3


@dataclass(frozen=True)
class KeepMoments:
    """Mean [D] and covariance [D, D], float64, of standardised states of prompts to be kept."""

    mean: torch.Tensor
    covariance: torch.Tensor


@dataclass(frozen=True)
class ForgetMoments:
    """Of the states x (less the kept mean) that name a concept and the changes d that they need:
    E[x x^T], E[x d^T] and, of d over its length, E[u u^T], all [D, D] float64, and E |d|^2."""

    states: torch.Tensor
    changes: torch.Tensor
    directions: torch.Tensor
    change_size: float

    @classmethod
    def none(cls, size: int) -> "ForgetMoments":
        """The moments of nothing."""
        empty = torch.zeros(size, size, dtype=torch.float64)
        return cls(empty, empty, empty, 0.0)

    def times(self, weight: float) -> "ForgetMoments":
        """The moments with a weight."""
        return ForgetMoments(
            weight * self.states,
            weight * self.changes,
            weight * self.directions,
            weight * self.change_size,
        )

    def __add__(self, other: "ForgetMoments") -> "ForgetMoments":
        return ForgetMoments(
            self.states + other.states,
            self.changes + other.changes,
            self.directions + other.directions,
            self.change_size + other.change_size,
        )


class StateReader:
    """Reads the standardised last hidden states [B, L, D] float32 of a frozen text encoder.

    Where it does not read the padding (see `unsee.models.encoders.reading`), the states are zeros.
    With another `norm` of the encoder they are what enters that one.
    """

    def __init__(self, text_encoder: Any, frame: PromptFrame, norm: Any = None) -> None:
        self._text_encoder = text_encoder
        self._frame = frame
        self._norm = final_layer_norm(text_encoder) if norm is None else norm

    @property
    def size(self) -> int:
        """D, the size of a state."""
        return int(self._norm.weight.shape[0])

    def states(self, ids: torch.Tensor) -> torch.Tensor:
        """The states of `ids` [B, L] int64."""
        with self.reading(ids) as found:
            self._text_encoder(ids)
        return found()

    def counts(self, ids: torch.Tensor) -> torch.Tensor:
        """Which positions [B, L] of `ids` the denoiser is given the states of, as bools."""
        return read_positions(ids, self._frame) > 0

    def attacked(
        self, ids: torch.Tensor, namings: Sequence[Naming], vectors: torch.Tensor
    ) -> torch.Tensor:
        """The states of `ids` [B, L] with `vectors` [k, d] in the places of the names."""
        first, count = self._frame.first, len(vectors)
        slots = [[first + len(n.before) + place for place in range(count)] for n in namings]
        with self.reading(ids) as found:
            encode_vectors(self._text_encoder, SlottedPrompts(ids, torch.tensor(slots)), vectors)
        return found()

    @contextmanager
    def reading(self, ids: torch.Tensor) -> Iterator[Callable[[], torch.Tensor]]:
        """Inside the block run the encoder on `ids`; the function then returns the states that it
        had."""
        found: list[torch.Tensor] = []
        handle = self._norm.register_forward_pre_hook(
            lambda module, inputs: found.append(inputs[0])
        )
        try:
            yield lambda: _as_long_as(ids, standardised(self._norm, found[0].float()))
        finally:
            handle.remove()


@torch.no_grad()
def keep_moments(reader: StateReader, rows: Sequence[list[int]]) -> KeepMoments:
    """The moments over every position of the prompts `rows` that the denoiser reads."""
    size = reader.size
    total = torch.zeros(size, dtype=torch.float64)
    square = torch.zeros(size, size, dtype=torch.float64)
    count = 0
    for ids in torch.split(torch.tensor(rows), PROMPTS_PER_CALL):
        states = reader.states(ids)[reader.counts(ids)].double()
        total += states.sum(0)
        square += states.T @ states
        count += len(states)
    mean = total / count
    return KeepMoments(mean, square / count - torch.outer(mean, mean))


@torch.no_grad()
def forget_moments(
    reader: StateReader,
    namings: Sequence[Naming],
    anchor: Sequence[int],
    mean: torch.Tensor,
    frame: PromptFrame,
    vectors: torch.Tensor | None = None,
) -> ForgetMoments:
    """The moments over those positions that the anchor changes.

    With `vectors` [k, d] these stand in the name's place instead of its tokens.
    """
    total, count = ForgetMoments.none(len(mean)), 0
    for start in range(0, len(namings), PROMPTS_PER_CALL):
        batch = namings[start : start + PROMPTS_PER_CALL]
        states, changes = changes_needed(reader, batch, anchor, frame, vectors)
        states, changes = states.double() - mean, changes.double()
        lengths = changes.norm(dim=1, keepdim=True)
        unit = changes / lengths
        sums = ForgetMoments(
            states.T @ states, states.T @ changes, unit.T @ unit, float(lengths.square().sum())
        )
        total, count = total + sums, count + len(states)
    return total.times(1 / max(count, 1))


def changes_needed(
    reader: StateReader,
    namings: Sequence[Naming],
    anchor: Sequence[int],
    frame: PromptFrame,
    vectors: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The states [N, D] of all positions that change and the changes [N, D] that they need."""
    if vectors is not None:
        free = frame.free(len(vectors))
        namings = [_fitting(Naming(n.before, free, n.after), frame) for n in namings]
    named = torch.tensor([frame.framed([*n.before, *n.name, *n.after]) for n in namings])
    wanted = torch.tensor([anchored(n, anchor, frame) for n in namings])
    where = torch.tensor([anchored_positions(n, anchor, frame) for n in namings])
    states = reader.states(named) if vectors is None else reader.attacked(named, namings, vectors)
    target = reader.states(wanted)
    target = target.gather(1, where[..., None].expand_as(states))
    both = reader.counts(named) & reader.counts(wanted).gather(1, where)
    changed = both & ((target - states).abs().sum(-1) > _UNCHANGED)
    return states[changed], (target - states)[changed]


def _fitting(naming: Naming, frame: PromptFrame) -> Naming:
    """The prompt without so many of its first tokens that the name is read."""
    room = max(frame.room - len(naming.name), 0)
    return Naming(naming.before[max(len(naming.before) - room, 0) :], naming.name, naming.after)


def _as_long_as(ids: torch.Tensor, states: torch.Tensor) -> torch.Tensor:
    """States [B, L', D] of padding that was cut off while the encoder ran: zeros up to L."""
    return F.pad(states, (0, 0, 0, ids.shape[1] - states.shape[1]))
