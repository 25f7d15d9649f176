"""One training loop for every stage: schedule, average of weights, checkpoints, resume.

A stage's randomness is drawn from (seed, step), so a run that was cut off and resumed
gives the same weights as one that was not.
"""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from unsee.playground.networks.muon import Muon, split_parameters
from unsee.playground.training.checkpoint import (
    flatten_optimizer,
    read_folder,
    recover,
    unflatten_optimizer,
    write_folder,
)


@dataclass(frozen=True)
class Budget:
    """How long to train and how fast."""

    steps: int
    learning_rate: float
    warmup_steps: int = 100
    weight_decay: float = 0.01
    ema_decay: float = 0.999
    max_grad_norm: float = 1.0
    checkpoint_s: float = 120.0
    log_steps: int = 25


@dataclass
class StepRandom:
    """The randomness of one step."""

    numpy: np.random.Generator
    torch: torch.Generator

    @classmethod
    def of(cls, seed: int, step: int) -> StepRandom:
        generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
        return cls(np.random.default_rng((seed, step)), generator)


class Task(Protocol):
    """What a stage trains. ``modules`` are saved; ``loss`` is one step's."""

    name: str
    seed: int
    modules: nn.ModuleDict

    def loss(self, random: StepRandom, step: int) -> tuple[Tensor, dict[str, float]]: ...


def learning_rate_at(progress: float, step: int, budget: Budget) -> float:
    warm = min(1.0, (step + 1) / budget.warmup_steps)
    cosine = 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))
    return budget.learning_rate * warm * (0.02 + 0.98 * cosine)


class Ema:
    """Exponential moving average of the weights, with a ramp at the start."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self.live = dict(module.state_dict(keep_vars=True))
        self.average = {name: value.detach().clone() for name, value in self.live.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        decay = min(self.decay, (1 + step) / (10 + step))
        names = [name for name, value in self.average.items() if value.is_floating_point()]
        averages = [self.average[name] for name in names]
        torch._foreach_lerp_(averages, [self.live[name] for name in names], 1 - decay)


@contextmanager
def stop_on_interrupt() -> Iterator[Callable[[], bool]]:
    """Within: SIGINT and SIGTERM ask for a stop instead of raising."""
    asked: list[int] = []

    def ask(signum: int, frame: FrameType | None) -> None:
        asked.append(signum)

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def keep_memory_formats(optimizer: torch.optim.Optimizer) -> None:
    """Lays loaded state out in memory as the parameters are: mixing layouts is slow."""
    for parameter, slots in optimizer.state.items():
        for key, value in slots.items():
            if value.shape == parameter.shape:
                slots[key] = torch.empty_like(parameter.detach()).copy_(value)


class Trainer:
    """Runs a task to the end of its budget, resuming from ``folder`` if it can."""

    def __init__(
        self,
        task: Task,
        budget: Budget,
        folder: Path,
        on_checkpoint: Callable[[Mapping[str, Tensor], int], None] | None = None,
    ) -> None:
        self.task, self.budget, self.folder = task, budget, folder
        self.on_checkpoint = on_checkpoint
        self.parameters = [p for p in task.modules.parameters() if p.requires_grad]
        matrices, others = split_parameters(task.modules)
        rate, decay = budget.learning_rate, budget.weight_decay
        self.optimizers: dict[str, torch.optim.Optimizer] = {
            "muon": Muon(matrices, lr=rate, weight_decay=decay),
            "adamw": torch.optim.AdamW(
                others, lr=rate, betas=(0.9, 0.99), weight_decay=0.0, fused=True
            ),
        }
        self.ema = Ema(task.modules, budget.ema_decay)
        self.step, self.elapsed_s, self.finished = 0, 0.0, False
        recover(folder)
        if (folder / "record.json").exists():
            self.resume()

    def resume(self) -> None:
        tensors, record = read_folder(self.folder)
        self.task.modules.load_state_dict(tensors["live"])
        self.ema.average = tensors["average"]
        for name, optimizer in self.optimizers.items():
            optimizer.load_state_dict(unflatten_optimizer(tensors[name], optimizer))
            keep_memory_formats(optimizer)
        self.step, self.elapsed_s = record["step"], record["elapsed_s"]
        self.finished = self.progress() >= 1  # a larger budget goes on from here

    def save(self) -> None:
        tensors = {
            "live": self.task.modules.state_dict(),
            "average": self.ema.average,
            **{k: flatten_optimizer(v.state_dict()) for k, v in self.optimizers.items()},
        }
        record = {
            "task": self.task.name,
            "seed": self.task.seed,
            "step": self.step,
            "elapsed_s": self.elapsed_s,
            "finished": self.finished,
            "torch": torch.__version__,
        }
        write_folder(self.folder, tensors, record)
        if self.on_checkpoint is not None:
            self.on_checkpoint(self.ema.average, self.step)

    def progress(self) -> float:
        return self.step / self.budget.steps

    def one_step(self) -> dict[str, float]:
        rate = learning_rate_at(self.progress(), self.step, self.budget)
        for optimizer in self.optimizers.values():
            for group in optimizer.param_groups:
                group["lr"] = rate
        loss, metrics = self.task.loss(StepRandom.of(self.task.seed, self.step), self.step)
        self.task.modules.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = nn.utils.clip_grad_norm_(self.parameters, self.budget.max_grad_norm)
        if not torch.isfinite(norm):
            raise FloatingPointError(f"{self.task.name}: gradient is {norm} at step {self.step}")
        for optimizer in self.optimizers.values():
            optimizer.step()
        self.ema.update(self.step)
        self.step += 1
        return {"loss": loss.item(), **metrics}

    def report(self, means: Mapping[str, float]) -> None:
        done = self.progress()
        left_s = self.elapsed_s * (1 - done) / max(done, 1e-6)
        shown = " ".join(f"{key} {value:.4f}" for key, value in means.items())
        print(
            f"{time.strftime('%H:%M:%S')} {self.task.name} step {self.step} "
            f"({100 * done:.1f} %) {shown} {self.elapsed_s / self.step:.2f} s/step "
            f"ETA {left_s / 60:.1f} min",
            flush=True,
        )

    def run(self, stop_at_step: int | None = None) -> bool:
        """Trains; returns whether the budget is used up (False: interrupted, resumable)."""
        self.task.modules.train()
        last_save = time.monotonic()
        recent: list[dict[str, float]] = []
        with stop_on_interrupt() as asked_to_stop:
            while not self.finished and not asked_to_stop() and self.step != stop_at_step:
                start = time.monotonic()
                recent.append(self.one_step())
                self.elapsed_s += time.monotonic() - start
                self.finished = self.progress() >= 1
                if self.step % self.budget.log_steps == 0:
                    keys = recent[-1].keys()
                    self.report({k: float(np.mean([r[k] for r in recent if k in r])) for k in keys})
                    recent.clear()
                if time.monotonic() - last_save > self.budget.checkpoint_s:
                    self.save()
                    last_save = time.monotonic()
        self.save()
        return self.finished
