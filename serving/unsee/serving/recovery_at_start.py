"""What `unsee serve` does to a repository before Triton loads every version that it finds there.

Only files are looked at. A repository in order is not written to, so that a read-only one can be
served; one that a follower keeps (`unsee.policies.follower`) is left to it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from unsee.core.errors import InputError, Locked, RevisionUnfit
from unsee.core.files import UNFINISHED
from unsee.policies.lock import alone
from unsee.policies.recovery import known_policies, recover_files
from unsee.repository import ledger, pointer
from unsee.repository.layout import HEARTBEAT_FILE, encoder_model, stand_in_dirs
from unsee.repository.records import PolicyState
from unsee.repository.revisions import check_files, versions_on_disk

Say = Callable[[str], None]


def put_in_order(repository_dir: Path, say: Say) -> None:
    """Complete or undo what interrupted commands have left, as far as that is possible now.

    Args:
        say: gets a sentence for everything that was put right, or that was left as it is.

    Raises:
        InputError: the pointer cannot be read.
        RevisionUnfit: an active revision is not the one of its records.
    """
    policies = pointer.read(repository_dir).policies
    if (repository_dir / HEARTBEAT_FILE).exists():
        return
    _settle(repository_dir, say)
    for policy in known_policies(repository_dir):
        if _has_left_overs(repository_dir, policy):
            _recover(repository_dir, policy, say)
    for policy, state in policies.items():
        if state.active is not None:
            _check_active(repository_dir, policy, state.active)


def _settle(repository_dir: Path, say: Say) -> None:
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


def _recover(repository_dir: Path, policy: str, say: Say) -> None:
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
    except RevisionUnfit as error:
        raise RevisionUnfit(
            f'revision {revision} of the policy "{policy}" is active and must not be served: '
            f"{error}, or make another one active with: unsee rollback {policy} --reason …; "
            "--no-repair starts the server all the same"
        ) from error
