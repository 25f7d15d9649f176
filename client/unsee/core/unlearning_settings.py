"""The settings of unlearning and their bounds: one dataclass per mode."""

from typing import Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass

Count = Annotated[int, Field(ge=1)]
Decay = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]


@dataclass(frozen=True, config={"extra": "forbid"})
class PaperMode:
    """The published method: gradient ascent on the denoising loss with Adam.

    The defaults are those of Liu & Tan (arXiv 2407.14209) and Fuchi & Takagi (arXiv 2405.07288):
    `epochs` passes over `shots` images in batches of `batch_size` make 10 steps.

    Args:
        learning_rate, betas, eps, weight_decay: of Adam.
        batch_size: images in a step.
        epochs: passes over the images.
        shots: images of the concept.

    Raises pydantic's `ValidationError` on values out of range.
    """

    learning_rate: Annotated[float, Field(gt=0, le=1)] = 1e-5
    betas: tuple[Decay, Decay] = (0.9, 0.98)
    eps: Positive = 1e-6
    weight_decay: Weight = 1e-8
    batch_size: Count = 2
    epochs: Count = 5
    shots: Count = 4

    @property
    def method(self) -> str:
        """The method's name in a delta's card."""
        return "paper"

    @property
    def uses_images(self) -> bool:
        """Whether the delta depends on images of the concept."""
        return True


@dataclass(frozen=True, config={"extra": "forbid"})
class AnchoredMode:
    """The default mode: a low-rank edit of the encoder's last state, in closed form.

    Args:
        shots: images of the concept, for attackers; without these none are made.
        rank: the most directions that the edit may remove.
        kept_at_least: the share of the variance of kept states that must not be moved.
        attackers: the most soft prompts that are learned against the edit, one after the other.
        attack_weight: how much an attacker counts beside the prompts with the name.
        attack_vectors: how many input vectors an attacker learns.
        attack_steps: its steps of Adam.
        attack_rate: its learning rate, in units of the token table's root mean square.
        batch_size: noised pictures per step of an attacker.
        erased_at_least: how far from the concept's denoising error (0) towards the anchor's (1)
            two attackers in a row must be held for the learning to stop.
        prompts_to_forget: how many prompts with the concept's name are read.
        prompts_to_keep: how many prompts without it are read.
        anchor: what is shown in the concept's place; None: the category's.

    Raises pydantic's `ValidationError` on values out of range.
    """

    shots: Count = 4
    rank: Count = 16
    kept_at_least: Annotated[float, Field(gt=0, lt=1)] = 0.995
    attackers: Annotated[int, Field(ge=0)] = 0
    attack_weight: Weight = 0.5
    attack_vectors: Count = 4
    attack_steps: Count = 30
    attack_rate: Positive = 0.2
    batch_size: Count = 8
    erased_at_least: Positive = 0.9
    prompts_to_forget: Count = 400
    prompts_to_keep: Count = 600
    anchor: str | None = None

    @property
    def method(self) -> str:
        """The method's name in a delta's card."""
        return "anchored"

    @property
    def uses_images(self) -> bool:
        """Whether the delta depends on images of the concept: attackers alone look at them."""
        return self.attackers > 0


Settings = PaperMode | AnchoredMode
