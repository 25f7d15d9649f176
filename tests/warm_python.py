"""A Python that has imported the heavy libraries already: every program runs in a fork of it.

`python warm_python.py serve SOCKET` imports `PRELOADED` and forks for each program that a client
brings, until its stdin ends. `python warm_python.py run SOCKET (-m MODULE | FILE) ARGUMENTS...` is
a client: it hands over its folder, environment, stdin, stdout and stderr, passes signals on, and
ends as the program does. So a test that needs `unsee` as a process does not pay for the imports.
"""

from __future__ import annotations

import gc
import json
import os
import runpy
import selectors
import signal
import socket
import sys
import traceback
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import NoReturn

PRELOADED = (
    "diffusers.pipelines.deprecated.text_to_video_synthesis.pipeline_text_to_video_synth",
    "matplotlib.pyplot",
    "onnxscript.optimizer",
    "torch.onnx._internal.exporter._core",
    "transformers.models.clip.modeling_clip",
    "unsee.evaluation.evaluate",
    "unsee.evaluation.seeing.judge_recogniser",
    "unsee.export.build",
    "unsee.jobs.job",
    "unsee.policies.publish",
)
READY = "ready\n"


def serve(path: str) -> None:
    gc.disable()
    for name in PRELOADED:
        import_module(name)
    gc.freeze()  # no program searches what they share
    gc.enable()
    with socket.socket(socket.AF_UNIX) as listener, selectors.DefaultSelector() as events:
        listener.bind(path)
        listener.listen()
        events.register(listener, selectors.EVENT_READ, _accept)
        events.register(sys.stdin, selectors.EVENT_READ, lambda _: sys.exit())
        sys.stdout.write(READY)
        sys.stdout.flush()
        while True:
            for key, _ in events.select():
                key.data(events)


def _accept(events: selectors.BaseSelector) -> None:
    (listener,) = (k.fileobj for k in events.get_map().values() if k.data is _accept)
    client = listener.accept()[0]  # type: ignore[union-attr]
    text, fds, _, _ = socket.recv_fds(client, 1 << 20, 3)
    process = os.fork()
    if process == 0:
        _run_program(json.loads(text), fds)
    for fd in fds:
        os.close(fd)
    ended = os.pidfd_open(process)

    def told(events: selectors.BaseSelector) -> None:
        """The client passes signals on, or is gone."""
        numbers = client.recv(64)
        for number in numbers or (signal.SIGKILL,):
            os.kill(process, number)
        if not numbers:
            events.unregister(client)

    def over(events: selectors.BaseSelector) -> None:
        code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
        with suppress(OSError):  # the client is gone
            client.sendall(str(code).encode())
        with suppress(KeyError):
            events.unregister(client)
        events.unregister(ended)
        os.close(ended)
        client.close()

    events.register(client, selectors.EVENT_READ, told)
    events.register(ended, selectors.EVENT_READ, over)


def _run_program(request: dict[str, object], fds: list[int]) -> NoReturn:
    code = 1
    try:
        for number, fd in enumerate(fds):
            os.dup2(fd, number)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.chdir(str(request["folder"]))
        os.environ.clear()
        os.environ.update(request["environment"])  # type: ignore[call-overload]
        sys.argv[:] = request["program"]  # type: ignore[call-overload]
        if sys.argv[0] == "-m":
            del sys.argv[0]
            runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
        else:
            runpy.run_path(sys.argv[0], run_name="__main__")
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:  # noqa: BLE001 (this process ends here, whatever it was)
        traceback.print_exc()
    finally:
        with suppress(OSError):
            sys.stdout.flush()
        os._exit(code)


def run(path: str, program: list[str]) -> NoReturn:
    request = {"folder": str(Path.cwd()), "environment": dict(os.environ), "program": program}
    with socket.socket(socket.AF_UNIX) as server:
        server.connect(path)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda number, _: server.sendall(bytes([number])))
        socket.send_fds(server, [json.dumps(request).encode()], [0, 1, 2])
        code = int(server.recv(64) or 1)
    if code < 0:
        signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    sys.exit(code)


if __name__ == "__main__":
    serve(sys.argv[2]) if sys.argv[1] == "serve" else run(sys.argv[2], sys.argv[3:])
