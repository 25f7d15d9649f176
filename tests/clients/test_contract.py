"""The contract says what the client, the model, its configuration and the gateway do."""

import ast
import dataclasses
import importlib
import re
from pathlib import Path
from typing import Any, get_args

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2

import text_to_video.refusal
import unsee.gateway.callers.refusal
from text_to_video.acceleration import PACES
from text_to_video.base import Base, Defaults, Latents, Limits, Prompt
from text_to_video.refusal import Refusal
from text_to_video.request import parse_request
from unsee.client.address import address
from unsee.client.connection import GrpcServer
from unsee.client.messages import MODEL
from unsee.export.engines.model_config import model_config_pb2, text_to_video_config
from unsee.gateway.callers import settings
from unsee.gateway.callers.request import OUTPUTS
from unsee.gateway.fronts.http_exchange import CODES
from unsee.media.clip import Part, Progress

ROOT = Path(__file__).parents[2]
MODEL_FILE = ROOT / "model_repository" / "text_to_video" / "1" / "model.py"
NUMPY = {"BYTES": np.object_, "INT64": np.int64, "INT32": np.int32, "FP32": np.float32}
NUMPY |= {"BOOL": np.bool_}
BASE = Base(
    name="tiny",
    digest="sha256:0",
    schema_version=3,
    prompt=Prompt(masks_padding=False, padding="read", cleans=False),
    latents=Latents(channels=4, vae_scale=8),
    defaults=Defaults(4, 32, 24, 8, 5, 6.5, "DDIMScheduler"),
    limits=Limits((1, 6), (16, 64), (16, 48), 8, (1, 12), (0.0, 20.0), 48),
    schedulers=("DDIMScheduler",),
    graphs={},
)


@pytest.fixture
def contract(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "clients" / "generator"))
    module = importlib.import_module("caller_contract")
    written = ROOT / "clients" / "contract" / "text_to_video.json"
    return module.Contract.model_validate_json(written.read_bytes())


@pytest.fixture
def limited(contract):
    """Inputs of which the base bounds the value."""
    return [i for i in contract.inputs if i.limited_by and i.datatype != "BYTES"]


def parsed(contract: Any, **values: Any) -> Any:
    datatypes = {entry.name: NUMPY[entry.datatype] for entry in contract.inputs}
    given = {"prompt": b"a cat"} | values
    tensors = {name: np.array([value], datatypes[name]) for name, value in given.items()}
    return parse_request(tensors, BASE)


def test_inputs_and_outputs_are_those_of_the_configuration(contract):
    config = text_to_video_config()

    def described(entry):
        name = model_config_pb2.DataType.Name(entry.data_type).removeprefix("TYPE_")
        return name.replace("STRING", "BYTES"), tuple(entry.dims)

    assert {i.name: (*described(i), not i.optional) for i in config.input} == {
        i.name: (i.datatype, i.shape, i.required) for i in contract.inputs
    }
    assert {o.name: described(o) for o in config.output} == {
        o.name: (o.datatype, tuple(-1 if isinstance(n, str) else n for n in o.shape))
        for o in contract.outputs
    }
    assert tuple(output.name for output in contract.outputs) == OUTPUTS


def test_what_is_left_out_gets_the_default(contract):
    request = parsed(contract)
    for entry in contract.inputs:
        value = getattr(request, entry.name)
        if entry.default is not None:
            assert value == entry.default, entry.name
        elif entry.default_from == "the base's":
            assert value == getattr(BASE.defaults, entry.name), entry.name
        elif entry.name == "seed":
            assert value >= 0
        elif not entry.required:
            assert value is None, entry.name  # for the policy pointer to say
    with pytest.raises(Refusal, match="prompt is missing"):
        parse_request({}, BASE)


