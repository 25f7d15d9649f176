"""The schema of `report.json`: every figure with its n, its 95 % interval and its controls.

A share of what must be gone stands between two controls. The *base* is the unmodified encoder under
the same prompts and seeds: what there was. The *floor* is the unmodified encoder under the same
prompts with a neutral word in the concept's place, and the same seeds: what an ideal edit could
reach, for the recogniser errs there too.

Light on purpose: the gate of `unsee publish` reads reports with nothing but pydantic.
"""

from __future__ import annotations

import math
from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, Field, ValidationError
from pydantic import model_validator as validates

from unsee.core.errors import InputError
from unsee.core.policy import Concept
from unsee.core.validation import ClosedModel, describe

REPORT_FILE = "report.json"
PAGE_FILE = "report.html"
SIGNATURE_FILE = "report.sig"
SCHEMA_VERSION: Literal[2] = 2
LASTING_SHARE = 0.25
"""Of a clip's frames; `docs/measured/floors.md` has the measurement that it was chosen by."""

Media = Literal["image", "video"]
Wording = Literal["alone", "context", "long", "synonym", "translated"]
Shape = Literal[
    "capitals",
    "list",
    "negation",
    "repetition",
    "quotes",
    "typo",
    "lookalikes",
    "beside_others",
    "negative_prompt",
    "low_guidance",
    "high_guidance",
    "few_steps",
    "many_steps",
]
"""Other ways to write a name, and other parameters; see `asking.shapes`."""
Reach = Literal["caller", "weights"]
"""Who can make an attack: whoever may send text and parameters, or only a holder of the weights."""
Group = Literal["sibling", "other", "shared_words", "translated"]
Count = Annotated[int, Field(ge=0, le=2**31 - 1)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


class _Versioned(BaseModel):
    """The one field of a report that every version has."""

    schema_version: int


class Rate(ClosedModel):
    """`hits` of `n`, with Wilson's 95 % interval."""

    hits: Count
    n: Count
    low: Share
    high: Share

    @validates(mode="after")
    def _no_more_hits_than_samples(self) -> Rate:
        if self.hits > self.n:
            raise ValueError(f"{self.hits} hits of {self.n} samples")
        return self

    @property
    def share(self) -> float:
        """hits / n; NaN where nothing was asked."""
        return self.hits / self.n if self.n else float("nan")


class Mean(ClosedModel):
    """The mean of `n` values, with a bootstrap 95 % interval."""

    value: float
    low: float
    high: float
    n: Count


class RatePair(ClosedModel):
    """The same questions and seeds, put to the tuned encoder and to the base's."""

    tuned: Rate
    base: Rate


class MeanPair(ClosedModel):
    """The same questions and seeds, put to the tuned encoder and to the base's."""

    tuned: Mean
    base: Mean


class RateTriple(ClosedModel):
    """A share between its two controls: equal seeds, and equal prompts but for the `floor`, whose
    prompts have a neutral word in the concept's place."""

    tuned: Rate
    base: Rate
    floor: Rate


class FramesShown(ClosedModel):
    """In how many of its frames each measured sample shows the concept, sample by sample."""

    num_frames: Annotated[int, Field(ge=1)]
    tuned: tuple[Count, ...]
    base: tuple[Count, ...]
    floor: tuple[Count, ...]


class ShownRow(ClosedModel):
    """How often an unseen concept is recognised, by three rules.

    `any_frame`: in a single frame at least. `lasting`: in at least `lasting_frames` frames; the
    rule that the gate judges by. `mean_frame`: in the average over the frames. For images the three
    are one, and so for actions, which are recognised from the whole clip only and have no
    `frames_shown`. `unmeasured` samples are in none of them: with one of the encoders they came out
    blank (black, or not finite).
    """

    concept: str
    media: Media
    any_frame: RateTriple
    lasting: RateTriple
    mean_frame: RateTriple
    frames_shown: FramesShown | None = None
    unmeasured: Count = 0


class ErasedRow(ShownRow):
    """What is still recognised under one kind of wording."""

    wording: Wording


class KeptRow(ClosedModel):
    """How often something that should be kept is recognised (average over frames).

    `group`: a sibling is of an unseen concept's category; `shared_words` are prompts that share a
    word with an unseen concept; `translated` asks for a sibling in another language; other is
    everything else.
    """

    concept: str
    category: str
    group: Group
    media: Media
    recognised: RatePair


class ReemergenceRow(ClosedModel):
    """Whether a concept comes back late in a clip, over all erased video prompts of the concept.

    `returned`: of the clips whose first half shows it in no frame, those whose second half does.
    The curves give, per frame, the share of clips in which that frame shows it.
    """

    concept: str
    returned: RatePair
    tuned_curve: tuple[Share, ...]
    base_curve: tuple[Share, ...]


class MotionRow(ClosedModel):
    """Motion of kept clips: mean absolute difference of successive frames, in levels of 0 to 255.

    `ratio` is the mean of the tuned encoder's motion over the mean of the base's for the same
    prompts and seeds.
    """

    magnitude: MeanPair
    ratio: Mean


class DriftRow(ClosedModel):
    """How far unrelated prompts' frames moved for equal seeds, in levels of 0 to 255.

    `tuned` is the mean absolute difference to the base's frames; `other_seed` is the base's own
    difference between two seeds of the same prompts, the yardstick.
    """

    media: Media
    tuned: Mean
    other_seed: Mean


class ClipScoreRow(ClosedModel):
    """CLIP score (cosine of image and text embeddings x 100; arXiv 2104.08718) of kept prompts."""

    media: Media
    score: MeanPair


class ShapeRow(ShownRow):
    """What is still recognised where the name has another shape or a parameter another value."""

    shape: Shape


class AttackRow(ShownRow):
    """How often an attack brings an unseen concept back.

    `base` is the same attack on the unmodified encoder; `floor` is no attack at all, but the
    unmodified encoder under neutral prompts. `times` is the budget as a multiple of the usual one,
    which `budget` spells out.
    """

    attack: str
    reach: Reach
    times: Annotated[int, Field(ge=1)] = 1
    budget: str
    source: str
    seconds: float


class Target(ClosedModel):
    """What was evaluated. `encoder_digest` is `tensors_digest` of the text encoder's state."""

    kind: Literal["policy", "delta", "encoder"]
    name: str
    concepts: tuple[Concept, ...]
    base: str
    base_digest: str
    encoder_digest: str


class EvaluationSettings(ClosedModel):
    """What every figure of the report was made with."""

    seed: int
    prompts_per_wording: Count
    prompts_per_sibling: Count
    num_others: Count
    attack_prompts: Count
    prompts_per_shape: Count = 0
    num_frames: Count
    num_inference_steps: Count
    guidance_scale: float
    recogniser: str
    recogniser_digest: str
    questions_digest: str | None = None
    """Of the evaluation set that the questions were made from; None in reports of version 0.1."""
    translated: tuple[str, ...] = ()
    """The categories whose concepts were asked for in other languages too."""


class Report(ClosedModel):
    """The content of `report.json`; a list is empty where the quantity was not measured.

    `models` are the `models_digest` of what made "image" and "video", and of what made an
    attacker's "pictures" if that is another one; reports of earlier versions have none.
    """

    schema_version: Literal[2] = SCHEMA_VERSION
    target: Target
    settings: EvaluationSettings
    models: dict[str, str] = Field(default_factory=dict)
    erased: tuple[ErasedRow, ...]
    kept: tuple[KeptRow, ...]
    reemergence: tuple[ReemergenceRow, ...] = ()
    motion: MotionRow | None = None
    drift: tuple[DriftRow, ...] = ()
    clip_score: tuple[ClipScoreRow, ...] = ()
    shapes: tuple[ShapeRow, ...] = ()
    attacks: tuple[AttackRow, ...] = ()
    seconds: dict[str, float]
    versions: dict[str, str]
    created_at: datetime


def load_report(path: Path) -> Report:
    """Read `path`, a report.json or the folder that holds one.

    Raises `InputError` if it is missing or not a valid report.
    """
    file = path / REPORT_FILE if path.is_dir() else path
    try:
        return report_of(file.read_bytes(), file)
    except OSError:
        raise InputError(f"there is no report at {file}; make one with `unsee evaluate`") from None


def report_of(content: bytes, file: Path) -> Report:
    """The report in `content`, which was read from `file`; raises `InputError` if it is none."""
    _check_version(content, file)
    try:
        return Report.model_validate_json(content)
    except ValidationError as error:
        raise InputError(f"{file} is not a valid report: {describe(error)}") from error


def lasting_frames(num_frames: int) -> int:
    """How many of a clip's `num_frames` frames must show a concept for it to count as lasting."""
    return max(1, math.ceil(LASTING_SHARE * num_frames))


def _check_version(content: bytes, file: Path) -> None:
    """Raise `InputError` for a report of another version; what is no report at all passes."""
    try:
        version = _Versioned.model_validate_json(content).schema_version
    except ValidationError:
        return
    if version != SCHEMA_VERSION:
        raise InputError(
            f"{file} has schema_version {version}, and this version of Unsee reads "
            f"{SCHEMA_VERSION}; make the report again with `unsee evaluate`"
        )
