"""`signature.sig`: who stands for a delta folder, by an elliptic-curve key of theirs.

The signature is a Sigstore bundle as `model-signing` makes it: an in-toto statement with the
SHA-256 of every file of the folder, signed with ECDSA (P-256, P-384 or P-521).
"""

from __future__ import annotations

import base64
import json
import os
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from getpass import getpass
from pathlib import Path
from typing import Any

from unsee.core.errors import DeltaDamaged, InputError
from unsee.core.files import write_file
from unsee.deltas.files import SIGNATURE_FILE, verify_files

PASSWORD_VARIABLE = "UNSEE_SIGN_PASSWORD"
"""The environment variable with the password of an encrypted private key."""

_MAKE_PRIVATE = "openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out KEY.pem"
_MAKE_PUBLIC = "openssl pkey -in KEY.pem -pubout -out PUBLIC.pem"
_UNREADABLE = (ValueError, LookupError, TypeError, AttributeError, RecursionError)


@dataclass(frozen=True)
class FolderSigner:
    """A private key that is ready to sign folders; made by `load_signer`."""

    config: Any

    def sign(self, folder: Path) -> None:
        """Write `signature.sig` into `folder`, in place of one that is there.

        Raises `DeltaDamaged` if `folder` is not as its card says.
        """
        verify_files(folder)
        target = folder.resolve()
        with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as scratch:
            fresh = Path(scratch) / SIGNATURE_FILE
            self.config.sign(target, fresh)
            write_file(target / SIGNATURE_FILE, fresh.read_bytes())

    def sign_contents(self, files: Mapping[str, bytes]) -> bytes:
        """The signature over files by name, as the bytes of a Sigstore bundle."""
        with tempfile.TemporaryDirectory(prefix="unsee-sign-") as scratch:
            folder = _folder_of(files, Path(scratch))
            bundle = Path(scratch) / SIGNATURE_FILE
            self.config.sign(folder, bundle)
            return bundle.read_bytes()


def verify_contents(files: Mapping[str, bytes], signature: bytes, public_key: Path) -> None:
    """Check a signature that `FolderSigner.sign_contents` made over these very files.

    Raises `InputError` if it was made over others or with another key, or `public_key` is no PEM
    file with an elliptic-curve public key.
    """
    verifier = _verifier(public_key)
    from cryptography.exceptions import InvalidSignature

    with tempfile.TemporaryDirectory(prefix="unsee-verify-") as scratch:
        folder = _folder_of(files, Path(scratch))
        bundle = Path(scratch) / SIGNATURE_FILE
        bundle.write_bytes(signature)
        try:
            verifier.verify(folder, bundle)
        except (InvalidSignature, *_UNREADABLE) as error:
            raise InputError(
                f"the signature over {' and '.join(sorted(files))} was not made over them with the "
                f"private key of {public_key}"
            ) from error


def _folder_of(files: Mapping[str, bytes], scratch: Path) -> Path:
    folder = scratch / "signed"
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def load_signer(private_key: Path) -> FolderSigner:
    """Return a signer with the key in the PEM file `private_key`.

    The password of an encrypted key is that in UNSEE_SIGN_PASSWORD, else it is asked for on the
    terminal. Raises `InputError` if the file holds no elliptic-curve private key, the password is
    wrong or there is none, or `model-signing` is not installed.
    """
    _check_installed()
    from model_signing import signing

    def load(password: bytes | None) -> Any:
        config = signing.Config().set_hashing_config(_hashing_config())
        return config.use_elliptic_key_signer(private_key=private_key, password=password)

    needed = (
        "cannot be used: an elliptic-curve private key in PEM is needed, such as one made with: "
        f"{_MAKE_PRIVATE}"
    )
    try:
        return FolderSigner(_load_key(private_key, lambda: load(None), needed))
    except TypeError:  # the key is encrypted
        password = _password(private_key).encode()
    wrong = (
        "cannot be opened: this is not its password, or it is no elliptic-curve key; "
        f"correct {PASSWORD_VARIABLE} or type it again"
    )
    return FolderSigner(_load_key(private_key, lambda: load(password), wrong))


