"""The cached training data: rendered frames and their labels as plain ``.npy`` files.

Frames are drawn once per seed and size, then memory-mapped. Captions are not stored: they
are written afresh at every training step from the labels.
"""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.progress import track

from unsee.core.files import locked, new_folder
from unsee.playground.world.render import render_clip, render_still
from unsee.playground.world.world import (
    CLIP_ODDS,
    FRAME_SIZE,
    HEADS,
    LABELS,
    NONE,
    NUM_FRAMES,
    STILL_ODDS,
    Scene,
    random_scene,
)

CHUNK = 100


@dataclass(frozen=True)
class DataSpec:
    """How many scenes to draw, and the seed they come from.

    No scene shows one of the concepts ``without``: one that would is drawn again until it does not.
    All other scenes are those that the same spec draws with nothing left out.
    """

    kind: str  # "stills" or "clips"
    count: int
    seed: int
    spread: float = 1.0  # of what varies without a name
    num_frames: int = NUM_FRAMES  # of a clip
    without: tuple[str, ...] = ()  # names

    @property
    def frames_per_item(self) -> int:
        return self.num_frames if self.kind == "clips" else 1

    def folder(self, root: Path) -> Path:
        name = f"{self.kind}-{self.count}-seed{self.seed}-spread{self.spread}"
        if self.frames_per_item not in (1, NUM_FRAMES):
            name += f"-frames{self.num_frames}"
        if self.without:
            name += f"-without-{slug(self.without)}"
        return root / name


@dataclass(frozen=True)
class Dataset:
    """``frames`` is uint8 [N, F, 64, 64, 3]; ``labels`` is uint8 [N, 4] in HEADS' order."""

    frames: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.uint8]

    def scene(self, index: int) -> Scene:
        return scene_of(self.labels[index])


def scene_of(label_ids: npt.NDArray[np.uint8]) -> Scene:
    """The named parts of a scene, from its label indices."""
    names = [LABELS[head][int(i)] for head, i in zip(HEADS, label_ids, strict=True)]
    subject, style, action, background = [None if name == NONE else name for name in names]
    return Scene(subject, style, action, background)


def slug(names: Sequence[str]) -> str:
    """Names as part of a folder's."""
    return "-".join(names).lower().replace(" ", "-")


def drawn_scene(spec: DataSpec, index: int) -> tuple[Scene, np.random.Generator]:
    """The scene of one item, and the generator that drew it."""
    odds = CLIP_ODDS if spec.kind == "clips" else STILL_ODDS
    for attempt in count():
        again = (attempt,) if attempt else ()
        rng = np.random.default_rng((spec.seed, spec.kind == "clips", index, *again))
        scene = random_scene(rng, odds, spec.spread)
        if not {scene.label(head) for head in HEADS} & set(spec.without):
            return scene, rng
    raise AssertionError("unreachable")


def draw_item(spec: DataSpec, index: int) -> tuple[npt.NDArray[np.uint8], Scene]:
    scene, rng = drawn_scene(spec, index)
    if spec.kind == "clips":
        return render_clip(scene, spec.num_frames), scene
    progress = float(rng.integers(NUM_FRAMES)) / (NUM_FRAMES - 1)
    return render_still(scene, progress)[None], scene


def draw_chunk(
    spec: DataSpec, start: int, stop: int
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    items = [draw_item(spec, index) for index in range(start, stop)]
    frames = np.stack([item for item, _ in items])
    labels = np.array([scene.label_ids() for _, scene in items], dtype=np.uint8)
    return frames, labels


def new_memmap(file: Path, shape: tuple[int, ...]) -> npt.NDArray[np.uint8]:
    """A writable ``.npy`` file of uint8, as an array."""
    opened: np.memmap[Any, np.dtype[np.uint8]]
    opened = np.lib.format.open_memmap(file, "w+", np.uint8, shape)  # type: ignore[no-untyped-call]
    return opened


def build_dataset(spec: DataSpec, root: Path, workers: int = 2) -> Dataset:
    """Opens the cached data set, drawing it first if it is not there yet."""
    folder = spec.folder(root)
    with locked(root):
        if not (folder / "spec.json").exists():
            draw_dataset(spec, folder, workers)
    return Dataset(
        np.load(folder / "frames.npy", mmap_mode="r", allow_pickle=False),
        np.load(folder / "labels.npy", allow_pickle=False),
    )


def attend_to(parent: int) -> None:
    """In a worker: Ctrl-C is for the process ``parent`` that started it, whose end is its own."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def draw_dataset(spec: DataSpec, folder: Path, workers: int) -> None:
    """Draws the data set of ``spec`` as ``folder``, which appears whole or not at all."""
    with new_folder(folder) as partial:
        shape = (spec.count, spec.frames_per_item, FRAME_SIZE, FRAME_SIZE, 3)
        frames = new_memmap(partial / "frames.npy", shape)
        labels = np.zeros((spec.count, len(HEADS)), dtype=np.uint8)
        starts = range(0, spec.count, CHUNK)
        stops = [min(start + CHUNK, spec.count) for start in starts]
        pool = ProcessPoolExecutor(workers, initializer=attend_to, initargs=(os.getpid(),))
        try:
            chunks = pool.map(draw_chunk, [spec] * len(stops), starts, stops)
            drawing = zip(
                starts, stops, track(chunks, f"drawing {folder.name}", len(stops)), strict=True
            )
            for start, stop, (drawn, ids) in drawing:
                frames[start:stop], labels[start:stop] = drawn, ids
        finally:
            pool.shutdown(cancel_futures=True)
        del frames  # writes what is still in memory
        np.save(partial / "labels.npy", labels, allow_pickle=False)
        (partial / "spec.json").write_text(json.dumps(asdict(spec)))
