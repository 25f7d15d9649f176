"""Asks the judge what a base shows: ``python -m unsee.playground.quality.evaluate``.

Prompts are drawn until every concept is named by at least ``n`` of them; the judge has to
name, in each still and clip that is generated, everything that its prompt named. The judge
itself is tried on renders that it has not seen, and on the same as the base's autoencoder gives
them back (``autoencoder``): no denoiser can do better than that.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import torch
import transformers
from diffusers import AutoencoderKLWan

from unsee.core.files import write_json
from unsee.evaluation.report.statistics import rate_of
from unsee.playground.networks.judge import FRAME_HEADS, Judge, Verdict
from unsee.playground.quality.generate import (
    Clips,
    add_base_arguments,
    clip_defaults,
    generate_clips,
    generate_stills,
    is_wan,
    load_pipeline,
    load_stills_pipeline,
    make_fast,
    with_base_defaults,
)
from unsee.playground.training.program import exit_code_of, user_path
from unsee.playground.training.train_data import BASE_DIR
from unsee.playground.training.wan.autoencoder import to_video
from unsee.playground.world.captions import prompt_for
from unsee.playground.world.dataset import DataSpec, draw_item
from unsee.playground.world.languages import ENGLISH, SPANISH, Language
from unsee.playground.world.world import (
    CATEGORIES,
    CONCEPTS,
    HEADS,
    NUM_FRAMES,
    Concept,
    Scene,
    find_concept,
)

BATCH = 16
KINDS = ("judge", "autoencoder", "t2i", "t2v", "t2v-es")
SAMPLED = ("t2i", "t2v", "t2v-es")
Generate = Callable[[Sequence[str], Sequence[int]], Clips]


def rate(outcomes: Sequence[bool]) -> dict[str, float]:
    """A share with its Wilson 95 % interval, as ``results.json`` keeps it."""
    found = rate_of(outcomes)
    return {"right": found.hits, "n": found.n, "low": found.low, "high": found.high}


def in_words(rate: Mapping[str, float]) -> str:
    """A rate as the tables print it: ``" 98.7 % [97.8, 99.2] (921/933)"``."""
    right, n, low, high = (rate[name] for name in ("right", "n", "low", "high"))
    share = right / n if n else float("nan")
    return f"{100 * share:5.1f} % [{100 * low:.1f}, {100 * high:.1f}] ({right}/{n})"


@dataclass(frozen=True)
class Trial:
    """One generation: what was asked for and what the judge saw."""

    scene: Scene
    verdict: Verdict

    def outcomes(self) -> dict[str, bool]:
        """Whether each concept that the prompt named is the verdict of its kind."""
        named = {head: getattr(self.scene, head) for head in HEADS}
        return {name: getattr(self.verdict, head) == name for head, name in named.items() if name}


def named_in(scene: Scene) -> list[str]:
    """The names of the concepts that a scene shows."""
    parts = (getattr(scene, head) for head in HEADS)
    return [name for name in parts if name is not None]


def covering_prompts(
    concepts: Sequence[Concept], n: int, rng: np.random.Generator, language: Language = ENGLISH
) -> list[tuple[str, Scene]]:
    """Prompts and their scenes, drawn until each concept is named by at least ``n``.

    Each names the concept that lacks most, and mostly a companion. A still's prompt names no
    action, because ``concepts`` then has none.
    """
    counts = {concept.name: 0 for concept in concepts}
    cases: list[tuple[str, Scene]] = []
    while min(counts.values()) < n:
        scarcest = min(concepts, key=lambda concept: counts[concept.name])
        prompt, scene = prompt_for(scarcest, rng, language)
        named = named_in(scene)
        if counts.keys() >= set(named):
            cases.append((prompt, scene))
            counts.update({name: counts[name] + 1 for name in named})
    return cases


def run_trials(
    concepts: Sequence[Concept],
    generate: Generate,
    judge: Judge,
    n: int,
    seed: int,
    language: Language = ENGLISH,
) -> list[Trial]:
    """The i-th generation has the seed ``seed + i``. The last batch is filled up and cut."""
    cases = covering_prompts(concepts, n, np.random.default_rng(seed), language)
    trials: list[Trial] = []
    for start in range(0, len(cases), BATCH):
        batch = cases[start : start + BATCH]
        filled = [prompt for prompt, _ in batch] + [""] * (BATCH - len(batch))
        frames = generate(filled, [seed + start + i for i in range(BATCH)])[: len(batch)]
        verdicts = judge.classify(frames)
        trials += [Trial(scene, v) for (_, scene), v in zip(batch, verdicts, strict=True)]
        print(f"{len(trials)}/{len(cases)}", file=sys.stderr, flush=True)
    return trials


def summarise(trials: Sequence[Trial]) -> dict[str, Any]:
    """Rates per concept and category."""
    by_concept: dict[str, list[bool]] = defaultdict(list)
    by_category: dict[str, list[bool]] = defaultdict(list)
    for trial in trials:
        for name, seen in trial.outcomes().items():
            by_concept[name].append(seen)
            by_category[find_concept(name).category].append(seen)
    groups = {"concept": by_concept, "category": by_category}
    order = [*CATEGORIES, *(concept.name for concept in CONCEPTS)]
    return {
        group: {key: rate(rates[key]) for key in order if key in rates}
        for group, rates in groups.items()
    }


def judge_accuracy(
    judge: Judge,
    seed: int,
    num_stills: int = 1000,
    num_clips: int = 500,
    num_frames: int = NUM_FRAMES,
    seen: Callable[[Clips], Clips] = lambda frames: frames,
) -> dict[str, Any]:
    """The judge on what ``seen`` makes of fresh renders, and of clips frozen at one frame."""
    right: dict[str, list[bool]] = defaultdict(list)
    for kind, count in (("stills", num_stills), ("clips", num_clips)):
        spec = DataSpec(kind, count, seed, num_frames=num_frames)
        drawn = [draw_item(spec, index) for index in range(count)]
        frames = seen(np.stack([frames for frames, _ in drawn]))
        verdicts = judge.classify(frames)
        for head in HEADS if kind == "clips" else FRAME_HEADS:
            right[f"{head}, {kind}"] = [
                getattr(scene, head) == getattr(verdict, head)
                for (_, scene), verdict in zip(drawn, verdicts, strict=True)
            ]
        if kind == "clips":
            middle = frames[:, [frames.shape[1] // 2]].repeat(frames.shape[1], axis=1)
            right["frozen, so no action"] = [v.action is None for v in judge.classify(middle)]
    return {head: rate(outcomes) for head, outcomes in right.items()}


def reconstructed(vae: Any, frames: Clips) -> Clips:
    """What an autoencoder of stills or of clips gives back of uint8 [N, F, H, W, 3]."""
    count, length, *_ = frames.shape
    takes_clips = isinstance(vae, AutoencoderKLWan)
    items = frames if takes_clips else frames.reshape(-1, 1, *frames.shape[2:])
    made = []
    with torch.no_grad():
        for start in range(0, len(items), BATCH):
            video = to_video(items[start : start + BATCH])
            pixels = video if takes_clips else video[:, :, 0]
            decoded = vae.decode(vae.encode(pixels).latent_dist.mode()).sample
            made.append(decoded if takes_clips else decoded[:, :, None])
    levels = ((torch.cat(made) + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    back: Clips = levels.permute(0, 2, 3, 4, 1).numpy().reshape(count, length, *frames.shape[2:])
    return back


def autoencoder_of(base_dir: Path) -> Any:
    """The video model's, whichever class its configuration names, in float32."""
    folder = base_dir / "t2v" / "vae"
    name = json.loads((folder / "config.json").read_text())["_class_name"]
    return getattr(diffusers, name).from_pretrained(folder).float().eval()


