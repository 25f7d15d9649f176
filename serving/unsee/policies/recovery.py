"""Finds what an interrupted command left behind, and completes or undoes it.

What counts is the pointer: a folder that it does not offer is taken out of the policy's (a retired
revision to the retired ones, anything else to the rejected ones). A change that the audit log has
missed is logged.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from unsee.core.errors import InputError, Locked, RevisionUnfit, ServerError, ServerUnreachable
from unsee.core.files import UNFINISHED, locked
from unsee.policies.eligibility import probe
from unsee.policies.lock import alone
from unsee.policies.promotion import check_revision
from unsee.repository import ledger, pointer
from unsee.repository.layout import (
    HEARTBEAT_FILE,
    PROMPT_ENCODER,
    REJECTED,
    RETIRED,
    VERSION,
    policy_dirs,
    policy_model,
)
from unsee.repository.records import PolicyState
from unsee.repository.revisions import put_away, versions_on_disk
from unsee.triton.reload import reload
from unsee.triton.server import ASK_TIMEOUT_S, ModelVersion, Server

Say = Callable[[str], None]


@dataclass(frozen=True)
class Repair:
    """What `repair` did, and what it could not put right, one sentence each."""

    done: tuple[str, ...]
    remaining: tuple[str, ...]


def repair(repository_dir: Path, server: Server | None) -> Repair:
    """Put every policy of a repository in order, and the process that hosts them, if it is dead.

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
    asked = None if server is None else _revived(server, repository_dir, done, remaining)
    for policy in known_policies(repository_dir):
        with alone(repository_dir, policy, "repair"):
            recover_files(repository_dir, policy, done.append)
            remaining += _unfit(repository_dir, policy, asked)
    return Repair(tuple(done), tuple(remaining))


def put_in_order(repository_dir: Path, say: Say) -> None:
    """Complete or undo what interrupted commands have left, before what is there is served.

    Only files are looked at. A repository in order is not written to, so that a read-only one can
    be served; one that a follower keeps (`unsee.policies.following.follower`) is left to it.

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
    model_dir = repository_dir / policy_model(policy)
    state = pointer.read(repository_dir).policies.get(policy, PolicyState())
    unfinished = any(model_dir.glob(f"{UNFINISHED}*"))
    return unfinished or bool(versions_on_disk(model_dir) - set(state.eligible))


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
    """A revision that nobody has judged may say what the policy unsees."""
    try:
        check_revision(repository_dir, policy, revision, None)
    except RevisionUnfit as error:
        raise RevisionUnfit(
            f'revision {revision} of the policy "{policy}" is active and must not be served: '
            f"{error}, or make another one active with: unsee rollback {policy} --reason …; "
            "--no-repair starts the server all the same"
        ) from error


def recover_files(repository_dir: Path, policy: str, say: Say) -> None:
    """Take out of a policy's folder what the pointer does not offer; call it in `alone`.

    Args:
        say: gets a sentence for everything that was found.
    """
    model_dir = repository_dir / policy_model(policy)
    state = pointer.read(repository_dir).policies.get(policy, PolicyState())
    if any(model_dir.glob(f"{UNFINISHED}*")):
        with locked(model_dir):  # which removes them
            say(f'removed an unfinished export of the policy "{policy}"')
    for revision in sorted(versions_on_disk(model_dir) - set(state.eligible)):
        archive = RETIRED if revision in state.retired else REJECTED
        outcome = f"moved to {archive}: left by an interrupted command"
        event = ledger.event_of(repository_dir, "repair", policy, revision, outcome=outcome)
        ledger.note(repository_dir, event)
        put_away(model_dir / str(revision), archive)
        say(f'revision {revision} of the policy "{policy}" was {outcome}')


def known_policies(repository_dir: Path) -> list[str]:
    """Those that the pointer names, and those whose first publication was interrupted."""
    return sorted({*policy_dirs(repository_dir), *pointer.read(repository_dir).policies})


def _revived(
    server: Server, repository_dir: Path, done: list[str], remaining: list[str]
) -> Server | None:
    """The server, with a process that answers for all policies; None if there is none."""
    hosts = ModelVersion(PROMPT_ENCODER, VERSION)
    try:
        server.check_live()
        if not server.answers(hosts, ASK_TIMEOUT_S):
            reload(server, repository_dir, hosts)
            done.append(f"the process of {hosts} did not answer and was replaced")
    except ServerUnreachable as error:
        remaining.append(f"{error}; it serves what the repository holds when it starts")
        return None
    except ServerError as error:
        remaining.append(f"the process of {hosts} cannot be replaced: {error}")
        return None
    return server


def _unfit(repository_dir: Path, policy: str, server: Server | None) -> list[str]:
    """What is wrong with the eligible revisions of a policy: their files, or their answers."""
    state = pointer.read(repository_dir).policies.get(policy, PolicyState())
    sentences = []
    for revision in state.eligible:
        try:
            check_revision(repository_dir, policy, revision, None)
            if server is not None:
                probe(server, repository_dir, policy, revision)
        except (InputError, ServerError) as error:
            sentences.append(f'revision {revision} of the policy "{policy}": {error}')
    return sentences
