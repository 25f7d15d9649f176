"""What the launcher checks before it starts anything, and how it words what it finds."""

import dataclasses
import json
import os
import re
import shutil
import socket
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from serving_fakes import write_fake_repository
from unsee.core.errors import InputError, InterpreterUnfit, Locked, PortInUse, RepositoryIncomplete
from unsee.core.files import lock
from unsee.repository.check import loadable_models
from unsee.repository.layout import SERVED_MODELS
from unsee.serving.server.installation import assemble_backends, find_installation
from unsee.serving.server.interpreter import (
    StubInterpreter,
    check,
    fit_interpreter,
    probe,
    python3_beside,
)
from unsee.serving.server.triton import (
    ServerSettings,
    TritonServer,
    check_place,
    check_ports,
    log_summary,
    server_command,
    server_environment,
)

VERSIONS = {"numpy": "1.26.4", "onnxruntime": "1.31", "safetensors": "1", "tokenizers": "1"}


def interpreter(python_version="3.11", **versions):
    kept = {name: v for name, v in (VERSIONS | versions).items() if v}
    return StubInterpreter(Path("/x/python3"), python_version, "/x/lib", "libpython3.so", kept)


@pytest.mark.process
def test_the_tests_own_interpreter_is_fit():
    assert fit_interpreter().executable == Path(sys.executable).with_name("python3")


@pytest.mark.parametrize(
    ("unfit", "sentence"),
    [
        (interpreter(numpy="2.1.0"), "needs numpy 1.26, but /x/python3 has numpy 2.1.0"),
        (interpreter(numpy="1.25.2"), "has numpy 1.25.2"),
        (interpreter(numpy=None, tokenizers=None), "lacks numpy, tokenizers"),
        (interpreter("3.13"), "needs Python 3.11 or 3.12, but /x/python3 is 3.13"),
    ],
)
def test_an_unfit_interpreter_is_refused(unfit, sentence):
    with pytest.raises(InterpreterUnfit, match=sentence):
        check(unfit)


@pytest.mark.process
@pytest.mark.parametrize("script", ["exit 1", "echo nonsense", "echo '{}'"])
def test_an_interpreter_that_does_not_answer_is_refused(tmp_path, script):
    python3 = tmp_path / "python3"
    python3.write_text(f"#!/bin/sh\n{script}\n")
    python3.chmod(0o755)
    with pytest.raises(InterpreterUnfit, match="does not answer"):
        probe(python3)


def test_a_missing_python3_is_named(tmp_path):
    with pytest.raises(InterpreterUnfit, match="no python3 beside"):
        python3_beside(tmp_path / "python")


@pytest.mark.process
def test_the_backends_folder_holds_copies_without_caches(tmp_path):
    folder = assemble_backends(find_installation(fit_interpreter()), tmp_path / "backends")
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert files == {
        "onnxruntime/engine_options.py",
        "onnxruntime/model.py",
        "onnxruntime/stand_in.py",
        "openvino/engine_options.py",
        "openvino/model.py",
        "openvino/stand_in.py",
        "python/libtriton_python.so",
        "python/triton_python_backend_stub",
        "python/triton_python_backend_utils.py",
    }
    assert not any(path.is_symlink() for path in folder.rglob("*"))


def test_a_whole_repository_is_loaded_whole(fake_repository):
    graphs = ["text_encoder", "video_denoiser", "vae_decoder"]
    assert loadable_models(fake_repository) == [*graphs, "prompt_encoder", "text_to_video"]


@pytest.mark.parametrize(("name", "sign"), [("a b", "' '"), ("it's", '"\'"'), ("a$b", "'$'")])
def test_a_path_that_a_shell_would_cut_up_is_refused(tmp_path, name, sign):
    with pytest.raises(InputError, match=re.escape(f"/{name}: its path holds {sign}; move")):
        check_place(tmp_path / name)
    check_place(tmp_path / "modèles_1.2-x+y,z@w")


def test_no_export_gets_in_until_the_server_has_ended(fake_repository, tmp_path, monkeypatch):
    server = TritonServer(ServerSettings(fake_repository, tmp_path / "log"))
    guard = SimpleNamespace(stdin=None, wait=lambda: 0)
    monkeypatch.setattr(server, "_start", lambda: setattr(server, "_guard", guard))
    for _ in range(2):  # the supervisor starts it again
        with lock(fake_repository, command="export"):
            words = f"the model repository {fake_repository} is being changed by another process"
            with pytest.raises(Locked, match=words):
                server.start()
        server.start()
        with pytest.raises(Locked), lock(fake_repository, command="export"):
            pass
        server.stop()


def test_a_policy_whose_last_revision_was_retired_needs_no_folder(tmp_path):
    repository = write_fake_repository(tmp_path / "repository")
    shutil.rmtree(repository / "policy_family")
    file = repository / "policies.json"
    content = json.loads(file.read_text())
    content["policies"]["family"] = {"active": None, "eligible": [], "history": [1]}
    file.write_text(json.dumps(content))
    assert loadable_models(repository) == list(SERVED_MODELS)


@pytest.mark.parametrize("revision", ["1", "2", "3"])
def test_a_lost_revision_does_not_keep_the_others_from_being_served(tmp_path, revision):
    repository = write_fake_repository(tmp_path / "repository")
    shutil.rmtree(repository / "policy_family" / revision)
    assert loadable_models(repository) == list(SERVED_MODELS)


