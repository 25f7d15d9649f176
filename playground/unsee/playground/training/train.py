"""The command that trains the base: ``python -m unsee.playground.training.train --stage all``."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

import torch

from unsee.playground.training.loop import Budget
from unsee.playground.training.stages import STAGES, Places
from unsee.playground.training.train_data import BASE_DIR, BUILD_DIR


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="unsee.playground.training.train", description=__doc__)
    parser.add_argument("--stage", choices=[*STAGES, "all"], default="all")
    parser.add_argument("--steps", type=int, help="steps of the stage (default: the stage's own)")
    parser.add_argument("--minutes", type=float, help="time limit of the stage (0: none)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--build-dir", type=Path, default=BUILD_DIR, help="data and checkpoints")
    parser.add_argument("--base-dir", type=Path, default=BASE_DIR, help="the finished folders")
    return parser.parse_args(arguments)


def with_limits(budget: Budget, steps: int | None, minutes: float | None) -> Budget:
    if steps is not None:
        budget = replace(budget, steps=steps)
    return budget if minutes is None else replace(budget, minutes=minutes)


def main(arguments: list[str] | None = None) -> int:
    args = parse_arguments(arguments)
    torch.set_num_threads(args.threads)
    places = Places(args.build_dir, args.base_dir)
    try:
        for name in STAGES if args.stage == "all" else [args.stage]:
            stage = STAGES[name]
            if not stage.train(with_limits(stage.budget, args.steps, args.minutes), places):
                print(f"{name}: stopped; run the same command again to resume", flush=True)
                return 130
    except FileNotFoundError as error:
        print(f"unsee.playground.training.train: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
