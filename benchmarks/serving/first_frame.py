"""How long a caller waits for the first frame: with all frames at the end, and streamed.

One clip is asked for in both ways in turn, in random order, through Triton's own port. A base whose
decoder goes through a clip in order gives the first frame when the denoiser is done and the first
latent frame is decoded; any other gives all frames at once. Both ways make the same bytes, or the
run fails.

    python -m benchmarks.serving.first_frame --repository demo/model_repository
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import click
import numpy as np

from benchmarks.measuring.in_process import chosen_engine
from benchmarks.measuring.record import finish, repository_option, say, write_option
from benchmarks.measuring.timing import Spread, in_random_turns, times_faster
from unsee.client.client import Client
from unsee.core.errors import UnseeError
from unsee.export.engines.machine import this_machine
from unsee.media.clip import Clip, Progress
from unsee.playground.training.program import exit_code_of
from unsee.repository.base import read_base
from unsee.repository.layout import VAE_DECODER, base_file
from unsee.serving.server.triton import ServerSettings, TritonServer

PROMPT = "Zorpik jumping in the forest"
SEED = 7


@dataclass(frozen=True)
class Arrived:
    """When the frames of one clip were there, in seconds from asking, and how many at a time."""

    first_frame_s: float
    clip_s: float
    parts: list[int]
    clip: Clip


def arrived(client: Client, asked: dict[str, Any], *, stream_frames: bool) -> Arrived:
    """Ask for one clip; raises UnseeError."""
    started = time.perf_counter()
    seconds: list[float] = []
    parts: list[int] = []
    for event in client.stream(PROMPT, stream_frames=stream_frames, **asked):
        if not isinstance(event, Progress):
            seconds.append(time.perf_counter() - started)
            parts.append(len(event.frames))
        if isinstance(event, Clip):
            return Arrived(seconds[0], seconds[-1], parts[:-1] or parts, event)
    raise AssertionError("a stream ends with a clip or an error")


def compared(client: Client, asked: dict[str, Any], turns: int) -> dict[str, Any]:
    """The figures of both ways.

    Raises:
        click.ClickException: they do not give the same bytes.
        UnseeError: a clip is refused.
    """
    ways: dict[str, Callable[[], Arrived]] = {
        "whole": lambda: arrived(client, asked, stream_frames=False),
        "streamed": lambda: arrived(client, asked, stream_frames=True),
    }
    whole, streamed = (make() for make in ways.values())  # they also warm up
    if not np.array_equal(whole.clip.frames, streamed.clip.frames):
        raise click.ClickException("the two ways do not give the same frames")
    made = in_random_turns(ways, turns, SEED, say)
    first = {way: [one.first_frame_s for one in clips] for way, clips in made.items()}
    clip = {way: [one.clip_s for one in clips] for way, clips in made.items()}
    stages = [one.clip.record.seconds for one in made["whole"]]
    shown = ("num_frames", "height", "width", "num_inference_steps", "scheduler")
    return {
        "clip": {name: getattr(whole.clip.record, name) for name in shown},
        "parts": streamed.parts,
        "first_frame_s": {way: asdict(Spread.of(seconds)) for way, seconds in first.items()},
        "clip_s": {way: asdict(Spread.of(seconds)) for way, seconds in clip.items()},
        "stage_s": {stage: median(one[stage] for one in stages) for stage in stages[0]},
        "sooner": asdict(times_faster(first["whole"], first["streamed"])),
        "longer": asdict(times_faster(clip["streamed"], clip["whole"])),
    }


@click.command()
@repository_option
@click.option("--turns", type=click.IntRange(min=2), default=15, show_default=True)
@click.option("--frames", type=click.IntRange(1), help="Of the clip.  [default: the base's]")
@click.option("--steps", type=click.IntRange(1), help="Of the clip.  [default: the base's]")
@write_option
def first_frame(
    repository_dir: Path, turns: int, frames: int | None, steps: int | None, write: bool
) -> None:
    """Time the first frame and the whole clip, streamed and not; print the record as JSON."""
    asked = {"policy": "base", "seed": SEED, "num_frames": frames, "num_inference_steps": steps}
    try:
        record = {
            "machine": this_machine().model_dump(),
            "base": read_base(base_file(repository_dir)).name,
            "engine": str(chosen_engine(repository_dir)(VAE_DECODER)),
            "turns": turns,
        }
        with tempfile.TemporaryDirectory() as folder:
            log = Path(folder) / "tritonserver.log"
            settings = ServerSettings.on_free_ports(repository_dir, log)
            with TritonServer(settings), Client(settings.grpc_url) as client:
                record |= compared(client, asked, turns)
    except (UnseeError, OSError, ValueError) as error:
        raise click.ClickException(str(error)) from error
    finish("performance/first_frame", record, write=write)


if __name__ == "__main__":
    sys.exit(exit_code_of(first_frame))
