"""What is committed is what the generator makes, and the protocol is KServe's."""

import dataclasses
import importlib
import shutil
from importlib.metadata import distribution
from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import DescriptorProto, FileDescriptorSet
from grpc_tools import protoc
from tritonclient.grpc import service_pb2

from unsee.core.request_schema import INPUTS

ROOT = Path(__file__).parents[2]
GENERATOR = ROOT / "clients" / "generator"
SERVED = {
    *("ServerLive", "ServerReady", "ServerMetadata", "ModelReady", "ModelMetadata"),
    "ModelStreamInfer",
}


@pytest.fixture
def load(monkeypatch):
    monkeypatch.syspath_prepend(str(GENERATOR))
    return importlib.import_module


@pytest.fixture
def sources(tmp_path):
    """A tree of nothing but what is generated from."""
    name = "clients/contract/text_to_video.json"
    (tmp_path / name).parent.mkdir(parents=True)
    shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def test_nothing_that_is_committed_is_stale(load, sources):
    generated = load("make_stubs").generated(sources)
    stale = [name for name, content in generated.items() if (ROOT / name).read_bytes() != content]
    assert not stale, "run: make stubs"
    assert len(generated) == 4


def test_a_change_of_the_request_reaches_every_file_that_is_made_of_it(load, sources, monkeypatch):
    before = load("make_stubs").generated(sources)
    renamed = {name.replace("num_frames", "num_pictures"): known for name, known in INPUTS.items()}
    monkeypatch.setattr(load("contract_of_code"), "INPUTS", renamed)
    after = load("make_stubs").generated(sources)
    changed = {name for name in after if after[name] != before[name]}
    contract = "clients/contract/text_to_video.json"
    types = {name for name in after if Path(name).suffix in (".ts", ".java", ".md")}
    assert changed == {contract, *types}
    assert b"num_pictures?: number" in after["clients/typescript/src/text_to_video.ts"]
    java = after["clients/java/src/main/java/unsee/TextToVideo.java"]
    assert b"public Request numPictures(int numPictures)" in java


@pytest.mark.parametrize(
    ("bounds", "typescript", "java"),
    [
        ((0.5, 9), 'real("FP32", 0.5, 9)', "guidanceScale < 0.5 || guidanceScale > 9"),
        ((None, 9), 'real("FP32", -3.4e+38, 9)', "if (guidanceScale > 9)"),
        ((1, None), 'real("FP32", 1, 3.4e+38)', "if (guidanceScale < 1)"),
    ],
)
def test_bounds_of_an_input_are_checked_in_every_language(
    load, sources, monkeypatch, bounds, typescript, java
):
    minimum, maximum = bounds
    bounded = dataclasses.replace(INPUTS["guidance_scale"], minimum=minimum, maximum=maximum)
    bounded_inputs = {**INPUTS, "guidance_scale": bounded}
    monkeypatch.setattr(load("contract_of_code"), "INPUTS", bounded_inputs)
    generated = load("make_stubs").generated(sources)
    assert typescript in generated["clients/typescript/src/text_to_video.ts"].decode()
    assert java in generated["clients/java/src/main/java/unsee/TextToVideo.java"].decode()


def test_the_protocol_is_that_part_of_kserves_which_the_gateway_serves(tmp_path):
    out = tmp_path / "kserve.desc"
    proto_dir = ROOT / "clients" / "proto"
    words = ["protoc", f"-I{proto_dir}", f"--descriptor_set_out={out}", "grpc_service.proto"]
    assert protoc.main(words) == 0
    (compiled,) = FileDescriptorSet.FromString(out.read_bytes()).file
    (service,) = compiled.service
    known = service_pb2.DESCRIPTOR.services_by_name[service.name].methods_by_name
    for method in service.method:
        assert method.input_type == f".{known[method.name].input_type.full_name}"
        assert method.output_type == f".{known[method.name].output_type.full_name}"
    assert {method.name for method in service.method} == SERVED
    for message in compiled.message_type:
        whole = DescriptorProto()
        service_pb2.DESCRIPTOR.message_types_by_name[message.name].CopyToProto(whole)
        assert without_json_names(message) == whole, message.name


def without_json_names(message):
    """`message` as it is without the names for JSON that compilers add to fields."""
    for field in message.field:
        field.ClearField("json_name")
    for nested in message.nested_type:
        without_json_names(nested)
    return message


def test_the_licence_of_the_protocol_is_beside_it():
    licence = (ROOT / "clients/proto/LICENSE").read_text()
    assert licence == distribution("tritonclient").read_text("licenses/LICENSE.txt")
    head = (ROOT / "clients/proto/grpc_service.proto").read_text()
    for line in licence.splitlines():
        assert f"//{line.removeprefix('#')}".rstrip() in head


def test_no_lock_names_a_host():
    for lock in (ROOT / "clients").rglob("package-lock.json"):
        if "node_modules" not in lock.parts:
            assert "://" not in lock.read_text()
