"""Gateways to test: started here or by their command, and what is sent to them over HTTP."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml

from gateway_fakes import TOKENS, Served

PATH = "/v2/models/text_to_video/generate_stream"


def gateways() -> Iterator[Callable[..., Served]]:
    """Starts gateways before a Triton that only pretends; they are stopped at the end."""
    with contextlib.ExitStack() as stack:

        def start(**settings: Any) -> Served:
            served = Served(**settings)
            stack.callback(served.stop)
            return served

        yield start


def ask(
    served: Any,
    path: str = PATH,
    body: dict[str, Any] | bytes | None = None,
    *,
    who: str | None = "kids",
    method: str | None = None,
    content: str = "application/json",
) -> tuple[int, Any, bytes]:
    """(status, headers, body) of one request.

    Args:
        body: a dictionary is sent as JSON, bytes as they are, of the type `content`.
        who: a tenant or a token; None: nobody.
    """
    data = json.dumps(body).encode() if isinstance(body, dict) else body
    headers = {} if who is None else {"authorization": f"Bearer {TOKENS.get(who, who)}"}
    if data is not None:
        headers["content-type"] = content
    url = f"http://{served.addresses.http}{path}"
    request = urllib.request.Request(url, data, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as refusal:
        with refusal:
            return refusal.code, refusal.headers, refusal.read()


def refused(served: Any, *arguments: Any, **options: Any) -> tuple[int, str, str]:
    """(HTTP status, gRPC status, sentence) of a request that `ask` sends."""
    code, _, body = ask(served, *arguments, **options)
    told = json.loads(body)["error"]
    assert told.keys() == {"status", "message"}
    assert "Traceback" not in told["message"]
    assert ".py" not in told["message"]
    return code, told["status"], told["message"]


def connection_to(served: Any) -> socket.socket:
    """An open connection to the HTTP front."""
    host, port = served.addresses.http.split(":")
    return socket.create_connection((host, int(port)), timeout=20)


def closed(connection: socket.socket, timeout_s: float = 8.0) -> bool:
    """Whether the other side ends the connection in time."""
    connection.settimeout(timeout_s)
    try:
        while connection.recv(65536):
            pass
    except ConnectionResetError:
        return True
    except TimeoutError:
        return False
    return True


def raw(served: Any, data: bytes) -> bytes:
    """What the HTTP front answers to these bytes, until it closes the connection."""
    with connection_to(served) as connection:
        connection.sendall(data)
        answer = b""
        while chunk := connection.recv(65536):
            answer += chunk
        return answer


def posting(body: bytes, *, who: str = "kids", length: int | None = None) -> bytes:
    """A request for a clip as bytes; `length` is what it says of the body's, if not the truth."""
    head = (
        f"POST {PATH} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKENS[who]}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {length or len(body)}\r\n\r\n"
    )
    return head.encode() + body


def counted(served: Any, name: str, **labels: str) -> float | None:
    """The value of a metric of the gateway."""
    value: float | None = served.gateway.metrics.registry.get_sample_value(name, labels)
    return value


def turned_away(served: Any) -> float:
    """How many calls and connections were closed or refused for being too many."""
    name = "unsee_gateway_refusals_total"
    return counted(served, name, tenant="", reason="connections") or 0


def write_settings(folder: Path, settings: dict[str, Any]) -> None:
    """A gateway.yaml; what is a tuple is written as a list."""
    (folder / "gateway.yaml").write_text(yaml.safe_dump(json.loads(json.dumps(settings))))


@contextlib.contextmanager
def command(
    folder: Path, settings: dict[str, Any], **environment: str
) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """`unsee gateway` in `folder`, as a process that is ready, and its address for gRPC."""
    write_settings(folder, settings)
    path = os.pathsep.join(path for path in sys.path if path)
    with subprocess.Popen(
        [sys.executable, "-m", "unsee.cli.main", "gateway", "--config", "gateway.yaml"],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": path} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stderr is not None
            line = process.stdout.readline()
            assert line.startswith("ready: grpc 127.0.0.1:"), line + process.stderr.read()
            yield process, line.split()[2].rstrip(",;")
        finally:
            process.kill()
