"""What is written down of a request, what is learnt from it, and what operators are shown."""

import asyncio
import json
import logging
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from click.testing import CliRunner
from wire_fakes import RECORD

from gateway_fakes import TOKENS, tenants
from record_fakes import audit_event, revision_record
from unsee.cli.main import run, unsee
from unsee.client.client import Client
from unsee.core.errors import InputError, RequestRejected, ServerError, ServerUnreachable
from unsee.core.record import GenerationRecord
from unsee.gateway.behind.measured import (
    LEAST_IDLE_S,
    LEAST_WORK,
    MOST_WORK,
    REMEMBERED_SIZES,
    UNMEASURED_IDLE_S,
    Measured,
)
from unsee.gateway.behind.revisions import RepositoryView
from unsee.gateway.callers.credentials import token_sha256
from unsee.gateway.callers.refusal import Refusal
from unsee.gateway.callers.request import ClipRequest
from unsee.gateway.observe.account import Ledger, log_to
from unsee.gateway.observe.metrics import Metrics
from unsee.gateway.observe.status import gateway_status, repository_status
from unsee.gateway.observe.tracing import NoTracer, tracer
from unsee.repository import ledger

PROMPT = "a very secret prompt"


@pytest.fixture
def lines():
    written = []
    handler = log_to(written.append)
    logger = logging.getLogger("unsee.gateway")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield written
    logger.removeHandler(handler)


def account(log_prompts=False, spans=None):
    ledger = Ledger(Metrics(), spans or NoTracer(), log_prompts=log_prompts)
    with ledger.request("grpc", "kids") as entry:
        entry.prompt, entry.policy, entry.client_id = PROMPT, "family", "mine"
        entry.wait_s, entry.clip_s = 0.5, 2.0
        ledger.made(entry, ClipRequest(prompt=PROMPT), GenerationRecord(**RECORD))
    return ledger


@pytest.mark.parametrize("log_prompts", [False, True])
def test_a_request_is_one_line_and_its_prompt_only_if_asked_for(lines, log_prompts):
    account(log_prompts)
    (line,) = lines
    told = json.loads(line)
    assert (told["tenant"], told["policy"], told["revision"]) == ("kids", "family", 2)
    assert (told["outcome"], told["wait_s"], told["clip_s"]) == ("ok", 0.5, 2.0)
    assert told["stages"] == RECORD["seconds"]
    assert told.get("prompt") == (PROMPT if log_prompts else None)
    assert (PROMPT in line) == log_prompts


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (Refusal("PERMISSION_DENIED", "permission", "no"), "refused"),
        (Refusal("UNAVAILABLE", "model_server", "gone"), "failed"),
        (asyncio.CancelledError(), "cancelled"),
        (GeneratorExit(), "cancelled"),
    ],
)
def test_how_a_request_ended_is_noted(lines, error, outcome):
    ledger = Ledger(Metrics(), NoTracer(), log_prompts=False)
    with pytest.raises(type(error)), ledger.request("http", "kids"):
        raise error
    assert json.loads(lines[0])["outcome"] == outcome
    counted = ledger.metrics.text().decode()
    assert f'outcome="{outcome}"' in counted
    assert len(ledger.incidents) == (outcome == "failed")


def test_an_unforeseen_error_is_logged_and_not_told(lines):
    ledger = Ledger(Metrics(), NoTracer(), log_prompts=False)
    with pytest.raises(Refusal, match="its log says why") as caught, ledger.request("grpc", "kids"):
        raise ZeroDivisionError("in /srv/secret.py")
    assert "secret" not in str(caught.value)
    failure, request = map(json.loads, lines)
    assert "ZeroDivisionError" in failure["exception"]
    assert request["outcome"] == "failed"


def test_a_span_tells_the_same_without_the_prompt():
    trace = pytest.importorskip("opentelemetry.sdk.trace")
    export = pytest.importorskip("opentelemetry.sdk.trace.export")
    memory = pytest.importorskip("opentelemetry.sdk.trace.export.in_memory_span_exporter")
    exporter = memory.InMemorySpanExporter()
    provider = trace.TracerProvider()
    provider.add_span_processor(export.SimpleSpanProcessor(exporter))
    account(log_prompts=True, spans=provider.get_tracer("test"))
    (span,) = exporter.get_finished_spans()
    assert span.attributes["unsee.policy"] == "family"
    assert span.attributes["unsee.outcome"] == "ok"
    assert PROMPT not in str(dict(span.attributes))


def test_tracing_without_the_package_is_one_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(InputError) as caught:
        tracer(True)
    assert str(caught.value) == (
        "tracing: true needs opentelemetry.sdk.trace; install it with: "
        'pip install "unsee[gateway,tracing]", or set it to false'
    )
    assert isinstance(tracer(False), NoTracer)