def judge_of(base_dir: Path) -> Judge:
    """The base's own judge, or the first base's: they know the same world."""
    own = base_dir / "judge"
    return Judge.from_pretrained(own if own.exists() else BASE_DIR / "judge")


def sampled(
    kind: str, base_dir: Path, judge: Judge, n: int, seed: int, steps: int, guidance: float
) -> list[Trial]:
    """Trials of stills (``t2i``) or of clips, of prompts in English or (``t2v-es``) in Spanish."""
    is_video = kind != "t2i"
    pipeline = load_pipeline(base_dir / "t2v") if is_video else load_stills_pipeline(base_dir)
    make_fast(pipeline)
    options: dict[str, Any] = {"num_inference_steps": steps, "guidance_scale": guidance}
    if is_video:
        options["num_frames"] = clip_defaults(base_dir).num_frames
    generate = partial(generate_clips if is_video else generate_stills, pipeline, **options)
    shown = [c for c in CONCEPTS if is_video or c.category != "action"]
    language = SPANISH if kind == "t2v-es" else ENGLISH
    return run_trials(shown, generate, judge, n, seed, language)


def evaluate_base(
    base_dir: Path, n: int, seed: int, steps: int, guidance: float, kinds: Sequence[str]
) -> dict[str, Any]:
    judge = judge_of(base_dir)
    results: dict[str, Any] = {
        "versions": {
            "torch": torch.__version__,
            "diffusers": diffusers.__version__,
            "transformers": transformers.__version__,
        },
    }
    if "judge" in kinds:
        print("the judge looks at renders", file=sys.stderr, flush=True)
        num_frames = clip_defaults(base_dir).num_frames
        results["judge"] = judge_accuracy(judge, seed + 1, num_frames=num_frames)
    if "autoencoder" in kinds:
        print("the autoencoder gives renders back", file=sys.stderr, flush=True)
        num_frames = clip_defaults(base_dir).num_frames
        seen = partial(reconstructed, autoencoder_of(base_dir))
        results["autoencoder"] = judge_accuracy(judge, seed + 2, 400, 100, num_frames, seen)
    for kind in (kind for kind in kinds if kind in SAMPLED):
        print(f"{kind}: compiling the denoiser", file=sys.stderr, flush=True)
        start = time.monotonic()
        trials = sampled(kind, base_dir, judge, n, seed, steps, guidance)
        results[kind] = summarise(trials)
        results[kind]["settings"] = {
            "min_prompts_per_concept": n,
            "prompts": len(trials),
            "seed": seed,
            "num_inference_steps": steps,
            "guidance_scale": guidance,
        }
        results[kind]["seconds"] = round(time.monotonic() - start, 1)
    return results


