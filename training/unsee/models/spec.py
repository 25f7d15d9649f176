"""The content of `base.yaml`."""

from typing import Annotated, Literal, Self

from pydantic import Field, FiniteFloat, model_validator

from unsee.core.unlearning_settings import AnchoredMode, PaperMode
from unsee.core.validation import LOCAL, ClosedModel, matching
from unsee.models.components import Precision
from unsee.models.sampling.options import SchedulerOptions

BASE_FILE = "base.yaml"

Count = Annotated[int, Field(ge=1)]
Guidance = Annotated[FiniteFloat, Field(ge=0)]
Source = Annotated[str, Field(min_length=1), LOCAL]
Local = Annotated[str, LOCAL]
Media = Literal["image", "video"]


class ClipDefaults(ClosedModel):
    """What a clip is when a request says nothing; `fps` in frames per second, sizes in pixels."""

    num_frames: Count
    height: Count
    width: Count
    fps: Count
    num_inference_steps: Count
    guidance_scale: Guidance


class Limits(ClosedModel):
    """The most that a request may ask for; height and width are (minimum, maximum) in pixels."""

    num_frames: Count
    height: tuple[Count, Count]
    width: tuple[Count, Count]
    num_inference_steps: Count
    guidance_scale: Guidance

    @model_validator(mode="after")
    def _least_before_most(self) -> Self:
        for name in ("height", "width"):
            least, most = getattr(self, name)
            if least > most:
                raise ValueError(f"{name} is from {least} to {most}; give the smaller one first")
        return self


class UnlearnDefaults(ClosedModel):
    """Settings of unlearning that this base recommends; what it leaves out is the mode's own."""

    paper: PaperMode = PaperMode()
    anchored: AnchoredMode = AnchoredMode()


class BaseSpec(ClosedModel):
    """The content of `base.yaml`; `t2i` and `t2v` are folders (relative to it) or hub ids.

    Without `t2i` the video model makes the pictures, as clips of one frame.

    With a `motion_adapter`, also a folder or a hub id, `t2v` is an image model too, and the video
    denoiser is AnimateDiff's: its UNet with the adapter's motion modules in between.

    `judge` is the folder of a classifier, `evaluation` the file of an evaluation set, and `prompts`
    a text file with what people ask of this base, one prompt a line. `precision` is how the frozen
    parts of the model that makes pictures, its denoiser and its autoencoder, are kept, and
    `encoder_precision` that of the text encoder. A video model that is exported is always float32,
    and a text encoder is exported in float32 of the values that it has here. `variant`, such as
    "fp16", chooses between several files of the same weights.
    """

    name: Annotated[str, Field(min_length=1)]
    t2i: Source | None = None
    t2v: Source
    motion_adapter: Source | None = None
    clip: ClipDefaults
    limits: Limits
    schedulers: SchedulerOptions = SchedulerOptions()
    unlearn: UnlearnDefaults = UnlearnDefaults()
    judge: Local | None = None
    evaluation: Local | None = None
    prompts: Local | None = None
    precision: Precision = "float32"
    encoder_precision: Precision = "float32"
    variant: (
        Annotated[
            str,
            matching(
                r"[A-Za-z0-9_-]+",
                "a variant is letters, digits, hyphens and underscores, such as fp16",
            ),
        ]
        | None
    ) = None

    @model_validator(mode="after")
    def _defaults_within_the_limits(self) -> Self:
        """An export compares the sizes, in latents."""
        for name in ("num_inference_steps", "guidance_scale"):
            usual, most = getattr(self.clip, name), getattr(self.limits, name)
            if usual > most:
                raise ValueError(
                    f"clip.{name} is {usual} and limits.{name} {most}, so a request that names "
                    "none would be refused; change one of them"
                )
        return self

    @model_validator(mode="after")
    def _no_options_of_nothing(self) -> Self:
        if self.t2i is None and self.schedulers.t2i:
            raise ValueError("schedulers.t2i is given, and there is no t2i; give schedulers.t2v")
        return self
