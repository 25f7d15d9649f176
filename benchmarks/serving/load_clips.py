"""Clips asked for by several clients at once, and where the time of each has gone."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from tritonclient.grpc import InferenceServerClient

from benchmarks.measuring.service import Callers
from unsee.client.client import Client
from unsee.core.errors import ServerError
from unsee.media.clip import Clip

STAGES = ("text_encoder", "video_unet", "vae_decoder")
PROMPT = "a cat"

NewClient = Callable[[], Client]
"""Makes a client with a connection of its own."""


@dataclass(frozen=True)
class Task:
    """One clip to make; `steps` None: the base's default."""

    policy: str
    seed: int
    steps: int | None = None


@dataclass(frozen=True)
class Made:
    """What one clip took, in seconds.

    `queue_s` is from the client's call until the server began the clip, `transport_s` what is left
    when queue and stages are taken off: the way back, and this client's own work.
    """

    total_s: float
    queue_s: float
    stages: dict[str, float]

    @property
    def transport_s(self) -> float:
        """What neither the queue nor a stage accounts for."""
        return self.total_s - self.queue_s - sum(self.stages.values())


@dataclass(frozen=True)
class UnetStatistics:
    """What Triton says of the video UNet: calls by rows per call, seconds queued and computed."""

    calls_by_rows: dict[int, int] = field(default_factory=dict)
    queued_s: float = 0.0
    computed_s: float = 0.0

    def since(self, before: UnetStatistics) -> UnetStatistics:
        """What has been added since `before`."""
        rows = {
            size: calls - before.calls_by_rows.get(size, 0)
            for size, calls in sorted(self.calls_by_rows.items())
        }
        return UnetStatistics(
            {size: calls for size, calls in rows.items() if calls},
            self.queued_s - before.queued_s,
            self.computed_s - before.computed_s,
        )

    @property
    def mean_rows(self) -> float:
        """Rows per call of the graph."""
        calls = sum(self.calls_by_rows.values())
        return sum(size * n for size, n in self.calls_by_rows.items()) / calls if calls else 0.0


def unet_statistics(triton: str) -> UnetStatistics:
    """The statistics of the server at `triton` since it started."""
    with InferenceServerClient(triton) as client:
        (stats,) = client.get_inference_statistics("video_unet").model_stats
    return UnetStatistics(
        {int(entry.batch_size): int(entry.compute_infer.count) for entry in stats.batch_stats},
        stats.inference_stats.queue.ns / 1e9,
        stats.inference_stats.compute_infer.ns / 1e9,
    )


def make(client: Client, task: Task) -> Made:
    """One clip; raises ServerError."""
    sent_at, started = time.time(), time.perf_counter()
    clip = client.generate(
        PROMPT, policy=task.policy, seed=task.seed, num_inference_steps=task.steps
    )
    total_s = time.perf_counter() - started
    return Made(total_s, began_at(clip) - sent_at, {s: clip.record.seconds[s] for s in STAGES})


def began_at(clip: Clip) -> float:
    """When the server began the clip: seconds since the epoch, of the server's clock."""
    return datetime.fromisoformat(clip.record.started_at).timestamp()


def make_all(
    new_client: NewClient, tasks: Sequence[Task], clients: int
) -> tuple[list[Made], float]:
    """Let `clients` share the tasks; what each clip took, and the seconds of all.

    Raises:
        ServerError: a clip was not made.
    """
    waiting: queue.SimpleQueue[Task] = queue.SimpleQueue()
    for task in tasks:
        waiting.put(task)
    made: list[Made] = []
    errors: list[ServerError] = []

    def work() -> None:
        with new_client() as client:
            while not errors:
                try:
                    made.append(make(client, waiting.get_nowait()))
                except queue.Empty:
                    return
                except ServerError as error:
                    errors.append(error)

    started = time.perf_counter()
    threads = [threading.Thread(target=work) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return made, time.perf_counter() - started


class Flood(Callers):
    """Clients that ask for clips without a pause while the block lasts; refusals do not matter."""

    def __init__(self, new_client: NewClient, task: Task, clients: int) -> None:
        self.seconds: list[float] = []
        self._new_client, self._task = new_client, task
        super().__init__(self._ask, clients)

    def _ask(self, _: int, over: threading.Event) -> None:
        with self._new_client() as client:
            while not over.is_set():
                try:
                    self.seconds.append(make(client, self._task).total_s)
                except ServerError:
                    over.wait(0.05)
