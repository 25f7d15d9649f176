"""Asks the judge what the base shows: ``python -m playground.evaluate``.

For every concept, prompts that name it are drawn; the judge has to name the concept, and
whatever else the prompt named, in the generated stills and clips.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import torch
import transformers

from playground.captions import prompts_for
from playground.generate import (
    GUIDANCE_SCALE,
    NUM_INFERENCE_STEPS,
    Clips,
    generate_clips,
    generate_stills,
    load_t2i,
    load_t2v,
)
from playground.intervals import wilson_interval
from playground.judge import Judge, Verdict
from playground.train_data import BASE_DIR
from playground.world import CONCEPTS, HEADS, Concept, Scene

BATCH = 32
Generate = Callable[[Sequence[str], Sequence[int]], Clips]


@dataclass(frozen=True)
class Rate:
    """A share with its Wilson 95 % interval."""

    right: int
    n: int
    low: float
    high: float

    @classmethod
    def of(cls, outcomes: Sequence[bool]) -> Rate:
        return cls(sum(outcomes), len(outcomes), *wilson_interval(sum(outcomes), len(outcomes)))

    def __str__(self) -> str:
        share = self.right / self.n if self.n else float("nan")
        bounds = f"[{100 * self.low:.1f}, {100 * self.high:.1f}]"
        return f"{100 * share:5.1f} % {bounds} ({self.right}/{self.n})"


@dataclass(frozen=True)
class Trial:
    """One generation: what was asked for and what the judge saw."""

    concept: Concept
    scene: Scene
    verdict: Verdict

    def named(self, head: str) -> bool:
        wanted: str | None = getattr(self.scene, head)
        seen: str | None = getattr(self.verdict, head)
        return wanted == seen


def run_trials(
    concepts: Sequence[Concept], generate: Generate, judge: Judge, n: int, seed: int
) -> list[Trial]:
    """``n`` prompts per concept; the i-th generation has the seed ``seed + i``."""
    rng = np.random.default_rng(seed)
    cases = [(c, *case) for c in concepts for case in prompts_for(c, rng, n)]
    trials: list[Trial] = []
    for start in range(0, len(cases), BATCH):
        batch = cases[start : start + BATCH]
        seeds = [seed + start + i for i in range(len(batch))]
        frames = generate([prompt for _, prompt, _ in batch], seeds)
        verdicts = judge.classify(frames)
        trials += [Trial(c, s, v) for (c, _, s), v in zip(batch, verdicts, strict=True)]
    return trials


def summarise(trials: Sequence[Trial], is_video: bool) -> dict[str, Any]:
    """Rates per concept and category, and per head over every prompt that names one."""
    by_concept: dict[str, list[bool]] = defaultdict(list)
    by_category: dict[str, list[bool]] = defaultdict(list)
    by_head: dict[str, list[bool]] = defaultdict(list)
    for trial in trials:
        seen = trial.verdict.sees(trial.concept.name)
        by_concept[trial.concept.name].append(seen)
        by_category[trial.concept.category].append(seen)
        for head in HEADS if is_video else [h for h in HEADS if h != "action"]:
            if getattr(trial.scene, head) is not None:
                by_head[head].append(trial.named(head))
    groups = {"concept": by_concept, "category": by_category, "head": by_head}
    return {
        group: {key: asdict(Rate.of(values)) for key, values in rates.items()}
        for group, rates in groups.items()
    }


def evaluate_base(
    base_dir: Path, n: int, seed: int, steps: int, guidance: float, kinds: Sequence[str]
) -> dict[str, Any]:
    judge = Judge.from_pretrained(base_dir / "judge")
    results: dict[str, Any] = {
        "versions": {
            "torch": torch.__version__,
            "diffusers": diffusers.__version__,
            "transformers": transformers.__version__,
        },
    }
    for kind in kinds:
        start = time.monotonic()
        pipeline = load_t2i(base_dir / "t2i") if kind == "t2i" else load_t2v(base_dir / "t2v")
        make = generate_stills if kind == "t2i" else generate_clips

        generate = partial(make, pipeline, num_inference_steps=steps, guidance_scale=guidance)
        shown = [c for c in CONCEPTS if kind == "t2v" or c.category != "action"]
        trials = run_trials(shown, generate, judge, n, seed)
        results[kind] = summarise(trials, kind == "t2v")
        results[kind]["settings"] = {
            "num_prompts_per_concept": n,
            "seed": seed,
            "num_inference_steps": steps,
            "guidance_scale": guidance,
        }
        results[kind]["seconds"] = round(time.monotonic() - start, 1)
    return results


def print_table(results: dict[str, Any]) -> None:
    for kind in ("t2i", "t2v"):
        for group in ("category", "head", "concept"):
            for key, rate in results.get(kind, {}).get(group, {}).items():
                print(f"{kind} {group:9s} {key:18s} {Rate(**rate)}")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="playground.evaluate", description=__doc__)
    parser.add_argument("--base-dir", type=Path, default=BASE_DIR)
    parser.add_argument("--n", type=int, default=20, help="prompts per concept")
    parser.add_argument("--seed", type=int, default=1000)
    parser.add_argument("--steps", type=int, default=NUM_INFERENCE_STEPS)
    parser.add_argument("--guidance", type=float, default=GUIDANCE_SCALE)
    parser.add_argument("--kinds", nargs="+", choices=("t2i", "t2v"), default=("t2i", "t2v"))
    parser.add_argument("--output", type=Path, help="default: results.json in the base")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args(arguments)
    torch.set_num_threads(args.threads)
    results = evaluate_base(args.base_dir, args.n, args.seed, args.steps, args.guidance, args.kinds)
    print_table(results)
    output = args.output or args.base_dir / "results.json"
    kept = json.loads(output.read_text()) if output.exists() else {}
    output.write_text(json.dumps({**kept, **results}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
