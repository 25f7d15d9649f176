"""The rules of `policies.json`: which revision may become active, be gone back to, or be retired.

The server reads this file at the start of every request, so each change replaces it whole. What a
change makes of a policy's state is in `unsee.repository.records`; `unsee.repository.ledger` is the
only writer of a repository's pointer, but for a replica's own (`unsee.policies.following`).
"""

from __future__ import annotations

from pathlib import Path

from unsee.core.errors import InputError
from unsee.repository.layout import POINTER_FILE
from unsee.repository.records import Policies, PolicyState, read_record


def read(repository_dir: Path) -> Policies:
    """The pointer file of a repository.

    Raises:
        InputError: the file is missing or broken.
    """
    file = repository_dir / POINTER_FILE
    if not file.exists():
        raise InputError(
            f"{repository_dir} is no model repository: it has no {POINTER_FILE}; "
            "make one with: unsee export"
        )
    return read_record(
        Policies,
        file,
        "restore it, or export the base to a new folder with: unsee export, and publish its "
        "policies again",
    )


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
            f"({listed(state.eligible)}); name one of them with --revision, or publish a new one"
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
    remedy = f"eligible are: {listed(state.eligible)}; name one with --to"
    if state.eligible == (state.active,):
        remedy = f"revision {state.active} is the only one that is; publish another"
    raise InputError(
        f'no revision that was active before revision {state.active} of the policy "{policy}" is '
        f"eligible; {remedy}"
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


def _eligible(policy: str, state: PolicyState, revision: int) -> int:
    if revision not in state.eligible:
        why = "was retired" if revision in state.retired else "is not eligible"
        raise InputError(
            f'revision {revision} of the policy "{policy}" {why}; '
            f"eligible are: {listed(state.eligible)}"
        )
    return revision


def listed(revisions: tuple[int, ...]) -> str:
    """`"1, 2"`, or `"none"`."""
    return ", ".join(map(str, revisions)) or "none"
