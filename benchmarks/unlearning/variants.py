"""What `speed.py` compares; each variant runs in a process of its own.

They are the modes of unlearning and, as a yardstick, the paper's loop in its plainest form.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image

from benchmarks.measuring.flops import Meter, peak_bytes, peak_flops
from unsee.core.policy import Concept
from unsee.core.unlearning_settings import AnchoredMode, PaperMode
from unsee.deltas.edit import Edit, final_layer_norm
from unsee.images.denoising import load_denoising
from unsee.images.few_shot import generate_few_shot_images
from unsee.images.latents import encode_images
from unsee.images.trials import draw_trials
from unsee.models.base import Base, load_base
from unsee.models.components import Precision
from unsee.models.encoders.families import family_of
from unsee.models.quiet import quiet_libraries
from unsee.prompts.templates import training_prompts
from unsee.prompts.tokens import padded_token_ids
from unsee.unlearning.attackers import Attackers, free_prompts
from unsee.unlearning.contexts import Contexts, contexts_of
from unsee.unlearning.moments import PROMPTS_PER_CALL, StateReader, keep_moments
from unsee.unlearning.paper_mode import ascend
from unsee.unlearning.pictures import NUM_TRIALS, Pictures, Scale

CONCEPT = Concept(name="Zorpik", category="character")
ANCHOR = "cartoon creature"
SEED = 7


@dataclass(frozen=True)
class Job:
    """A variant on a base; `batch_size` is its pictures per step, `pixels` their edge."""

    variant: str
    base_dir: Path
    device: str
    precision: Precision
    batch_size: int
    repeats: int
    pixels: int
    matmul_edge: int


@dataclass(frozen=True)
class Operation:
    """One operation's measurements; `peak_flops` is the device's, in operations a second."""

    name: str
    dtype: str
    flops: int
    seconds: tuple[float, ...]
    peak_flops: float


@dataclass(frozen=True)
class Run:
    """What one process measured; `num_threads` are torch's."""

    operations: tuple[Operation, ...]
    peak_bytes: int
    num_threads: int
    device_name: str


def run(job: Job) -> Run:
    """Run the variant here. The peak memory is the process's, so give each a process of its own."""
    device = torch.device(job.device)
    with quiet_libraries():
        meters = VARIANTS[job.variant](job, device)
    most = peak_bytes(device)
    operations = tuple(
        Operation(
            name=name,
            dtype=str(dtype).removeprefix("torch."),
            flops=meter.flops,
            seconds=tuple(meter.seconds),
            peak_flops=peak_flops(device, dtype, job.matmul_edge),
        )
        for name, (dtype, meter) in meters.items()
    )
    card = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    return Run(operations, most, torch.get_num_threads(), card)


Meters = dict[str, tuple[torch.dtype, Meter]]


def paper_as_written(job: Job, device: torch.device) -> Meters:
    """The paper's loop, straightforwardly: float32, the images encoded in every step, the models
    as they come from a checkpoint, with all their parameters asking for gradients."""
    base = _opened(replace(job, precision="float32"), device)
    text_encoder, unet, vae = (
        model.requires_grad_(True) for model in (base.text_encoder(), base.denoiser(), base.vae())
    )
    process = load_denoising(base).process
    optimizer = torch.optim.Adam(
        family_of(text_encoder).paper_parameters(text_encoder).values(),
        lr=1e-5,
        betas=(0.9, 0.98),
        eps=1e-6,
        weight_decay=1e-8,
    )
    prompts = torch.tensor(padded_token_ids(base, training_prompts(CONCEPT)), device=device)
    pixels = torch.rand(job.batch_size, 3, job.pixels, job.pixels, device=device) * 2 - 1

    def step() -> None:
        with torch.no_grad():
            latents = vae.encode(pixels).latent_dist.sample() * vae.config.scaling_factor
        noise = torch.randn_like(latents)
        levels = torch.randint(process.num_levels, (job.batch_size,), device=device)
        ids = prompts[torch.randint(len(prompts), (job.batch_size,), device=device)]
        noisy = process.add_noise(latents, noise, levels)
        timesteps = process.timesteps(levels)
        predicted = unet(noisy, timesteps, text_encoder(ids).last_hidden_state).sample
        loss = -F.mse_loss(predicted, process.target(latents, noise, levels))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return {"paper as written: step": (torch.float32, Meter(job.repeats, device).repeat(step))}


