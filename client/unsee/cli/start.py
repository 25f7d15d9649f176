"""Where the `unsee` script begins and ends, so that Ctrl-C has one answer: exit code 130.

Left to itself, Python often dies by the signal instead, which a script cannot tell from a crash: in
its imports, where C code may turn the KeyboardInterrupt into an ImportError; after one in `exec` or
`eval`, even if it was caught; and while it waits for threads. So this module imports next to
nothing before it is ready for the signal.
"""

from __future__ import annotations

import atexit
import io
import os
import signal
import sys
from importlib import import_module

INTERRUPTED = 130
AGAIN_S = 0.02
"""Seconds in which a callback, of a weak reference for example, has ended."""


def main() -> None:
    """Run the command of `sys.argv` and end the process with its exit code.

    Nothing that it loads may report home unless asked to.
    """
    process = _Process()
    try:
        process.begin()
        _make_streams_usable()
        os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
        code = import_module("unsee.cli.main").run()
    except BaseException as error:
        if not process.interrupted:
            raise
        code = process.say_interrupted(error)
    if process.interrupted and code != 0:  # whatever an error made of it
        code = INTERRUPTED
    process.finish(code)


def _make_streams_usable() -> None:
    """Streams that take every name of a file and every prompt, in any locale.

    One that was closed (`>&-`) is open to nothing: else Python has none, and the first file that is
    opened gets its number, to which C code then prints.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: PTH123, SIM115
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")


class _Process:
    """This process: whether Ctrl-C was pressed, and the exit code that it ends with."""

    def __init__(self) -> None:
        self.interrupted = False
        self._code = 1
        self._finished = False

    def begin(self) -> None:
        """From here on Ctrl-C is answered, unless whoever started the process ignores it."""
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, self._interrupt)
            sys.excepthook = self._excepthook
            sys.unraisablehook = self._unraisablehook
        atexit.register(self._end)  # the first to be registered is the last to be called

    def say_interrupted(self, error: BaseException) -> int:
        """The exit code after `error`, which Ctrl-C has caused; says so unless that was said."""
        if not isinstance(error, SystemExit):
            os.write(2, b"interrupted\n")
        return INTERRUPTED

    def finish(self, code: int) -> None:
        """The work is done or given up: wait for what still runs, and end."""
        self._code, self._finished = code, True
        sys.exit(code)

    def _interrupt(self, *_: object) -> None:
        if self._finished:
            os._exit(INTERRUPTED)
        self.interrupted = True
        raise KeyboardInterrupt

    def _excepthook(self, kind: type[BaseException], error: BaseException, trace: object) -> None:
        """C code that cannot pass an exception on prints it here and raises another."""
        if not self.interrupted:
            sys.__excepthook__(kind, error, trace)  # type: ignore[arg-type]

    def _unraisablehook(self, unraisable: sys.UnraisableHookArgs) -> None:
        """Python drops what a callback raises; then the signal is sent once more, after it."""
        if issubclass(unraisable.exc_type, KeyboardInterrupt):
            from threading import Timer

            again = Timer(AGAIN_S, os.kill, (os.getpid(), signal.SIGINT))
            again.daemon = True
            again.start()
        else:
            sys.__unraisablehook__(unraisable)

    def _end(self) -> None:
        """Ends before Python does: it would give SIGINT back, and may then end by it."""
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except (OSError, ValueError):
                self._code = self._code or 1
        os._exit(self._code)


if __name__ == "__main__":
    main()
