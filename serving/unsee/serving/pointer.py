"""`policies.json`: which revision of each policy is active, which are eligible, which were active.

The server reads this file at the start of every request, so each change replaces it whole; writers
take turns through a lock file. Nothing here knows what a revision contains or whether it is loaded.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from unsee.client.errors import InputError
from unsee.client.policy import describe

POINTER_FILE = "policies.json"
LOCK_FILE = ".policies.json.lock"

Revision = Annotated[int, Field(ge=1)]


def encoder_model(policy: str) -> str:
    """The name of the Triton model whose versions are the revisions of `policy`."""
    return f"text_encoder_{policy}"


class PolicyState(BaseModel):
    """The revisions of one policy.

    Args:
        active: the revision that new requests use; None until one is promoted.
        eligible: revisions that loaded and answered their probe, in ascending order.
        history: every revision that became active, oldest first.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    active: Revision | None = None
    eligible: tuple[Revision, ...] = ()
    history: tuple[Revision, ...] = ()


class Policies(BaseModel):
    """The content of `policies.json`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = 1
    default_policy: str | None = None
    policies: dict[str, PolicyState] = {}

    def state(self, policy: str) -> PolicyState:
        """The state of `policy`.

        Raises:
            InputError: there is no such policy.
        """
        if policy not in self.policies:
            known = ", ".join(sorted(self.policies)) or "none"
            raise InputError(f'there is no policy "{policy}" in this repository; it has: {known}')
        return self.policies[policy]

    def with_state(self, policy: str, state: PolicyState) -> Policies:
        """A copy in which `policy` has `state`."""
        return self.model_copy(update={"policies": {**self.policies, policy: state}})


def read(repository_dir: Path) -> Policies:
    """The pointer file of a repository.

    Raises:
        InputError: the file is missing or broken.
    """
    file = repository_dir / POINTER_FILE
    try:
        return Policies.model_validate_json(file.read_bytes())
    except FileNotFoundError as error:
        raise InputError(
            f"{repository_dir} is no model repository: it has no {POINTER_FILE}; "
            "make one with: unsee export"
        ) from error
    except OSError as error:
        raise InputError(f"cannot read {file}: {error.strerror}") from error
    except ValidationError as error:
        raise InputError(f"{file} is broken: {describe(error)}") from error


def eligible(repository_dir: Path, policy: str, revision: int) -> Policies:
    """Marks a revision as one that may be promoted; the policy appears if it is new."""

    def mark(policies: Policies) -> Policies:
        state = policies.policies.get(policy, PolicyState())
        revisions = tuple(sorted({*state.eligible, revision}))
        return policies.with_state(policy, state.model_copy(update={"eligible": revisions}))

    return _change(repository_dir, mark)


def promote(
    repository_dir: Path, policy: str, revision: int | None = None, *, default: bool = False
) -> Policies:
    """Makes a revision the active one: the latest eligible, unless `revision` names one.

    An older revision is promoted the same way: that is a rollback. With `default` the policy also
    becomes that of requests which name none.

    Raises:
        InputError: the policy does not exist, or the revision is not eligible.
    """

    def point(policies: Policies) -> Policies:
        state = policies.state(policy)
        chosen = _promotable(policy, state, revision)
        if chosen != state.active:
            update = {"active": chosen, "history": (*state.history, chosen)}
            policies = policies.with_state(policy, state.model_copy(update=update))
        return policies.model_copy(update={"default_policy": policy}) if default else policies

    return _change(repository_dir, point)


def _promotable(policy: str, state: PolicyState, revision: int | None) -> int:
    if not state.eligible:
        raise InputError(f'the policy "{policy}" has no eligible revision; publish one first')
    if revision is None:
        return max(state.eligible)
    if revision not in state.eligible:
        known = ", ".join(map(str, state.eligible))
        raise InputError(
            f'revision {revision} of the policy "{policy}" is not eligible; these are: {known}'
        )
    return revision


def _change(repository_dir: Path, change: Callable[[Policies], Policies]) -> Policies:
    with _locked(repository_dir):
        before = read(repository_dir)
        after = change(before)
        if after != before:
            _replace(repository_dir, after.model_dump_json(indent=2).encode() + b"\n")
    return after


@contextmanager
def _locked(repository_dir: Path) -> Iterator[None]:
    """One process at a time changes the pointer; the kernel releases the lock of a dead one."""
    try:
        lock = (repository_dir / LOCK_FILE).open("ab")
    except OSError as error:
        raise InputError(f"cannot write in {repository_dir}: {error.strerror}") from error
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _replace(repository_dir: Path, content: bytes) -> None:
    file = repository_dir / POINTER_FILE
    temporary = repository_dir / f".{POINTER_FILE}.new"
    with temporary.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(file)
    folder = os.open(repository_dir, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def concept_names(repository_dir: Path, policy: str, revision: int) -> tuple[str, ...]:
    """The names of the concepts that a revision unsees, as its own record says.

    Raises:
        InputError: the revision's record is missing or broken.
    """
    file = repository_dir / encoder_model(policy) / str(revision) / "revision.json"
    try:
        return tuple(concept["name"] for concept in json.loads(file.read_bytes())["concepts"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"the record {file} is missing or broken") from error
