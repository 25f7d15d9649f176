"""What leaving evaluations of the video model out saves, and what it does to the clips.

Runs the very code of `text_to_video` in this process on the exported graphs of the playground, on
OpenVINO: video denoiser and VAE decoder in bfloat16, shapes fixed. Every prompt goes through every
candidate in turn, from the same noise, and the playground's judge says which of the concepts that
the prompt names it recognises. Among the candidates are those that need no code: fewer steps.

    python -m benchmarks.engines.acceleration --repository demo/model_repository
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch

from benchmarks.measuring.in_process import InProcess, all_cores, opened_graphs
from benchmarks.measuring.record import finish, repository_option, say, write_option
from unsee.evaluation.report.statistics import mean_of, rate_of
from unsee.export.engines.engine import Engine
from unsee.export.engines.session import Array
from unsee.export.text_to_video.sampling_check import psnr
from unsee.playground.networks.judge import Judge
from unsee.playground.quality.evaluate import Trial, covering_prompts
from unsee.playground.quality.generate import clip_defaults
from unsee.playground.training.program import exit_code_of
from unsee.playground.training.train_data import BASE_DIR
from unsee.playground.world.world import CONCEPTS, Scene

FIRST_SEED = 1000
DPM, UNIPC = "DPMSolverMultistepScheduler", "UniPCMultistepScheduler"
EULER, ANCESTRAL = "EulerDiscreteScheduler", "EulerAncestralDiscreteScheduler"
PROMPTS_OF_OTHERS = 16


@dataclass(frozen=True)
class Candidate:
    """One way to make a clip."""

    name: str
    steps: int
    acceleration: str = "none"
    scheduler: str = "DDIMScheduler"


@dataclass(frozen=True)
class Made:
    """One clip: uint8 [F, H, W, 3], the seconds it took, and what was recognised of its prompt."""

    frames: Array
    seconds: float
    evaluations: int
    outcomes: list[bool]


def main_candidates(steps: int) -> list[Candidate]:
    """The accelerations, and fewer steps of two samplers."""
    return [
        Candidate("none", steps),
        Candidate("balanced", steps, "balanced"),
        Candidate("fast", steps, "fast"),
        *(Candidate(f"{n} steps of DPM-Solver++", n, scheduler=DPM) for n in (8, 6, 5)),
        *(Candidate(f"{n} steps of DDIM", n) for n in (8, 5)),
    ]


def pairs_of_others(steps: int) -> list[list[Candidate]]:
    """Other samplers, each without and with the fast pace."""
    return [
        [Candidate(name, steps, pace, name) for pace in ("none", "fast")]
        for name in (DPM, UNIPC, EULER, ANCESTRAL)
    ]


def generate(service: InProcess, prompt: str, seed: int, candidate: Candidate) -> Array:
    """Frames uint8 [F, H, W, 3]."""
    clip = clip_defaults()
    return service.generate(
        prompt,
        seed,
        scheduler=candidate.scheduler,
        acceleration=candidate.acceleration,
        num_inference_steps=candidate.steps,
        num_frames=clip.num_frames,
        guidance_scale=clip.guidance_scale,
    )


def make(
    service: InProcess, judge: Judge, case: tuple[str, Scene], seed: int, candidate: Candidate
) -> Made:
    """The clip of one prompt, and what the judge sees of what it names."""
    prompt, scene = case
    started = time.perf_counter()
    frames = generate(service, prompt, seed, candidate)
    seconds = time.perf_counter() - started
    (verdict,) = judge.classify(frames[None])
    outcomes = list(Trial(scene, verdict).outcomes().values())
    return Made(frames, seconds, service.num_evaluations, outcomes)


def measure(
    service: InProcess,
    judge: Judge,
    cases: Sequence[tuple[str, Scene]],
    candidates: Sequence[Candidate],
) -> list[dict[str, Any]]:
    """Every case through every candidate in turn; the first is what the others are held to."""
    for candidate in candidates:
        generate(service, cases[0][0], FIRST_SEED, candidate)  # compiles the shapes it needs
    made: list[list[Made]] = []
    for i, case in enumerate(cases):
        made.append([make(service, judge, case, FIRST_SEED + i, c) for c in candidates])
        say(f"{i + 1} of {len(cases)} prompts")
    firsts = [row[0] for row in made]
    return [
        figures(candidate, [row[k] for row in made], firsts)
        for k, candidate in enumerate(candidates)
    ]


def figures(candidate: Candidate, clips: Sequence[Made], firsts: Sequence[Made]) -> dict[str, Any]:
    """A row of the page: seconds, PSNR in dB to the first candidate (None for that one itself),
    what was recognised, and the points lost."""
    seen = [outcome for clip in clips for outcome in clip.outcomes]
    seen_at_first = [outcome for clip in firsts for outcome in clip.outcomes]
    is_first = all(a is b for a, b in zip(clips, firsts, strict=True))
    psnrs = [psnr(a.frames, b.frames) for a, b in zip(clips, firsts, strict=True)]
    lost = 100.0 * (np.array(seen_at_first, float) - np.array(seen, float))
    return {
        "name": candidate.name,
        "acceleration": candidate.acceleration,
        "evaluations": clips[0].evaluations,
        "seconds": statistics.median(clip.seconds for clip in clips),
        "speedup": statistics.median(
            b.seconds / a.seconds for a, b in zip(clips, firsts, strict=True)
        ),
        "psnr_mean": statistics.fmean(psnrs) if not is_first else None,
        "psnr_least": min(psnrs) if not is_first else None,
        "recognised": rate_of(seen).model_dump(),
        "points_lost": mean_of(lost, seed=0).model_dump(),
    }


def cases_of_evaluation(num_prompts: int) -> list[tuple[str, Scene]]:
    """Prompts with their scenes, drawn as the base's evaluation draws them, in mixed order."""
    rng = np.random.default_rng(FIRST_SEED)
    least, cases = 1, covering_prompts(CONCEPTS, 1, rng)
    while len(cases) < num_prompts:
        least += 1
        cases = covering_prompts(CONCEPTS, least, rng)
    return [cases[i] for i in rng.permutation(len(cases))[:num_prompts]]


@click.command()
@repository_option
@click.option(
    "--prompts", "num_prompts", type=click.IntRange(min=2), default=256, show_default=True
)
@click.option("--threads", type=click.IntRange(min=1), default=all_cores())
@write_option
def acceleration(repository_dir: Path, num_prompts: int, threads: int, write: bool) -> None:
    """Make clips with and without acceleration; print what it saves and what it costs."""
    torch.set_num_threads(threads)
    graphs = opened_graphs(repository_dir, lambda _: Engine("openvino", "bfloat16"), threads)
    service = InProcess(repository_dir.resolve(), graphs)
    judge = Judge.from_pretrained(BASE_DIR / "judge")
    cases, clip = cases_of_evaluation(num_prompts), clip_defaults()
    main = measure(service, judge, cases, main_candidates(clip.num_inference_steps))
    others = [
        row
        for pair in pairs_of_others(clip.num_inference_steps)
        for row in measure(service, judge, cases[:PROMPTS_OF_OTHERS], pair)
    ]
    record = {
        "prompts": len(cases),
        "threads": threads,
        "num_frames": clip.num_frames,
        "num_inference_steps": clip.num_inference_steps,
        "guidance_scale": clip.guidance_scale,
        "openvino": metadata.version("openvino"),
        "main": main,
        "others": others,
        "prompts_of_others": min(PROMPTS_OF_OTHERS, len(cases)),
    }
    finish("acceleration", record, write=write)


if __name__ == "__main__":
    sys.exit(exit_code_of(acceleration))
