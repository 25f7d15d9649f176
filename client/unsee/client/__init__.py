"""The client: ask a server for clips, with or without asyncio.

Importing it needs gRPC, numpy and pydantic, and takes at most 0.3 s.
"""

from unsee.client.async_client import AsyncClient
from unsee.client.client import Client
from unsee.client.options import Options, Request
from unsee.core.errors import (
    Cancelled,
    DeadlineExceeded,
    InputError,
    RequestRejected,
    ServerError,
    ServerUnreachable,
    UnseeError,
)
from unsee.core.record import GenerationRecord
from unsee.media.clip import Clip, Part, Progress
from unsee.media.metadata import read_record
from unsee.media.provenance import Provenance

__all__ = [
    "AsyncClient",
    "Cancelled",
    "Client",
    "Clip",
    "DeadlineExceeded",
    "GenerationRecord",
    "InputError",
    "Options",
    "Part",
    "Progress",
    "Provenance",
    "Request",
    "RequestRejected",
    "ServerError",
    "ServerUnreachable",
    "UnseeError",
    "read_record",
]
