"""How large a graph's axes are: for one clip, and over all clips that a base allows.

Knows the axes of latents (`F` frames, `h` and `w`) and how pixels become latents; knows no graph.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from unsee.core.errors import NotExportable

Sizes = Mapping[str, int]
"""The size of every axis by its name."""


class Clip(Protocol):
    """How large a clip is; height and width in pixels. `ClipDefaults` of a base is one."""

    @property
    def num_frames(self) -> int: ...
    @property
    def height(self) -> int: ...
    @property
    def width(self) -> int: ...


class ClipLimits(Protocol):
    """The largest number of frames, and (least, most) pixels. `Limits` of a base is one."""

    @property
    def num_frames(self) -> int: ...
    @property
    def height(self) -> tuple[int, int]: ...
    @property
    def width(self) -> tuple[int, int]: ...


@dataclass(frozen=True)
class Profile:
    """The sizes of every axis that a graph is built for: the least, the usual ones, the most."""

    minimum: Sizes
    optimum: Sizes
    maximum: Sizes


def latent_sizes(clip: Clip, pixels: int, multiple: int) -> Sizes:
    """F, h and w of a clip; `pixels` make a latent, and h and w are multiples of `multiple`.

    Raises `NotExportable` if they are not.
    """
    step = pixels * multiple
    for name, value in (("height", clip.height), ("width", clip.width)):
        if value % step:
            raise NotExportable(
                f"the clip's {name} is {value} pixels, which is not a multiple of {step}"
            )
    return {"F": clip.num_frames, "h": clip.height // pixels, "w": clip.width // pixels}


def latent_profile(clip: Clip, limits: ClipLimits, pixels: int, multiple: int) -> Profile:
    """F, h and w from one frame of the smallest size to the limits, usually those of `clip`.

    Limits that are no multiples are narrowed to the next. Raises `NotExportable` if the clip is no
    multiple or outside of the limits.
    """
    optimum = latent_sizes(clip, pixels, multiple)
    step = pixels * multiple
    minimum, maximum = {"F": 1}, {"F": limits.num_frames}
    for axis, (least, most) in (("h", limits.height), ("w", limits.width)):
        minimum[axis] = -(-least // step) * multiple
        maximum[axis] = most // step * multiple
    for axis, name in (("F", "num_frames"), ("h", "height"), ("w", "width")):
        if not minimum[axis] <= optimum[axis] <= maximum[axis]:
            raise NotExportable(
                f"the clip's {name} {getattr(clip, name)} is outside of the limits "
                f"({getattr(limits, name)}); change clip or limits in base.yaml"
            )
    return Profile(minimum, optimum, maximum)


def with_batch(profile: Profile, optimum: int, maximum: int) -> Profile:
    """The profile with the batch axis `B` before the others: 1, `optimum`, `maximum` rows."""
    return Profile(
        {"B": 1, **profile.minimum},
        {"B": optimum, **profile.optimum},
        {"B": maximum, **profile.maximum},
    )
