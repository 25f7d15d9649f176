"""How large a graph's axes are: for one clip, and over all clips that a base allows.

Knows the axes of latents (`F` frames, `h` and `w`) and how pixels become latents; knows no graph.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from unsee.core.errors import NotExportable
from unsee.models.spec import ClipDefaults, Limits

Sizes = Mapping[str, int]
"""The size of every axis by its name."""


@dataclass(frozen=True)
class Profile:
    """The sizes of every axis that a graph is built for: the least, the usual ones, the most."""

    minimum: Sizes
    optimum: Sizes
    maximum: Sizes


@dataclass(frozen=True)
class LatentGrid:
    """How pixels and frames become latents.

    Args:
        pixels: how many of a side make a latent.
        multiple: what h and w are multiples of.
        frames: how many make a latent frame; the clip's first frame is one by itself.
    """

    pixels: int
    multiple: int = 1
    frames: int = 1

    def latent_frames(self, num_frames: int) -> int:
        """How many latent frames `num_frames` fill."""
        return 1 + (num_frames - 1) // self.frames


def latent_sizes(clip: ClipDefaults, grid: LatentGrid) -> Sizes:
    """F, h and w of a clip. Raises `NotExportable` if it does not fill the grid."""
    step = grid.pixels * grid.multiple
    for name, value in (("height", clip.height), ("width", clip.width)):
        if value % step:
            raise NotExportable(
                f"the clip's {name} is {value} pixels, which is not a multiple of {step}"
            )
    if (clip.num_frames - 1) % grid.frames:
        raise NotExportable(
            f"the clip's num_frames is {clip.num_frames}, which is not one more than a multiple of "
            f"{grid.frames}"
        )
    return {
        "F": grid.latent_frames(clip.num_frames),
        "h": clip.height // grid.pixels,
        "w": clip.width // grid.pixels,
    }


def latent_profile(clip: ClipDefaults, limits: Limits, grid: LatentGrid) -> Profile:
    """F, h and w from one frame of the smallest size to the limits, usually those of `clip`.

    Limits that do not fill the grid are narrowed to what does. Raises `NotExportable` if the clip
    does not or is outside of the limits.
    """
    optimum = latent_sizes(clip, grid)
    step, multiple = grid.pixels * grid.multiple, grid.multiple
    minimum, maximum = {"F": 1}, {"F": grid.latent_frames(limits.num_frames)}
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
