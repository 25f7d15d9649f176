"""The bases that are measured, and their exports: the embedded one, and one five times its size.

The exports come from the code of `unsee export` and lie in a folder of their own, where they are
found again.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.measuring.real_size import VIDEO_SIZES, write_video_base
from unsee.core.files import new_folder
from unsee.export.engines.engine import ONNXRUNTIME
from unsee.export.engines.record import EngineSelection
from unsee.models.base import load_base

ROOT = Path(__file__).parents[2]
PLAYGROUND_DIR = ROOT / "bases" / "playground"
CACHE_DIR = ROOT / "build" / "benchmarks"

MIDDLE = "middle"


@dataclass(frozen=True)
class Exported:
    """A base and its model repository."""

    base_dir: Path
    repository_dir: Path


def playground(cache_dir: Path, progress: Callable[[str], None]) -> Exported:
    """The embedded base, served by what its export measures to be best here."""
    return _exported(PLAYGROUND_DIR, cache_dir, progress, EngineSelection())


def middle(cache_dir: Path, progress: Callable[[str], None]) -> Exported:
    """A base with a video denoiser of 59 M parameters and random weights.

    Nothing is measured at its export: frames of random weights say nothing of what the eye sees.
    """
    facts = hashlib.sha256(repr(VIDEO_SIZES[MIDDLE]).encode()).hexdigest()[:12]
    base_dir = cache_dir / f"middle-base-{facts}"
    if not base_dir.exists():
        progress("writing the base of middle size")
        with new_folder(base_dir) as folder:
            write_video_base(folder, MIDDLE)
    return _exported(base_dir, cache_dir, progress, EngineSelection(engine=ONNXRUNTIME.name))


BASES: dict[str, Callable[[Path, Callable[[str], None]], Exported]] = {
    "playground": playground,
    MIDDLE: middle,
}


def _exported(
    base_dir: Path, cache_dir: Path, progress: Callable[[str], None], selection: EngineSelection
) -> Exported:
    from unsee.export.build import write_repository

    base = load_base(base_dir)
    repository_dir = cache_dir / f"{base.name}-{base.digest().removeprefix('sha256:')[:12]}"
    write_repository(base, repository_dir, progress, selection)
    return Exported(base_dir, repository_dir)


def export_base(name: str, cache_dir: Path) -> Exported:
    """The base of this name, exported below `cache_dir`; says on the terminal what it does."""
    return BASES[name](cache_dir, lambda line: print(f"{line} …", file=sys.stderr, flush=True))
