"""A function, or an object, in a fresh process of its own, and the memory of such processes."""

from __future__ import annotations

import signal
from collections.abc import Callable
from contextlib import suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any, Self, TypeVar

import click
import psutil

Result = TypeVar("Result")


class ProcessFailed(click.ClickException):
    """The process ended without a result; the message says how.

    A command that does not catch it ends with this sentence.
    """


def in_own_process(function: Callable[..., Result], *arguments: Any) -> Result:
    """Call `function`, which a fresh process must be able to import, and return its result.

    Raises `ProcessFailed` with what it raised, or with how it was killed. On Ctrl-C the process is
    killed first.
    """
    with KeptProcess(_Worker) as worker:
        result: Result = worker.call("run", function, arguments)
    return result


class _Worker:
    def run(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        return function(*arguments)


class KeptProcess:
    """An object in a fresh process that stays alive, idle between calls of the object's methods.

    `make(*arguments)`, which the process must be able to import, makes the object there. It ends
    with the block, and with this process. Raises `ProcessFailed` as `in_own_process` does.
    """

    def __init__(self, make: Callable[..., Any], *arguments: Any) -> None:
        self._connection, self._process = _started(_serve, make, arguments)
        try:
            self._receive()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def call(self, method: str, *arguments: Any) -> Any:
        """What the object's method returns."""
        try:
            self._connection.send((method, arguments))
        except OSError:
            self._process.join()
            raise ProcessFailed(_how_it_ended(self._process.exitcode)) from None
        return self._receive()

    def close(self) -> None:
        """End the process."""
        self._connection.close()
        self._process.kill()
        self._process.join()

    def _receive(self) -> Any:
        try:
            error, result = self._connection.recv()
        except (EOFError, ConnectionResetError):
            self._process.join()
            raise ProcessFailed(_how_it_ended(self._process.exitcode)) from None
        if error is not None:
            raise ProcessFailed(error)
        return result


def _started(
    target: Callable[..., None], function: Callable[..., Any], arguments: tuple[Any, ...]
) -> tuple[Connection, Any]:
    """Our end of a pipe, and the process that runs `target` at the other."""
    context = get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=target, args=(theirs, function, arguments), daemon=True)
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)  # which the new process inherits
    process.start()
    signal.signal(signal.SIGINT, handler)
    theirs.close()
    return ours, process


def _serve(pipe: Connection, make: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    made: list[Any] = []
    _try(pipe, lambda: made.append(make(*arguments)), ())
    while made:
        try:
            method, given = pipe.recv()
        except (EOFError, OSError):
            return
        _try(pipe, getattr(made[0], method), given)


def _try(sender: Connection, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    try:
        sender.send((None, function(*arguments)))
    except Exception as error:  # noqa: BLE001 – whatever it was, the other process tells it
        lines = str(error).strip().splitlines() or ["no message"]
        sender.send((f"{type(error).__name__}: {lines[0]}", None))


def _how_it_ended(exit_code: int | None) -> str:
    if exit_code == -signal.SIGKILL:
        return "it was killed, as the system does when memory runs out"
    return f"it ended with the exit code {exit_code}"


def memory_of_children() -> int:
    """Bytes of the processes that this one has started, at any depth, itself left out.

    Pages that several share count once, split between them (the kernel's proportional set size).
    """
    total = 0
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied):  # it has ended meanwhile
            total += process.memory_full_info().pss
    return total


def descendants(pid: int) -> list[int]:
    """The processes below `pid`, at any depth, a parent before its children."""
    return [process.pid for process in psutil.Process(pid).children(recursive=True)]


def resident_mib(pid: int) -> float:
    """The resident memory of a process."""
    return round(float(psutil.Process(pid).memory_info().rss) / 2**20, 1)
