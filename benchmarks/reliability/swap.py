"""What changing a policy's revision costs the service: the requests, the seconds, the memory.

Works on a copy of a repository with a published policy. New revisions are copies of the active one
under the next number, so that the export is not in the figures; all else is what `unsee publish`,
`promote`, `rollback` and `retire` do.

    python -m benchmarks.reliability.swap --cycles 300 --write
"""

from __future__ import annotations

import shutil
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import numpy as np
import psutil

from benchmarks.measuring.record import finish, repository_option, write_option
from benchmarks.measuring.service import Callers
from benchmarks.reliability.revisions import copy_revision
from unsee.client.client import Client
from unsee.core.errors import ServerError
from unsee.playground.training.program import exit_code_of
from unsee.policies import promotion
from unsee.policies.eligibility import make_eligible
from unsee.policies.lock import alone
from unsee.policies.retirement import retire
from unsee.repository import pointer
from unsee.repository.records import AuditEvent, PolicyState
from unsee.serving.server.triton import ServerSettings, TritonServer
from unsee.triton.server import Server

PROMPT = "Zorpik jumping in the forest"
WINDOWS = 20
"""Half of them with swaps and half without, in turn, so that a drift of the machine hits both."""


@dataclass
class Service:
    """A served repository and the policy whose revisions change."""

    repository_dir: Path
    url: str
    policy: str
    activity: list[tuple[int, float, float]] = field(default_factory=list)
    """(revision, when its promotion began, when it had ended), in seconds of the monotonic clock"""

    @property
    def state(self) -> PolicyState:
        return pointer.read(self.repository_dir).state(self.policy)

    def add_revision(self) -> float:
        """A copy of the active revision becomes eligible; seconds from written to eligible."""
        revision = copy_revision(self.repository_dir, self.policy, self.state.active or 1)
        published = AuditEvent(
            action="publish",
            policy=self.policy,
            revision=revision,
            encoder_digest="sha256:benchmark",
            report_digest=None,
            forced=True,
            reason="benchmarks.reliability.swap",
            unmet=("a copy for the benchmark",),
        )
        started = time.monotonic()
        with alone(self.repository_dir, self.policy, "publish"):
            make_eligible(Server(self.url), self.repository_dir, published)
        return time.monotonic() - started

    def swap(self) -> float:
        """Promote the other eligible revision or roll back to it, in turn; seconds that it took."""
        state = self.state
        other = next(number for number in reversed(state.eligible) if number != state.active)
        started = time.monotonic()
        if len(self.activity) % 2:
            promotion.rollback(self.repository_dir, self.policy, "benchmark", to=other)
        else:
            promotion.promote(self.repository_dir, self.policy, other)
        ended = time.monotonic()
        self.activity.append((other, started, ended))
        return ended - started

    def retire_the_older(self) -> None:
        """Promote the newest revision and retire the one that was active."""
        old = self.state.active or 1
        promotion.promote(self.repository_dir, self.policy, max(self.state.eligible))
        retire(self.repository_dir, self.policy, old)

    def was_active(self, revision: int, began: float, ended: float) -> bool:
        """Whether `revision` was active at some moment between two times."""
        starts = [(number, start) for number, start, _ in self.activity]
        ends = [end for _, _, end in self.activity[1:]] + [float("inf")]
        spans = zip(starts, ends, strict=True)
        return any(n == revision and s <= ended and began <= e for (n, s), e in spans)


@dataclass(frozen=True)
class Request:
    """One clip under load, in seconds of the monotonic clock; `revision` None if it failed."""

    began: float
    first_event: float
    ended: float
    revision: int | None


class Load(Callers):
    """Clients that ask for clips of the policy, one after the other, until the block ends."""

    def __init__(self, service: Service, clients: int, steps: int) -> None:
        self.requests: list[Request] = []
        self._service, self._steps = service, steps
        super().__init__(self._ask, clients)

    def _ask(self, seed: int, over: threading.Event) -> None:
        with Client(self._service.url, retries=0) as client:
            while not over.is_set():
                self.requests.append(self._one(client, seed))

    def _one(self, client: Client, seed: int) -> Request:
        events: list[float] = []
        began = time.monotonic()
        try:
            clip = client.generate(
                PROMPT,
                policy=self._service.policy,
                seed=seed,
                num_inference_steps=self._steps,
                on_progress=lambda progress: events.append(time.monotonic()),
            )
        except ServerError as error:
            click.echo(f"a request failed: {error}", err=True)
            return Request(began, time.monotonic(), time.monotonic(), None)
        return Request(began, events[0], time.monotonic(), clip.record.revision)


