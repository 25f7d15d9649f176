"""What has gone wrong lately: what the gateway saw, and what `unsee serve` put right behind it."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path

from unsee.core.errors import InputError
from unsee.gateway.observe.account import MAX_INCIDENTS, Incident
from unsee.repository import ledger

LOGGER = logging.getLogger("unsee.gateway")


def merged(own: Iterable[Incident], repository_dir: Path | None) -> list[Incident]:
    """The gateway's incidents and those in the repository, newest first; None: it has none.

    A repository that cannot be read is a line in the log.
    """
    return sorted([*own, *_supervised(repository_dir)], key=lambda one: one.at, reverse=True)


def _supervised(repository_dir: Path | None) -> list[Incident]:
    if repository_dir is None:
        return []
    try:
        found = ledger.last_incidents(repository_dir, MAX_INCIDENTS)
    except InputError as error:
        LOGGER.error("%s", error)
        return []
    return [Incident(one.at.isoformat(timespec="seconds"), one.what) for one in found]
