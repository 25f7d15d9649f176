"""Floating-point operations of an exported graph's PyTorch module, counted without computing.

Knows the graphs of an export; does not know what runs them.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from meter import count_flops

from unsee.export.graphs.graphs import Graph, Sizes
from unsee.export.text_to_video.sampling_check import sampling_graphs
from unsee.models.base import Base, load_base


class FlopTable:
    """What the three graphs of a base take at any sizes."""

    def __init__(self, base: Base) -> None:
        text_encoder, unet, vae = sampling_graphs(base)
        self.graphs: Mapping[str, Graph] = {g.name: g for g in (text_encoder, unet, vae)}
        self._modules = {
            text_encoder.name: _on_meta(text_encoder, base.text_encoder()),
            unet.name: _on_meta(unet, base.t2v_unet()),
            vae.name: _on_meta(vae, base.t2v_vae()),
        }
        self._clip = base.spec.clip

    def flops(self, name: str, sizes: Sizes) -> int:
        """Of one call of a graph with these sizes."""
        inputs = [x.to("meta") for x in self.graphs[name].example_inputs(sizes, seed=0)]
        return count_flops(lambda: self._modules[name](*inputs))

    def of_clip_call(self, name: str, **sizes: int) -> int:
        """Of one call while the base's default clip is made, or one that differs in `sizes`."""
        return self.flops(name, self.clip_sizes(name, **sizes))

    def clip_sizes(self, name: str, **sizes: int) -> Sizes:
        """All sizes of such a call."""
        return {**self.graphs[name].clip_sizes(self._clip), **sizes}

    def of_clip(self, steps: int) -> int:
        """Of a whole guided clip of the default size."""
        calls = {"text_encoder": 1, "video_unet": steps, "vae_decoder": 1}
        return sum(count * self.of_clip_call(name) for name, count in calls.items())


def base_flops(base_dir: Path) -> FlopTable:
    """The table of the base in this folder."""
    return FlopTable(load_base(base_dir))


def _on_meta(graph: Graph, model: Any) -> Any:
    return graph.wrap(copy.deepcopy(model)).to("meta")
