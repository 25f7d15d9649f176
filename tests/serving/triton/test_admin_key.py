"""Triton's admin APIs are closed to whoever has not the key, above all to pages of a browser."""

import errno
import json
import os
import stat
import urllib.error
import urllib.request

import pytest
from tritonclient.grpc import InferenceServerClient
from tritonclient.utils import InferenceServerException

from serving_fakes import admin_client
from unsee.client import Client
from unsee.core.errors import InputError, ServerError
from unsee.serving.server.triton import TritonServer, key_options
from unsee.triton.admin_key import (
    GRPC_HEADER,
    HTTP_HEADER,
    admin_headers,
    forget_key,
    key_file,
    make_key,
    missing_key,
    read_key,
    run_dir,
)
from unsee.triton.server import Server

MODEL = "parameters"
EVIL = {MODEL: {"config": '{"backend": "python"}', "file:1/model.py": "cHJpbnQoMSk="}}


@pytest.mark.triton
@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v2/repository/models/evil/load", EVIL),
        ("/v2/repository/models/text_encoder/unload", {}),
        ("/v2/repository/index", {}),
        ("/v2/models/text_to_video/generate_stream", {"prompt": ""}),
        ("/v2/models/text_to_video/generate", {"prompt": ""}),
        ("/v2/models/text_encoder/infer", {"inputs": []}),
        ("/v2/models/text_encoder/versions/1/infer", {"inputs": []}),
        ("/v2/systemsharedmemory/region/a/register", {"key": "/a", "offset": 0, "byte_size": 8}),
        ("/v2/cudasharedmemory/region/a/register", {}),
        ("/v2/systemsharedmemory/unregister", {}),
        ("/v2/trace/setting", {"trace_level": ["TENSORS"]}),
        ("/v2/models/text_to_video/trace/setting", {"trace_level": ["TENSORS"]}),
        ("/v2/logging", {"log_file": "/tmp/x"}),
        ("/v2/models/stats", None),
        ("/v2/models/text_to_video/config", None),
    ],
)
def test_a_web_page_on_this_machine_gets_403(server, path, body):
    assert asked_by_a_page(server, path, body) == 403


@pytest.mark.triton
def test_readiness_and_generation_need_no_key(server):
    assert asked_by_a_page(server, "/v2/health/ready", None) == 200
    with Client(server.settings.grpc_url, timeout_s=120) as client:
        assert client.generate("a cat", policy="family").record.policy == "family"


@pytest.mark.triton
def test_over_http_the_key_opens(server):
    key = read_key(server.settings.grpc_url)
    assert asked_by_a_page(server, "/v2/repository/index", {}, {HTTP_HEADER: key}) == 200
    assert asked_by_a_page(server, "/v2/repository/index", {}, {HTTP_HEADER: key + "x"}) == 403


@pytest.mark.triton
def test_over_grpc_the_admin_methods_need_it(server):
    url = server.settings.grpc_url
    with InferenceServerClient(url) as anybody, admin_client(url) as operator:
        for name, arguments in {
            "get_model_repository_index": (),
            "get_inference_statistics": (),
            "get_model_config": ("text_to_video",),
            "get_log_settings": (),
            "get_trace_settings": (),
            "get_system_shared_memory_status": (),
        }.items():
            with pytest.raises(InferenceServerException, match="restricted"):
                getattr(anybody, name)(*arguments)
            getattr(operator, name)(*arguments)
        for call in (anybody.load_model, anybody.unload_model):
            with pytest.raises(InferenceServerException, match="restricted"):
                call("text_encoder")


@pytest.mark.triton
def test_who_has_not_the_key_is_told_where_it_is(server, tmp_path, monkeypatch):
    monkeypatch.setenv("UNSEE_RUN_DIR", str(tmp_path))
    with pytest.raises(ServerError, match=f"wants its admin key, and {tmp_path}"):
        Server(server.settings.grpc_url).versions("text_encoder")


@pytest.mark.triton
def test_the_key_is_for_this_user_alone_and_goes_with_the_server(settings):
    with TritonServer(settings):
        file = key_file(settings.grpc_url)
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert len(file.read_text()) >= 40
    assert not file.exists()