def test_the_bases_limits_are_those_that_the_model_checks(contract, limited):
    names = {entry.limited_by for entry in contract.inputs} | {
        entry.multiple_of for entry in contract.inputs
    }
    assert names - {None} == {field.name for field in dataclasses.fields(Limits)}
    for entry in limited:
        low, high = getattr(BASE.limits, entry.limited_by)
        step = getattr(BASE.limits, entry.multiple_of) if entry.multiple_of else 1
        for value in (low, high):
            assert getattr(parsed(contract, **{entry.name: value}), entry.name) == value
        for value in (low - step, high + step):
            with pytest.raises(Refusal, match=f"{entry.name} must be between"):
                parsed(contract, **{entry.name: value})
        if entry.one_more_than_multiple_of:
            assert getattr(BASE.latents, entry.one_more_than_multiple_of) == 1
        if entry.multiple_of:
            with pytest.raises(Refusal, match=f"{entry.name} must be a multiple"):
                parsed(contract, **{entry.name: low + 1})


def test_the_limits_that_every_server_has(contract):
    inputs = {entry.name: entry for entry in contract.inputs}
    assert inputs["seed"].minimum == 0
    assert inputs["acceleration"].choices == tuple(PACES)
    for entry in contract.inputs:
        for bound, beyond in ((entry.minimum, -1), (entry.maximum, 1)):
            if bound is not None:
                parsed(contract, **{entry.name: bound})
                with pytest.raises(Refusal, match=f"{entry.name} must be .*{bound}"):
                    parsed(contract, **{entry.name: bound + beyond})
        for choice in entry.choices or ():
            parsed(contract, **{entry.name: choice})
        if entry.choices is not None:
            with pytest.raises(Refusal, match=f"there is no {entry.name} 'other'"):
                parsed(contract, **{entry.name: "other"})


def test_the_events_are_those_that_the_model_sends(contract):
    progress, part, result = contract.events
    sent = set(re.findall(r'"type": "(\w+)"', MODEL_FILE.read_text()))
    assert sent == {progress.type, part.type, result.type}
    names = [field.name for field in dataclasses.fields(Progress)]
    assert [field.name for field in progress.fields] == names
    told = [field.name for field in part.fields]
    assert ["frames", *told] == [field.name for field in dataclasses.fields(Part)]
    assert [field.name for field in result.fields] == ["record"]
    assert [event.frames for event in contract.events] == [False, True, True]


def test_the_statuses_are_those_that_the_code_sends(contract):
    by = {
        who: {status.name for status in contract.statuses if who in status.sent_by}
        for who in ("model", "gateway", "client")
    }
    assert by["model"] == set(get_args(text_to_video.refusal.Status))
    assert by["gateway"] == set(get_args(unsee.gateway.callers.refusal.Status))
    for status in contract.statuses:
        assert status.number == grpc.StatusCode[status.name].value[0]
        assert status.http == CODES.get(status.name), status.name


def test_the_bounds_are_the_defaults_of_the_model_and_the_gateway(contract):
    bounds = {limit.name: limit.value for limit in contract.limits}
    gateway = settings.Limits()
    for limit in contract.limits:
        if limit.set_by == "gateway.yaml":
            assert getattr(gateway, limit.name) == bounds.pop(limit.name)
    (values,) = (
        node.value
        for node in ast.parse(MODEL_FILE.read_text()).body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]).startswith("(MAX_RUNNING")
    )
    assert list(bounds.values()) == list(ast.literal_eval(values))
    for name in bounds:
        assert f'"{name}"' in MODEL_FILE.read_text()


def test_the_metadata_is_what_the_client_sends(contract, monkeypatch):
    monkeypatch.setenv("UNSEE_TOKEN", "unsee_x")
    connection = GrpcServer(address("127.0.0.1:1")).connect()
    sent = {name for name, _ in connection._metadata}
    assert {entry.name for entry in contract.metadata} == sent
    page = (ROOT / "docs" / "reference" / "contract.md").read_text()
    assert "4 MiB (4,194,304 bytes)" in page, "what plain gRPC libraries take"


def test_the_addresses_are_those_that_are_served(contract):
    assert contract.model == MODEL
    front = (ROOT / "serving/unsee/gateway/fronts/http_front.py").read_text()
    assert contract.service.http_path.replace(MODEL, "{MODEL}") in front
    package, _, service = contract.service.grpc_service.partition(".")
    assert service_pb2.DESCRIPTOR.package == package
    methods = service_pb2.DESCRIPTOR.services_by_name[service].methods_by_name
    assert contract.service.grpc_method in methods
