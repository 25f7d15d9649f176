"""What a caller sees when Triton dies or falls silent, and when the gateway goes down."""

import asyncio
import itertools
import json
import signal
import threading
import time

import grpc
import pytest
from gateway_calls import command, write_settings
from wire_fakes import error, progress

from gateway_fakes import PATIENCE_S, TOKENS, result, stuck, tenants, wait_until
from unsee.client.client import Client
from unsee.core.errors import DeadlineExceeded, RequestRejected, UnseeError
from unsee.media.clip import Progress
from unsee.repository.ledger import note_incident
from unsee.repository.records import Incident

DRAINING = (
    "Request for unknown model: 'text_to_video' has no available versions",
    "Request for unknown model: 'text_to_video' version 1 is not at ready state",
    "Server is stopping, scheduler for model has stopped accepting new inference requests",
)


def client_of(served, who="kids", **options):
    return Client(served.addresses.grpc, token=TOKENS[who], **options)


def test_a_triton_that_falls_silent_ends_the_clip(serve):
    served = serve(http=None, limits={"idle_timeout_s": 0.3, "drain_timeout_s": 0.5})
    served.triton.answer = stuck
    started = time.monotonic()
    with client_of(served, timeout_s=20) as client:
        events = client.stream("a")
        assert next(events) == Progress(1, 3)
        with pytest.raises(RequestRejected, match="does not answer as it should") as caught:
            next(events)
    assert caught.value.status == "UNAVAILABLE"
    assert time.monotonic() - started < 5
    assert served.triton.cancelled.wait(5)
    wait_until(lambda: served.gateway.admission.running == 0)


def test_a_stream_that_has_had_its_last_answer_is_not_cancelled_when_the_caller_leaves(serve):
    served = serve(http=None, limits={"drain_timeout_s": 0.5})
    answered, ended = threading.Event(), threading.Event()

    async def refuse_and_end_later(inputs, context):
        await context.write(error("INVALID_ARGUMENT: no"))
        answered.set()
        await asyncio.sleep(0.5)
        ended.set()

    served.triton.answer = refuse_and_end_later
    with client_of(served, timeout_s=0.3, retries=0) as client, pytest.raises(UnseeError):
        client.generate("a")
    assert answered.is_set()
    assert ended.wait(5)
    assert not served.triton.cancelled.is_set()


def test_a_triton_that_dies_in_a_clip_ends_it(serve):
    served = serve(http=None, limits={"drain_timeout_s": 0.5})
    served.triton.answer = stuck
    with client_of(served, timeout_s=20, retries=0) as client:
        events = client.stream("a")
        next(events)
        served.kill_triton()
        with pytest.raises(RequestRejected) as caught:
            next(events)
        assert caught.value.status == "UNAVAILABLE"
        with pytest.raises(RequestRejected) as caught:
            client.generate("b", timeout_s=5)
    assert caught.value.status == "UNAVAILABLE"
    assert "refused" not in str(caught.value)
    what = served.gateway.ledger.incidents[-1].what
    assert "UNAVAILABLE" in what


def test_the_callers_deadline_holds_in_the_queue_too(serve):
    served = serve(http=None, limits={"max_running": 1, "drain_timeout_s": 0.5})
    served.triton.answer = stuck
    with client_of(served) as first, client_of(served) as second:
        events = first.stream("a", timeout_s=20)
        next(events)
        started = time.monotonic()
        with pytest.raises(DeadlineExceeded):
            second.generate("b", timeout_s=0.5)
        assert time.monotonic() - started < 3
        wait_until(lambda: served.gateway.admission.waiting == 0)
        events.close()


def test_a_longer_deadline_than_the_bound_is_cut(serve):
    served = serve(http=None, limits={"max_deadline_s": 0.3, "drain_timeout_s": 0.5})
    served.triton.answer = stuck
    told = r"within 0\.3 s; that is the most that anybody"
    with client_of(served) as client, pytest.raises(DeadlineExceeded, match=told):
        client.generate("a", timeout_s=1000)
    refusals = served.gateway.metrics.text().decode()
    assert 'unsee_gateway_refusals_total{reason="deadline",tenant="kids"} 1.0' in refusals