def test_estimates_are_those_of_clips_of_the_same_size():
    measured, record = Measured(), GenerationRecord(**RECORD)
    request = ClipRequest(prompt="a")
    assert measured.seconds(request) is None
    assert measured.idle_timeout_s(request) == UNMEASURED_IDLE_S
    for seconds in (4.0, 2.0, 3.0):
        measured.saw_clip(request, record, seconds, 0.01)
    assert measured.seconds(request) == 3.0
    spelled_out = {"num_inference_steps": 3, "num_frames": 2, "height": 16, "width": 16}
    assert measured.seconds(ClipRequest(prompt="a", **spelled_out)) == 3.0
    assert measured.seconds(ClipRequest(prompt="a", num_inference_steps=6)) is None
    assert measured.work(ClipRequest(prompt="a", num_inference_steps=6)) == 2.0
    assert measured.work(ClipRequest(prompt="a", num_inference_steps=2**31 - 1)) == MOST_WORK


def test_the_smallest_clip_counts_for_something():
    measured, record = Measured(), GenerationRecord(**RECORD | {"num_frames": 81, "width": 832})
    measured.saw_clip(ClipRequest(prompt="a"), record, 1.0, 0.1)
    assert measured.work(ClipRequest(prompt="a", num_frames=1, width=16)) == LEAST_WORK


def test_tiny_clips_say_nothing_of_a_large_one():
    measured, record = Measured(), GenerationRecord(**RECORD)
    usual, tiny = ClipRequest(prompt="a"), ClipRequest(prompt="a", num_frames=1)
    large = ClipRequest(prompt="a", num_frames=32)
    measured.saw_clip(usual, record, 1.1, 0.2)
    for _ in range(1000):
        measured.saw_clip(tiny, record, 0.06, 0.001)
    assert measured.seconds(usual) == 1.1
    assert measured.seconds(large) is None
    assert measured.idle_timeout_s(tiny) == LEAST_IDLE_S
    assert measured.idle_timeout_s(large) >= UNMEASURED_IDLE_S


def test_a_silence_is_judged_by_clips_of_as_many_frames_and_pixels():
    measured, record = Measured(), GenerationRecord(**RECORD)
    measured.saw_clip(ClipRequest(prompt="a"), record, 9.0, 3.0)
    assert measured.idle_timeout_s(ClipRequest(prompt="a", num_inference_steps=50)) == 60.0


def test_streamed_frames_say_nothing_of_the_silence_while_a_whole_clip_is_decoded():
    measured, record = Measured(), GenerationRecord(**RECORD)
    measured.saw_clip(ClipRequest(prompt="a", stream_frames=True), record, 9.0, 0.1)
    assert measured.idle_timeout_s(ClipRequest(prompt="a")) >= UNMEASURED_IDLE_S
    for whole in (None, False):
        request = ClipRequest(prompt="a", stream_frames=whole)
        measured.saw_clip(request, record, 9.0, 3.0)
        assert measured.idle_timeout_s(request) == 60.0
    assert measured.idle_timeout_s(ClipRequest(prompt="a", stream_frames=True)) == LEAST_IDLE_S


def test_only_so_many_sizes_are_remembered():
    measured, record = Measured(), GenerationRecord(**RECORD)
    for frames in range(1, 2 * REMEMBERED_SIZES):
        measured.saw_clip(ClipRequest(prompt="a", num_frames=frames), record, 1.0, 0.1)
    assert measured.seconds(ClipRequest(prompt="a", num_frames=1)) is None
    assert measured.seconds(ClipRequest(prompt="a", num_frames=2 * REMEMBERED_SIZES - 1)) == 1.0


@pytest.fixture
def repository(tmp_path):
    folder = tmp_path / "repository"
    version = folder / "policy_family" / "2"
    version.mkdir(parents=True)
    (version / "revision.json").write_text(
        revision_record("family", 2, "sha256:aa", ("Blimbo",)).model_dump_json()
    )
    write_pointer(folder, 2)
    ledger.note(folder, audit_event(encoder_digest="sha256:aa", who="me@here"))
    return folder


def write_pointer(folder, active):
    state = {"active": active, "eligible": [1, 2], "history": [1]}
    content = {"schema_version": 2, "policies": {"family": state}}
    (folder / "policies.json").write_text(json.dumps(content))


