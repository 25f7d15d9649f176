"""The settings of unlearning. Knows their bounds, not their use."""

from typing import Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass

Count = Annotated[int, Field(ge=1)]
Decay = Annotated[float, Field(ge=0, lt=1)]


@dataclass(frozen=True, config={"extra": "forbid"})
class PaperMode:
    """Adam and schedule of the paper (Liu & Tan, arXiv 2407.14209; Fuchi & Takagi, 2405.07288).

    Gradient ascent on the denoising loss: `epochs` passes over `shots` images in batches of
    `batch_size`, 10 steps as it stands. Raises pydantic's `ValidationError` on values out of range.
    """

    learning_rate: Annotated[float, Field(gt=0, le=1)] = 1e-5
    betas: tuple[Decay, Decay] = (0.9, 0.98)
    eps: Annotated[float, Field(gt=0)] = 1e-6
    weight_decay: Annotated[float, Field(ge=0)] = 1e-8
    batch_size: Count = 2
    epochs: Count = 5
    shots: Count = 4

    @property
    def method(self) -> str:
        """The method's name in a delta's card."""
        return "paper"
