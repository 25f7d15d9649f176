"""Several Tritons, one store, one pointer: how soon a promotion reaches all, and what it costs.

Every replica is a real tritonserver with a repository of its own and a follower beside it; one
client per replica asks for the smallest clip without a pause. The figures:

- from a promotion (or rollback) to the first request of each replica on the new revision, when the
  replicas have it already;
- the same for a revision that none of them has yet (copy, probe);
- from the start of a replica that was killed to its first clip, which must be on the revision that
  was promoted while it was dead;
- requests that failed, and those that began after the replica's first one on the new revision and
  yet got another one; both must be 0.

    python -m benchmarks.reliability.replicas --repository demo/model_repository --policy family
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

import click
import psutil

from benchmarks.measuring.record import repository_option
from benchmarks.measuring.timing import Spread
from benchmarks.reliability.revisions import copy_revision
from unsee.client.client import Client
from unsee.core.errors import ServerError
from unsee.playground.training.program import exit_code_of
from unsee.policies import promotion
from unsee.policies.following.follower import Follower, FollowerSettings, prepare
from unsee.repository import ledger, pointer
from unsee.repository.records import AuditEvent, Policies
from unsee.serving.server.triton import ServerSettings, TritonServer
from unsee.triton.server import Server

PATIENCE_S = 120.0
POLL_S = 0.005
SETTLE_S = 0.2
"""How long the replicas are asked on after the last of them has followed: a relapse would show."""


@dataclass(frozen=True)
class Answer:
    """One clip: when it was asked for (`time.monotonic`), when it was there, by which revision."""

    asked_at: float
    answered_at: float
    revision: int


class Replica:
    """One server with its own repository, its follower, and a client that never pauses."""

    def __init__(self, name: str, folder: Path, store_dir: Path, policy: str) -> None:
        self.name = name
        self.answers: list[Answer] = []
        self.failures: list[str] = []
        self._store_dir, self._policy = store_dir, policy
        self._repository_dir = folder / name
        self._log_path = folder / f"{name}.log"
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        self._server: TritonServer | None = None

    def __enter__(self) -> Self:
        """Make the repository, start the server, follow, ask."""
        server = ServerSettings.on_free_ports(
            self._repository_dir, self._log_path, threads=1, ready_timeout_s=PATIENCE_S
        )
        settings = FollowerSettings(
            self._store_dir, self._repository_dir, self._store_dir, Server(server.grpc_url)
        )
        prepare(settings)
        self._server = TritonServer(server)
        self._server.__enter__()
        self._stop.clear()
        follower = Follower(settings, lambda line: click.echo(f"{self.name}: {line}", err=True))
        self._threads = [
            threading.Thread(target=follower.run, args=(self._stop,)),
            threading.Thread(target=self._ask, args=(server.grpc_url,)),
        ]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        self._threads = []
        if self._server is not None:
            self._server.stop()
            self._server = None

    def die(self) -> None:
        """SIGKILL to the server, as a node that goes down; its follower and client end too."""
        self._stop.set()
        for thread in self._threads:
            thread.join()
        os.kill(_process_that_serves(self._repository_dir), signal.SIGKILL)
        self.__exit__()

    def wait_for(self, swap: Swap) -> Answer:
        """The first answer by the swap's revision to a question asked after it."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            for answer in list(self.answers):
                if answer.asked_at >= swap.made_at and answer.revision == swap.revision:
                    return answer
            time.sleep(POLL_S)
        raise click.ClickException(f"{self.name} did not use revision {swap.revision} in time")

    def _ask(self, url: str) -> None:
        smallest = _smallest_request(self._store_dir)
        with Client(url, timeout_s=PATIENCE_S, retries=0) as client:
            while not self._stop.is_set():
                asked_at = time.monotonic()
                try:
                    clip = client.generate("x", policy=self._policy, seed=1, **smallest)
                except ServerError as error:
                    self.failures.append(str(error))
                    continue
                self.answers.append(Answer(asked_at, time.monotonic(), clip.record.revision))


@dataclass(frozen=True)
class Swap:
    """A change of the shared pointer to `revision`.

    `began_at` and `made_at` (`time.monotonic`) are before and after the command.
    """

    began_at: float
    made_at: float
    revision: int


@dataclass
class Findings:
    """What `study` found; seconds, one value per replica and swap."""

    swap_s: list[float] = field(default_factory=list)
    new_revision_s: list[float] = field(default_factory=list)
    back_s: float = 0.0
    requests: int = 0
    failures: list[str] = field(default_factory=list)
    wrong_revisions: int = 0


