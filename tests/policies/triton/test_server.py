"""Loading and probing against a gRPC server in this process that speaks Triton's operator calls."""

from concurrent import futures

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc

from unsee.core.errors import RequestRejected, ServerError, ServerUnreachable
from unsee.repository.layout import encoder_model
from unsee.triton.admin_key import GRPC_HEADER
from unsee.triton.server import ModelVersion, Server, VersionState

GOLDEN = {
    "input_ids": np.arange(6, dtype=np.int64).reshape(2, 3),
    "last_hidden_state": np.linspace(-4, 2, 24, dtype=np.float32).reshape(2, 3, 4),
}
MODEL = encoder_model("family")
INDEX = [
    ("1", "UNAVAILABLE", "unloaded"),
    ("2", "READY", ""),
    ("3", "UNLOADING", ""),
    ("4", "UNAVAILABLE", "Internal: the graph is cut off"),
]


class _Headers(grpc.ServerInterceptor):
    """Notes the method and the key of every call."""

    def __init__(self, fake):
        self._fake = fake

    def intercept_service(self, continuation, call):
        key = dict(call.invocation_metadata).get(GRPC_HEADER)
        self._fake.headers.append((call.method.rpartition("/")[2], key))
        return continuation(call)


class FakeTriton(service_pb2_grpc.GRPCInferenceServiceServicer):
    """Answers with `hidden`; refuses to load when `refusal` is set; knows `versions`."""

    def __init__(self):
        self.hidden = GOLDEN["last_hidden_state"]
        self.refusal = None
        self.ready = True
        self.versions = {"2"}
        self.loads, self.unloads, self.headers = [], [], []
        self._server = grpc.server(futures.ThreadPoolExecutor(2), interceptors=[_Headers(self)])
        service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(self, self._server)
        self.url = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def ServerLive(self, request, context):
        return service_pb2.ServerLiveResponse(live=True)

    def ServerReady(self, request, context):
        return service_pb2.ServerReadyResponse(ready=self.ready)

    def RepositoryModelLoad(self, request, context):
        self.loads.append(request.model_name)
        if self.refusal:
            context.abort(*self.refusal)
        return service_pb2.RepositoryModelLoadResponse()

    def RepositoryModelUnload(self, request, context):
        self.unloads.append(request.model_name)
        return service_pb2.RepositoryModelUnloadResponse()

    def RepositoryIndex(self, request, context):
        response = service_pb2.RepositoryIndexResponse()
        response.models.add(name=".retired")
        for version, state, reason in INDEX:
            response.models.add(name=MODEL, version=version, state=state, reason=reason)
        return response

    def ModelReady(self, request, context):
        return service_pb2.ModelReadyResponse(ready=request.version in self.versions)

    def ModelInfer(self, request, context):
        assert (request.model_name, request.model_version) == (MODEL, "2")
        ids = np.frombuffer(request.raw_input_contents[0], np.int64)
        assert ids.tolist() == GOLDEN["input_ids"].ravel().tolist()
        response = service_pb2.ModelInferResponse(model_name=MODEL)
        response.outputs.add(name="last_hidden_state", datatype="FP32", shape=self.hidden.shape)
        response.raw_output_contents.append(self.hidden.tobytes())
        return response

    def stop(self):
        self._server.stop(grace=None).wait()


@pytest.fixture
def triton():
    fake = FakeTriton()
    yield fake
    fake.stop()


@pytest.fixture
def server(triton, tmp_path, monkeypatch):
    monkeypatch.setenv("UNSEE_ADMIN_KEY_FILE", str(tmp_path / "key"))
    (tmp_path / "key").write_text("secret")
    return Server(triton.url)


def test_a_loaded_version_is_probed_exactly(server, triton):
    server.check_live()
    server.load(MODEL, 2)
    assert triton.loads == [MODEL]
    assert server.probe(MODEL, 2, GOLDEN) == 0.0


def test_the_probe_measures_against_the_largest_value(server, triton):
    triton.hidden = GOLDEN["last_hidden_state"] + np.float32(0.5)
    assert server.probe(MODEL, 2, GOLDEN) == pytest.approx(0.125)


def test_an_answer_of_another_shape_or_not_finite_is_infinitely_wrong(server, triton):
    triton.hidden = GOLDEN["last_hidden_state"][:, :2].copy()
    assert server.probe(MODEL, 2, GOLDEN) == np.inf
    triton.hidden = np.full((2, 3, 4), np.nan, np.float32)
    assert not server.probe(MODEL, 2, GOLDEN) <= 1.0


def test_a_refused_load_carries_the_servers_reason_in_one_line(server, triton):
    reason = "version 2:\n  model.onnx is cut off\n\nAt:\n  /somewhere/model.py(56): initialize\n;"
    triton.refusal = (grpc.StatusCode.INVALID_ARGUMENT, reason)
    with pytest.raises(RequestRejected, match=r"version 2: model\.onnx is cut off$") as caught:
        server.load(MODEL, 2)
    assert caught.value.status == "INVALID_ARGUMENT"


def test_versions_and_what_became_of_them(server, triton):
    assert server.versions(MODEL) == {
        1: VersionState.UNLOADED,
        2: VersionState.LOADED,
        3: VersionState.CHANGING,
        4: VersionState.FAILED,
    }
    assert server.versions("text_encoder_nobody") == {}


def test_unloading_and_refreshing_ask_for_the_model(server, triton):
    server.unload(MODEL)
    server.refresh(MODEL)
    assert (triton.unloads, triton.loads) == ([MODEL], [MODEL])


def test_a_version_that_the_server_does_not_see(server):
    with pytest.raises(ServerError, match="serves this very repository"):
        server.load(MODEL, 3)


def test_a_busy_servers_unavailable_is_a_rejection_not_an_absence(server, triton):
    triton.refusal = (grpc.StatusCode.UNAVAILABLE, "try again later")
    with pytest.raises(RequestRejected, match="try again later"):
        server.load(MODEL, 2)


def test_an_unready_server_is_there_all_the_same(server, triton):
    triton.ready = False
    server.check_live()


def test_a_server_that_stopped_is_unreachable(server, triton):
    server.check_live()
    triton.stop()
    with pytest.raises(ServerUnreachable):
        server.load(MODEL, 2)


def test_nobody_at_the_url_is_unreachable():
    with pytest.raises(ServerUnreachable, match=r":9;"):
        Server("127.0.0.1:9").check_live()


def test_every_call_shows_the_admin_key(server, triton):
    server.check_live()
    server.load(MODEL, 2)
    server.unload(MODEL)
    server.versions(MODEL)
    server.probe(MODEL, 2, GOLDEN)
    server.answers(ModelVersion(MODEL, 2), 5.0)
    server.answers(ModelVersion("text_to_video", 1), 5.0)
    assert {method for method, _ in triton.headers} == {
        *("ServerLive", "RepositoryModelLoad", "RepositoryModelUnload", "RepositoryIndex"),
        *("ModelReady", "ModelInfer", "ModelMetadata", "ModelStreamInfer"),
    }
    assert {key for _, key in triton.headers} == {"secret"}
