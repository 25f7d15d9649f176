"""`unsee generate`: asks a server for a clip and writes it to files.

Only presents: the request is `client`'s business and the files are `video_file`'s.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from unsee.client.clip import Clip, GenerationRecord, Progress


@click.command()
@click.argument("prompt")
@click.option("--policy", help="The concept policy to apply. [default: the server's]")
@click.option("--revision", type=int, help="One of its revisions. [default: the active one]")
@click.option("--seed", type=int, help="Equal seeds give equal clips. [default: drawn]")
@click.option("--negative-prompt", help="What the clip should not show.")
@click.option("--steps", "num_inference_steps", type=int, help="Evaluations of the video model.")
@click.option("--guidance-scale", type=float, help="How closely to follow the prompt.")
@click.option("--frames", "num_frames", type=int, help="Length in frames.")
@click.option("--height", type=int, help="In pixels.")
@click.option("--width", type=int, help="In pixels.")
@click.option("--scheduler", help="A sampler that the server offers, such as DDIMScheduler.")
@click.option(
    "--acceleration",
    help="A similar clip sooner, by fewer evaluations: none, balanced or fast. [default: none]",
)
@click.option("--url", default="127.0.0.1:8001", show_default=True, help="Host and gRPC port.")
@click.option(
    "-o",
    "--output",
    "outputs",
    type=click.Path(path_type=Path),
    multiple=True,
    default=("clip.mp4",),
    show_default="clip.mp4",
    help="Where to write: .mp4, .gif, .png (contact sheet) or .npy. Repeat for several.",
)
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(min=0, min_open=True),
    default=600.0,
    show_default=True,
    help="Seconds the clip may take.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the record and the files as JSON.")
def generate(
    prompt: str,
    url: str,
    outputs: tuple[Path, ...],
    timeout_s: float,
    as_json: bool,
    **options: Any,
) -> None:
    """Ask the server for a clip of PROMPT.

    What you leave out the server decides; the record that --json prints says what it chose.

    \b
    Example:
      unsee generate "Blimbo walking in the forest" --policy family --seed 7 -o clip.mp4 -o clip.png
    """
    from unsee.client.client import Client
    from unsee.client.video_file import check_destination

    for output in outputs:
        check_destination(output)
    with Client(url, timeout_s=timeout_s) as client, shown_progress() as on_progress:
        clip = client.generate(prompt, on_progress=on_progress, **options)
    files = [str(clip.save(output)) for output in outputs]
    click.echo(summary(clip.record), err=True)
    click.echo(_as_json(clip, files) if as_json else "\n".join(files))


@contextmanager
def shown_progress() -> Iterator[Callable[[Progress], None]]:
    """A callback that shows steps on stderr: a bar on a terminal, plain lines elsewhere."""
    from rich.console import Console
    from rich.progress import Progress as Bar

    console = Console(stderr=True)
    if not console.is_terminal:
        yield _plain_line
        return
    with Bar(console=console, transient=True) as bar:
        task = bar.add_task("generating", total=None)

        def advance(progress: Progress) -> None:
            bar.update(task, completed=progress.step, total=progress.num_inference_steps)

        yield advance


def summary(record: GenerationRecord) -> str:
    """One line for a person: what made the clip and how long it took."""
    pace = "" if record.acceleration == "none" else f", acceleration {record.acceleration}"
    return (
        f"policy {record.policy}, revision {record.revision}; seed {record.seed}; "
        f"{record.num_inference_steps} steps of {record.scheduler}{pace}; "
        f"{sum(record.seconds.values()):.1f} s"
    )


def _plain_line(progress: Progress) -> None:
    click.echo(f"step {progress.step} of {progress.num_inference_steps}", err=True)


def _as_json(clip: Clip, files: list[str]) -> str:
    return json.dumps({"record": clip.record.model_dump(mode="json"), "files": files}, indent=2)