def test_draining_lets_what_runs_finish_and_takes_nothing_new(serve):
    served = serve(http=None, limits={"drain_timeout_s": 10.0})
    go_on = threading.Event()

    async def slow(inputs, context):
        await context.write(progress(1))
        while not go_on.is_set():
            await asyncio.sleep(0.01)
        await context.write(result(inputs))

    served.triton.answer = slow
    with client_of(served, timeout_s=20) as client:
        events = client.stream("a")
        next(events)
        draining = threading.Thread(target=served.drain)
        draining.start()
        wait_until(lambda: served.gateway.draining)
        with client_of(served, connect_timeout_s=2.0) as late, pytest.raises(UnseeError):
            late.generate("b", timeout_s=5)
        assert draining.is_alive()
        go_on.set()
        assert next(events).record.policy == "family"
    draining.join(PATIENCE_S)
    assert not draining.is_alive()


def test_draining_ends_what_takes_too_long(serve):
    served = serve(http=None, limits={"drain_timeout_s": 0.3})
    served.triton.answer = stuck
    with client_of(served, timeout_s=20) as client:
        events = client.stream("a")
        next(events)
        started = time.monotonic()
        served.drain()
        assert time.monotonic() - started < 5
        with pytest.raises(UnseeError):
            next(events)
    assert served.triton.cancelled.wait(5)


@pytest.mark.process
def test_the_command_serves_drains_and_exits_cleanly(serve, tmp_path):
    config = {
        "triton": serve(http=None).settings.triton,
        "grpc": "127.0.0.1:0",
        "http": "127.0.0.1:0",
        "tenants": tenants(),
        "limits": {"drain_timeout_s": 1.0},
    }
    with command(tmp_path, config) as (process, url):
        with Client(url, token=TOKENS["kids"], timeout_s=20) as client:
            client.generate("a very secret prompt")
            (tmp_path / "gateway.yaml").write_text("tenants: [")
            process.send_signal(signal.SIGHUP)
            assert "stay as they were" in json.loads(_next(process, "tenants"))["message"]
            write_settings(tmp_path, config | {"tenants": tenants()[1:]})
            process.send_signal(signal.SIGHUP)
            assert "read again: studio, admin" in json.loads(_next(process, "tenants"))["message"]
            with pytest.raises(RequestRejected) as caught:
                client.generate("a cat")
        assert caught.value.status == "UNAUTHENTICATED"
        process.send_signal(signal.SIGTERM)
        output, errors = process.communicate(timeout=30)
    assert (process.returncode, output) == (0, "stopped\n")
    (refused,) = [json.loads(text) for text in errors.splitlines()]
    assert (refused["tenant"], refused["reason"]) == ("", "credentials")
    assert "secret" not in errors
    assert TOKENS["kids"] not in errors


def test_a_triton_that_drains_is_told_in_one_sentence(serve):
    served = serve(http=None)
    with client_of(served, timeout_s=20, retries=0) as client:
        for words, as_status in itertools.product(DRAINING, (False, True)):
            served.triton.answer = refusing(words, as_status)
            with pytest.raises(RequestRejected) as caught:
                client.generate("a")
            assert caught.value.status == "UNAVAILABLE"
            sentence = "the model server takes no requests at the moment; try again later"
            assert str(caught.value) == sentence


def refusing(words, as_status):
    async def refuse(inputs, context):
        if as_status:
            await context.abort(grpc.StatusCode.UNAVAILABLE, words)
        await context.write(error(words))

    return refuse


def test_the_status_tells_what_the_supervisor_put_right_and_what_the_gateway_saw(serve, tmp_path):
    (tmp_path / "policies.json").write_text('{"schema_version": 2, "policies": {}}')
    served = serve(http=None, repository=str(tmp_path))
    served.gateway.ledger.incident("family: revision 1 -> 2")
    for at, what in (("2020-01-01", "long ago"), ("2100-01-01", "to come")):
        found = {"at": f"{at}T00:00:00Z", "server": "127.0.0.1:1", "what": what}
        found |= {"kind": "server", "outcome": "repaired", "seconds": 1.0}
        note_incident(tmp_path, Incident.model_validate(found))
    incidents = served.gateway.status()["incidents"]
    assert [one["what"] for one in incidents] == ["to come", "family: revision 1 -> 2", "long ago"]
    assert incidents[0]["at"] == "2100-01-01T00:00:00+00:00"
    (tmp_path / "incidents.jsonl").unlink()
    (tmp_path / "incidents.jsonl").mkdir()
    assert [one["what"] for one in served.gateway.status()["incidents"]] == [
        "family: revision 1 -> 2"
    ]


def _next(process, word):
    """The next line of the log that holds `word`; the clip's own line comes before."""
    for line in process.stderr:
        told = json.loads(line)
        if word in told.get("message", ""):
            return line
        assert (told["tenant"], told["outcome"], told["revision"]) == ("kids", "ok", 2)
    raise AssertionError(f"no line with {word}")
