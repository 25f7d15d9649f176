"""The client: ask a server for clips, read policies, and the `unsee` command.

Names are loaded on first use, so that importing the package costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unsee.client.async_client import AsyncClient
    from unsee.client.client import Client
    from unsee.client.clip import Clip, Progress
    from unsee.client.errors import (
        Cancelled,
        DeadlineExceeded,
        InputError,
        RequestRejected,
        ServerError,
        ServerUnreachable,
        UnseeError,
    )
    from unsee.client.file_record import read_record
    from unsee.client.options import Options, Request
    from unsee.client.policy import Concept, Policy, load_policy
    from unsee.client.provenance import Provenance
    from unsee.client.record import GenerationRecord

__all__ = [
    "AsyncClient",
    "Cancelled",
    "Client",
    "Clip",
    "Concept",
    "DeadlineExceeded",
    "GenerationRecord",
    "InputError",
    "Options",
    "Policy",
    "Progress",
    "Provenance",
    "Request",
    "RequestRejected",
    "ServerError",
    "ServerUnreachable",
    "UnseeError",
    "load_policy",
    "read_record",
]

_HOMES = {
    "AsyncClient": "async_client",
    "Client": "client",
    "Clip": "clip",
    "GenerationRecord": "record",
    "Progress": "clip",
    "Concept": "policy",
    "Policy": "policy",
    "load_policy": "policy",
    "Options": "options",
    "Provenance": "provenance",
    "Request": "options",
    "read_record": "file_record",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES.get(name, 'errors')}"), name)
