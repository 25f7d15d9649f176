"""Outlives the launcher for as long as it takes to end a tritonserver and sweep up behind it.

A program of its own, run as `python -I guard.py …`, with nothing but the standard library. It
starts the server as its child and holds the read end of the launcher's pipe as its standard input:
the pipe ends when the launcher closes it or dies in whatever way, and then the guard stops the
server, its stubs with it, and removes the shared memory and the temporary folder.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
POLL_S = 0.1
KILL_TIMEOUT_S = 5.0
SHARED_MEMORY_DIR = Path("/dev/shm")


def main(arguments: Sequence[str]) -> int:
    """Run the server until it ends or the launcher lets go; the server's exit code."""
    options = _parse(arguments)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)  # orphaned stubs come to us to be reaped
    server = subprocess.Popen(
        options.command,
        stdin=subprocess.DEVNULL,
        process_group=0,
        preexec_fn=lambda: libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0),
    )
    try:
        _watch(server)
        _stop(server, options.stop_timeout_s)
    finally:
        _kill_group(server.pid)
        for region in SHARED_MEMORY_DIR.glob(options.shm_prefix + "*"):
            region.unlink(missing_ok=True)
        shutil.rmtree(options.folder, ignore_errors=True)
    return server.wait()


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="guard")
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--shm-prefix", required=True)
    parser.add_argument("--stop-timeout-s", type=float, required=True)
    parser.add_argument("command", nargs="+")
    return parser.parse_args(arguments)


def _watch(server: subprocess.Popen[bytes]) -> None:
    """Return when the server has ended, the launcher has let go or a signal asks us to stop."""
    asked: list[int] = []
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda received, _frame: asked.append(received))
    while server.poll() is None and not asked:
        readable, _, _ = select.select([sys.stdin.fileno()], [], [], POLL_S)
        if readable and not os.read(sys.stdin.fileno(), 4096):
            return


def _stop(server: subprocess.Popen[bytes], timeout_s: float) -> None:
    if server.poll() is None:
        server.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(timeout_s)


def _kill_group(group: int) -> None:
    """Kill what is left of the server's process group and reap what became our child."""
    deadline = time.monotonic() + KILL_TIMEOUT_S
    while time.monotonic() < deadline:
        try:
            os.killpg(group, signal.SIGKILL)
        except ProcessLookupError:
            return
        with contextlib.suppress(ChildProcessError):
            while os.waitid(os.P_PGID, group, os.WEXITED | os.WNOHANG) is not None:
                pass
        time.sleep(POLL_S / 4)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
