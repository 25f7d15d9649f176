"""What leaving evaluations of the video model out saves, and what it does to the clips.

Runs the very code of `text_to_video` in this process on the exported graphs of the playground, on
OpenVINO: video UNet and VAE decoder in bfloat16, shapes fixed. Every prompt goes through every
candidate in turn, from the same noise, and the playground's judge says which of the concepts that
the prompt names it recognises. Among the candidates are those that need no code: fewer steps.

    python benchmarks/acceleration.py --repository demo/model_repository
"""

from __future__ import annotations

import asyncio
import math
import os
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import numpy.typing as npt
import openvino
import torch
from acceleration_page import Figures, Page, write_page

from unsee.evaluation.report.statistics import mean_of, rate_of
from unsee.playground.networks.judge import Judge
from unsee.playground.quality.evaluate import Trial, covering_prompts
from unsee.playground.quality.generate import clip_defaults
from unsee.playground.training.train_data import BASE_DIR
from unsee.playground.world.world import CONCEPTS, Scene

CODE_DIR = Path(__file__).parents[1] / "model_repository" / "text_to_video" / "1"
FIRST_SEED = 1000
DPM, UNIPC = "DPMSolverMultistepScheduler", "UniPCMultistepScheduler"
EULER, ANCESTRAL = "EulerDiscreteScheduler", "EulerAncestralDiscreteScheduler"
PROMPTS_OF_OTHERS = 16

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Candidate:
    """One way to make a clip. `guided`: the evaluations that run the unconditional row too."""

    name: str
    steps: int
    acceleration: str = "none"
    scheduler: str = "DDIMScheduler"
    guided: frozenset[int] | None = None


@dataclass(frozen=True)
class Made:
    """One clip: uint8 [F, H, W, 3], the seconds it took, and what was recognised of its prompt."""

    frames: Array
    seconds: float
    evaluations: int
    outcomes: list[bool]


class InProcess:
    """The code of `text_to_video` in this process, its `Graphs` on OpenVINO."""

    def __init__(self, repository_dir: Path, threads: int) -> None:
        sys.path.insert(0, str(CODE_DIR))
        from text_to_video.base import read_base
        from text_to_video.policies import PolicyPointer
        from text_to_video.sampler import SamplerTables
        from text_to_video.tokens import PromptTokenizer

        assets = repository_dir / "text_to_video" / "assets"
        self._base = read_base(assets / "base.json")
        self._tables = SamplerTables(assets / "samplers.safetensors")
        length = self._base.limits.prompt_tokens
        self._tokenizer = PromptTokenizer(assets / "tokenizer.json", length)
        self._pointer = PolicyPointer(repository_dir)
        self._repository_dir, self._threads = repository_dir, threads
        self._compiled: dict[tuple[Any, ...], Any] = {}

    def generate(self, prompt: str, seed: int, candidate: Candidate) -> tuple[Array, int]:
        """Frames uint8 [F, H, W, 3], and how many evaluations they took."""
        from text_to_video.acceleration import PACES, accelerated
        from text_to_video.generation import Plan, generate
        from text_to_video.request import parse_request

        clip = clip_defaults()
        values = {
            "prompt": prompt.encode(),
            "policy": b"base",
            "seed": seed,
            "scheduler": candidate.scheduler.encode(),
            "acceleration": candidate.acceleration.encode(),
            "num_inference_steps": candidate.steps,
            "num_frames": clip.num_frames,
            "guidance_scale": clip.guidance_scale,
        }
        request = parse_request({k: np.array([v]) for k, v in values.items()}, self._base)
        encoder = self._pointer.resolve(request.policy, None)
        input_ids = self._tokenizer.encode(negative_prompt="", prompt=request.prompt)
        table = self._tables.table(request.scheduler, request.num_inference_steps)
        table = accelerated(table, PACES[request.acceleration])
        graphs = self if candidate.guided is None else ReusedGuidance(self, candidate.guided)
        plan = Plan(request, encoder, input_ids, table)
        frames, _ = asyncio.run(generate(plan, graphs, self._base, lambda step: None))
        return frames, table.num_evaluations

    async def text_encoder(self, encoder: Any, input_ids: Array) -> Array:
        return self._run("text_encoder_base", "f32", input_ids=input_ids)

    async def video_unet(self, sample: Array, timestep: Array, hidden: Array) -> Array:
        inputs = {"sample": sample, "timestep": timestep, "encoder_hidden_states": hidden}
        return self._run("video_unet", "bf16", **inputs)

    async def vae_decoder(self, latents: Array) -> Array:
        return self._run("vae_decoder", "bf16", latents=latents)

    def _run(self, name: str, precision: str, **inputs: Array) -> Array:
        key = (name, *(array.shape for array in inputs.values()))
        if key not in self._compiled:
            self._compiled[key] = self._compile(name, precision, inputs).create_infer_request()
        session = self._compiled[key]
        session.infer(inputs)
        output: Array = session.get_output_tensor(0).data.copy()
        return output

    def _compile(self, name: str, precision: str, inputs: Mapping[str, Array]) -> Any:
        core = openvino.Core()
        model = core.read_model(self._repository_dir / name / "1" / "model.onnx")
        model.reshape({name: list(array.shape) for name, array in inputs.items()})
        options = {
            "INFERENCE_PRECISION_HINT": precision,
            "INFERENCE_NUM_THREADS": self._threads,
            "NUM_STREAMS": 1,
            "PERFORMANCE_HINT": "LATENCY",
        }
        return core.compile_model(model, "CPU", options)


