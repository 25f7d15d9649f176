"""TCP ports that nobody listens on; used where no fixed address is promised to anyone."""

from __future__ import annotations

import socket
from contextlib import ExitStack


def free_ports(count: int) -> list[int]:
    """`count` different ports of 127.0.0.1 that were free a moment ago."""
    with ExitStack() as stack:
        sockets = [
            stack.enter_context(socket.create_server(("127.0.0.1", 0), reuse_port=False))
            for _ in range(count)
        ]
        return [int(listening.getsockname()[1]) for listening in sockets]
