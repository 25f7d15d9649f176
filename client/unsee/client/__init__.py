"""The client: ask a server for clips, read policies, and the `unsee` command.

Names are loaded on first use, so that importing the package costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unsee.client.client import Client
    from unsee.client.clip import Clip, GenerationRecord, Progress
    from unsee.client.errors import (
        Cancelled,
        DeadlineExceeded,
        InputError,
        RequestRejected,
        ServerError,
        ServerUnreachable,
        UnseeError,
    )
    from unsee.client.policy import Concept, Policy, load_policy

__all__ = [
    "Cancelled",
    "Client",
    "Clip",
    "Concept",
    "DeadlineExceeded",
    "GenerationRecord",
    "InputError",
    "Policy",
    "Progress",
    "RequestRejected",
    "ServerError",
    "ServerUnreachable",
    "UnseeError",
    "load_policy",
]

_HOMES = {
    "Client": "client",
    "Clip": "clip",
    "GenerationRecord": "clip",
    "Progress": "clip",
    "Concept": "policy",
    "Policy": "policy",
    "load_policy": "policy",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES.get(name, 'errors')}"), name)
