"""Spans over OTLP, into a sink of a few lines."""

import signal
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from gateway_calls import command

from gateway_fakes import TOKENS, tenants
from unsee.client.client import Client

trace_service = pytest.importorskip("opentelemetry.proto.collector.trace.v1.trace_service_pb2")


class Sink(HTTPServer):
    """Takes what exporters send; `requests` holds it, decoded, by path."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Taking)
        self.requests = []
        self._thread = threading.Thread(target=self.serve_forever, daemon=True)
        self._thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.shutdown()
        self._thread.join()
        self.server_close()


class Taking(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        request = trace_service.ExportTraceServiceRequest.FromString(body)
        self.server.requests.append((self.path, request))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *arguments):
        pass


def spans(sink):
    """(name, service, attributes) of every span."""
    found = []
    for path, request in sink.requests:
        assert path == "/v1/traces"
        for resource in request.resource_spans:
            service = {a.key: a.value.string_value for a in resource.resource.attributes}
            for scope in resource.scope_spans:
                found += [
                    (span.name, service["service.name"], {a.key: a.value for a in span.attributes})
                    for span in scope.spans
                ]
    return found


@pytest.mark.process
def test_a_clip_is_a_span_that_has_left_when_the_gateway_stops(serve, tmp_path):
    config = {"triton": serve(http=None).settings.triton, "grpc": "127.0.0.1:0", "http": None}
    config |= {"tenants": tenants(), "tracing": True}
    with Sink() as sink:
        environment = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{sink.server_port}",
            "OTEL_EXPORTER_OTLP_COMPRESSION": "none",
            "NO_PROXY": "*",
        }
        with command(tmp_path, config, **environment) as (process, url):
            with Client(url, token=TOKENS["kids"], timeout_s=20) as client:
                client.generate("a very secret prompt")
            process.send_signal(signal.SIGTERM)
            assert process.communicate(timeout=60)[0] == "stopped\n"
        ((name, service, attributes),) = spans(sink)
    assert (name, service) == ("clip", "unsee-gateway")
    assert attributes["unsee.tenant"].string_value == "kids"
    assert attributes["unsee.outcome"].string_value == "ok"
    assert "secret" not in str(attributes)
