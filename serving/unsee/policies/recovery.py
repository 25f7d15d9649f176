"""Finds what an interrupted command left behind, and completes or undoes it.

What counts is the pointer: a folder that it does not offer is taken out of the model (a retired
revision to the retired ones, anything else to the rejected ones), and the server is made to agree.
A change that the audit log has missed is logged.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from unsee.core.errors import InputError, Locked, RevisionUnfit, ServerError, ServerUnreachable
from unsee.core.files import UNFINISHED, locked
from unsee.policies.lock import alone
from unsee.policies.promotion import check_revision, probe
from unsee.repository import ledger, pointer
from unsee.repository.layout import (
    HEARTBEAT_FILE,
    REJECTED,
    RETIRED,
    encoder_dirs,
    encoder_model,
    stand_in_dirs,
)
from unsee.repository.records import PolicyState
from unsee.repository.revisions import check_files, put_away, versions_on_disk
from unsee.triton.server import ModelVersion, Server
from unsee.triton.versions import align, reload, remove_stand_ins

Say = Callable[[str], None]


@dataclass(frozen=True)
class Repair:
    """What `repair` did, and what it could not put right, one sentence each."""

    done: tuple[str, ...]
    remaining: tuple[str, ...]


def repair(repository_dir: Path, server: Server | None) -> Repair:
    """Put every policy of a repository in order, and what `server` has loaded, if one is given.

    Args:
        repository_dir: the model repository.
        server: the Triton that serves it; None: the files alone are put in order.

    Raises:
        InputError: the repository cannot be read or written.
        Locked: a command is at work on a policy.
    """
    done: list[str] = []
    remaining: list[str] = []
    if ledger.settle(repository_dir):
        done.append("logged a change of the pointer that the audit log had missed")
    for policy in known_policies(repository_dir):
        with alone(repository_dir, policy, "repair"):
            recover_files(repository_dir, policy, done.append)
            remaining += _damaged(repository_dir, policy)
            if server is not None:
                remaining += _recover_served(server, repository_dir, policy, done.append)
    return Repair(tuple(done), tuple(dict.fromkeys(remaining)))


def put_in_order(repository_dir: Path, say: Say) -> None:
    """Complete or undo what interrupted commands have left, before Triton loads what is there.

    Only files are looked at. A repository in order is not written to, so that a read-only one can
    be served; one that a follower keeps (`unsee.policies.follower`) is left to it.

    Args:
        say: gets a sentence for everything that was put right, or that was left as it is.

    Raises:
        InputError: the pointer cannot be read.
        RevisionUnfit: an active revision is not the one of its records.
    """
    policies = pointer.read(repository_dir).policies
    if (repository_dir / HEARTBEAT_FILE).exists():
        return
    _settle_or_warn(repository_dir, say)
    for policy in known_policies(repository_dir):
        if _has_left_overs(repository_dir, policy):
            _recover_or_warn(repository_dir, policy, say)
    for policy, state in policies.items():
        if state.active is not None:
            _check_active(repository_dir, policy, state.active)


def _settle_or_warn(repository_dir: Path, say: Say) -> None:
    try:
        if ledger.has_missed(repository_dir) and ledger.settle(repository_dir):
            say("logged a change of the pointer that the audit log had missed")
    except InputError as error:
        say(f"warning: the audit log lacks the last change of the pointer: {error}")


def _has_left_overs(repository_dir: Path, policy: str) -> bool:
    """Whether there is anything to recover; a command at work looks the same."""
    model_dir = repository_dir / encoder_model(policy)
    state = pointer.read(repository_dir).policies.get(policy, PolicyState())
    return (
        any(model_dir.glob(f"{UNFINISHED}*"))
        or bool(stand_in_dirs(model_dir))
        or bool(versions_on_disk(model_dir) - set(state.eligible))
    )


def _recover_or_warn(repository_dir: Path, policy: str, say: Say) -> None:
    try:
        with alone(repository_dir, policy, "serve"):
            recover_files(repository_dir, policy, say)
    except Locked as busy:
        say(f'the policy "{policy}" is being changed by {busy.holder}: it is left as it is')
    except (InputError, OSError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        say(
            f'warning: what an interrupted command has left of the policy "{policy}" is still '
            f"there: {reason}; no request uses it"
        )


def _check_active(repository_dir: Path, policy: str, revision: int) -> None:
    """An encoder that nobody has judged may say what the policy unsees."""
    try:
        check_files(repository_dir, policy, revision)
        ledger.check_report(repository_dir, policy, revision)
    except RevisionUnfit as error:
        raise RevisionUnfit(
            f'revision {revision} of the policy "{policy}" is active and must not be served: '
            f"{error}, or make another one active with: unsee rollback {policy} --reason …; "
            "--no-repair starts the server all the same"
        ) from error


def recover_files(repository_dir: Path, policy: str, say: Say) -> None:
    """Take out of a policy's model what the pointer does not offer; call it in `alone`.

    Args:
        say: gets a sentence for everything that was found.
    """
    model_dir = repository_dir / encoder_model(policy)
    state = pointer.read(repository_dir).policies.get(policy, PolicyState())
    if any(model_dir.glob(f"{UNFINISHED}*")):
        with locked(model_dir):  # which removes them
            say(f'removed an unfinished export of the policy "{policy}"')
    remove_stand_ins(model_dir)
    for revision in sorted(versions_on_disk(model_dir) - set(state.eligible)):
        archive = RETIRED if revision in state.retired else REJECTED
        outcome = f"moved to {archive}: left by an interrupted command"
        event = ledger.event_of(repository_dir, "repair", policy, revision, outcome=outcome)
        ledger.note(repository_dir, event)
        put_away(model_dir / str(revision), archive)
        say(f'revision {revision} of the policy "{policy}" was {outcome}')


def known_policies(repository_dir: Path) -> list[str]:
    """Those that the pointer names, and those whose first publication was interrupted."""
    return sorted({*encoder_dirs(repository_dir), *pointer.read(repository_dir).policies})


def _damaged(repository_dir: Path, policy: str) -> list[str]:
    state = pointer.read(repository_dir).policies.get(policy, PolicyState())
    sentences = []
    for revision in state.eligible:
        try:
            check_revision(repository_dir, policy, revision, None)
        except InputError as error:
            sentences.append(f'revision {revision} of the policy "{policy}": {error}')
    return sentences


def _recover_served(server: Server, repository_dir: Path, policy: str, say: Say) -> list[str]:
    """Make the server agree with the files; returns what it would not do."""
    model_dir = repository_dir / encoder_model(policy)
    state = pointer.read(repository_dir).policies.get(policy, PolicyState())
    try:
        server.check_live()
        for revision in align(server, model_dir):
            say(f'the server let go of revision {revision} of the policy "{policy}"')
        for revision in state.eligible:
            _revive(server, model_dir, revision, say)
    except ServerUnreachable as error:
        return [f"{error}; it loads what the repository holds when it starts"]
    except (ServerError, InputError) as error:
        return [f'the policy "{policy}": {error}']
    return []


def _revive(server: Server, model_dir: Path, revision: int, say: Say) -> None:
    """Load a revision again that does not answer; the others of its model stay as they are."""
    folder = model_dir / str(revision)
    try:
        probe(server, folder, revision)
    except ServerUnreachable:
        raise
    except ServerError as error:
        reload(server, model_dir.parent, ModelVersion(model_dir.name, revision))
        probe(server, folder, revision)
        say(f"version {revision} of {model_dir.name} was loaded again: {error}")
