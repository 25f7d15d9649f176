"""Whether requests of many policies cost more than as many of one: clips a second, in turns.

Works on a copy of a repository with a published policy, of which it makes many, each with an edit
in a file of its own. The same clients ask for clip after clip: all of the one policy, or each of
the next.

    python -m benchmarks.policies.mixed --write
"""

from __future__ import annotations

import itertools
import json
import shutil
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from benchmarks.measuring.record import finish, repository_option, say, write_option
from benchmarks.measuring.service import Callers
from unsee.client.client import Client
from unsee.core.files import write_json
from unsee.export.engines.machine import this_machine
from unsee.playground.training.program import exit_code_of
from unsee.repository import pointer
from unsee.repository.layout import POINTER_FILE, REVISION_FILE, VERSION, policy_model, revision_dir
from unsee.repository.records import PolicyState
from unsee.serving.server.triton import ServerSettings, TritonServer

PROMPT = "Zorpik jumping in the forest"


def copy_policy(repository_dir: Path, source: str, name: str) -> None:
    """Another policy with the active revision of `source`, under its own name, as its only one."""
    policies = pointer.read(repository_dir)
    folder = revision_dir(repository_dir, name, VERSION)
    shutil.copytree(
        revision_dir(repository_dir, source, policies.state(source).active or 1), folder
    )
    file = folder / REVISION_FILE
    write_json(file, json.loads(file.read_bytes()) | {"policy": name, "revision": VERSION})
    config = repository_dir / policy_model(source) / "config.pbtxt"
    text = config.read_text(encoding="utf-8")
    renamed = text.replace(policy_model(source), policy_model(name))
    (repository_dir / policy_model(name) / config.name).write_text(renamed, encoding="utf-8")
    state = PolicyState().with_eligible(VERSION).with_active(VERSION)
    states = policies.policies | {name: state}
    write_json(repository_dir / POINTER_FILE, policies.model_copy(update={"policies": states}))


class Turn(Callers):
    """Clients that ask for clips of one policy after the other until the block ends."""

    def __init__(self, url: str, policies: Sequence[str], clients: int, steps: int) -> None:
        self.ended: list[float] = []
        self._url, self._steps = url, steps
        self._policies = itertools.cycle(policies)
        super().__init__(self._ask, clients)

    def _ask(self, seed: int, over: threading.Event) -> None:
        with Client(self._url, retries=0) as client:
            while not over.is_set():
                policy = next(self._policies)
                client.generate(PROMPT, policy=policy, seed=seed, num_inference_steps=self._steps)
                self.ended.append(time.monotonic())

    def clips_per_s(self, seconds: float) -> float:
        """Clips a second while the block lasts, but for its first second."""
        time.sleep(1.0)
        start, before = time.monotonic(), len(self.ended)
        time.sleep(seconds)
        return (len(self.ended) - before) / (time.monotonic() - start)


@click.command()
@repository_option
@click.option("--policy", default="family", show_default=True, help="One with an active revision.")
@click.option("--policies", type=click.IntRange(min=2), default=16, show_default=True)
@click.option("--clients", type=click.IntRange(min=1), default=8, show_default=True)
@click.option("--steps", type=click.IntRange(min=1), default=2, show_default=True)
@click.option("--turns", type=click.IntRange(min=1), default=8, show_default=True)
@click.option("--seconds", type=click.FloatRange(min=1), default=8.0, show_default=True)
@write_option
def mixed(
    repository_dir: Path,
    policy: str,
    policies: int,
    clients: int,
    steps: int,
    turns: int,
    seconds: float,
    write: bool,
) -> None:
    """Compare a load of many policies with the same load of one; print the ratio as JSON."""
    with tempfile.TemporaryDirectory(prefix="unsee-mixed-") as folder:
        copy = Path(folder) / "repository"
        shutil.copytree(repository_dir, copy)
        names = [f"many-{number}" for number in range(policies)]
        for name in names:
            copy_policy(copy, policy, name)
        settings = ServerSettings.on_free_ports(copy, Path(folder) / "triton.log")
        rates: dict[str, list[float]] = {"one": [], "many": []}
        with TritonServer(settings):
            for turn in range(turns):
                for kind, asked in (("one", [policy]), ("many", names)):
                    with Turn(settings.grpc_url, asked, clients, steps) as load:
                        rates[kind].append(load.clips_per_s(seconds))
                say(f"turn {turn + 1} of {turns}: {rates['one'][-1]:.2f}, {rates['many'][-1]:.2f}")
    ratios = [many / one for one, many in zip(rates["one"], rates["many"], strict=True)]
    result: dict[str, Any] = {
        "machine": this_machine().model_dump(),
        "policies": policies,
        "clients": clients,
        "steps": steps,
        "turns": turns,
        "clips_per_s": {kind: round(statistics.median(each), 3) for kind, each in rates.items()},
        "ratio": {
            "median": round(statistics.median(ratios), 3),
            "least": round(min(ratios), 3),
            "most": round(max(ratios), 3),
        },
    }
    finish("performance/mixed", result, write=write)


if __name__ == "__main__":
    sys.exit(exit_code_of(mixed))
