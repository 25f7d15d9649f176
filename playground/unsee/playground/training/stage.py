"""What every stage of training has: places, a budget, and a record of what made its weights."""

from __future__ import annotations

import json
import platform
import shlex
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

from torch import Tensor

from unsee.core.files import write_json
from unsee.playground.networks.mixed_precision import bfloat16_pays
from unsee.playground.training.checkpoint import digest, read_folder, recover
from unsee.playground.training.loop import Budget, Trainer
from unsee.playground.world.dataset import DataSpec

LIBRARIES = ("torch", "diffusers", "transformers", "numpy")


@dataclass(frozen=True)
class Places:
    """Where training reads and writes, and which concepts it must never see."""

    build_dir: Path
    base_dir: Path
    without: tuple[str, ...] = ()

    def seen(self, spec: DataSpec) -> DataSpec:
        """The data set without the scenes that show those concepts."""
        return replace(spec, without=self.without)

    @property
    def precision(self) -> str:
        """Of matrix products: ``bfloat16`` or ``float32``.

        Whether bfloat16 pays is tried once and kept in ``precision.json``, because a run that is
        resumed must go on as it began.
        """
        file = self.build_dir / "precision.json"
        if not file.exists():
            write_json(file, {"precision": "bfloat16" if bfloat16_pays() else "float32"})
        precision: str = json.loads(file.read_text())["precision"]
        return precision

    @property
    def mixed(self) -> bool:
        """Whether matrix products are in bfloat16."""
        return self.precision == "bfloat16"

    def checkpoint(self, stage: str) -> Path:
        return self.build_dir / "checkpoints" / stage

    def has_checkpoint(self, stage: str) -> bool:
        recover(self.checkpoint(stage))
        return (self.checkpoint(stage) / "record.json").exists()

    def average(self, stage: str) -> dict[str, Tensor]:
        """The averaged weights of a stage's last checkpoint.

        Raises:
            FileNotFoundError: the stage has not been trained.
        """
        if not self.has_checkpoint(stage):
            raise FileNotFoundError(
                f"stage {stage} has no checkpoint in {self.build_dir}; train it first"
            )
        return read_folder(self.checkpoint(stage))[0]["average"]


@dataclass(frozen=True)
class Stage:
    train: Callable[[Budget, Places], bool]
    budget: Budget


def run_recorded(trainer: Trainer, places: Places, precision: str) -> bool:
    """Trains, and keeps in ``training.json`` what made the weights.

    ``precision`` is that of the matrix products. Returns whether the stage's budget is used up.
    """
    finished = trainer.run()
    file = places.base_dir / "training.json"
    known = json.loads(file.read_text()) if file.exists() else {}
    budget = trainer.budget
    names = " ".join(map(shlex.quote, places.without))
    known[trainer.task.name] = {
        "command": "python -m unsee.playground.training.train "
        f"--base {places.base_dir.name} --stage {trainer.task.name}"
        + (f" --without {names}" if names else ""),
        "seed": trainer.task.seed,
        "steps": trainer.step,
        "minutes": round(trainer.elapsed_s / 60, 1),
        "learning_rate": budget.learning_rate,
        "finished": finished,
        "digest": f"sha256:{digest(trainer.ema.average)}",
        **({"without": list(places.without)} if places.without else {}),
        "precision": precision,
        "python": platform.python_version(),
        **{name: version(name) for name in LIBRARIES},
    }
    write_json(file, known, indent=1)
    return finished
