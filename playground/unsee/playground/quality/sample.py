"""Contact sheets: ``python -m unsee.playground.quality.sample --kind t2v --output sheet.png``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from unsee.core.files import new_file
from unsee.playground.quality.generate import (
    Clips,
    add_base_arguments,
    clip_defaults,
    generate_clips,
    generate_stills,
    load_pipeline,
    load_stills_pipeline,
    with_base_defaults,
)
from unsee.playground.training.program import exit_code_of, user_path
from unsee.playground.world.captions import canonical_prompt
from unsee.playground.world.render import contact_sheet, render_clip
from unsee.playground.world.world import CLIP_ODDS, CONCEPTS, concepts_in, random_scene


def rendered(count: int, seed: int) -> Clips:
    rng = np.random.default_rng(seed)
    return np.stack([render_clip(random_scene(rng, CLIP_ODDS)) for _ in range(count)])


def default_prompts(kind: str) -> list[str]:
    if kind == "t2i":
        return [canonical_prompt(concept) for concept in CONCEPTS]
    actions = [canonical_prompt(concept) for concept in concepts_in("action")]
    others = [canonical_prompt(concept) for concept in CONCEPTS if concept.category != "action"]
    return [*actions, *others[::3]]


def generated(
    kind: str, base_dir: Path, prompts: Sequence[str], seed: int, steps: int, guidance: float
) -> Clips:
    seeds = [seed + i for i in range(len(prompts))]
    if kind == "t2i":
        stills = load_stills_pipeline(base_dir)
        return generate_stills(stills, prompts, seeds, steps, guidance)
    clips = load_pipeline(base_dir / "t2v")
    num_frames = clip_defaults(base_dir).num_frames
    return generate_clips(clips, prompts, seeds, num_frames, steps, guidance)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="unsee.playground.quality.sample", description=__doc__)
    parser.add_argument("--kind", choices=("render", "t2i", "t2v"), default="t2i")
    parser.add_argument("--prompt", action="append", help="may be given several times")
    add_base_arguments(parser)
    parser.add_argument("--output", type=user_path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    args = with_base_defaults(parser.parse_args(arguments))
    torch.set_num_threads(args.threads)
    if args.kind == "render":
        clips = rendered(16, args.seed)
    else:
        prompts = args.prompt or default_prompts(args.kind)
        clips = generated(args.kind, args.base_dir, prompts, args.seed, args.steps, args.guidance)
        for row, prompt in enumerate(prompts):
            print(row, prompt)
    columns = clips.shape[1] if clips.shape[1] > 1 else 8
    with new_file(args.output) as temporary:
        contact_sheet(clips.reshape(-1, *clips.shape[2:]), columns, zoom=2).save(temporary)
    return 0


if __name__ == "__main__":
    sys.exit(exit_code_of(main))
