"""Throughput, latency, fairness, refusals and cancelling of a served base under load.

The same clips are asked for by 1, 2, 4, … clients, through Triton's own port and through a gateway;
one client asking for one clip after the other is the work in sequence. Levels and ways take turns
in random order. `load.md.jinja` says what is measured.

    python -m benchmarks.serving.load --repository demo/model_repository
    python -m benchmarks.serving.load --quick
"""

from __future__ import annotations

import os
import random
import shutil
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import click
import numpy as np
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from benchmarks.measuring.record import finish, repository_option, say, write_option
from benchmarks.measuring.service import Gateway, gateway
from benchmarks.serving.load_clips import (
    PROMPT,
    STAGES,
    Flood,
    Made,
    NewClient,
    Task,
    began_at,
    make,
    make_all,
    unet_statistics,
)
from unsee.client.client import Client
from unsee.core.errors import RequestRejected, UnseeError
from unsee.export.engines.machine import this_machine
from unsee.media.clip import Clip
from unsee.playground.training.program import exit_code_of
from unsee.repository import pointer
from unsee.serving.server.triton import ServerSettings, TritonServer


@dataclass(frozen=True)
class Places:
    """How many clips are made at once, and how many requests may wait."""

    running: int
    waiting: int


AMPLE = Places(running=16, waiting=64)
SHARED = Places(running=2, waiting=16)
SCARCE = Places(running=2, waiting=2)
FLOODERS = 8
PATIENT = 5
SETTLE_S = 0.5
FULL = ("UNAVAILABLE", "RESOURCE_EXHAUSTED")


@dataclass(frozen=True)
class Plan:
    """How much is measured. `steps` None: the base's default."""

    levels: tuple[int, ...] = (1, 2, 4, 8, 16)
    clips: int = 16
    turns: int = 3
    refusals: int = 200
    cancels: int = 10
    steps: int | None = None


QUICK = Plan(levels=(1, 2, 4), clips=4, turns=1, refusals=20, cancels=3)


@dataclass
class Level:
    """What one number of clients got on one way, over all turns."""

    way: str
    clients: int
    clips_per_s: list[float]
    made: list[Made]
    calls_by_rows: Counter[int]
    queued_s: float

    def summary(self) -> dict[str, Any]:
        """The figures of the page."""
        rows = self.calls_by_rows
        num_rows = sum(size * calls for size, calls in rows.items())
        return {
            "way": self.way,
            "clients": self.clients,
            "clips_per_s": self.clips_per_s,
            "latency_s": percentiles([one.total_s for one in self.made]),
            "unet_rows_per_call": num_rows / rows.total() if rows else 0.0,
            "unet_calls_by_rows": dict(sorted(rows.items())),
            "unet_queued_s_per_clip": self.queued_s / len(self.made),
            "seconds_per_clip": {
                "queue": fmean([one.queue_s for one in self.made]),
                **{stage: fmean([one.stages[stage] for one in self.made]) for stage in STAGES},
                "transport": fmean([one.transport_s for one in self.made]),
            },
        }


@click.command()
@repository_option
@click.option("--turns", type=click.IntRange(1), help="[default: 3, with --quick 1]")
@click.option("--steps", type=click.IntRange(1), help="Of each clip.  [default: the base's]")
@click.option("--quick", is_flag=True, help="Few clips, for development.")
@write_option
def load(
    repository_dir: Path, turns: int | None, steps: int | None, quick: bool, write: bool
) -> None:
    """Measure a repository under load and print the record as JSON."""
    chosen = QUICK if quick else Plan()
    plan = Plan(**asdict(chosen) | {"steps": steps, "turns": turns or chosen.turns})
    policies = sorted(pointer.read(repository_dir).policies)
    record: dict[str, Any] = {
        "machine": this_machine().model_dump() | {"load_average": os.getloadavg()[0]},
        "plan": asdict(plan),
        "policies": policies,
        "floods": FLOODERS,
        "shared": asdict(SHARED),
        "scarce": asdict(SCARCE),
    }
    try:
        with tempfile.TemporaryDirectory() as folder:
            record |= measured_with_places(repository_dir, plan, policies, Path(folder))
            record |= measured_without(repository_dir, plan, policies, Path(folder))
    except UnseeError as error:
        raise click.ClickException(str(error)) from error
    finish("load", record, write=write)


