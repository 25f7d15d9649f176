"""`policies.json`: which revision of each policy is active, which are eligible, which were active.

The server reads this file at the start of every request, so each change replaces it whole; writers
take turns through a lock file. The rules are functions from one content to the next. Nothing here
knows what a revision contains or whether it is loaded; `ledger` is the only writer.
"""

from __future__ import annotations

import json
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from unsee.core.errors import FileNotWritable, InputError
from unsee.core.files import lock, write_json
from unsee.core.validation import describe
from unsee.repository.audit import AuditEvent

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
        rolled_back: eligible revisions that a rollback left; they become active by name only.
        retired: revisions that were eligible once and never will be again.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    active: Revision | None = None
    eligible: tuple[Revision, ...] = ()
    history: tuple[Revision, ...] = ()
    rolled_back: tuple[Revision, ...] = ()
    retired: tuple[Revision, ...] = ()

    def with_eligible(self, revision: int) -> PolicyState:
        """`revision` may be promoted."""
        return self.model_copy(update={"eligible": _with(self.eligible, revision)})

    def with_active(self, revision: int) -> PolicyState:
        """New requests use `revision`, which is eligible; nothing changes if they do already."""
        if revision == self.active:
            return self
        update = {
            "active": revision,
            "history": (*self.history, revision),
            "rolled_back": _without(self.rolled_back, revision),
        }
        return self.model_copy(update=update)

    def with_rollback(self, revision: int) -> PolicyState:
        """New requests use `revision` again, and the one left is not chosen unless by name."""
        left = self.rolled_back if self.active is None else _with(self.rolled_back, self.active)
        return self.model_copy(update={"rolled_back": left}).with_active(revision)

    def with_retired(self, revision: int) -> PolicyState:
        """No new request uses `revision`, ever."""
        update = {
            "eligible": _without(self.eligible, revision),
            "rolled_back": _without(self.rolled_back, revision),
            "retired": _with(self.retired, revision),
        }
        return self.model_copy(update=update)


class Policies(BaseModel):
    """The content of `policies.json`.

    Args:
        default_policy: that of requests which name none.
        last_change: why the file is as it is; part of the file, so that a change and its event
            come to the disk together (see `ledger`).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = 1
    default_policy: str | None = None
    policies: dict[str, PolicyState] = {}
    last_change: AuditEvent | None = None

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


def promotable(policies: Policies, policy: str, revision: int | None = None) -> int:
    """The revision to promote: `revision`, or the latest eligible that no rollback has left.

    Raises:
        InputError: the policy does not exist, or there is no such revision.
    """
    state = policies.state(policy)
    if revision is not None:
        return _eligible(policy, state, revision)
    choice = [number for number in state.eligible if number not in state.rolled_back]
    if choice:
        return max(choice)
    if state.eligible:
        raise InputError(
            f'every eligible revision of the policy "{policy}" was rolled back '
            f"({_listed(state.eligible)}); name one of them with --revision, or publish a new one"
        )
    raise InputError(f'the policy "{policy}" has no eligible revision; publish one first')


def previous(policies: Policies, policy: str, revision: int | None = None) -> int:
    """The revision to go back to: `revision`, or the one that was active before the active one.

    A revision that was itself left by a rollback does not count, so that two rollbacks in a row
    never bring a bad revision back.

    Raises:
        InputError: the policy does not exist, or there is no such revision.
    """
    state = policies.state(policy)
    if revision is not None and revision == state.active:
        raise InputError(f'revision {revision} of the policy "{policy}" is active already')
    if revision is not None:
        return _eligible(policy, state, revision)
    if state.active is None:
        raise InputError(f'the policy "{policy}" has no active revision to go back from')
    out = {state.active, *state.rolled_back}
    earlier = [n for n in state.history if n in state.eligible and n not in out]
    if earlier:
        return earlier[-1]
    raise InputError(
        f'no revision that was active before revision {state.active} of the policy "{policy}" is '
        f"eligible any more; eligible are: {_listed(state.eligible)}; name one with --to"
    )


def retirable(policies: Policies, policy: str, revision: int) -> int:
    """`revision`, if it may be retired or is already.

    Raises:
        InputError: the policy does not exist, or the revision is active or unknown.
    """
    state = policies.state(policy)
    if revision == state.active:
        raise InputError(
            f'revision {revision} of the policy "{policy}" is active; promote another one, or go '
            "back with: unsee rollback, and retire it then"
        )
    if revision in state.retired:
        return revision
    return _eligible(policy, state, revision)


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


def locked(repository_dir: Path) -> AbstractContextManager[int]:
    """One process at a time changes the pointer; the kernel releases the lock of a dead one.

    Raises:
        FileNotWritable: the lock file cannot be opened.
    """
    return lock(repository_dir / LOCK_FILE)


def replace(repository_dir: Path, policies: Policies) -> None:
    """Write the pointer file, which readers see as it was or as it will be; call it in `locked`.

    Raises:
        FileNotWritable: it could not be written; the file is as it was.
    """
    try:
        write_json(repository_dir / POINTER_FILE, policies)
    except FileNotWritable as error:
        raise FileNotWritable(f"{error}; it is as it was") from error


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


def _eligible(policy: str, state: PolicyState, revision: int) -> int:
    if revision not in state.eligible:
        why = "was retired" if revision in state.retired else "is not eligible"
        raise InputError(
            f'revision {revision} of the policy "{policy}" {why}; '
            f"eligible are: {_listed(state.eligible)}"
        )
    return revision


def _listed(revisions: tuple[int, ...]) -> str:
    return ", ".join(map(str, revisions)) or "none"


def _with(revisions: tuple[int, ...], revision: int) -> tuple[int, ...]:
    return tuple(sorted({*revisions, revision}))


def _without(revisions: tuple[int, ...], revision: int) -> tuple[int, ...]:
    return tuple(number for number in revisions if number != revision)
