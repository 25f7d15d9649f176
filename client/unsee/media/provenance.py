"""Content Credentials (C2PA): signs a clip's file with the user's own certificate.

Says that the file was made by a trained model, by which, and with what record; whoever trusts the
certificate can check it with any C2PA tool, and sees every later change. Signing uses no network
unless a time-stamping authority is given.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from unsee.core.errors import InputError
from unsee.core.files import read_file
from unsee.core.record import GenerationRecord
from unsee.media.metadata import TRAINED_MEDIA, software

SIGNABLE = {".mp4": "video/mp4", ".gif": "image/gif", ".png": "image/png", ".webp": "image/webp"}
RECORD_LABEL = "org.unsee.record"
OFFLINE = {
    "verify": {"verify_after_sign": False, "remote_manifest_fetch": False, "ocsp_fetch": False},
    "builder": {"thumbnail": {"enabled": False}},
}


@dataclass(frozen=True)
class Provenance:
    """Who signs.

    Args:
        certificate: PEM file of the signing certificate, followed by those between it and the root.
        key: PEM file of its private key (PKCS#8), unencrypted.
        algorithm: as C2PA names it: es256, es384, es512, ps256, ps384, ps512 or ed25519.
        time_stamp_url: an RFC 3161 authority, asked over the network; None: no time stamp.
    """

    certificate: Path | str
    key: Path | str
    algorithm: str = "es256"
    time_stamp_url: str | None = None

    def check(self, suffix: str) -> None:
        """Raises InputError if a file of this suffix cannot be signed, or not with these files."""
        if suffix not in SIGNABLE:
            raise InputError(f"a {suffix} file cannot be signed; use one of {', '.join(SIGNABLE)}")
        self._signer().close()

    def sign(self, source: Path, destination: Path, record: GenerationRecord) -> None:
        """Writes `source` with a manifest to `destination`.

        Raises:
            InputError: the certificate does not fit, or c2pa-python is not installed.
        """
        c2pa = _library()
        with self._signer() as signer, c2pa.Context.from_dict(OFFLINE) as context:
            try:
                with c2pa.Builder(json.dumps(manifest_of(record)), context=context) as builder:
                    builder.sign_file(source, destination, signer)
            except c2pa.C2paError as error:
                raise InputError(
                    f"cannot sign with {self.certificate}: {error}; "
                    "look at what C2PA asks of certificates"
                ) from error

    def _signer(self) -> Any:
        c2pa = _library()
        certificate, key = read_file(self.certificate), read_file(self.key)
        try:
            info = c2pa.C2paSignerInfo(self.algorithm, certificate, key, self.time_stamp_url)
            return c2pa.Signer.from_info(info)
        except (c2pa.C2paError, ValueError) as error:
            raise InputError(
                f"cannot sign with {self.certificate} and {self.key} as {self.algorithm}: {error}"
            ) from error


def manifest_of(record: GenerationRecord) -> dict[str, Any]:
    """What is signed: that the file was created, how, and the record."""
    name, _, version = software().partition(" ")
    generator = {"name": name, "version": version} if version else {"name": name}
    action = {
        "action": "c2pa.created",
        "digitalSourceType": TRAINED_MEDIA,
        "softwareAgent": generator,
        "when": record.started_at,
    }
    return {
        "claim_generator_info": [generator],
        "title": record.prompt,
        "assertions": [
            {"label": "c2pa.actions.v2", "data": {"actions": [action]}},
            {"label": RECORD_LABEL, "data": record.model_dump(mode="json")},
        ],
    }


def _library() -> Any:
    try:
        return import_module("c2pa")
    except ModuleNotFoundError as error:
        raise InputError(
            'signing needs c2pa-python; install it with: pip install "unsee[provenance]"'
        ) from error
