"""Pages of other sites, names that are not ours, and requests that can be read in two ways."""

import json
import logging

import pytest
from gateway_calls import counted, raw

from gateway_fakes import TOKENS
from unsee.gateway.callers.credentials import Presented
from unsee.gateway.callers.refusal import Refusal
from unsee.gateway.observe.account import LineBudget

POLICIES = "GET /v2/policies HTTP/1.1"


@pytest.fixture
def served(serve):
    return serve(grpc=None, limits={"read_timeout_s": 1.0, "drain_timeout_s": 0.5})


@pytest.fixture(scope="module")
def shared(serve_all):
    return serve_all(grpc=None, limits={"read_timeout_s": 1.0, "drain_timeout_s": 0.5})


def answer(served, *head, body=""):
    """(status, JSON) of a request with these header lines; the connection is closed after it."""
    lines = [*head, f"Authorization: Bearer {TOKENS['kids']}", "Connection: close", "", body]
    start, _, content = raw(served, "\r\n".join(lines).encode()).partition(b"\r\n\r\n")
    is_json = b"content-type: application/json" in start.lower()
    return int(start.split()[1]), json.loads(content) if is_json else content


@pytest.mark.parametrize(
    "host", ["localhost", "127.0.0.1", "LOCALHOST:9000", "127.0.0.1:80", "[::1]", "[::1]:9000"]
)
def test_the_names_of_the_loopback_are_ours(shared, host):
    assert answer(shared, POLICIES, f"Host: {host}")[0] == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:9000", "localhost.evil.example", "", "127.0.0.1.nip.io"]
)
@pytest.mark.parametrize("path", ["/v2/policies", "/livez", "/", "/nowhere"])
def test_a_name_that_somebody_pointed_at_us_is_refused(shared, host, path):
    code, content = answer(shared, f"GET {path} HTTP/1.1", f"Host: {host}")
    assert (code, content["error"]["status"]) == (403, "PERMISSION_DENIED")


def test_two_hosts_are_none(shared):
    assert answer(shared, POLICIES, "Host: localhost", "Host: evil.example")[0] == 400


def test_the_operator_names_the_hosts(serve):
    served = serve(grpc=None, hosts=["clips.example"])
    assert answer(served, POLICIES, "Host: clips.example:443")[0] == 200
    assert answer(served, POLICIES, "Host: localhost")[0] == 403


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://localhost:1", ""])
def test_a_page_of_another_site_is_refused(shared, origin):
    code, content = answer(shared, POLICIES, "Host: localhost:9000", f"Origin: {origin}")
    assert (code, content["error"]["status"]) == (403, "PERMISSION_DENIED")


def test_only_the_script_of_the_pages_own_frame_is_for_no_origin(shared):
    null = "Origin: null"
    path = "/page/report_frame.js"
    assert answer(shared, f"GET {path} HTTP/1.1", "Host: localhost", null)[0] == 200
    assert answer(shared, f"GET {path} HTTP/1.1", "Host: localhost", "Origin: http://a.b")[0] == 403
    for other in ("/page/page.js", "/", "/v2/policies", "/livez"):
        assert answer(shared, f"GET {other} HTTP/1.1", "Host: localhost", null)[0] == 403


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_our_own_page_is_not(shared, scheme):
    origin = f"Origin: {scheme}://localhost:9000"
    assert answer(shared, POLICIES, "Host: localhost:9000", origin)[0] == 200


def test_a_length_and_chunks_are_refused(shared):
    code, content = answer(
        shared,
        "POST /v2/models/text_to_video/generate_stream HTTP/1.1",
        "Host: localhost",
        "Content-Type: application/json",
        "Content-Length: 5",
        "Transfer-Encoding: chunked",
        body="0\r\n\r\n",
    )
    assert (code, content["error"]["status"]) == (400, "INVALID_ARGUMENT")


def test_unknown_callers_cannot_fill_the_log(served, caplog):
    with caplog.at_level(logging.INFO, logger="unsee.gateway.requests"):
        for _ in range(3 * LineBudget.LINES):
            served.run(refused_by(served))
    lines = [json.loads(record.getMessage()) for record in caplog.records]
    assert len(lines) == LineBudget.LINES
    assert {line["reason"] for line in lines} == {"credentials"}
    total = counted(served, "unsee_gateway_refusals_total", tenant="", reason="credentials")
    assert total == 3 * LineBudget.LINES


@pytest.mark.parametrize(
    "data",
    [
        b"\0\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: upgrade, close\r\nUpgrade: x\r\n\r\n",
    ],
    ids=["malformed", "upgrade"],
)
def test_odd_requests_cannot_fill_the_log(shared, caplog, data):
    assert raw(shared, data).startswith(b"HTTP/1.1 ")
    assert caplog.records == []


async def refused_by(served):
    with pytest.raises(Refusal):
        served.gateway.authenticate("http", Presented("Bearer nobody"))


def test_the_first_line_after_a_flood_says_how_many_were_left_out(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("unsee.gateway.observe.account.time.monotonic", lambda: now[0])
    budget = LineBudget()
    spent = [budget.spend() for _ in range(LineBudget.LINES + 7)]
    assert spent == [0] * LineBudget.LINES + [None] * 7
    now[0] += LineBudget.PERIOD_S
    assert budget.spend() == 7
    assert budget.spend() == 0


@pytest.mark.parametrize("path", ["/metrics", "/v2/status", "/v2/policies/studio-x/report"])
def test_refusals_by_permission_are_in_the_log(shared, caplog, path):
    with caplog.at_level(logging.INFO, logger="unsee.gateway.requests"):
        assert answer(shared, f"GET {path} HTTP/1.1", "Host: localhost")[0] == 403
    (line,) = [json.loads(record.getMessage()) for record in caplog.records]
    assert (line["tenant"], line["reason"]) == ("kids", "permission")
