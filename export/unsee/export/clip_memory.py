"""How much memory the largest clip that a base allows takes, and whether this machine has it."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from unsee.core.sizes import in_words
from unsee.export.graphs.graphs import Graph
from unsee.export.measured_graphs import ExportedGraph, call_sizes, feeds_at
from unsee.export.onnx.activations import AXES, peak_activations
from unsee.models.base import Base
from unsee.repository.base import read_base

SMALL_FRAMES = 2
_TOKENS = "L"
_CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")


@dataclass(frozen=True)
class ClipMemory:
    """What one clip at the base's limits takes beside the models while it is made.

    Args:
        num_bytes: the activations of all graphs; a measured call took 0.8 to 1.6 times as much.
        machine_bytes: what this machine, or this container, has in all.
        clip: the clip in words.
    """

    num_bytes: int
    machine_bytes: int
    clip: str

    @property
    def fits(self) -> bool:
        """Whether this machine could make it, if it did nothing else."""
        return self.num_bytes <= self.machine_bytes

    def __str__(self) -> str:
        """One sentence: what it takes and, if that is too much for this machine, what to do."""
        needed = f"a clip at the limits ({self.clip}) takes about {in_words(self.num_bytes)}"
        if self.fits:
            return f"{needed} while it is made"
        return (
            f"{needed} while it is made and this machine has {in_words(self.machine_bytes)}, so "
            "that such a request may end the server: lower num_frames, height or width of limits "
            "in base.yaml, or serve where there is more"
        )


def clip_memory(
    base: Base, exported: Sequence[ExportedGraph], known: int | None = None
) -> ClipMemory:
    """The memory of the largest clip, reckoned from small runs of `exported`, seconds in all.

    Args:
        known: what an earlier export found.
    """
    limits = base.spec.limits
    num_bytes = known or sum(_activations(one, base) for one in exported)
    clip = f"{limits.num_frames} frames of {limits.height[1]} × {limits.width[1]}"
    return ClipMemory(num_bytes, memory_of_this_machine(), clip)


def known_bytes(file: Path, base: Base, computed_by: Mapping[str, str]) -> int | None:
    """What the `base.json` in `file` says, if it is of the same graphs and limits."""
    try:
        record = read_base(file)
    except (OSError, ValueError):
        return None
    limits, now = record.limits, base.spec.limits
    then = (limits.num_frames[1], limits.height, limits.width)
    if record.graphs != computed_by or then != (now.num_frames, now.height, now.width):
        return None
    return record.largest_clip_bytes or None


def memory_of_this_machine() -> int:
    """Bytes of memory that this machine has, or that this container may use."""
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        return min(physical, int(_CGROUP_LIMIT.read_text(encoding="ascii")))
    except (OSError, ValueError):  # there is no limit
        return physical


def _activations(exported: ExportedGraph, base: Base) -> int:
    graph = exported.graph
    wanted = {**call_sizes(graph, base), **_largest(graph, base)}
    smallest = {"F": SMALL_FRAMES} | {axis: 2 * graph.multiples.get(axis, 1) for axis in AXES[1]}
    small = {**wanted, **{axis: size for axis, size in smallest.items() if axis in wanted}}
    return peak_activations(exported.file, lambda sizes: feeds_at(graph, sizes), small, wanted)


def _largest(graph: Graph, base: Base) -> dict[str, int]:
    maximum = graph.profile(base.spec.clip, base.spec.limits).maximum
    axes = (*AXES, (_TOKENS,))
    return {axis: maximum[axis] for group in axes for axis in group if axis in maximum}
