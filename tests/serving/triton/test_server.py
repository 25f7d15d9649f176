"""What an operator asks of a Triton, against a gRPC server in this process that speaks so."""

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2
from wire_fakes import LocalServer

from unsee.core.errors import RequestRejected, ServerUnreachable
from unsee.triton.admin_key import GRPC_HEADER
from unsee.triton.server import ModelVersion, Server, VersionState

GOLDEN = {
    "input_ids": np.arange(6, dtype=np.int64).reshape(2, 3),
    "attention_mask": np.array([[1, 1, 1], [1, 1, 0]]),
    "prompt_embeds": np.linspace(-4, 2, 24, dtype=np.float32).reshape(2, 3, 4),
}
MODEL = "prompt_encoder"
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


class FakeTriton(LocalServer):
    """Answers with `embeds`; refuses to load when `refusal` is set."""

    def __init__(self):
        self.embeds = GOLDEN["prompt_embeds"]
        self.refusal = None
        self.ready = True
        self.loads, self.unloads, self.headers = [], [], []
        super().__init__(_Headers(self))

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

    def ModelInfer(self, request, context):
        assert request.model_name == MODEL
        sent = [
            (tensor.name, tensor.datatype, tuple(tensor.shape), raw)
            for tensor, raw in zip(request.inputs, request.raw_input_contents, strict=True)
        ]
        assert sent == [
            *((n, "INT64", (2, 3), GOLDEN[n].tobytes()) for n in ("input_ids", "attention_mask")),
            ("policy", "BYTES", (2, 1), 2 * b"\6\0\0\0family"),
            ("revision", "INT64", (2, 1), 2 * b"\2\0\0\0\0\0\0\0"),
        ]
        response = service_pb2.ModelInferResponse(model_name=MODEL)
        response.outputs.add(name="prompt_embeds", datatype="FP32", shape=self.embeds.shape)
        response.raw_output_contents.append(self.embeds.tobytes())
        return response


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


def test_a_revision_is_probed_exactly(server, triton):
    assert server.probe("family", 2, GOLDEN) == 0.0
    assert triton.loads == []


def test_the_probe_measures_against_the_largest_value(server, triton):
    triton.embeds = GOLDEN["prompt_embeds"] + np.float32(0.5)
    assert server.probe("family", 2, GOLDEN) == pytest.approx(0.125)


def test_an_answer_of_another_shape_or_not_finite_is_infinitely_wrong(server, triton):
    triton.embeds = GOLDEN["prompt_embeds"][:, :2].copy()
    assert server.probe("family", 2, GOLDEN) == np.inf
    triton.embeds = np.full((2, 3, 4), np.nan, np.float32)
    assert not server.probe("family", 2, GOLDEN) <= 1.0


def test_a_refused_load_carries_the_servers_reason_in_one_line(server, triton):
    reason = "version 2:\n  model.onnx is cut off\n\nAt:\n  /somewhere/model.py(56): initialize\n;"
    triton.refusal = (grpc.StatusCode.INVALID_ARGUMENT, reason)
    with pytest.raises(RequestRejected, match=r"version 2: model\.onnx is cut off$") as caught:
        server.load(MODEL)
    assert caught.value.status == "INVALID_ARGUMENT"


def test_versions_and_what_became_of_them(server, triton):
    assert server.versions(MODEL) == {
        1: VersionState.UNLOADED,
        2: VersionState.LOADED,
        3: VersionState.CHANGING,
        4: VersionState.FAILED,
    }
    assert server.versions("nobody") == {}


def test_unloading_and_loading_ask_for_the_model(server, triton):
    server.unload(MODEL)
    server.load(MODEL)
    assert (triton.unloads, triton.loads) == ([MODEL], [MODEL])


def test_a_busy_servers_unavailable_is_a_rejection_not_an_absence(server, triton):
    triton.refusal = (grpc.StatusCode.UNAVAILABLE, "try again later")
    with pytest.raises(RequestRejected, match="try again later"):
        server.load(MODEL)


def test_an_unready_server_is_there_all_the_same(server, triton):
    triton.ready = False
    server.check_live()


def test_a_server_that_stopped_is_unreachable(server, triton):
    server.check_live()
    triton.stop()
    with pytest.raises(ServerUnreachable):
        server.load(MODEL)


def test_nobody_at_the_url_is_unreachable():
    with pytest.raises(ServerUnreachable, match=r":9;"):
        Server("127.0.0.1:9").check_live()


def test_every_call_shows_the_admin_key(server, triton):
    server.check_live()
    server.load(MODEL)
    server.unload(MODEL)
    server.versions(MODEL)
    server.probe("family", 2, GOLDEN)
    server.answers(ModelVersion("vae_decoder", 1), 5.0)
    server.answers(ModelVersion("text_to_video", 1), 5.0)
    assert {method for method, _ in triton.headers} == {
        *("ServerLive", "RepositoryModelLoad", "RepositoryModelUnload", "RepositoryIndex"),
        *("ModelInfer", "ModelMetadata", "ModelStreamInfer"),
    }
    assert {key for _, key in triton.headers} == {"secret"}
