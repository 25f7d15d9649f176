"""TLS and client certificates on both fronts."""

import contextlib
import json
import signal
import socket
import ssl
import struct
import urllib.error
import urllib.request

import pytest
import trustme
from gateway_calls import closed, command, connection_to, turned_away

from gateway_fakes import TOKENS, tenants
from unsee.client.client import Client
from unsee.core.errors import InputError, RequestRejected, UnseeError


class Authority:
    """Signs certificates; `pem` writes one with its key and returns both files."""

    def __init__(self, folder):
        self._folder = folder
        self._signer = trustme.CA()
        self.file = folder / "authority.pem"
        self._signer.cert_pem.write_to_path(self.file)

    def pem(self, name):
        issued = self._signer.issue_cert("127.0.0.1", common_name=name)
        file, key_file = self._folder / f"{name}.crt", self._folder / f"{name}.key"
        issued.cert_chain_pems[0].write_to_path(file)
        issued.private_key_pem.write_to_path(key_file)
        return file, key_file


@pytest.fixture
def authority(tmp_path):
    return Authority(tmp_path)


@pytest.fixture
def other_authority(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    return Authority(tmp_path / "elsewhere")


@pytest.fixture
def encrypted(serve, authority):
    certificate, key = authority.pem("server")
    return serve(tls={"certificate": certificate, "key": key})


@pytest.fixture
def mutual(serve, authority):
    certificate, key = authority.pem("server")
    return serve(
        tls={"certificate": certificate, "key": key, "client_ca": authority.file},
        tenants=tenants(studio={"certificate_name": "studio.example"}),
    )


def policies(served, authority, *, token=None, pair=None):
    """GET /v2/policies over TLS."""
    context = ssl.create_default_context(cafile=authority.file)
    if pair is not None:
        context.load_cert_chain(*pair)
    headers = {} if token is None else {"authorization": f"Bearer {token}"}
    url = f"https://{served.addresses.http}/v2/policies"
    request = urllib.request.Request(url, headers=headers)
    with urllib.request.urlopen(request, timeout=10, context=context) as response:
        return json.loads(response.read())


def test_a_token_travels_encrypted(encrypted, authority):
    url = encrypted.addresses.grpc
    with Client(url, token=TOKENS["kids"], ca_certificate=authority.file) as client:
        assert client.generate("a").record.policy == "family"
    assert policies(encrypted, authority, token=TOKENS["kids"])["default_policy"] == "family"


def test_connections_that_never_encrypt_keep_nobody_out_and_are_cut_off(serve, authority):
    certificate, key = authority.pem("server")
    served = serve(
        grpc=None,
        tls={"certificate": certificate, "key": key},
        limits={"read_timeout_s": 1.0, "drain_timeout_s": 0.5},
    )
    with contextlib.ExitStack() as stack:
        opened = [stack.enter_context(connection_to(served)) for _ in range(300)]
        assert policies(served, authority, token=TOKENS["kids"])["default_policy"] == "family"
        assert turned_away(served) >= 300 - 64
        assert all(closed(connection) for connection in opened)


@pytest.mark.parametrize("sent", [b"", b"\x16\x03\x01", b"GET /livez HTTP/1.1\r\n\r\n"])
def test_a_connection_that_leaves_before_it_is_encrypted_is_no_error(
    encrypted, authority, sent, caplog
):
    with connection_to(encrypted) as connection:
        connection.sendall(sent)
    with connection_to(encrypted) as connection:
        connection.sendall(sent)
        reset = struct.pack("ii", 1, 0)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
    assert policies(encrypted, authority, token=TOKENS["kids"])["default_policy"] == "family"
    assert caplog.records == []


@pytest.mark.process
def test_failed_handshakes_cannot_fill_the_log(authority, tmp_path):
    certificate, key = map(str, authority.pem("server"))
    config = {
        "grpc": "127.0.0.1:0",
        "http": "127.0.0.1:0",
        "tls": {"certificate": certificate, "key": key},
        "tenants": tenants(),
        "limits": {"drain_timeout_s": 0.5},
    }
    with command(tmp_path, config) as (process, url):
        host, port = url.split(":")
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\n\r\n")
            assert closed(connection)
        process.send_signal(signal.SIGTERM)
        assert process.communicate(timeout=30) == ("stopped\n", "")


def test_without_tls_or_with_another_authority_there_is_no_connection(encrypted, other_authority):
    url = encrypted.addresses.grpc
    for options in ({}, {"ca_certificate": other_authority.file}, {"tls": True}):
        with (
            Client(url, token=TOKENS["kids"], connect_timeout_s=2.0, **options) as client,
            pytest.raises(UnseeError),
        ):
            client.generate("a", timeout_s=5)


def test_a_certificate_is_a_tenant(mutual, authority):
    certificate, key = authority.pem("studio.example")
    files = {"ca_certificate": authority.file, "client_certificate": certificate, "client_key": key}
    with Client(mutual.addresses.grpc, **files) as client:
        assert client.generate("a").record.policy == "studio-x"
    answer = policies(mutual, authority, pair=(certificate, key))
    assert answer["default_policy"] == "studio-x"


def test_a_certificate_that_names_nobody_needs_a_token(mutual, authority):
    certificate, key = authority.pem("stranger")
    files = {"ca_certificate": authority.file, "client_certificate": certificate, "client_key": key}
    with (
        Client(mutual.addresses.grpc, **files) as client,
        pytest.raises(RequestRejected, match="has no token"),
    ):
        client.generate("a")
    with pytest.raises(urllib.error.HTTPError, match="401"):
        policies(mutual, authority, pair=(certificate, key))
    with Client(mutual.addresses.grpc, token=TOKENS["kids"], **files) as client:
        assert client.generate("a").record.policy == "family"


def test_a_certificate_and_the_token_of_another_tenant_contradict(mutual, authority):
    certificate, key = authority.pem("studio.example")
    with pytest.raises(urllib.error.HTTPError, match="401"):
        policies(mutual, authority, token=TOKENS["kids"], pair=(certificate, key))


def test_a_certificate_of_another_authority_is_none(mutual, authority, other_authority):
    pair = other_authority.pem("studio.example")
    with pytest.raises((ssl.SSLError, urllib.error.URLError, ConnectionError)):
        policies(mutual, authority, pair=pair)
    with pytest.raises((ssl.SSLError, urllib.error.URLError, ConnectionError)):
        policies(mutual, authority, token=TOKENS["kids"])
    files = {"client_certificate": pair[0], "client_key": pair[1]}
    with (
        Client(
            mutual.addresses.grpc, ca_certificate=authority.file, connect_timeout_s=2.0, **files
        ) as client,
        pytest.raises(UnseeError),
    ):
        client.generate("a", timeout_s=5)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"token": "t"}, "unencrypted"),
        ({"client_certificate": "c.pem"}, "go together"),
        ({"client_certificate": "c.pem", "client_key": "k.pem"}, "goes with TLS"),
        ({"ca_certificate": "none.pem"}, "cannot read none.pem"),
        ({"token": "two words", "tls": True}, "printable"),
    ],
)
def test_options_that_do_not_fit_are_refused_before_anything_is_sent(options, sentence):
    with pytest.raises(InputError, match=sentence):
        Client("clips.example:443", **options)


def test_the_token_comes_from_the_environment(encrypted, authority, monkeypatch):
    monkeypatch.setenv("UNSEE_TOKEN", TOKENS["kids"])
    monkeypatch.setenv("HOME", str(authority.file.parent))
    monkeypatch.setenv("UNSEE_CA_CERTIFICATE", f"~/{authority.file.name}")
    with Client(encrypted.addresses.grpc) as client:
        assert client.generate("a").record.policy == "family"