def test_a_policy_is_described_with_its_verdict(repository):
    view = RepositoryView(repository)
    told = view.describe("family", with_eligible=True)
    assert (told["active_revision"], told["eligible_revisions"]) == (2, [1, 2])
    assert told["unsees"] == ["Blimbo"]
    assert told["verdict"]["passed"] is True
    assert "eligible_revisions" not in view.describe("family", with_eligible=False)
    assert view.describe("other", with_eligible=True)["active_revision"] is None


def test_a_promotion_is_seen_at_once_and_a_broken_pointer_changes_nothing(repository):
    view = RepositoryView(repository)
    assert view.active(["family", "other"]) == {"family": 2, "other": None}
    write_pointer(repository, 1)
    assert view.active(["family"]) == {"family": 1}
    (repository / "policies.json").write_text("{")
    assert view.active(["family"]) == {"family": 1}


def test_the_status_of_a_repository(repository):
    told = CliRunner().invoke(unsee, ["status", "--repository", str(repository), "--json"])
    assert told.exit_code == 0, told.exception
    assert json.loads(told.output) == repository_status(repository)
    assert json.loads(told.output)["active_revisions"] == {"family": 2}
    shown = CliRunner().invoke(unsee, ["status", "--repository", str(repository)]).output
    assert "family: publish of revision 2 by me@here" in shown


def test_the_status_of_a_gateway_fits_one_screen(serve, repository, monkeypatch):
    served = serve(repository=str(repository), limits={"drain_timeout_s": 0.5})
    monkeypatch.setenv("UNSEE_TOKEN", TOKENS["admin"])
    with Client(served.addresses.grpc, token=TOKENS["kids"]) as client:
        client.generate("a")
    url = f"http://{served.addresses.http}"
    shown = CliRunner().invoke(unsee, ["status", "--url", url]).output
    assert "service: ready" in shown
    assert "load: 0 of 4 running" in shown
    assert len(shown.splitlines()) < 40
    assert gateway_status(url)["active_revisions"]["family"] == 2
    assert "ModelInfer prompt_encoder" in served.triton.calls


def test_the_status_is_not_for_everybody(serve, monkeypatch):
    served = serve(limits={"drain_timeout_s": 0.5})
    url = f"http://{served.addresses.http}"
    with pytest.raises(InputError, match="UNSEE_TOKEN"):
        gateway_status(url)
    monkeypatch.setenv("UNSEE_TOKEN", TOKENS["kids"])
    with pytest.raises(RequestRejected, match="only an operator"):
        gateway_status(url)
    with pytest.raises(InputError, match="unencrypted"):
        gateway_status("http://clips.example:9000")
    with pytest.raises(InputError, match="no address"):
        gateway_status("clips.example:9000")
    with pytest.raises(ServerUnreachable):
        gateway_status("http://127.0.0.1:1")


def test_the_token_is_not_sent_on_to_where_an_answer_points(monkeypatch):
    seen = []

    class Elsewhere(BaseHTTPRequestHandler):
        def do_GET(self):
            seen.append(self.path)
            self.send_response(302)
            self.send_header("Location", "/elsewhere")
            self.end_headers()

        def log_message(self, *arguments):
            pass

    monkeypatch.setenv("UNSEE_TOKEN", TOKENS["admin"])
    with HTTPServer(("127.0.0.1", 0), Elsewhere) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        with pytest.raises(ServerError, match="HTTP 302"):
            gateway_status(f"http://127.0.0.1:{server.server_port}")
        server.shutdown()
        thread.join()
    assert seen == ["/v2/status"]


def test_a_server_of_another_kind_is_no_gateway(serve, monkeypatch):
    served = serve(limits={"drain_timeout_s": 0.5})
    monkeypatch.setenv("UNSEE_TOKEN", TOKENS["admin"])
    with pytest.raises(ServerError, match="did not answer like a gateway"):
        gateway_status(f"http://{served.addresses.grpc}")


def test_a_fresh_token_is_printed_once_with_its_hash():
    first, second = (CliRunner().invoke(unsee, ["gateway", "token", "new"]) for _ in range(2))
    told = dict(line.split(": ", 1) for line in first.stdout.splitlines())
    assert token_sha256(told["token"]) == told["token_sha256"]
    assert first.stdout != second.stdout


def test_a_port_in_use_is_one_sentence(serve, tmp_path, capsys):
    import yaml

    served = serve(limits={"drain_timeout_s": 0.5})
    for front in ("grpc", "http"):
        config = {"grpc": None, "http": None, "tenants": json.loads(json.dumps(tenants()))}
        config[front] = getattr(served.addresses, front)
        file = tmp_path / "gateway.yaml"
        file.write_text(yaml.safe_dump(config))
        assert run(["gateway", "--config", str(file)]) == 2
        assert capsys.readouterr().err.startswith(f"error: cannot listen on {config[front]}")
