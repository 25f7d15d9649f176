"""Keeps one replica in step with a pointer that many replicas share.

The replica serves a repository of its own (`replica`). A revision that the shared pointer offers is
copied and probed here first, and only then offered in the replica's own pointer, so that no request
finds a revision that this server has not got. Until then the replica goes on with the revision that
was active, but not for longer than `max_lag_s`; a revision that the shared pointer has withdrawn is
refused at once.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from unsee.core.errors import InputError, ServerError, ServerUnreachable, UnseeError
from unsee.policies.eligibility import probe
from unsee.policies.following.replica import (
    check_is_replica,
    copies,
    copy_service,
    drop_revision,
    fetch_revision,
    retire_revision,
)
from unsee.repository import ledger, pointer
from unsee.repository.layout import HEARTBEAT_FILE, POINTER_FILE
from unsee.repository.records import Policies, PolicyState
from unsee.triton.server import Server

KEPT_S = 3600.0
"""A request that has read the pointer asks for its revision within seconds, however busy it is."""

Say = Callable[[str], None]
Key = tuple[str, int]
"""A policy and the number of one of its revisions."""


@dataclass(frozen=True)
class FollowerSettings:
    """What to follow and where.

    Args:
        store_dir: the shared model repository; it is only read.
        repository_dir: the replica's own; nobody else writes it.
        pointer_dir: the folder that holds the shared `policies.json`; it may be swapped by a
            symbolic link, as a ConfigMap's is.
        server: the replica's Triton.
        max_lag_s: how long a revision may stay in use after the pointer has gone on from it.
        poll_s: time between two looks at the pointer.
        retry_s: time between two attempts to use a revision that did not answer.
    """

    store_dir: Path
    repository_dir: Path
    pointer_dir: Path
    server: Server
    max_lag_s: float = 60.0
    poll_s: float = 0.2
    retry_s: float = 30.0


def followed(
    wanted: Policies, held: Collection[Key], before: Policies, overdue: Collection[str] = ()
) -> Policies:
    """The replica's own pointer.

    Args:
        wanted: the shared pointer.
        held: the revisions that the replica can serve.
        before: the replica's own pointer as it is.
        overdue: policies whose earlier revision may not be used any longer.

    Returns:
        `wanted` without what is not held. A policy whose active revision is not held keeps the one
        before if that is still offered and not overdue, else it has none; one with no revision
        here is left out.
    """
    states = {}
    for name, state in wanted.policies.items():
        eligible = tuple(n for n in state.eligible if (name, n) in held)
        if not eligible:
            continue
        earlier = before.policies.get(name, PolicyState()).active
        active = state.active
        if active is not None and active not in eligible:
            active = earlier if earlier in eligible and name not in overdue else None
        rolled_back = tuple(n for n in state.rolled_back if n in eligible)
        update = {"active": active, "eligible": eligible, "rolled_back": rolled_back}
        states[name] = state.model_copy(update=update)
    return wanted.model_copy(update={"policies": states})


def prepare(settings: FollowerSettings, say: Say = lambda line: None) -> None:
    """Make the replica's repository before its Triton starts.

    Raises:
        InputError: the store or the pointer cannot be read, or an active revision is not whole; one
            that is merely eligible is left out.
    """
    wanted = _read_shared(settings.pointer_dir)
    copy_service(settings.store_dir, settings.repository_dir)
    offered = _offered(wanted)
    for policy, revision in copies(settings.repository_dir) - set(offered):
        drop_revision(settings.repository_dir, policy, revision)
    held = set()
    for policy, revision in offered:
        try:
            fetch_revision(settings.store_dir, settings.repository_dir, policy, revision)
        except InputError as error:
            if revision == wanted.state(policy).active:
                raise
            say(f"{policy}: revision {revision} is left out: {error}")
        else:
            held.add((policy, revision))
            say(f"{policy}: revision {revision} was copied")
    ledger.replace_pointer(settings.repository_dir, followed(wanted, held, Policies()))


class Follower:
    """Follows until it is stopped; one thread looks at the pointer, another one fetches and probes.

    Raises InputError if the replica's repository has not been prepared, or is no replica's.
    """

    def __init__(self, settings: FollowerSettings, say: Say = lambda line: None) -> None:
        check_is_replica(settings.repository_dir)
        self._settings = settings
        self._say = say
        self._own = pointer.read(settings.repository_dir)
        self._held = set(_offered(self._own))
        self._behind: dict[str, float] = {}
        self._not_before: dict[Key, float] = {}
        self._worker = ThreadPoolExecutor(1, "revisions")
        self._task: tuple[Key, bool, Future[None]] | None = None
        self._last_trouble = ""

    def run(self, stop: threading.Event) -> None:
        """Follow until `stop` is set; raises FileNotWritable if that becomes impossible."""
        try:
            while not stop.is_set():
                self.look()
                stop.wait(self._settings.poll_s)
        finally:
            self._worker.shutdown(wait=False, cancel_futures=True)

    def look(self) -> None:
        """One look at the shared pointer, and what follows from it at once; waits for nothing."""
        (self._settings.repository_dir / HEARTBEAT_FILE).touch()
        self._collect()
        try:
            wanted = _read_shared(self._settings.pointer_dir)
        except InputError as error:
            self._say_once(f"{error}; this replica goes on with what it has")
            return
        self._apply(wanted)
        if self._task is None:
            self._send_out(wanted)

    def _apply(self, wanted: Policies) -> None:
        now = time.monotonic()
        late = {
            name
            for name, state in wanted.policies.items()
            if state.active is not None and (name, state.active) not in self._held
        }
        self._behind = {name: self._behind.get(name, now) for name in late}
        limit_s = self._settings.max_lag_s
        overdue = {name for name, since in self._behind.items() if now - since > limit_s}
        own = followed(wanted, self._held, self._own, overdue)
        if own == self._own:
            return
        ledger.replace_pointer(self._settings.repository_dir, own)
        for name in own.policies.keys() | self._own.policies.keys():
            self._say_change(name, own)
        self._own = own

    def _say_change(self, policy: str, own: Policies) -> None:
        before = self._own.policies.get(policy, PolicyState()).active
        after = own.policies.get(policy, PolicyState()).active
        if after is None and before is not None:
            self._say(f"{policy}: revision {before} may not be used any longer: refused here")
        elif after != before:
            self._say(f"{policy}: revision {after} is active here")

    def _send_out(self, wanted: Policies) -> None:
        """Start what is most urgent: an active revision, an eligible one, one to be taken away."""
        offered, now = _offered(wanted), time.monotonic()
        missing = [(key, True) for key in offered if key not in self._held]
        unwanted = [(k, False) for k in sorted(copies(self._settings.repository_dir) - {*offered})]
        for key, bring in (*missing, *unwanted):
            if now < self._not_before.get(key, 0.0):
                continue
            if not bring:
                self._held.discard(key)
            work = _bring if bring else _take_away
            self._task = key, bring, self._worker.submit(work, self._settings, *key)
            return

    def _collect(self) -> None:
        """Take note of what the other thread has done, if it is done."""
        if self._task is None or not self._task[2].done():
            return
        (policy, revision), brought, result = self._task
        self._task = None
        try:
            result.result()
        except ServerUnreachable as error:
            self._say_once(str(error))
            self._not_before[policy, revision] = time.monotonic() + self._settings.poll_s
        except UnseeError as error:
            self._say(f"{policy}: revision {revision}: {error}")
            self._not_before[policy, revision] = time.monotonic() + self._settings.retry_s
        else:
            self._last_trouble = ""
            if brought:
                self._held.add((policy, revision))
            self._say(f"{policy}: revision {revision} {'can be used' if brought else 'is gone'}")

    def _say_once(self, sentence: str) -> None:
        if sentence != self._last_trouble:
            self._say(sentence)
        self._last_trouble = sentence


def _bring(settings: FollowerSettings, policy: str, revision: int) -> None:
    """Copy a revision and ask the server for its recorded answer.

    Raises:
        UnseeError: it cannot be used; unless nobody answered, it is not in the repository either.
    """
    fetch_revision(settings.store_dir, settings.repository_dir, policy, revision)
    try:
        probe(settings.server, settings.repository_dir, policy, revision)
    except ServerUnreachable:
        raise
    except (ServerError, InputError):
        drop_revision(settings.repository_dir, policy, revision)
        raise


def _take_away(settings: FollowerSettings, policy: str, revision: int) -> None:
    """Put a revision away that is not offered any more."""
    retire_revision(settings.repository_dir, policy, revision, KEPT_S)


def _offered(policies: Policies) -> list[Key]:
    """Every eligible revision, the active ones first."""
    keys = [(name, n) for name, state in policies.policies.items() for n in state.eligible]
    active: Mapping[str, int | None] = {n: s.active for n, s in policies.policies.items()}
    return sorted(keys, key=lambda key: (active[key[0]] != key[1], *key))


def _read_shared(pointer_dir: Path) -> Policies:
    """Raises InputError also for a pointer without policies: more likely a slip than an order."""
    policies = pointer.read(pointer_dir)
    if not policies.policies:
        raise InputError(f"{pointer_dir / POINTER_FILE} names no policy")
    return policies