def measured_with_places(
    repository_dir: Path, plan: Plan, policies: list[str], folder: Path
) -> dict[str, Any]:
    """Throughput, and the fairness of a gateway that has fewer places than Triton."""
    settings = ServerSettings.on_free_ports(repository_dir, folder / "ample.log")
    url, tasks = settings.grpc_url, tasks_of(plan, policies)
    with TritonServer(settings):
        with placed_gateway(url, policies, AMPLE, ("caller",), folder) as before:
            ways = {
                "direct": lambda: Client(url, retries=0),
                "gateway": lambda: before.client("caller"),
            }
            levels = measured_levels(plan, ways, tasks, url)
        with placed_gateway(url, policies, SHARED, ("quiet", "flood"), folder) as before:
            fair = fairness(before, tasks)
    return {"levels": [level.summary() for level in levels], "fairness": fair}


def measured_without(
    repository_dir: Path, plan: Plan, policies: list[str], folder: Path
) -> dict[str, Any]:
    """Refusals and cancelling where places are scarce, in Triton and in a gateway."""
    scarce_dir = with_places(repository_dir, folder / "scarce", SCARCE)
    task = Task(policies[0], 0, plan.steps)
    found: dict[str, Any] = {}
    settings = ServerSettings.on_free_ports(scarce_dir, folder / "scarce.log")
    with TritonServer(settings):
        direct: NewClient = lambda: Client(settings.grpc_url, retries=0)  # noqa: E731
        found["direct"] = {
            "refusal_ms": refusal_ms(direct, task, plan.refusals),
            "cancelling_s": cancelling_s(direct, task, plan.cancels),
        }
    settings = ServerSettings.on_free_ports(repository_dir, folder / "behind.log")
    with (
        TritonServer(settings),
        placed_gateway(settings.grpc_url, policies, SCARCE, ("caller",), folder) as before,
    ):
        through: NewClient = lambda: before.client("caller")  # noqa: E731
        found["gateway"] = {
            "refusal_ms": refusal_ms(through, task, plan.refusals),
            "cancelling_s": cancelling_s(through, task, plan.cancels),
        }
    return {"full": found}


def with_places(repository_dir: Path, copy: Path, places: Places) -> Path:
    """The repository as `copy`, of hard links, with other bounds of `text_to_video`."""
    shutil.copytree(repository_dir, copy, copy_function=os.link)
    file = copy / "text_to_video" / "config.pbtxt"
    config = text_format.Parse(file.read_text(), model_config_pb2.ModelConfig())
    config.parameters["max_running_requests"].string_value = str(places.running)
    config.parameters["max_waiting_requests"].string_value = str(places.waiting)
    file.unlink()
    file.write_text(text_format.MessageToString(config))
    return copy


def placed_gateway(
    triton: str, policies: list[str], places: Places, tenants: Sequence[str], folder: Path
) -> AbstractContextManager[Gateway]:
    """A gateway whose tenants have equal weights and may each take every place."""
    tenant = {
        "policies": policies,
        "allow_base": True,
        "max_concurrent": places.running,
        "max_waiting": places.waiting,
    }
    limits = {"max_running": places.running, "max_waiting": places.waiting}
    return gateway(triton, folder, tenants, tenant, limits)


def measured_levels(
    plan: Plan, ways: dict[str, NewClient], tasks: list[Task], triton: str
) -> list[Level]:
    """Every level of every way, `turns` times, in random order; a first clip of each warms up."""
    for new_client in ways.values():
        make_all(new_client, tasks[:2], 2)
    levels = [Level(way, n, [], [], Counter(), 0.0) for way in ways for n in plan.levels]
    chance = random.Random(0)
    for turn in range(plan.turns):
        say(f"turn {turn + 1} of {plan.turns}")
        for level in chance.sample(levels, len(levels)):
            calls_before, queued_before = unet_statistics(triton)
            made, seconds = make_all(ways[level.way], tasks, level.clients)
            level.clips_per_s.append(len(made) / seconds)
            level.made += made
            calls, queued_s = unet_statistics(triton)
            level.calls_by_rows += calls - calls_before
            level.queued_s += queued_s - queued_before
    return levels