class ReusedGuidance:
    """Graphs for one clip: an evaluation that is not guided takes over the last difference of rows.

    After the CFG-Cache of FasterCache (Lv et al., arXiv 2410.19355), without its frequency split.
    """

    def __init__(self, graphs: InProcess, guided: frozenset[int]) -> None:
        self._graphs, self._guided = graphs, guided
        self.text_encoder, self.vae_decoder = graphs.text_encoder, graphs.vae_decoder
        self._calls = 0
        self._difference: Array = np.zeros(())

    async def video_unet(self, sample: Array, timestep: Array, hidden: Array) -> Array:
        guided = self._calls in self._guided
        self._calls += 1
        if guided:
            rows = await self._graphs.video_unet(sample, timestep, hidden)
            self._difference = rows[1:] - rows[:1]
            return rows
        conditional = await self._graphs.video_unet(sample[1:], timestep[1:], hidden[1:])
        return np.concatenate([conditional - self._difference, conditional])


def main_candidates(steps: int) -> list[Candidate]:
    """The accelerations, fewer steps of two samplers, and guidance that is computed less often."""
    third = math.ceil(steps / 3)
    guided = frozenset([*range(third), *range(third, steps, 2)])
    return [
        Candidate("none", steps),
        Candidate("balanced", steps, "balanced"),
        Candidate("fast", steps, "fast"),
        *(Candidate(f"{n} steps of DPM-Solver++", n, scheduler=DPM) for n in (8, 6, 5)),
        *(Candidate(f"{n} steps of DDIM", n) for n in (8, 5)),
        Candidate("guidance in every second evaluation after a third", steps, guided=guided),
    ]


def pairs_of_others(steps: int) -> list[list[Candidate]]:
    """Other samplers, each without and with the fast pace."""
    return [
        [Candidate(name, steps, pace, name) for pace in ("none", "fast")]
        for name in (DPM, UNIPC, EULER, ANCESTRAL)
    ]


def make(
    service: InProcess, judge: Judge, case: tuple[str, Scene], seed: int, candidate: Candidate
) -> Made:
    prompt, scene = case
    started = time.perf_counter()
    frames, evaluations = service.generate(prompt, seed, candidate)
    seconds = time.perf_counter() - started
    (verdict,) = judge.classify(frames[None])
    outcomes = list(Trial(scene, verdict).outcomes().values())
    return Made(frames, seconds, evaluations, outcomes)


