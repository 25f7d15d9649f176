"""Published folders from the check to a clip: Stable Diffusion 1.5 with AnimateDiff, 2.1 with
ModelScope, Wan 2.1, random weights, through the very commands that a user runs.

`check`, a dry run, an unlearning in the default mode, an export, and one step served by Triton:
each in a process of its own, with its seconds and the most memory that it held.

    python -m benchmarks.engines.published_folders --base sd15-animatediff-v3
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np

from benchmarks.measuring.processes import ProcessFailed, in_own_process
from benchmarks.measuring.published import NAMES, write_published
from benchmarks.measuring.record import as_json
from unsee.cli.parameters import NEW_FOLDER
from unsee.playground.training.program import exit_code_of

CONCEPT = ("Van Gogh", "--category", "style")
_TAIL_CHARACTERS = 2000
_READY_S = 900.0
_CLIP_S = 900.0


@click.command()
@click.option("--base", "name", type=click.Choice(NAMES), required=True)
@click.option("--reduced", is_flag=True, help="The same files and values, with narrow layers.")
@click.option(
    "--output-dir",
    type=NEW_FOLDER,
    default="build/published",
    show_default=True,
    help="Holds the base, its delta and its repository; 15 GB at full size.",
)
def published_folders(name: str, reduced: bool, output_dir: Path) -> None:
    """Take a published folder through every command; print JSON."""
    folder = output_dir.resolve() / (f"{name}-reduced" if reduced else name)
    click.echo(as_json(measured(folder, name, reduced=reduced)), nl=False)


def measured(folder: Path, name: str, *, reduced: bool) -> dict[str, Any]:
    """Seconds and peak bytes of each stage; raises `ProcessFailed` for one that fails."""
    base_dir, repository = folder / "base", folder / "repository"
    if not (base_dir / "base.yaml").exists():
        in_own_process(write_published, base_dir, name, reduced)
    base = ("--base", str(base_dir))
    unlearn = ("unlearn", *CONCEPT, *base, "-o", str(folder / "delta"))
    engine = ("--engine", "onnxruntime", "--precision", "float32")
    stages = {
        "check": ("base", "check", str(base_dir)),
        "dry run": (*unlearn, "--dry-run"),
        "unlearn": (*unlearn, "--force"),
        "export": ("export", *base, "--repository", str(repository), *engine),
    }
    record: dict[str, Any] = {"base": name, "reduced": reduced, "stages": {}}
    for stage, arguments in stages.items():
        click.echo(f"{name}: {stage} …", err=True)
        record["stages"][stage] = _command(arguments)
    click.echo(f"{name}: one served step …", err=True)
    return record | {"served": in_own_process(served_step, repository, folder / "triton.log")}


def served_step(repository: Path, log: Path) -> dict[str, Any]:
    """One step of the least clip through a real Triton: its record, and how long it took."""
    from unsee.client.client import Client
    from unsee.serving.server.triton import ServerSettings, TritonServer

    settings = ServerSettings.on_free_ports(repository, log, ready_timeout_s=_READY_S)
    started = time.perf_counter()
    with TritonServer(settings), Client(f"127.0.0.1:{settings.grpc_port}") as client:
        ready_s = time.perf_counter() - started
        clip = client.generate(
            "Van Gogh", policy="base", num_inference_steps=1, seed=0, timeout_s=_CLIP_S
        )
        finite = bool(np.isfinite(clip.frames.astype(np.float32)).all())
        return {
            "ready_s": round(ready_s, 1),
            "clip_s": round(time.perf_counter() - started - ready_s, 1),
            "shape": list(clip.frames.shape),
            "scheduler": clip.record.scheduler,
            "finite": finite,
        }


def _command(arguments: Sequence[str]) -> dict[str, Any]:
    """Run `unsee` with `arguments`; its seconds, peak bytes and the last lines that it printed."""
    command = [sys.executable, "-c", "from unsee.cli.main import main; main()", *arguments]
    started = time.perf_counter()
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    )
    assert process.stdout is not None
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    tail = output[-_TAIL_CHARACTERS:]
    if process.returncode != 0:
        raise ProcessFailed(f"unsee {' '.join(arguments)} ended with {process.returncode}: {tail}")
    return {
        "seconds": round(time.perf_counter() - started, 1),
        "peak_bytes": usage.ru_maxrss * 1024,
        "said": tail.splitlines(),
    }


if __name__ == "__main__":
    sys.exit(exit_code_of(published_folders))
