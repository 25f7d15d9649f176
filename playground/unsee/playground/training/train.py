"""The command that trains an embedded base, all of it or one stage.

    python -m unsee.playground.training.train --base playground-wan --stage all
    python -m unsee.playground.training.train --without Fwomp kite Kromblisk spinning

A run that was interrupted or killed goes on from its last checkpoint with the same command. What
does not come from the command line is in the bases' own ``stages`` modules.

``--without`` trains a second base by the same steps on the same world, less every scene that shows
one of those concepts: what unlearning would reach if it were retraining. Its judge, evaluation set
and prompts are the first base's, so that both are asked and judged alike.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import yaml

from unsee.core.errors import UnseeError
from unsee.core.files import write_file
from unsee.models.quiet import quiet_libraries
from unsee.models.spec import BASE_FILE
from unsee.playground.training import stages, train_data
from unsee.playground.training.program import INTERRUPTED, exit_code_of, user_path
from unsee.playground.training.stage import Places, Stage
from unsee.playground.training.wan import stages as wan_stages
from unsee.playground.world.dataset import slug
from unsee.playground.world.world import CONCEPTS

JUDGE = "judge"
"""A stage's name, and the folder of a base's judge."""


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
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--build-dir", type=user_path, help="data and checkpoints")
    parser.add_argument("--base-dir", type=user_path, help="the finished folders")
    parser.add_argument(
        "--without", nargs="+", metavar="NAME", default=(), help="concepts that it must never see"
    )
    args = parser.parse_args(arguments)
    names = [*RECIPES[args.base].stages, "all"]
    if args.stage not in names:
        parser.error(f"--stage {args.stage}: {args.base} has {', '.join(names)}")
    args.without = _withheld(parser, args.without)
    if args.without and args.stage == JUDGE:
        parser.error("--without: the judge must know every concept; it is copied, not trained")
    return args


def _withheld(parser: argparse.ArgumentParser, names: Sequence[str]) -> tuple[str, ...]:
    """The concepts' own names, in the world's order."""
    known = {concept.name.lower(): concept.name for concept in CONCEPTS}
    unknown = [name for name in names if name.lower() not in known]
    if unknown:
        parser.error(
            f"--without {unknown[0]}: no concept is called so; choose from "
            f"{', '.join(known.values())}"
        )
    wanted = {known[name.lower()] for name in names}
    return tuple(concept.name for concept in CONCEPTS if concept.name in wanted)


def places_of(args: argparse.Namespace) -> Places:
    """Where a run reads and writes: what the command says, else the recipe's own places.

    A base without some concepts has a build folder and a base folder of its own.
    """
    usual = RECIPES[args.base].places
    if args.without:
        folder = f"{usual.build_dir.name}-without-{slug(args.without)}"
        build_dir = usual.build_dir.with_name(folder)
        usual = Places(build_dir, build_dir / args.base)
    return Places(args.build_dir or usual.build_dir, args.base_dir or usual.base_dir, args.without)


def furnish(places: Places, shipped: Path) -> None:
    """Copy what the base in ``shipped`` is asked and judged with; the name says what is left out.

    A shipped base that lacks one of the files is taken as it is; a judge that it shares is copied.
    """
    places.base_dir.mkdir(parents=True, exist_ok=True)
    for name in ("evaluation.yaml", "prompts.txt"):
        if (shipped / name).is_file():
            shutil.copyfile(shipped / name, places.base_dir / name)
    spec = shipped / BASE_FILE
    if spec.is_file():
        lines = spec.read_text(encoding="utf-8").splitlines(keepends=True)
        own = {"name": f"{shipped.name}-without"}
        judge = yaml.safe_load("".join(lines)).get(JUDGE)
        if judge is not None:
            shutil.copytree(shipped / judge, places.base_dir / JUDGE, dirs_exist_ok=True)
            own[JUDGE] = JUDGE
        kept = [line for line in lines if line.partition(":")[0] not in own]
        named = [f"{field}: {value}\n" for field, value in own.items()]
        write_file(places.base_dir / BASE_FILE, "".join([*named, *kept]))


def train(args: argparse.Namespace) -> int:
    recipe = RECIPES[args.base]
    places = places_of(args)
    names = [*recipe.stages] if args.stage == "all" else [args.stage]
    if args.without:
        furnish(places, recipe.places.base_dir)
        names = [name for name in names if name != JUDGE]
    for name in names:
        stage = recipe.stages[name]
        budget = stage.budget if args.steps is None else replace(stage.budget, steps=args.steps)
        if not stage.train(budget, places):
            print(f"{name}: stopped; run the same command again to resume", flush=True)
            return INTERRUPTED
    return 0


def main(arguments: list[str] | None = None) -> int:
    args = parse_arguments(arguments)
    torch.set_num_threads(args.threads)
    try:
        with quiet_libraries():  # they advise against the float16 that weights are kept in
            return train(args)
    except KeyboardInterrupt:
        print("stopped; run the same command again to resume", file=sys.stderr)
        return INTERRUPTED
    except (FileNotFoundError, UnseeError) as error:
        print(f"unsee.playground.training.train: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(exit_code_of(main))
