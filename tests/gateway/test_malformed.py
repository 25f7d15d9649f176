"""Whatever bytes come, over gRPC or HTTP: an answer in time, one clean sentence, and no crash.

Random bytes and good requests with bytes changed are those of `benchmarks.reliability.malformed`.
"""

import http.client
import json
import time

import grpc
import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tritonclient.grpc import service_pb2

from benchmarks.reliability import malformed
from gateway_fakes import TOKENS
from unsee.client.messages import build_request
from unsee.core.request_schema import INPUTS

WHO = (("authorization", f"Bearer {TOKENS['studio']}"),)
PATH = "/v2/models/text_to_video/generate_stream"
STREAM = "/inference.GRPCInferenceService/ModelStreamInfer"
FINE = {"OK", "INVALID_ARGUMENT", "PERMISSION_DENIED"}
MANY = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)

NAMES = st.sampled_from([*INPUTS, "input_ids", "", "prompt\0"])
TYPES = st.sampled_from(["BYTES", "INT64", "INT32", "FP32", "BOOL", "FP16", "", "bytes"])
TENSORS = st.lists(
    st.tuples(
        NAMES,
        TYPES,
        st.lists(st.sampled_from([-1, 0, 1, 2, 2**62]), max_size=3),
        st.binary(max_size=24),
    ),
    max_size=6,
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda children: st.lists(children) | st.dictionaries(st.text(), children),
    max_leaves=8,
)


@pytest.fixture(scope="module")
def served(serve_all):
    return serve_all(limits={"read_timeout_s": 2.0, "drain_timeout_s": 0.5})


@pytest.fixture(scope="module")
def call(served):
    with grpc.insecure_channel(served.addresses.grpc) as channel:
        yield channel.stream_stream(STREAM)


@pytest.fixture(scope="module")
def connection(served):
    host, port = served.addresses.http.split(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=10)
    yield connection
    connection.close()


def outcome(call, message):
    started = time.monotonic()
    try:
        list(call(iter([message]), metadata=WHO, timeout=10))
        status, details = "OK", ""
    except grpc.RpcError as error:
        status, details = error.code().name, error.details()
    check(details, time.monotonic() - started)
    assert status in FINE, details


def check(sentence, seconds):
    assert seconds < 5
    assert len(sentence) < 1000
    for trace in ("Traceback", "/work", "/usr", ".py", "Error("):
        assert trace not in sentence


@MANY
@given(
    tensors=TENSORS, name=st.sampled_from(["text_to_video", "", "video_denoiser"]), text=st.text()
)
def test_requests_of_the_right_shape_with_any_content(call, tensors, name, text):
    request = service_pb2.ModelInferRequest(model_name=name, id=text.replace("\ud800", ""))
    for tensor, datatype, shape, raw in tensors:
        request.inputs.add(name=tensor, datatype=datatype, shape=shape)
        request.raw_input_contents.append(raw)
    outcome(call, request.SerializeToString())


def posted(connection, body):
    started = time.monotonic()
    headers = {"authorization": f"Bearer {TOKENS['studio']}", "content-type": "application/json"}
    connection.request("POST", PATH, body, headers)
    response = connection.getresponse()
    text = response.read().decode()
    if response.status != 200:
        assert response.status in (400, 403)
        check(json.loads(text)["error"]["message"], time.monotonic() - started)


@MANY
@given(values=st.dictionaries(st.sampled_from([*INPUTS, "id", "timeout_s", "x"]), JSON, max_size=6))
def test_json_of_any_values(connection, values):
    posted(connection, json.dumps(values).encode())


def test_the_gateway_is_as_it_was(served, call, connection):
    outcome(call, build_request({"prompt": "a cat"}).SerializeToString())
    posted(connection, b'{"prompt": "a cat"}')
    admission = served.gateway.admission
    assert (admission.running, admission.waiting) == (0, 0)


@pytest.mark.process
def test_the_benchmark_finds_nothing_in_a_short_run():
    result = CliRunner().invoke(malformed.main, ["--requests", "150"])
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert sum(report["outcomes"].values()) == 150
    assert report["bad_answers"] == []
    assert report["slowest_s"] < 10
