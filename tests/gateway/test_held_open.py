"""Callers that hold calls and connections open: they keep nobody else out, and not for long."""

import contextlib
import json
import socket
import time
import urllib.request

import grpc
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc

from gateway_fakes import TOKENS, wait_until
from unsee.client.client import Client

SERVICE = "/inference.GRPCInferenceService/"
MANY = 300
"""More than every limit."""
STREAM = "/v2/models/text_to_video/generate_stream"


@pytest.fixture
def served(serve):
    return serve(limits={"read_timeout_s": 2.0, "drain_timeout_s": 0.5})


def never(seconds=30):
    time.sleep(seconds)
    yield from ()


def held_open(channel, method, metadata=(), calls=MANY):
    """Calls whose message never comes."""
    start = channel.stream_stream(SERVICE + method, lambda message: message, lambda data: data)
    return [start(never(), metadata=metadata) for _ in range(calls)]


@contextlib.contextmanager
def channel_to(served):
    with grpc.insecure_channel(served.addresses.grpc) as channel:
        grpc.channel_ready_future(channel).result(10)
        yield channel


def makes_a_clip(served, who="kids"):
    with Client(served.addresses.grpc, token=TOKENS[who], timeout_s=10, retries=0) as client:
        return client.generate("a cat").record.policy == "family"


def is_live(served):
    with channel_to(served) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        return stub.ServerLive(service_pb2.ServerLiveRequest(), timeout=5).live


def connections(served, data, count=MANY):
    """Open sockets on the HTTP front that have sent `data` and no more."""
    host, port = served.addresses.http.split(":")
    opened = []
    for _ in range(count):
        opened.append(socket.create_connection((host, int(port)), timeout=5))
        with contextlib.suppress(OSError):
            opened[-1].sendall(data)
    return opened


def closed(connection, timeout_s=8.0):
    connection.settimeout(timeout_s)
    try:
        while connection.recv(65536):
            pass
    except ConnectionResetError:
        return True
    except TimeoutError:
        return False
    return True


def asks(served, path="/livez", who=None):
    request = urllib.request.Request(f"http://{served.addresses.http}{path}")
    if who is not None:
        request.add_header("authorization", f"Bearer {TOKENS[who]}")
    with urllib.request.urlopen(request, timeout=5) as response:
        return response.status


@pytest.mark.parametrize("method", ["ServerLive", "ServerReady", "ServerMetadata", "ModelReady"])
def test_unary_calls_without_a_message_keep_nobody_out(served, method):
    with channel_to(served) as channel:
        calls = held_open(channel, method)
        time.sleep(0.3)
        assert is_live(served)
        assert makes_a_clip(served)
        for call in calls:
            assert call.code() in (
                grpc.StatusCode.DEADLINE_EXCEEDED,
                grpc.StatusCode.UNAUTHENTICATED,
                grpc.StatusCode.UNAVAILABLE,  # of so many on one connection, gRPC drops some itself
            )


def test_idle_calls_of_one_tenant_leave_room_for_another(served):
    who = (("authorization", f"Bearer {TOKENS['studio']}"),)
    with channel_to(served) as channel:
        calls = held_open(channel, "ModelStreamInfer", who)
        wait_until(
            lambda: served.gateway.metrics.registry.get_sample_value(
                "unsee_gateway_refusals_total", {"tenant": "", "reason": "connections"}
            )
        )
        assert makes_a_clip(served)
        codes = {call.code() for call in calls}
        assert codes == {
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            grpc.StatusCode.INVALID_ARGUMENT,  # those that were let in brought no request in time
        }


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"GET /livez HTTP/1.1\r\nHost: localhost\r\nX-Slow: ",
        b"POST /livez HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\na",
        f"POST {STREAM} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\na".encode(),
        b"POST /nowhere HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n5\r\na",
    ],
    ids=["nothing", "head", "answered", "no-token", "chunked"],
)
def test_connections_without_a_whole_request_keep_nobody_out(served, data):
    opened = connections(served, data)
    try:
        assert asks(served) == 200
        assert asks(served, "/v2/policies", "kids") == 200
        assert all(closed(connection) for connection in opened)
        count = served.gateway.metrics.registry.get_sample_value(
            "unsee_gateway_refusals_total", {"tenant": "", "reason": "connections"}
        )
        assert count >= MANY - 64 - 2
    finally:
        for connection in opened:
            connection.close()


def test_a_tenants_slow_bodies_leave_room_for_another(served):
    head = (
        f"POST {STREAM} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKENS['studio']}"
        "\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{"
    )
    opened = connections(served, head.encode())
    try:
        assert asks(served) == 200
        assert asks(served, "/v2/policies", "kids") == 200
        assert all(closed(connection) for connection in opened)
    finally:
        for connection in opened:
            connection.close()


def test_liveness_is_answered_when_tenants_hold_every_connection(serve):
    served = serve(
        grpc=None,
        limits={"max_connections": 2, "read_timeout_s": 5.0, "drain_timeout_s": 0.5},
    )
    head = (
        f"POST {STREAM} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %s"
        "\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{"
    )
    opened = [
        *connections(served, (head % TOKENS["studio"]).encode(), 1),
        *connections(served, (head % TOKENS["kids"]).encode(), 1),
    ]
    try:
        time.sleep(0.3)
        for _ in range(100):
            assert asks(served) == 200
        with pytest.raises(urllib.error.HTTPError) as caught:
            asks(served, "/v2/policies", "kids")
        assert caught.value.code == 503
        assert json.loads(caught.value.read())["error"]["status"] == "UNAVAILABLE"
    finally:
        for connection in opened:
            connection.close()
