"""Clips asked for by several clients at once, and where the time of each has gone."""

from __future__ import annotations

import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime

from tritonclient.grpc import InferenceServerClient

from benchmarks.measuring.service import Callers
from unsee.client.client import Client
from unsee.core.errors import ServerError
from unsee.media.clip import Clip

STAGES = ("text_encoder", "video_denoiser", "vae_decoder")
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


def unet_statistics(triton: str) -> tuple[Counter[int], float]:
    """What Triton says of the video denoiser since it started: calls by rows per call, and seconds
    that they were queued."""
    with InferenceServerClient(triton) as client:
        (stats,) = client.get_inference_statistics("video_denoiser").model_stats
    calls = {int(entry.batch_size): int(entry.compute_infer.count) for entry in stats.batch_stats}
    return Counter(calls), stats.inference_stats.queue.ns / 1e9


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
    idle: queue.SimpleQueue[Client] = queue.SimpleQueue()

    def one(task: Task) -> Made:
        client = idle.get()
        try:
            return make(client, task)
        finally:
            idle.put(client)

    with ExitStack() as stack, ThreadPoolExecutor(clients) as pool:
        for _ in range(clients):
            idle.put(stack.enter_context(new_client()))
        started = time.perf_counter()
        made = list(pool.map(one, tasks))
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