class Study:
    """Replicas of one store, whose pointer is moved while they are being asked."""

    def __init__(self, store_dir: Path, folder: Path, policy: str, num_replicas: int) -> None:
        self._store_dir, self._policy = store_dir, policy
        names = [f"replica{number}" for number in range(num_replicas)]
        self._replicas = [Replica(name, folder, store_dir, policy) for name in names]
        self._swaps = [Swap(0.0, 0.0, pointer.read(store_dir).state(policy).active or 0)]
        self._findings = Findings()

    def run(self, num_new: int, num_swaps: int) -> Findings:
        """Promote new revisions, go back and forth, let one replica die; the store is changed."""
        found = self._findings
        with ExitStack() as stack:
            for replica in self._replicas:
                stack.enter_context(replica)
            for _ in range(num_new):
                add_revision(self._store_dir, self._policy)
                found.new_revision_s += self._reach(self._promote(), self._replicas)
            for number in range(num_swaps):
                swap = self._promote() if number % 2 else self._roll_back()
                found.swap_s += self._reach(swap, self._replicas)
            found.back_s = self._lose_one_and_promote()
        found.requests = sum(len(replica.answers) for replica in self._replicas)
        found.failures = [why for replica in self._replicas for why in replica.failures]
        found.wrong_revisions += sum(wrong(r.answers, self._swaps) for r in self._replicas)
        return found

    def _promote(self) -> Swap:
        newest = max(pointer.read(self._store_dir).state(self._policy).eligible)
        began_at = time.monotonic()
        promotion.promote(self._store_dir, self._policy, newest)
        return self._swapped(began_at, newest)

    def _roll_back(self) -> Swap:
        earlier = pointer.previous(pointer.read(self._store_dir), self._policy)
        began_at = time.monotonic()
        promotion.rollback(self._store_dir, self._policy, "a measurement", to=earlier)
        return self._swapped(began_at, earlier)

    def _swapped(self, began_at: float, revision: int) -> Swap:
        self._swaps.append(Swap(began_at, time.monotonic(), revision))
        return self._swaps[-1]

    def _reach(self, swap: Swap, replicas: Sequence[Replica]) -> list[float]:
        """Seconds from the swap to the first question that each replica answers accordingly."""
        firsts = [replica.wait_for(swap) for replica in replicas]
        time.sleep(SETTLE_S)
        return [first.asked_at - swap.made_at for first in firsts]

    def _lose_one_and_promote(self) -> float:
        """Seconds from the start of a replica that missed a promotion to its first clip."""
        lost, *others = self._replicas
        lost.die()
        add_revision(self._store_dir, self._policy)
        swap = self._promote()
        self._reach(swap, others)
        num_before, started = len(lost.answers), time.monotonic()
        with lost:
            first = lost.wait_for(swap)
            self._findings.wrong_revisions += lost.answers[num_before] != first
            return first.answered_at - started


def wrong(answers: Sequence[Answer], swaps: Sequence[Swap]) -> int:
    """How many answers of one replica are by a revision other than the one in use.

    After a swap the one before it may answer until the replica has moved on, and not after that.
    """
    count = 0
    ends = [swap.began_at for swap in swaps[1:]] + [float("inf")]
    before = swaps[0].revision
    for swap, end in zip(swaps, ends, strict=True):
        moved = False
        for answer in (a for a in answers if swap.began_at <= a.asked_at < end):
            moved = moved or answer.revision == swap.revision
            count += answer.revision != (swap.revision if moved else before)
        before = swap.revision
    return count


def add_revision(store_dir: Path, policy: str) -> int:
    """A copy of the policy's newest revision under the next number, eligible."""
    newest = max(pointer.read(store_dir).state(policy).eligible)
    revision = copy_revision(store_dir, policy, newest)

    def mark(policies: Policies) -> tuple[Policies, AuditEvent]:
        state = policies.state(policy).with_eligible(revision)
        event = ledger.event_of(store_dir, "repair", policy, revision, reason="a measurement")
        return policies.with_state(policy, state), event

    ledger.change(store_dir, mark)
    return revision


def _smallest_request(store_dir: Path) -> dict[str, Any]:
    record = json.loads((store_dir / "text_to_video" / "assets" / "base.json").read_bytes())
    names = ("num_frames", "height", "width", "num_inference_steps")
    return {name: record["limits"][name][0] for name in names} | {"guidance_scale": 1.0}


def _process_that_serves(repository_dir: Path) -> int:
    wanted = f"--model-repository={repository_dir.resolve()}"
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or [""]
        if wanted in words and words[0].endswith("/tritonserver"):
            return int(process.pid)
    raise click.ClickException(f"no tritonserver serves {repository_dir}")


@click.command()
@repository_option
@click.option("--policy", default="family", show_default=True)
@click.option("--replicas", "num_replicas", type=click.IntRange(2), default=3, show_default=True)
@click.option("--new", "num_new", type=click.IntRange(1), default=5, show_default=True)
@click.option("--swaps", "num_swaps", type=click.IntRange(2), default=20, show_default=True)
def replicas(
    repository_dir: Path, policy: str, num_replicas: int, num_new: int, num_swaps: int
) -> None:
    """Promote under load to several replicas; print how soon each of them follows."""
    with tempfile.TemporaryDirectory() as folder:
        store_dir = Path(folder) / "store"
        shutil.copytree(repository_dir, store_dir)
        found = Study(store_dir, Path(folder), policy, num_replicas).run(num_new, num_swaps)
    result = {
        "replicas": num_replicas,
        "requests": found.requests,
        "failed_requests": len(found.failures),
        "wrong_revisions": found.wrong_revisions,
        "seconds_to_follow_a_revision_that_is_there": asdict(Spread.of(found.swap_s)),
        "seconds_to_follow_a_new_revision": asdict(Spread.of(found.new_revision_s)),
        "seconds_from_start_to_first_clip_after_a_crash": found.back_s,
    }
    click.echo(json.dumps(result, indent=2))
    if found.failures or found.wrong_revisions:
        raise click.ClickException("; ".join(found.failures[:3]) or "a wrong revision answered")


if __name__ == "__main__":
    sys.exit(exit_code_of(replicas))
