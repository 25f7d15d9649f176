"""The command that trains an embedded base, all of it or one stage.

    python -m unsee.playground.training.train --base playground-wan --stage all

A run that was interrupted or killed goes on from its last checkpoint with the same command. What
does not come from the command line is in the bases' own ``stages`` modules.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from unsee.core.errors import UnseeError
from unsee.playground.training import stages, train_data
from unsee.playground.training.loop import Budget
from unsee.playground.training.program import INTERRUPTED
from unsee.playground.training.stage import Places, Stage
from unsee.playground.training.wan import stages as wan_stages


@dataclass(frozen=True)
class Recipe:
    """How a base is trained, and where unless the command says otherwise."""

    stages: Mapping[str, Stage]
    places: Places


RECIPES: Mapping[str, Recipe] = {
    "playground": Recipe(stages.STAGES, Places(train_data.BUILD_DIR, train_data.BASE_DIR)),
    "playground-wan": Recipe(wan_stages.STAGES, Places(wan_stages.BUILD_DIR, wan_stages.BASE_DIR)),
}


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="unsee.playground.training.train",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--base", choices=[*RECIPES], default="playground")
    parser.add_argument("--stage", default="all", help="one of the base's stages, or all")
    parser.add_argument("--steps", type=int, help="steps of the stage (default: the stage's own)")
    parser.add_argument("--minutes", type=float, help="time limit of the stage (0: none)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--build-dir", type=Path, help="data and checkpoints")
    parser.add_argument("--base-dir", type=Path, help="the finished folders")
    args = parser.parse_args(arguments)
    names = [*RECIPES[args.base].stages, "all"]
    if args.stage not in names:
        parser.error(f"--stage {args.stage}: {args.base} has {', '.join(names)}")
    return args


def with_limits(budget: Budget, steps: int | None, minutes: float | None) -> Budget:
    if steps is not None:
        budget = replace(budget, steps=steps)
    return budget if minutes is None else replace(budget, minutes=minutes)


def train(args: argparse.Namespace) -> int:
    recipe = RECIPES[args.base]
    places = Places(
        args.build_dir or recipe.places.build_dir, args.base_dir or recipe.places.base_dir
    )
    for name in recipe.stages if args.stage == "all" else [args.stage]:
        stage = recipe.stages[name]
        if not stage.train(with_limits(stage.budget, args.steps, args.minutes), places):
            print(f"{name}: stopped; run the same command again to resume", flush=True)
            return INTERRUPTED
    return 0


def main(arguments: list[str] | None = None) -> int:
    args = parse_arguments(arguments)
    torch.set_num_threads(args.threads)
    try:
        return train(args)
    except KeyboardInterrupt:
        print("stopped; run the same command again to resume", file=sys.stderr)
        return INTERRUPTED
    except (FileNotFoundError, UnseeError) as error:
        print(f"unsee.playground.training.train: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    raise SystemExit(main())
