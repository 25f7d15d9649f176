"""Lets what a server is doing come to its end before the server is stopped.

SIGTERM would fail the streams in flight. Unloading `text_to_video` does what is wanted instead:
Triton takes no more requests for it, calls the server not ready, and keeps the model until its last
stream has ended; the models that it calls stay. Triton forgets to count a stream as ended whose
client left at the very moment of its last response, so a server that computes nothing is done too.
"""

from __future__ import annotations

import time

from unsee.core.errors import ServerError, ServerUnreachable
from unsee.repository.layout import TEXT_TO_VIDEO
from unsee.serving.server.triton import TritonServer
from unsee.serving.supervisor.processes import Quiet
from unsee.triton.server import ASK_TIMEOUT_S, Server, VersionState

POLL_S = 0.1
QUIET_S = 2.0
SETTLE_S = 0.25
"""From a stream's end in Triton to its client's having it: milliseconds, generously."""


def drain(server: TritonServer, timeout_s: float) -> bool:
    """Refuse new requests and wait until every running stream has ended.

    Returns:
        Whether they have, within `timeout_s` seconds; a server that is gone has none.
    """
    deadline = time.monotonic() + timeout_s
    triton = Server(server.settings.grpc_url)
    try:
        quiet = Quiet(server.pid)
    except ServerError:
        return True  # it was just being started again
    refused = False
    while time.monotonic() < deadline:
        try:
            if not refused:
                triton.unload(TEXT_TO_VIDEO, ASK_TIMEOUT_S)
                refused = True
            if not _holds_requests(triton) or quiet.seconds() > QUIET_S:
                time.sleep(SETTLE_S)
                return True
        except ServerUnreachable:
            if server.exit_code() is not None or quiet.seconds() > QUIET_S:
                return True
        except ServerError:
            pass  # it is busy: ask again
        time.sleep(POLL_S)
    return False


def _holds_requests(triton: Server) -> bool:
    """Whether `text_to_video` is loaded, or unloaded but not yet out of requests."""
    states = triton.versions(TEXT_TO_VIDEO).values()
    return VersionState.LOADED in states or VersionState.CHANGING in states