def test_keys_differ_and_only_ones_own_is_removed(tmp_path, monkeypatch):
    monkeypatch.setenv("UNSEE_RUN_DIR", str(tmp_path))
    first = make_key("127.0.0.1:1")
    second = make_key("127.0.0.1:1")
    assert first != second == read_key("localhost:1")
    forget_key("127.0.0.1:1", first)
    assert read_key("127.0.0.1:1") == second
    forget_key("127.0.0.1:1", second)
    assert read_key("127.0.0.1:1") is None
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_nothing_of_a_key(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setenv("UNSEE_RUN_DIR", str(tmp_path))
    monkeypatch.setattr(os, "fdopen", full)
    with pytest.raises(InputError, match="No space left"):
        make_key("127.0.0.1:1")
    assert list(tmp_path.iterdir()) == []


def test_a_key_from_outside_is_used_and_kept(tmp_path, monkeypatch):
    file = tmp_path / "key"
    monkeypatch.setenv("UNSEE_ADMIN_KEY_FILE", str(file))
    with pytest.raises(InputError, match="holds no key"):
        make_key("127.0.0.1:1")
    file.write_text("from-a-secret\n")
    assert make_key("127.0.0.1:1") == "from-a-secret"
    forget_key("127.0.0.1:1", "from-a-secret")
    assert file.exists()
    options = key_options("from-a-secret")
    assert all(option.endswith("unsee-admin-key=from-a-secret") for option in options)


def test_the_paths_in_the_environment_may_start_with_a_tilde(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("UNSEE_RUN_DIR", "~/run")
    assert key_file("127.0.0.1:1") == tmp_path / "run" / "triton-1.key"
    monkeypatch.setenv("UNSEE_ADMIN_KEY_FILE", "~/key")
    assert key_file("127.0.0.1:1") == tmp_path / "key"
    monkeypatch.setenv("UNSEE_ADMIN_KEY_FILE", "~nobody-here/key")
    with pytest.raises(InputError, match="UNSEE_ADMIN_KEY_FILE: '~nobody-here/key' cannot be"):
        key_file("127.0.0.1:1")


def test_a_run_folder_that_others_can_write_to_is_refused(tmp_path, monkeypatch):
    monkeypatch.delenv("UNSEE_RUN_DIR", raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    folder = run_dir()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    folder.chmod(0o777)
    with pytest.raises(InputError, match="only this user"):
        run_dir()
    folder.rmdir()
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    folder.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="only this user"):
        run_dir()


def test_without_a_key_nothing_is_shown(tmp_path, monkeypatch):
    monkeypatch.setenv("UNSEE_RUN_DIR", str(tmp_path))
    assert admin_headers("127.0.0.1:1") == ()


def test_a_key_is_shown_to_this_machine_alone_unless_it_was_named(tmp_path, monkeypatch):
    monkeypatch.setenv("UNSEE_RUN_DIR", str(tmp_path))
    key = make_key("127.0.0.1:1")
    for host in ("127.0.0.1", "localhost"):
        assert admin_headers(f"{host}:1") == ((GRPC_HEADER, key),)
    for host in ("192.0.2.1", "[2001:db8::1]", "a..b"):
        assert admin_headers(f"{host}:1") == ()
        assert "it is on another machine" in missing_key(f"{host}:1")
    assert "does not hold it" in missing_key("127.0.0.1:1")
    monkeypatch.setenv("UNSEE_ADMIN_KEY_FILE", str(tmp_path / "triton-1.key"))
    assert admin_headers("192.0.2.1:1") == ((GRPC_HEADER, key),)


def asked_by_a_page(server, path, body, headers=None):
    """The status that a simple cross-site request gets; None as `body` makes it a GET."""
    url = f"http://127.0.0.1:{server.settings.http_port}{path}"
    foreign = {"Origin": "http://evil.example", "Host": "evil.example"}
    foreign["Content-Type"] = "text/plain"
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, foreign | (headers or {}))
    try:
        with urllib.request.urlopen(request, timeout=20) as response:
            return response.status
    except urllib.error.HTTPError as error:
        return error.code


@pytest.mark.parametrize("content", [b"two\nlines\n", b"key: abc", b"\xff\n"])
def test_what_is_no_key_is_not_sent_to_the_server(content, tmp_path, monkeypatch):
    file = tmp_path / "key"
    file.write_bytes(content)
    monkeypatch.setenv("UNSEE_ADMIN_KEY_FILE", str(file))
    for use in (make_key, read_key):
        with pytest.raises(InputError, match="key is no key of Triton's admin APIs, which is one"):
            use("127.0.0.1:1")