def paper_mode(job: Job, device: torch.device) -> Meters:
    """Our paper mode: one epoch is one step, as there are no more images than a batch holds."""
    base, meter = _opened(job, device), Meter(job.repeats, device)
    settings = PaperMode(batch_size=job.batch_size, epochs=meter.calls)
    with device:
        images = _images(job)
        ascend(base, CONCEPT, images, settings, _generator(device), progress=meter.tick)
    return {"paper mode: step": (base.denoiser().dtype, meter)}


def anchored_mode(job: Job, device: torch.device) -> Meters:
    """What anchored mode repeats: an attacker's step, errors of pictures, reading prompts.

    Its closed form, a few factorings of a matrix of the encoder's width, is not measured.
    """
    base = _opened(job, device)
    with device:
        generator = _generator(device)
        contexts = contexts_of(base, CONCEPT)
        pictures = _pictures(base, job, contexts, generator)
        return _anchored_meters(base, job, contexts, pictures, generator)


def _anchored_meters(
    base: Base, job: Job, contexts: Contexts, pictures: Pictures, generator: torch.Generator
) -> Meters:
    settings, device = AnchoredMode(), torch.device(job.device)
    reader = StateReader(base.text_encoder(), base.prompt_frame())
    norm = final_layer_norm(base.text_encoder())
    kept = contexts.draw_kept(PROMPTS_PER_CALL, generator)
    rank, size = min(settings.rank, reader.size), reader.size
    edit = Edit(torch.zeros(size, rank), torch.zeros(rank, size), torch.zeros(rank))
    slots = free_prompts(pictures.prompts, settings.attack_vectors, contexts.frame)
    attackers = Attackers(base, CONCEPT, slots, rate=settings.attack_rate, generator=generator)
    attacker = attackers.start(0, settings.attack_steps)

    def attack() -> None:
        trials = torch.randperm(NUM_TRIALS, generator=generator)[: job.batch_size]
        states = attacker.states()[pictures.rows(trials)]
        error = pictures.errors(trials, norm(edit(states))).mean()
        attacker.step(torch.autograd.grad(error, attacker.vectors)[0])

    def score() -> None:
        pictures.share(norm(attacker.states().detach()), job.batch_size)

    def metered(operation: Callable[[], object]) -> Meter:
        return Meter(job.repeats, device).repeat(operation)

    denoiser = base.denoiser().dtype
    return {
        "anchored mode: attacker's step": (denoiser, metered(attack)),
        "anchored mode: error of pictures": (denoiser, metered(score)),
        f"anchored mode: {PROMPTS_PER_CALL} prompts": (
            torch.float32,
            metered(lambda: keep_moments(reader, kept)),
        ),
    }


def image_generation(job: Job, device: torch.device) -> Meters:
    """A picture of the concept, made by the base; one operation is a denoising step."""
    base, meter = _opened(job, device), Meter(job.repeats, device)
    steps = meter.calls
    generate_few_shot_images(base, CONCEPT, 1, SEED, num_inference_steps=steps, progress=meter.tick)
    return {"image generation: step": (base.denoiser().dtype, meter)}


VARIANTS: dict[str, Callable[[Job, torch.device], Meters]] = {
    "as-written": paper_as_written,
    "paper": paper_mode,
    "anchored": anchored_mode,
    "images": image_generation,
}


def _opened(job: Job, device: torch.device) -> Base:
    """The base in the job's precision, its models on `device`."""
    base = load_base(job.base_dir)
    base = replace(base, spec=base.spec.model_copy(update={"precision": job.precision}))
    for model in (base.text_encoder(), base.denoiser(), base.vae()):
        model.to(device)
    return base


def _pictures(base: Base, job: Job, contexts: Contexts, generator: torch.Generator) -> Pictures:
    """A yardstick without its scale, which takes hundreds of passes and does not change a step."""
    frozen = load_denoising(base)
    images = _images(job)
    latents = encode_images(base, images, generator)
    return Pictures(
        frozen=frozen,
        bank=draw_trials(frozen, latents, NUM_TRIALS, generator),
        prompts=contexts.named[: len(images)],
        anchor=ANCHOR,
        scale=Scale(torch.zeros(NUM_TRIALS), torch.ones(NUM_TRIALS)),
    )


def _images(job: Job) -> list[Image.Image]:
    noise = Image.effect_noise((job.pixels, job.pixels), 64).convert("RGB")
    return [noise] * job.batch_size


def _generator(device: torch.device) -> torch.Generator:
    return torch.Generator(device).manual_seed(SEED)
