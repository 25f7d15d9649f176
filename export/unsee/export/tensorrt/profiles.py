"""The shapes that an engine is built for: a graph's sizes per axis, turned into shapes per input.

Knows a graph's border and what Triton asks of a batch; where the sizes come from is the graph's
business.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from unsee.core.errors import ProfileError
from unsee.export.graphs.graphs import Graph, sized
from unsee.export.graphs.sizes import Profile, Sizes

BATCH = "B"
Shape = tuple[int, ...]


@dataclass(frozen=True)
class ShapeRange:
    """The shapes of one input that an engine takes: every dim from `minimum` to `maximum`.

    The engine is fastest at `optimum`, which is what its kernels are chosen at.
    """

    minimum: Shape
    optimum: Shape
    maximum: Shape


def input_ranges(graph: Graph, profile: Profile) -> dict[str, ShapeRange]:
    """The range of shapes of every input of `graph`, by name.

    Raises `ProfileError` if an axis is missing or too many, if sizes are out of order or no
    multiple of what the graph needs, or if batches of 1 to the graph's `max_batch_size` are not all
    inside: Triton makes those.
    """
    _check_axes(graph, profile)
    _check_sizes(graph, profile)
    return {
        tensor.name: ShapeRange(
            minimum=sized(tensor.dims, profile.minimum),
            optimum=sized(tensor.dims, profile.optimum),
            maximum=sized(tensor.dims, profile.maximum),
        )
        for tensor in graph.inputs
    }


def _check_axes(graph: Graph, profile: Profile) -> None:
    axes = {dim for tensor in graph.inputs for dim in tensor.dims if isinstance(dim, str)}
    for word, sizes in _named(profile).items():
        if wrong := axes.symmetric_difference(sizes):
            raise ProfileError(
                f"the {word} sizes of {graph.name} are for the axes {_words(sizes)}, and it has "
                f"{_words(axes)}; the difference is {_words(wrong)}"
            )


def _check_sizes(graph: Graph, profile: Profile) -> None:
    for axis, least in profile.minimum.items():
        usual, most = profile.optimum[axis], profile.maximum[axis]
        if not 1 <= least <= usual <= most:
            raise ProfileError(
                f"the sizes of {axis} in {graph.name} are {least}, {usual} and {most}; give them "
                "from 1 up as least, usual and greatest"
            )
        multiple = graph.multiples.get(axis, 1)
        for size in (least, usual, most):
            if size % multiple:
                raise ProfileError(
                    f"{axis} = {size} is no multiple of {multiple}, which {graph.name} needs"
                )
    batches = profile.minimum[BATCH], profile.maximum[BATCH]
    if batches != (1, graph.max_batch_size):
        raise ProfileError(
            f"{graph.name} is served in batches of 1 to {graph.max_batch_size}; its profile has "
            f"{batches[0]} to {batches[1]}"
        )


def _named(profile: Profile) -> Mapping[str, Sizes]:
    return {
        "least": profile.minimum,
        "usual": profile.optimum,
        "greatest": profile.maximum,
    }


def _words(axes: Collection[str]) -> str:
    return ", ".join(sorted(axes)) or "none"