def swaps_under_load(service: Service, swaps: int, clients: int, steps: int) -> dict[str, Any]:
    """`swaps` promotions and rollbacks in windows, as many windows without, all under load."""
    pause_s = 0.25
    per_window = max(1, round(swaps / (WINDOWS // 2)))
    seconds: list[float] = []
    windows: list[tuple[bool, float, float]] = []
    service.activity = [(service.state.active or 1, 0.0, 0.0)]
    with Load(service, clients, steps) as load:
        time.sleep(1.0)  # what begins now is not counted
        for number in range(2 * -(-swaps // per_window)):
            swapping, started = number % 2 == 0, time.monotonic()
            for _ in range(per_window):
                if swapping and len(seconds) < swaps:
                    seconds.append(service.swap())
                time.sleep(pause_s)
            windows.append((swapping, started, time.monotonic()))
    return _swap_figures(service, load.requests, windows, seconds)


def _swap_figures(
    service: Service,
    requests: list[Request],
    windows: list[tuple[bool, float, float]],
    seconds: list[float],
) -> dict[str, Any]:
    latencies: dict[bool, list[float]] = {True: [], False: []}
    for swapping, start, end in windows:
        latencies[swapping] += [r.ended - r.began for r in requests if start <= r.began < end]
    wrong = [
        r
        for r in requests
        if r.revision is not None and not service.was_active(r.revision, r.began, r.first_event)
    ]
    during, without = (_percentile(latencies[kind], 99) for kind in (True, False))
    return {
        "swaps": len(seconds),
        "swap_ms": _spread([1000 * s for s in seconds]),
        "requests": len(requests),
        "failed_requests": sum(r.revision is None for r in requests),
        "wrong_revision_requests": len(wrong),
        "requests_in_windows_with_swaps": len(latencies[True]),
        "requests_in_windows_without": len(latencies[False]),
        "latency_p99_s_with_swaps": round(during, 4),
        "latency_p99_s_without": round(without, 4),
        "latency_p99_ratio": round(during / without, 3),
        "latency_p50_ratio": round(
            _percentile(latencies[True], 50) / _percentile(latencies[False], 50), 3
        ),
    }


def promote_to_first_request(service: Service, repeats: int) -> dict[str, Any]:
    """From the start of a promotion to the first sign of a request that uses the new revision.

    The request is sent when the promotion returns, so the figure holds its first step too; the same
    request without a promotion is beside it.
    """
    totals, alone_ms, right = [], [], 0
    with Client(service.url, retries=0) as client:
        for _ in range(repeats):
            alone_ms.append(1000 * _first_event(client, service)[0])
            swap_s = service.swap()
            request_s, revision = _first_event(client, service)
            totals.append(1000 * (swap_s + request_s))
            right += revision == service.state.active
    extra = [total - alone for total, alone in zip(totals, alone_ms, strict=True)]
    return {
        "repeats": repeats,
        "first_request_on_the_new_revision": right,
        "promote_to_first_event_ms": _spread(totals),
        "first_event_without_promotion_ms": _spread(alone_ms),
        "difference_ms": _spread(extra),
    }


def _first_event(client: Client, service: Service) -> tuple[float, int]:
    first: list[float] = []
    began = time.monotonic()
    clip = client.generate(
        PROMPT,
        policy=service.policy,
        seed=1,
        num_inference_steps=1,
        on_progress=lambda progress: first.append(time.monotonic() - began),
    )
    return first[0], clip.record.revision


def publish_and_retire(service: Service, cycles: int) -> tuple[dict[str, Any], list[list[float]]]:
    """Cycles of a new revision in and the old one out; the memory after each, in MiB."""
    seconds: list[float] = []
    memory: list[list[float]] = []
    for cycle in range(cycles):
        seconds.append(service.add_revision())
        service.retire_the_older()
        memory.append([cycle + 1, *server_memory_mib()])
        click.echo(
            f"cycle {cycle + 1} of {cycles}: {memory[-1][1] + memory[-1][2]:.0f} MiB", err=True
        )
    settled = memory[min(len(memory) // 10, len(memory) - 1) :]
    first, last = (sum(row[1:3]) for row in (settled[0], settled[-1]))
    figures = {
        "cycles": cycles,
        "publish_to_eligible_s": _spread(seconds),
        "rss_mib_after_first_tenth": round(first, 1),
        "rss_mib_at_end": round(last, 1),
        "growth_percent": round(100 * (last / first - 1), 2),
        "growth_mib_per_cycle": round(_slope(settled), 4),
        "processes_at_end": settled[-1][3],
    }
    return figures, memory


def server_memory_mib() -> tuple[float, float, int]:
    """Resident MiB of tritonserver and of its stubs, and how many processes these are."""
    server = stubs = 0.0
    count = 0
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            name, mib = process.name(), process.memory_info().rss / 2**20
            if name == "tritonserver":
                server, count = server + mib, count + 1
            elif name.startswith("triton_python"):
                stubs, count = stubs + mib, count + 1
    return round(server, 2), round(stubs, 2), count


def _slope(memory: list[list[float]]) -> float:
    if len(memory) < 2:
        return 0.0
    cycles, total = np.array([[row[0], row[1] + row[2]] for row in memory]).T
    return float(np.polyfit(cycles, total, 1)[0])


def _percentile(values: list[float], percent: float) -> float:
    return float(np.percentile(values, percent)) if values else float("nan")


def _spread(values: list[float]) -> dict[str, float]:
    return {
        "median": round(statistics.median(values), 3),
        "p99": round(_percentile(values, 99), 3),
        "max": round(max(values), 3),
    }


@contextmanager
def served_copy(repository_dir: Path, policy: str, threads: int | None) -> Iterator[Service]:
    """A copy of the repository, served; the original is not touched."""
    with tempfile.TemporaryDirectory(prefix="unsee-swap-") as folder:
        copy = Path(folder) / "repository"
        shutil.copytree(repository_dir, copy)
        settings = ServerSettings.on_free_ports(copy, Path(folder) / "triton.log", threads=threads)
        with TritonServer(settings):
            yield Service(copy, settings.grpc_url, policy)


@click.command()
@repository_option
@click.option("--policy", default="family", show_default=True, help="One with an active revision.")
@click.option("--swaps", type=click.IntRange(min=1), default=100, show_default=True)
@click.option("--clients", type=click.IntRange(min=1), default=4, show_default=True)
@click.option("--steps", type=click.IntRange(min=1), default=2, show_default=True)
@click.option("--repeats", type=click.IntRange(min=1), default=30, show_default=True)
@click.option("--cycles", type=click.IntRange(min=1), default=20, show_default=True)
@click.option("--threads", type=click.IntRange(min=1), help="CPU threads per graph.")
@write_option
def swap(
    repository_dir: Path,
    policy: str,
    swaps: int,
    clients: int,
    steps: int,
    repeats: int,
    cycles: int,
    threads: int | None,
    write: bool,
) -> None:
    """Swap, publish and retire revisions of a served policy; print what it cost as JSON."""
    with served_copy(repository_dir.resolve(), policy, threads) as service:
        service.add_revision()
        under_load = swaps_under_load(service, swaps, clients, steps)
        first = promote_to_first_request(service, repeats)
        cycled, memory = publish_and_retire(service, cycles)
    result = {
        "under_load": under_load,
        "promote": first,
        "publish_and_retire": cycled,
        "memory_mib": {
            "tritonserver and stubs": [[n, round(a + b, 1)] for n, a, b, _ in memory],
            "stubs": [[n, b] for n, _, b, _ in memory],
            "tritonserver": [[n, a] for n, a, _, _ in memory],
        },
    }
    finish("reliability/swap", result, write=write)
    if under_load["failed_requests"] or under_load["wrong_revision_requests"]:
        raise click.ClickException("a request failed or was answered by a wrong revision")


if __name__ == "__main__":
    sys.exit(exit_code_of(swap))
