"""The address of a server: plain or TLS, and the token that goes with every call.

A token is taken from the caller or the environment, never from a command line, and never sent over
the network unencrypted.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc

from unsee.core.errors import InputError
from unsee.core.files import read_file
from unsee.core.validation import path_in

TOKEN_VARIABLE = "UNSEE_TOKEN"
TLS_VARIABLE = "UNSEE_TLS"
CA_VARIABLE = "UNSEE_CA_CERTIFICATE"

Metadata = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Address:
    """A server's address and how to speak to it.

    Args:
        url: host and port.
        credentials: gRPC's channel credentials; None: unencrypted.
        metadata: goes with every call.
    """

    url: str
    credentials: Any = field(repr=False)
    metadata: Metadata = field(repr=False)

    def channel(self, maker: Any, options: Sequence[tuple[str, int]]) -> Any:
        """A channel made by `maker`: the module grpc, or grpc.aio."""
        if self.credentials is None:
            return maker.insecure_channel(self.url, options=options)
        return maker.secure_channel(self.url, self.credentials, options=options)


def address(
    url: str,
    *,
    token: str | None = None,
    tls: bool = False,
    ca_certificate: Path | str | None = None,
    client_certificate: Path | str | None = None,
    client_key: Path | str | None = None,
) -> Address:
    """How to reach `url` (host and port).

    Args:
        token: None: the environment's UNSEE_TOKEN, if set.
        tls: encrypts; also switched on by a `ca_certificate` and by UNSEE_TLS=1.
        ca_certificate: None: the environment's UNSEE_CA_CERTIFICATE, if set (it may start
            with `~`), else gRPC's own roots.

    Raises:
        InputError: see `Client`.
    """
    token = token or os.environ.get(TOKEN_VARIABLE) or None
    ca_certificate = ca_certificate or path_in(CA_VARIABLE)
    authorities = None if ca_certificate is None else authorities_in(Path(ca_certificate))
    if (client_certificate is None) != (client_key is None):
        raise InputError("client_certificate and client_key go together: give both or neither")
    tls = _tls_by_environment() or tls or authorities is not None
    if client_certificate is not None and not tls:
        raise InputError("client_certificate goes with TLS: give ca_certificate or tls=True")
    if not tls:
        if token is not None and not is_loopback(url):
            raise InputError(
                f"the token would travel to {url} unencrypted; switch TLS on with {TLS_VARIABLE}=1 "
                f"(and {CA_VARIABLE}, if the server's certificate has an authority of its own)"
            )
        return Address(url, None, _metadata(token))
    credentials = grpc.ssl_channel_credentials(
        root_certificates=authorities,
        private_key=None if client_key is None else read_file(client_key),
        certificate_chain=None if client_certificate is None else read_file(client_certificate),
    )
    return Address(url, credentials, _metadata(token))


def is_loopback(url: str) -> bool:
    """Whether `url` (host and port) is on this machine."""
    host = url.rpartition(":")[0].strip("[]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or url.startswith("unix:")


def authorities_in(file: Path) -> bytes:
    """The certificates of a PEM file.

    Raises:
        InputError: it cannot be read or holds none.
    """
    import ssl

    content = read_file(file)
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=file)
    except OSError as error:
        raise InputError(f"{file} holds no certificate in PEM; look at {CA_VARIABLE}") from error
    return content


def bearer(token: str) -> str:
    """The header `authorization` for a token.

    Raises:
        InputError: the token cannot stand in a header.
    """
    if not token.isascii() or not token.isprintable() or " " in token:
        raise InputError(
            f"the token must be printable ASCII without spaces; look at {TOKEN_VARIABLE}"
        )
    return f"Bearer {token}"


def _metadata(token: str | None) -> Metadata:
    return () if token is None else (("authorization", bearer(token)),)


def _tls_by_environment() -> bool:
    value = os.environ.get(TLS_VARIABLE, "")
    if value not in ("", "0", "1"):
        raise InputError(f"{TLS_VARIABLE} is {value[:40]!r}; set it to 1 for TLS, or remove it")
    return value == "1"
