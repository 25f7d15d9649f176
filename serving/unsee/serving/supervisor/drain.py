"""Lets what a server is doing come to its end before the server is stopped.

SIGTERM would fail the streams in flight. Unloading `text_to_video` does what is wanted instead:
Triton takes no more requests for it, calls the server not ready, and keeps the model until its last
stream has ended; the models that it calls stay. Triton forgets to count a stream as ended whose
client left at the very moment of its last response, so a server that computes nothing is done too.
"""

from __future__ import annotations

import time

from unsee.client.messages import MODEL
from unsee.core.errors import ServerError, ServerUnreachable
from unsee.serving.server.triton import TritonServer
from unsee.serving.supervisor.models import ServedModels
from unsee.serving.supervisor.stubs import Quiet

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
    models = ServedModels(server.settings.grpc_url, server.settings.repository_dir)
    try:
        quiet = Quiet(server.pid)
    except ServerError:
        return True  # it was just being started again
    refused = False
    while time.monotonic() < deadline:
        try:
            if not refused:
                models.unload(MODEL)
                refused = True
            if not models.holds(MODEL) or quiet.seconds() > QUIET_S:
                time.sleep(SETTLE_S)
                return True
        except ServerUnreachable:
            return True
        except ServerError:
            pass  # it is busy: ask again
        time.sleep(POLL_S)
    return False
