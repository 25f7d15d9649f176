"""Signed clips, with a throwaway authority: what a C2PA reader says of them, and refusals."""

import datetime
import json
from pathlib import Path

import numpy as np
import pytest

from unsee.client.testing import gradient_clip
from unsee.core.errors import InputError
from unsee.media.metadata import TRAINED_MEDIA, read_record
from unsee.media.provenance import SIGNABLE, Provenance

c2pa = pytest.importorskip("c2pa", reason="signing needs the extra `provenance`")
x509 = pytest.importorskip("cryptography.x509", reason="the throwaway authority needs it")


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    """A folder with root.pem, and chain.pem and key.pem of a signer that it vouches for."""
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    def name(common):
        parts = [(NameOID.ORGANIZATION_NAME, "Studio"), (NameOID.COMMON_NAME, common)]
        return x509.Name([x509.NameAttribute(oid, text) for oid, text in parts])

    def certificate(subject, key, issuer, issuer_key, authority):
        others = "content_commitment key_encipherment data_encipherment key_agreement"
        usage = dict.fromkeys(f"{others} encipher_only decipher_only".split(), False)
        now = datetime.datetime.now(datetime.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(name(subject))
            .issuer_name(name(issuer))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=2))
            .add_extension(x509.BasicConstraints(authority, None), critical=True)
            .add_extension(
                x509.KeyUsage(
                    digital_signature=not authority,
                    key_cert_sign=authority,
                    crl_sign=authority,
                    **usage,
                ),
                critical=True,
            )
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), False
            )
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
        )
        if not authority:
            usages = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION])
            builder = builder.add_extension(usages, critical=False)
        return builder.sign(issuer_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    folder = tmp_path_factory.mktemp("authority")
    root_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    root = certificate("Root", root_key, "Root", root_key, True)
    signer = certificate("Signer", key, "Root", root_key, False)
    (folder / "root.pem").write_bytes(root)
    (folder / "chain.pem").write_bytes(signer + root)
    (folder / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return folder


@pytest.fixture
def signer(authority):
    return Provenance(certificate=authority / "chain.pem", key=authority / "key.pem")


@pytest.fixture
def clip():
    return gradient_clip({"prompt": "a cat 🌼", "policy": "family"})


def read(path, authority):
    """The active manifest and the validation state, as somebody sees it who trusts the root."""
    anchors = {"trust": {"trust_anchors": (authority / "root.pem").read_text()}}
    settings = {"verify": {"verify_trust": True, "remote_manifest_fetch": False}} | anchors
    context = c2pa.Context.from_dict(settings)
    with c2pa.Reader(str(path), context=context) as reader:
        return reader.get_active_manifest(), reader.get_validation_state()


def assertion(manifest, label):
    return next(each["data"] for each in manifest["assertions"] if each["label"] == label)


@pytest.mark.process
@pytest.mark.parametrize("suffix", SIGNABLE)
def test_a_signed_clip_is_trusted_and_says_what_made_it(clip, signer, authority, tmp_path, suffix):
    path = clip.save(tmp_path / f"clip{suffix}", signer=signer)
    manifest, state = read(path, authority)
    assert state == "Trusted"
    (action,) = assertion(manifest, "c2pa.actions.v2")["actions"]
    assert action["action"] == "c2pa.created"
    assert action["digitalSourceType"] == TRAINED_MEDIA
    assert assertion(manifest, "org.unsee.record") == clip.record.model_dump(mode="json")
    assert manifest["signature_info"]["common_name"] == "Signer"
    assert read_record(path) == clip.record
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


def test_a_change_shows(clip, signer, authority, tmp_path):
    path = clip.save(tmp_path / "clip.png", signer=signer)
    data = bytearray(path.read_bytes())
    data[data.index(b"IDAT") + 40] ^= 1
    path.write_bytes(data)
    assert read(path, authority)[1] == "Invalid"


def test_a_stranger_is_valid_but_not_trusted(clip, signer, tmp_path):
    path = clip.save(tmp_path / "clip.gif", signer=signer)
    with c2pa.Reader(str(path)) as reader:
        assert reader.get_validation_state() == "Valid"
        codes = {each["code"] for each in json.loads(reader.json())["validation_status"]}
    assert codes == {"signingCredential.untrusted"}


def test_an_npy_cannot_be_signed(clip, signer, tmp_path):
    with pytest.raises(InputError, match=r"\.npy file cannot be signed; use one of \.mp4"):
        clip.save(tmp_path / "clip.npy", signer=signer)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"certificate": "missing.pem"}, r"cannot read .*missing\.pem"),
        ({"key": "missing.pem"}, r"cannot read .*missing\.pem"),
        ({"key": "root.pem"}, r"cannot sign with .*root\.pem"),
        ({"algorithm": "md5"}, "as md5"),
        ({"certificate": "picture.npy"}, r"cannot sign with .*picture\.npy"),
    ],
)
def test_files_that_do_not_fit_are_one_sentence(clip, authority, tmp_path, change, message):
    np.save(authority / "picture.npy", np.full(300, 200, np.uint8))
    files = {"certificate": "chain.pem", "key": "key.pem"} | change
    given = {k: v if k == "algorithm" else authority / v for k, v in files.items()}
    with pytest.raises(InputError, match=message) as caught:
        clip.save(tmp_path / "clip.png", signer=Provenance(**given))
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_library_is_one_sentence(clip, signer, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "c2pa", None)
    with pytest.raises(InputError, match=r'pip install "unsee\[provenance\]"'):
        clip.save(Path(tmp_path) / "clip.mp4", signer=signer)
