"""Building and running engines against a fake of TensorRT's Python interface.

The fake holds what the interface's documentation says of 10.x and 11.x: it knows no flag that 11
removed, wants a strongly typed network and refuses UINT8 inside a graph. It computes nothing; that
real engines are right is for a GPU host to show (`benchmarks/tensorrt_host.py`).
"""

from __future__ import annotations

import sys
from types import SimpleNamespace

import onnx
import pytest
import torch
from onnx import TensorProto, helper

from unsee.core.errors import EngineBuildFailed, ParityError, ProfileError, TensorRTMissing
from unsee.export.graphs.graphs import VAEDecoderGraph
from unsee.export.graphs.sizes import Profile
from unsee.export.onnx.parity import ParityReport
from unsee.export.tensorrt.build import build_engine, current_device, tensorrt_library
from unsee.export.tensorrt.engine_key import Device
from unsee.export.tensorrt.kept_engine import kept_engine
from unsee.export.tensorrt.runner import EngineRunner

GRAPH = VAEDecoderGraph(channels=3, scale=1)
PROFILE = Profile(
    {"B": 1, "F": 1, "h": 2, "w": 2},
    {"B": 1, "F": 4, "h": 8, "w": 8},
    {"B": 4, "F": 8, "h": 8, "w": 8},
)
DEVICE = Device(gpu="a GPU", compute_capability="9.0", driver="570.1", tensorrt="11.0.0")
STRONGLY_TYPED, TF32 = 1, 6


class FakeTensorRT:
    """The parts of the module `tensorrt` that are used, and a diary of what was asked of them."""

    __version__ = "11.0.0"
    NetworkDefinitionCreationFlag = SimpleNamespace(STRONGLY_TYPED=STRONGLY_TYPED)
    BuilderFlag = SimpleNamespace(TF32=TF32)

    def __init__(self, plan=b"plan", parse_error=None):
        self.plan, self.parse_error, self.diary = plan, parse_error, []
        self.flags, self.shapes = None, {}
        self.Logger = type("Logger", (), {"WARNING": 2, "__init__": lambda self, level: None})

    def Builder(self, logger):
        return SimpleNamespace(
            create_network=self._network,
            create_builder_config=self._config,
            create_optimization_profile=lambda: SimpleNamespace(set_shape=self._set_shape),
            build_serialized_network=lambda network, config: self.plan,
        )

    def OnnxParser(self, network, logger):
        error = SimpleNamespace(desc=lambda: self.parse_error)
        return SimpleNamespace(
            parse=self._parse, num_errors=5 if self.parse_error else 0, get_error=lambda i: error
        )

    def _network(self, flags):
        assert flags == 1 << STRONGLY_TYPED
        return object()

    def _config(self):
        self.flags = {TF32}
        cache = SimpleNamespace(serialize=lambda: b"measured")
        return SimpleNamespace(
            clear_flag=self.flags.remove,
            create_timing_cache=lambda data: self.diary.append(("timings", data)) or cache,
            set_timing_cache=lambda given, ignore_mismatch: not ignore_mismatch,
            get_timing_cache=lambda: cache,
            add_optimization_profile=lambda profile: 0,
        )

    def _set_shape(self, name, least, usual, most):
        self.shapes[name] = (least, usual, most)

    def _parse(self, data, path):
        self.diary.append(("parsed beside", path))
        model = onnx.load_from_string(data)
        makers = {name: node.op_type for node in model.graph.node for name in node.output}
        assert makers[model.graph.output[0].name] == "Cast"
        return self.parse_error is None


@pytest.fixture
def install(monkeypatch):
    def put(fake):
        monkeypatch.setitem(sys.modules, "tensorrt", fake)
        return fake

    return put


@pytest.fixture
def file(tmp_path):
    """A graph with the decoder's border that moves UINT8, as the exporter writes it."""
    nodes = [
        helper.make_node("Cast", ["latents"], ["bytes"], name="cast", to=TensorProto.UINT8),
        helper.make_node("Transpose", ["bytes"], ["frames"], name="move", perm=[0, 2, 3, 4, 1]),
    ]
    graph = helper.make_graph(
        nodes,
        "decoder",
        [helper.make_tensor_value_info("latents", TensorProto.FLOAT, ["B", 3, "F", "h", "w"])],
        [helper.make_tensor_value_info("frames", TensorProto.UINT8, ["B", "F", "h", "w", 3])],
    )
    path = tmp_path / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)]), path)
    return path


def test_an_engine_is_built_strongly_typed_without_tf32_for_the_profile(install, file):
    fake = install(FakeTensorRT())
    built = build_engine(GRAPH, file, PROFILE, b"earlier")
    assert (built.plan, built.timings) == (b"plan", b"measured")
    assert fake.flags == set()
    assert fake.diary == [("parsed beside", str(file)), ("timings", b"earlier")]
    assert fake.shapes == {"latents": ((1, 3, 1, 2, 2), (1, 3, 4, 8, 8), (4, 3, 8, 8, 8))}