@pytest.mark.parametrize("model", ["text_encoder", "video_denoiser", "vae_decoder"])
def test_graphs_of_two_exports_are_not_served(tmp_path, model):
    repository = write_fake_repository(tmp_path / "repository")
    file = repository / model / "1" / "export.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"sha256": "sha256:another"}))
    words = f"{model} is of another export .* sha256:another, not sha256:.*again with: unsee export"
    with pytest.raises(RepositoryIncomplete, match=words):
        loadable_models(repository)
    file.unlink()
    with pytest.raises(RepositoryIncomplete, match=f"cannot be served: .*{model}/1/export.json"):
        loadable_models(repository)


def test_a_repository_of_version_0_1_is_refused_with_what_to_do():
    old = Path(__file__).parents[2] / "export" / "repository" / "version_0_1"
    words = "policies.json has the format 1, .* reads 2; .*unsee export, and publish its policies"
    with pytest.raises(InputError, match=words):
        loadable_models(old)


@pytest.mark.parametrize(
    "part",
    [
        "video_denoiser/1/model.onnx",
        "vae_decoder/config.pbtxt",
        "text_encoder/1/model.onnx",
        "policy_base/1/model.onnx",
        "prompt_encoder/1/model.py",
        "text_to_video/1/model.py",
        "text_to_video/assets/samplers.safetensors",
    ],
)
@pytest.mark.parametrize("how", ["missing", "empty"])
def test_a_half_written_repository_is_refused_naming_the_part(tmp_path, part, how):
    repository = write_fake_repository(tmp_path / "repository")
    (repository / part).unlink()
    if how == "empty":
        (repository / part).touch()
    with pytest.raises(RepositoryIncomplete, match=f"incomplete: {part} is {how}; make it with"):
        loadable_models(repository)


def test_a_base_that_is_decoded_in_order_has_a_decoder_more(tmp_path):
    repository = write_fake_repository(tmp_path / "repository")
    file = repository / "text_to_video" / "assets" / "base.json"
    content = json.loads(file.read_text())
    content["latents"]["frames_per_latent"] = 4
    file.write_text(json.dumps(content))
    with pytest.raises(RepositoryIncomplete, match=r"vae_decoder_next/config\.pbtxt is missing"):
        loadable_models(repository)
    shutil.copytree(repository / "vae_decoder", repository / "vae_decoder_next")
    assert set(loadable_models(repository)) == {*SERVED_MODELS, "vae_decoder_next"}


def test_a_record_of_the_base_in_another_format_is_refused_with_what_to_do(tmp_path):
    repository = write_fake_repository(tmp_path / "repository")
    file = repository / "text_to_video" / "assets" / "base.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"schema_version": 2}))
    words = r"cannot be served: base\.json has schema_version 2, not 3; .*again with: unsee export"
    with pytest.raises(RepositoryIncomplete, match=words):
        loadable_models(repository)


@pytest.mark.parametrize("model", ["video_denoiser", "policy_base", "prompt_encoder"])
def test_a_repository_without_a_model_is_refused(tmp_path, model):
    repository = write_fake_repository(tmp_path / "repository")
    shutil.rmtree(repository / model)
    with pytest.raises(RepositoryIncomplete, match=f"{model}/config.pbtxt is missing"):
        loadable_models(repository)


def test_a_folder_that_is_no_repository_is_refused(tmp_path):
    with pytest.raises(InputError, match="no model repository"):
        loadable_models(tmp_path)


def test_a_port_in_use_is_refused_naming_its_option(settings):
    with socket.socket() as other:
        other.bind(("127.0.0.1", settings.http_port))
        other.listen()
        with pytest.raises(PortInUse, match=rf":{settings.http_port} .*--http-port"):
            check_ports(settings)
    check_ports(settings)


@pytest.mark.parametrize("host", ["", " ", "a b", "10.255.255.254"])
def test_a_host_that_is_not_this_machine_is_refused_naming_its_option(settings, host):
    with pytest.raises(InputError, match=r"cannot listen on the host .*--host, such as 127"):
        check_ports(dataclasses.replace(settings, host=host))


def test_two_fronts_cannot_share_a_port(settings):
    port = settings.grpc_port
    with pytest.raises(PortInUse, match=f"--grpc-port and --metrics-port are both {port}; give"):
        check_ports(dataclasses.replace(settings, metrics_port=port))


def test_the_command_line_names_every_model_and_address(settings, tmp_path):
    command = server_command(Path("/b"), settings, ["a", "b"], tmp_path, "prefix-")
    assert {"--load-model=a", "--load-model=b", "--grpc-address=127.0.0.1"} <= set(command)
    assert f"--grpc-port={settings.grpc_port}" in command
    assert "--backend-config=python,shm-region-prefix-name=prefix-" in command


@pytest.mark.process
def test_the_environment_leads_the_stub_to_the_right_python(settings):
    found = fit_interpreter()
    inherited = {"PATH": "/bin", "PYTHONPATH": "/elsewhere", "LD_LIBRARY_PATH": "/mine"}
    environment = server_environment(inherited, settings, found, find_installation(found))
    assert environment["PATH"].split(os.pathsep)[0] == str(found.executable.parent)
    assert environment["LD_LIBRARY_PATH"].split(os.pathsep)[-1] == "/mine"
    assert "PYTHONPATH" not in environment
    assert environment["UNSEE_THREADS"] == "1"
    assert environment["ORT_DISABLE_TELEMETRY"] == "1"


def test_every_interface_is_reached_through_the_loopback(settings):
    everywhere = dataclasses.replace(settings, host="0.0.0.0", grpc_port=9)
    assert everywhere.grpc_url == "127.0.0.1:9"


def test_the_logs_reason_is_preferred_to_its_end():
    failed = "E1 lifecycle.cc] \"failed to load 'x' version 1: Internal: it is broken\"\n"
    assert log_summary(f"start\n{failed}{failed}end\n") == failed[18:-2]
    assert log_summary("\n".join(map(str, range(40)))).split() == [str(n) for n in range(25, 40)]
