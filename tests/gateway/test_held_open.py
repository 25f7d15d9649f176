"""Callers that hold calls and connections open: they keep nobody else out, and not for long."""

import asyncio
import contextlib
import json
import socket
import time
from types import SimpleNamespace

import grpc
import pytest
from gateway_calls import ask, closed, connection_to, posting, turned_away
from tritonclient.grpc import service_pb2, service_pb2_grpc
from uvicorn.protocols.http.h11_impl import H11Protocol

from gateway_fakes import TOKENS, wait_until
from unsee.client.client import Client
from unsee.gateway.callers.settings import Limits
from unsee.gateway.fronts.connection import Connections, GuardedConnection
from unsee.gateway.fronts.grpc_front import CONNECTIONS_PER_CALL, GrpcFront
from unsee.gateway.fronts.open_calls import address_of
from unsee.gateway.observe.readiness import Readiness

SERVICE = "/inference.GRPCInferenceService/"
MANY = 300
"""More than every limit."""


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


@contextlib.contextmanager
def connections(served, *data):
    """Open sockets on the HTTP front that have each sent their data and no more."""
    with contextlib.ExitStack() as stack:
        opened = []
        for sent in data:
            opened.append(stack.enter_context(connection_to(served)))
            with contextlib.suppress(OSError):
                opened[-1].sendall(sent)
        yield opened


def is_answered(served):
    return ask(served, "/livez", who=None)[0] == ask(served, "/v2/policies")[0] == 200


@pytest.mark.parametrize("method", ["ServerLive", "ModelReady"])  # for anybody, for tenants
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


def test_a_unary_call_counts_until_its_answer_is_taken():
    class TakesNothing:
        def peer(self):
            return "ipv4:192.0.2.1:50000"

        async def read(self):
            return b""

        async def write(self, message):
            await asyncio.Event().wait()

        async def abort(self, code, details, trailing):
            raise grpc.RpcError(details)

    async def call_twice():
        limits = Limits(max_connections_per_peer=1, read_timeout_s=60)
        gateway = SimpleNamespace(
            settings=SimpleNamespace(limits=limits),
            ledger=SimpleNamespace(turned_away=lambda front: None),
        )
        details = SimpleNamespace(method=SERVICE + "ServerLive")
        live = GrpcFront(gateway).service(details).stream_stream
        calls = [asyncio.create_task(live(None, TakesNothing())) for _ in range(2)]
        await asyncio.wait(calls, timeout=20, return_when=asyncio.FIRST_COMPLETED)
        return [call.done() for call in calls], calls[0].exception()

    done, error = asyncio.run(call_twice())
    assert done == [True, False]
    assert "did not take its answer" in str(error)


def test_a_caller_who_leaves_does_not_end_the_probe_that_others_wait_for():
    asked, answer = [], asyncio.Event()

    class Upstream:
        async def check_text_to_video(self, timeout_s):
            asked.append(timeout_s)
            await answer.wait()

        async def check_prompt_encoder(self, timeout_s):
            pass

    async def ask_twice():
        readiness = Readiness(Upstream())
        leaves, stays = (asyncio.create_task(readiness.health()) for _ in range(2))
        while not asked:
            await asyncio.sleep(0)
        leaves.cancel()
        await asyncio.wait([leaves])
        answer.set()
        return await stays

    assert asyncio.run(ask_twice()).ready
    assert len(asked) == 1


def test_idle_calls_of_one_tenant_leave_room_for_another(served):
    who = (("authorization", f"Bearer {TOKENS['studio']}"),)
    with channel_to(served) as channel:
        calls = held_open(channel, "ModelStreamInfer", who)
        wait_until(lambda: turned_away(served))
        assert makes_a_clip(served)
        dropped = {grpc.StatusCode.UNAVAILABLE}  # of so many, gRPC drops some itself
        assert {call.code() for call in calls} - dropped == {
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            grpc.StatusCode.INVALID_ARGUMENT,  # those that were let in brought no request in time
        }


def test_grpc_takes_only_so_many_connections(serve):
    served = serve(http=None, limits={"max_connections": 1, "drain_timeout_s": 0.5})
    host, port = served.addresses.grpc.split(":")
    first_frame = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
    with contextlib.ExitStack() as stack:
        taken = 0
        for _ in range(2 * CONNECTIONS_PER_CALL):
            connection = stack.enter_context(socket.create_connection((host, int(port)), 10))
            with contextlib.suppress(ConnectionError):
                connection.sendall(first_frame)
                taken += bool(connection.recv(1))
    assert taken == CONNECTIONS_PER_CALL


@pytest.mark.parametrize(
    ("peer", "address"),
    [
        ("ipv4:192.0.2.1:50000", "192.0.2.1"),
        ("ipv6:%5B2001:db8:1:2:3::4%5D:50000", "2001:db8:1:2::/64"),
        ("ipv6:[2001:db8:1:2::]:1", "2001:db8:1:2::/64"),
        ("ipv6:%5B::ffff:192.0.2.1%5D:50000", "192.0.2.1"),
        ("ipv6:%5Bfe80::1%25eth0%5D:50000", "fe80::/64"),
    ],
)
def test_callers_over_ipv6_are_counted_by_their_network(peer, address):
    assert address_of(peer) == address


def test_http_callers_are_counted_in_the_same_way(monkeypatch):
    monkeypatch.setattr(H11Protocol, "connection_made", lambda *_: None)
    connection = GuardedConnection.__new__(GuardedConnection)
    connection.client, connection.app = ("2001:db8:1:2:3::4", 50000), None
    connection.registry = Connections(Limits(), lambda: None)
    connection.connection_made(None)
    assert connection.peer == "2001:db8:1:2::/64"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"GET /livez HTTP/1.1\r\nHost: localhost\r\nX-Slow: ",
        b"POST /livez HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\na",
        posting(b"a", length=9).replace(b"Authorization", b"X-Nobody"),
        b"POST /nowhere HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n5\r\na",
    ],
    ids=["nothing", "head", "answered", "no-token", "chunked"],
)
def test_connections_without_a_whole_request_keep_nobody_out(served, data):
    with connections(served, *[data] * MANY) as opened:
        assert is_answered(served)
        assert all(closed(connection) for connection in opened)
        assert turned_away(served) >= MANY - 64 - 2


def test_a_tenants_slow_bodies_leave_room_for_another(served):
    slow = posting(b"{", who="studio", length=99)
    with connections(served, *[slow] * MANY) as opened:
        assert is_answered(served)
        assert all(closed(connection) for connection in opened)


def test_liveness_is_answered_when_tenants_hold_every_connection(serve):
    served = serve(
        grpc=None,
        limits={"max_connections": 2, "read_timeout_s": 5.0, "drain_timeout_s": 0.5},
    )
    slow = [posting(b"{", who=who, length=99) for who in ("studio", "kids")]
    with connections(served, *slow):
        time.sleep(0.3)
        for _ in range(100):
            assert ask(served, "/livez", who=None)[0] == 200
        code, _, body = ask(served, "/v2/policies")
        assert code == 503
        assert json.loads(body)["error"]["status"] == "UNAVAILABLE"
