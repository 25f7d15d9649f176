"""TLS and client certificates on both fronts."""

import datetime
import ipaddress
import json
import ssl
import urllib.error
import urllib.request

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from gateway_fakes import TOKENS, tenants
from unsee.client.client import Client
from unsee.core.errors import InputError, RequestRejected, UnseeError


class Authority:
    """Signs certificates; `pem` writes one with its key and returns both files."""

    def __init__(self, folder, name):
        self.folder = folder
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = _name(name)
        self.file = folder / f"{name}.pem"
        certificate = self._certificate(self.name, self.key.public_key(), authority=True)
        self.file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def pem(self, name):
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self._certificate(_name(name), key.public_key(), authority=False)
        file, key_file = self.folder / f"{name}.crt", self.folder / f"{name}.key"
        file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        key_file.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return file, key_file

    def _certificate(self, subject, public_key, *, authority):
        now = datetime.datetime.now(datetime.UTC)
        address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
        own = x509.SubjectKeyIdentifier.from_public_key(public_key)
        signer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(minutes=5))
            .not_valid_after(now + datetime.timedelta(hours=1))
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName([address]), critical=False)
            .add_extension(own, critical=False)
            .add_extension(signer, critical=False)
            .sign(self.key, hashes.SHA256())
        )


def _name(text):
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


@pytest.fixture
def authority(tmp_path):
    return Authority(tmp_path, "authority")


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


def test_without_tls_or_with_another_authority_there_is_no_connection(encrypted, tmp_path):
    other = Authority(tmp_path, "other")
    url = encrypted.addresses.grpc
    for options in ({}, {"ca_certificate": other.file}, {"tls": True}):
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


def test_a_certificate_of_another_authority_is_none(mutual, authority, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    pair = Authority(tmp_path / "elsewhere", "other").pem("studio.example")
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
    monkeypatch.setenv("UNSEE_CA_CERTIFICATE", str(authority.file))
    with Client(encrypted.addresses.grpc) as client:
        assert client.generate("a").record.policy == "family"