def print_table(results: dict[str, Any]) -> None:
    for kind, words in (("judge", "renders"), ("autoencoder", "autoencoder")):
        for head, found in results.get(kind, {}).items():
            print(f"judge on {words:12s} {head:20s} {in_words(found)}")
    for kind in SAMPLED:
        for group in ("category", "concept"):
            for key, found in results.get(kind, {}).get(group, {}).items():
                print(f"{kind:7s}{group:16s} {key:20s} {in_words(found)}")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="unsee.playground.quality.evaluate", description=__doc__)
    add_base_arguments(parser)
    parser.add_argument("--n", type=int, default=40, help="prompts per concept, at least")
    parser.add_argument("--seed", type=int, default=1000)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, help="default: all that the base has")
    parser.add_argument("--output", type=user_path, help="default: results.json in the base")
    parser.add_argument("--threads", type=int, default=2)
    args = with_base_defaults(parser.parse_args(arguments))
    torch.set_num_threads(args.threads)
    knows_spanish = is_wan(args.base_dir)
    kinds = args.kinds or [kind for kind in KINDS if knows_spanish or kind != "t2v-es"]
    results = evaluate_base(args.base_dir, args.n, args.seed, args.steps, args.guidance, kinds)
    print_table(results)
    output = args.output or args.base_dir / "results.json"
    kept = json.loads(output.read_text()) if output.exists() else {}
    write_json(output, {**kept, **results}, indent=1)
    return 0


if __name__ == "__main__":
    sys.exit(exit_code_of(main))