def fairness(before: Gateway, tasks: list[Task]) -> dict[str, Any]:
    """One tenant asks for clip after clip, alone and beside another that floods."""

    def quiet() -> dict[str, float]:
        with before.client("quiet") as client:
            return percentiles([make(client, task).total_s for task in tasks])

    alone = quiet()
    with Flood(lambda: before.client("flood"), tasks[0], FLOODERS) as flood:
        time.sleep(1.0)
        beside = quiet()
    return {"alone_s": alone, "beside_s": beside, "flood_s": percentiles(flood.seconds)}


def refusal_ms(new_client: NewClient, task: Task, count: int) -> dict[str, float]:
    """How long refusals take while every place and the queue are full, in milliseconds."""
    refused: list[float] = []
    holders = SCARCE.running + SCARCE.waiting + 2
    with Flood(new_client, task, holders), new_client() as client:
        time.sleep(1.0)
        while len(refused) < count:
            started = time.perf_counter()
            stream = client.stream(PROMPT, policy=task.policy, num_inference_steps=task.steps)
            try:
                next(stream)
            except RequestRejected as error:
                if error.status not in FULL:
                    raise
                refused.append(1000 * (time.perf_counter() - started))
            finally:
                stream.close()
    return percentiles(refused)


def cancelling_s(new_client: NewClient, task: Task, count: int) -> dict[str, Any]:
    """From cancelling a running clip until the request behind it begins, and a step meanwhile.

    Raises:
        ClickException: clips end before they can be cancelled.
    """
    _settle(new_client, task)
    freed: list[float] = []
    steps: list[float] = []
    for _ in range(PATIENT * count):
        waited_s, step_s = _one_cancelling(new_client, task)
        if waited_s > 0:
            freed.append(waited_s)
            steps.append(step_s)
        if len(freed) == count:
            return {"freed": percentiles(freed), "step": percentiles(steps)}
    raise click.ClickException("clips are too short to be cancelled; ask for more with --steps")


def _settle(new_client: NewClient, task: Task) -> None:
    """Wait until what an earlier measurement has left is out of the queue."""
    with new_client() as client:
        while True:
            try:
                make(client, task)
            except RequestRejected as error:
                if error.status not in FULL:
                    raise
                time.sleep(SETTLE_S)
            else:
                return


def _one_cancelling(new_client: NewClient, task: Task) -> tuple[float, float]:
    """Every place is held; the stream that waits begins when one of them is cancelled."""
    options: dict[str, Any] = {"policy": task.policy, "num_inference_steps": task.steps}
    with new_client() as client:
        holders = [client.stream(PROMPT, **options) for _ in range(SCARCE.running)]
        for holder in holders:
            next(holder)
        behind: list[Clip] = []
        waiter = _started(lambda: behind.append(client.generate(PROMPT, **options)))
        cancelled_at = time.time()
        holders[0].close()
        for holder in holders[1:]:
            list(holder)
        waiter.join()
    record = behind[0].record
    step_s = record.seconds["video_denoiser"] / record.num_inference_steps
    return began_at(behind[0]) - cancelled_at, step_s


def _started(work: Callable[[], Any]) -> threading.Thread:
    thread = threading.Thread(target=work)
    thread.start()
    time.sleep(0.05)  # it is to stand in the queue before a place is freed
    return thread


def tasks_of(plan: Plan, policies: list[str]) -> list[Task]:
    """Clips of all policies in turn."""
    return [Task(policies[k % len(policies)], k, plan.steps) for k in range(plan.clips)]


def percentiles(values: list[float]) -> dict[str, float]:
    """p50, p95, p99 and the largest."""
    if not values:
        return {}
    p50, p95, p99 = np.percentile(values, [50, 95, 99])
    return {"p50": float(p50), "p95": float(p95), "p99": float(p99), "most": max(values)}


if __name__ == "__main__":
    sys.exit(exit_code_of(load))
