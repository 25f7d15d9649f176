"""A function in a fresh process of its own, so that its peak memory is its own.

Knows nothing of what the function does.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any, TypeVar

Result = TypeVar("Result")


class ProcessFailed(Exception):
    """The process ended without a result; the message says how."""


def in_own_process(function: Callable[..., Result], *arguments: Any) -> Result:
    """Call `function`, which a fresh process must be able to import, and return its result.

    Raises `ProcessFailed` with what it raised, or with how it was killed. On Ctrl-C the process is
    killed first.
    """
    context = get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_answer, args=(sender, function, arguments), daemon=True)
    ours = signal.signal(signal.SIGINT, signal.SIG_IGN)  # which the new process inherits
    process.start()
    signal.signal(signal.SIGINT, ours)
    sender.close()
    try:
        error, result = receiver.recv()
    except EOFError:
        process.join()
        raise ProcessFailed(_how_it_ended(process.exitcode)) from None
    except BaseException:
        process.kill()
        raise
    finally:
        process.join()
    if error is not None:
        raise ProcessFailed(error)
    return result


def _answer(sender: Connection, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    try:
        sender.send((None, function(*arguments)))
    except Exception as error:  # noqa: BLE001 – whatever it was, the other process tells it
        lines = str(error).strip().splitlines() or ["no message"]
        sender.send((f"{type(error).__name__}: {lines[0]}", None))


def _how_it_ended(exit_code: int | None) -> str:
    if exit_code == -signal.SIGKILL:
        return "it was killed, as the system does when memory runs out"
    return f"it ended with the exit code {exit_code}"