def sign_folder(folder: Path, private_key: Path) -> None:
    """Sign `folder` with the PEM file `private_key`; see `load_signer` and `FolderSigner.sign`."""
    load_signer(private_key).sign(folder)


def verify_folder(folder: Path, public_key: Path) -> None:
    """Check `folder` against its card, and the signature over both against `public_key`.

    Raises `InputError` if `public_key` is no PEM file with an elliptic-curve public key or
    `model-signing` is not installed; `DeltaDamaged` if the folder is damaged, not signed, signed
    with another key, or was changed after it was signed.
    """
    verifier = _verifier(public_key)
    found = verify_files(folder)
    signature = folder / SIGNATURE_FILE
    if not signature.is_file():
        raise DeltaDamaged(
            f"{folder} is not signed: there is no {SIGNATURE_FILE}; get a signed copy, or unlearn "
            "again with --sign-with KEY.pem"
        )
    from cryptography.exceptions import InvalidSignature

    try:
        verifier.verify(folder.resolve(), signature)
    except (InvalidSignature, *_UNREADABLE) as error:
        raise _refusal(folder, public_key, found) from error


def _check_installed() -> None:
    try:
        import model_signing  # noqa: F401
    except ModuleNotFoundError as error:
        raise InputError(
            'signatures need model-signing; install it with: pip install "unsee[sign]"'
        ) from error


def _hashing_config() -> Any:
    from model_signing import hashing

    return hashing.Config().set_ignored_paths(paths=[SIGNATURE_FILE], ignore_git_paths=False)


def _verifier(public_key: Path) -> Any:
    _check_installed()
    from model_signing import verifying

    config = verifying.Config().set_hashing_config(_hashing_config())
    return _load_key(
        public_key,
        lambda: config.use_elliptic_key_verifier(public_key=public_key),
        "cannot be used: an elliptic-curve public key in PEM is needed; it is taken from the "
        f"private one with: {_MAKE_PUBLIC}",
    )


def _load_key(file: Path, load: Callable[[], Any], problem: str) -> Any:
    from cryptography.exceptions import UnsupportedAlgorithm

    try:
        return load()
    except OSError as error:
        raise InputError(f"cannot read the key {file}: {error.strerror}") from error
    except (ValueError, AttributeError, UnsupportedAlgorithm) as error:
        raise InputError(f"the key {file} {problem}") from error


def _password(private_key: Path) -> str:
    given = os.environ.get(PASSWORD_VARIABLE)
    if given is not None:
        return given
    if sys.stdin.isatty():
        return getpass(f"password of {private_key}: ")
    raise InputError(f"the key {private_key} is encrypted; put its password in {PASSWORD_VARIABLE}")


def _refusal(folder: Path, public_key: Path, found: dict[str, str]) -> DeltaDamaged:
    """Say why the signature was refused: the folder's files, the signature itself or the key."""
    signature = folder / SIGNATURE_FILE
    try:
        signed = _signed_digests(signature)
    except _UNREADABLE:
        return DeltaDamaged(
            f"{signature} is no signature that can be read; have the delta signed again"
        )
    differing = sorted(name for name, _ in signed.items() ^ found.items())
    if differing:
        names = ", ".join(dict.fromkeys(differing))
        return DeltaDamaged(
            f"{folder} is not as it was signed ({names} differ); get the signed files again"
        )
    return DeltaDamaged(
        f"{signature} was not made with the private key of {public_key}, or was changed; "
        "give the signer's public key, or have the delta signed again"
    )


def _signed_digests(signature: Path) -> dict[str, str]:
    """`"sha256:…"` of each file by the bundle's statement; nothing vouches for them here."""
    bundle = json.loads(signature.read_bytes())
    statement = json.loads(base64.b64decode(bundle["dsseEnvelope"]["payload"]))
    resources = statement["predicate"]["resources"]
    return {str(resource["name"]): f"sha256:{resource['digest']}" for resource in resources}