def measure(
    service: InProcess,
    judge: Judge,
    cases: Sequence[tuple[str, Scene]],
    candidates: Sequence[Candidate],
) -> list[Figures]:
    """Every case through every candidate in turn; the first is what the others are held to."""
    for candidate in candidates:
        service.generate(cases[0][0], FIRST_SEED, candidate)  # compiles the shapes it needs
    made: list[list[Made]] = []
    for i, case in enumerate(cases):
        made.append([make(service, judge, case, FIRST_SEED + i, c) for c in candidates])
        click.echo(f"{i + 1} of {len(cases)} prompts", err=True)
    firsts = [row[0] for row in made]
    return [
        figures(candidate, [row[k] for row in made], firsts)
        for k, candidate in enumerate(candidates)
    ]


def figures(candidate: Candidate, clips: Sequence[Made], firsts: Sequence[Made]) -> Figures:
    seen = [outcome for clip in clips for outcome in clip.outcomes]
    seen_at_first = [outcome for clip in firsts for outcome in clip.outcomes]
    psnrs = [psnr(a.frames, b.frames) for a, b in zip(clips, firsts, strict=True)]
    lost = 100.0 * (np.array(seen_at_first, float) - np.array(seen, float))
    return Figures(
        name=candidate.name,
        acceleration=candidate.acceleration,
        evaluations=clips[0].evaluations,
        seconds=statistics.median(clip.seconds for clip in clips),
        speedup=statistics.median(
            b.seconds / a.seconds for a, b in zip(clips, firsts, strict=True)
        ),
        psnr_mean=statistics.fmean(psnrs) if math.inf not in psnrs else None,
        psnr_least=min(psnrs) if math.inf not in psnrs else None,
        recognised=rate_of(seen).model_dump(),
        points_lost=mean_of(lost, seed=0).model_dump(),
    )


def psnr(a: Array, b: Array) -> float:
    """In dB, of uint8 clips; infinite for equal ones."""
    error = float(np.square(a.astype(np.float64) - b).mean())
    return 10 * math.log10(255.0**2 / error) if error else math.inf


def cases_of_evaluation(num_prompts: int) -> list[tuple[str, Scene]]:
    """Prompts with their scenes, drawn as the base's evaluation draws them, in mixed order."""
    rng = np.random.default_rng(FIRST_SEED)
    least, cases = 1, covering_prompts(CONCEPTS, 1, rng)
    while len(cases) < num_prompts:
        least += 1
        cases = covering_prompts(CONCEPTS, least, rng)
    return [cases[i] for i in rng.permutation(len(cases))[:num_prompts]]


@click.command()
@click.option(
    "--repository",
    "repository_dir",
    type=click.Path(path_type=Path, exists=True),
    default="demo/model_repository",
    show_default=True,
)
@click.option(
    "--prompts", "num_prompts", type=click.IntRange(min=2), default=256, show_default=True
)
@click.option("--threads", type=click.IntRange(min=1), default=len(os.sched_getaffinity(0)))
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    default="docs/measured/acceleration.md",
    show_default=True,
    help="The page; its figures go beside it as JSON.",
)
def acceleration(repository_dir: Path, num_prompts: int, threads: int, output: Path) -> None:
    """Make clips with and without acceleration; write what it saves and what it costs."""
    torch.set_num_threads(threads)
    service = InProcess(repository_dir.resolve(), threads)
    judge = Judge.from_pretrained(BASE_DIR / "judge")
    cases, clip = cases_of_evaluation(num_prompts), clip_defaults()
    main = measure(service, judge, cases, main_candidates(clip.num_inference_steps))
    others = [
        row
        for pair in pairs_of_others(clip.num_inference_steps)
        for row in measure(service, judge, cases[:PROMPTS_OF_OTHERS], pair)
    ]
    page = Page(
        prompts=len(cases),
        threads=threads,
        num_frames=clip.num_frames,
        num_inference_steps=clip.num_inference_steps,
        guidance_scale=clip.guidance_scale,
        openvino=openvino.__version__.split("-")[0],
        main=main,
        others=others,
        prompts_of_others=min(PROMPTS_OF_OTHERS, len(cases)),
    )
    write_page(page, output)
    click.echo(output.read_text(encoding="utf-8"))


if __name__ == "__main__":
    acceleration()