def test_what_the_audit_refuses_never_reaches_the_parser(install, file):
    fake = install(FakeTensorRT())
    model = onnx.load(file)
    model.graph.node[1].op_type = "Det"
    onnx.save(model, file)
    with pytest.raises(EngineBuildFailed, match=r"refuses vae_decoder: .*no such operator"):
        build_engine(GRAPH, file, PROFILE)
    assert fake.diary == []


def test_the_parsers_first_reasons_are_told(install, file):
    install(FakeTensorRT(parse_error="it dislikes this"))
    with pytest.raises(
        EngineBuildFailed, match=r"TensorRT 11\.0\.0 refuses .*dislikes.*and 2 more"
    ):
        build_engine(GRAPH, file, PROFILE)


def test_a_build_that_gives_nothing_and_wrong_sizes_are_told(install, file):
    install(FakeTensorRT(plan=None))
    with pytest.raises(EngineBuildFailed, match=r"made no engine"):
        build_engine(GRAPH, file, PROFILE)
    with pytest.raises(ProfileError, match=r"batches of 1 to 4"):
        build_engine(GRAPH, file, Profile(PROFILE.minimum, PROFILE.minimum, PROFILE.minimum))


def test_without_tensorrt_or_a_gpu_one_sentence_says_what_to_install(install, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(TensorRTMissing, match="pip install tensorrt"):
        tensorrt_library()
    install(FakeTensorRT())
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(TensorRTMissing, match="no NVIDIA GPU"):
        current_device()


def test_a_kept_engine_is_built_once_and_again_when_anything_differs(install, file, tmp_path):
    fake = install(FakeTensorRT())
    folder = tmp_path / "engine"
    folder.mkdir()

    def keep(digest="sha256:00", device=DEVICE):
        return kept_engine(GRAPH, file, digest, "float16", PROFILE, device, folder)

    assert not keep().reused
    again = keep()
    assert again.reused
    assert again.plan() == b"plan"
    fake.plan = b"another plan"
    assert keep().plan() == b"plan"
    assert keep(digest="sha256:01").plan() == b"another plan"
    assert not keep(device=DEVICE.model_copy(update={"driver": "571.0"})).reused
    given = [data for word, data in fake.diary if word == "timings"]
    assert given == [b"", b"measured", b""]


def test_an_engine_that_fails_its_check_is_not_kept_and_an_unchecked_one_is_checked(
    install, file, tmp_path
):
    install(FakeTensorRT())

    def keep(check=None):
        return kept_engine(GRAPH, file, "sha256:00", "float16", PROFILE, DEVICE, tmp_path, check)

    def fail(plan):
        raise ParityError("too far off")

    with pytest.raises(ParityError):
        keep(fail)
    assert not (tmp_path / "engine.json").exists()
    assert keep().record.parity is None
    report = ParityReport(tolerance=1, unit="level", sizes=())
    checked = keep(lambda plan: report)
    assert (checked.reused, checked.record.parity) == (False, report)
    assert keep(fail).reused


class FakeContext:
    """Takes shapes up to the profile's and remembers where the tensors are."""

    def __init__(self, works=True):
        self.works, self.shape, self.addresses = works, None, {}

    def set_input_shape(self, name, shape):
        self.shape = shape
        return shape[2] <= 8

    def set_tensor_address(self, name, address):
        self.addresses[name] = address

    def get_tensor_shape(self, name):
        batch, channels, frames, height, width = self.shape
        return (batch, frames, height, width, channels)

    def execute_async_v3(self, stream):
        return self.works


@pytest.fixture
def runner(install, monkeypatch):
    def make(works=True, loads=True):
        fake = install(FakeTensorRT())
        context = FakeContext(works)
        engine = SimpleNamespace(create_execution_context=lambda: context) if loads else None
        fake.Runtime = lambda logger: SimpleNamespace(deserialize_cuda_engine=lambda plan: engine)
        stream = SimpleNamespace(cuda_stream=0)
        monkeypatch.setattr(torch.cuda, "current_stream", lambda device: stream)
        return EngineRunner(GRAPH, b"plan"), context

    return make


def test_a_runner_gives_the_engine_its_tensors_and_their_shapes(runner):
    run, context = runner()
    frames = run(torch.zeros(1, 4, 3, 8, 8).transpose(1, 2))
    assert (frames.shape, frames.dtype) == ((1, 4, 8, 8, 3), torch.uint8)
    assert context.shape == (1, 3, 4, 8, 8)
    assert context.addresses["frames"] == frames.data_ptr()


def test_a_runner_tells_what_the_engine_does_not_take(runner):
    with pytest.raises(EngineBuildFailed, match="does not load the engine of vae_decoder"):
        runner(loads=False)
    run, _ = runner()
    with pytest.raises(EngineBuildFailed, match=r"not built for latents of the shape \[1, 3, 9"):
        run(torch.zeros(1, 3, 9, 8, 8))
    run, _ = runner(works=False)
    with pytest.raises(EngineBuildFailed, match="did not run"):
        run(torch.zeros(1, 3, 8, 8, 8))
