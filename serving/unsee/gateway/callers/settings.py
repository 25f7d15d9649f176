"""`gateway.yaml`: where to listen, who the tenants are, and what each may use.

Holds no secret: of a token only its SHA-256 is written down. Knows no transport.
"""

from __future__ import annotations

import hashlib
import re
import ssl
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    StringConstraints,
    ValidationError,
    ValidationInfo,
    model_validator,
)

from unsee.client.address import is_loopback
from unsee.core.errors import InputError
from unsee.core.policy import BASE_POLICY, PolicyName
from unsee.core.validation import ClosedModel, expanded
from unsee.core.yaml_file import read_yaml
from unsee.gateway.callers.refusal import problems

Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]
LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
TenantName = PolicyName
"""A tenant's name has the form of a policy's."""


def _as_tuple(value: Any) -> Any:
    return (value,) if isinstance(value, str | dict) else value


def _as_token(value: Any) -> Any:
    return {"sha256": value} if isinstance(value, str) else value


def _is_hash(value: str) -> str:
    if not re.fullmatch(r"[0-9a-f]{64}", value):  # the value may be a token: do not repeat it
        raise ValueError(
            "this must be the 64 hex digits that `unsee gateway token new` prints as "
            "token_sha256, never the token itself"
        )
    if value in NO_TOKENS:
        raise ValueError(
            "this is the hash of an empty text, which is no token; make one with: "
            "unsee gateway token new"
        )
    return value


def _is_address(value: str) -> str:
    match = re.fullmatch(r"(?:\[[0-9a-fA-F:]+\]|[^:\s]+):(\d{1,5})", value)
    if match is None or int(match[1]) > 65535:
        raise ValueError("this must be host:port, such as 127.0.0.1:9000")
    return value


def _from_folder(value: Path, info: ValidationInfo) -> Path:
    """Relative paths are taken from the folder that is the context of the validation, if any."""
    return Path(info.context or "") / expanded(str(value))


NO_TOKENS = frozenset(
    hashlib.sha256(text).hexdigest() for text in (b"", b"\n", b"\r\n", b" ", b"Bearer", b"unsee_")
)
"""Hashes of what is left when a token was forgotten: a script that hashes nothing gives one."""
TokenHash = Annotated[str, AfterValidator(_is_hash)]
Address = Annotated[str, AfterValidator(_is_address)]
File = Annotated[Path, AfterValidator(_from_folder)]


class Tls(ClosedModel):
    """PEM files. With `client_ca` every caller must show a certificate that it has signed."""

    certificate: File
    key: File
    client_ca: File | None = None


class Token(ClosedModel):
    """A token by its SHA-256, and the last day (UTC) on which it is accepted; None: every day."""

    sha256: TokenHash
    expires: date | None = None

    def is_valid(self) -> bool:
        """Whether it is accepted today."""
        return self.expires is None or datetime.now(UTC).date() <= self.expires


class Tenant(ClosedModel):
    """A caller: how it is known, what it may use, and its share.

    Args:
        token_sha256: of its tokens, 64 hex digits each, or `{sha256: ..., expires: 2027-01-31}`;
            two during a rotation.
        certificate_name: the common name of its client certificate.
        policies: what it may use; `base`, which unsees nothing, needs `allow_base` as well.
        default_policy: used when a request names none; may be left out if there is one policy.
        may_pin_revision: may ask for another revision than the active one.
        operator: may read /metrics and the status.
        max_concurrent, max_waiting: its clips in the making, and its requests in the queue.
        max_open_calls: its calls and requests open at once, idle ones included; never more than
            half of what the gateway takes in all.
        weight: its share of the clips when tenants compete.
    """

    name: TenantName
    token_sha256: Annotated[
        tuple[Annotated[Token, BeforeValidator(_as_token)], ...], BeforeValidator(_as_tuple)
    ] = ()
    certificate_name: Annotated[str, StringConstraints(min_length=1)] | None = None
    policies: tuple[PolicyName, ...] = ()
    default_policy: PolicyName | None = None
    allow_base: bool = False
    may_pin_revision: bool = False
    operator: bool = False
    max_concurrent: Count = 2
    max_waiting: Annotated[int, Field(ge=0)] = 8
    max_open_calls: Count = 64
    weight: Annotated[float, Field(gt=0, le=1000, allow_inf_nan=False)] = 1.0

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if not self.token_sha256 and self.certificate_name is None:
            raise ValueError(
                f'the tenant "{self.name}" needs token_sha256 or certificate_name; '
                "make a token with: unsee gateway token new"
            )
        if BASE_POLICY in self.policies and not self.allow_base:
            raise ValueError(
                f'the tenant "{self.name}" lists the policy "base", which unsees nothing; '
                "if that is meant, say allow_base: true"
            )
        if not self.policies and not self.operator:
            raise ValueError(f'the tenant "{self.name}" needs at least one policy')
        if self.default_policy is not None and self.default_policy not in self.policies:
            raise ValueError(
                f'the default_policy "{self.default_policy}" of the tenant "{self.name}" '
                "is not among its policies"
            )
        return self

    @property
    def policy_by_default(self) -> str | None:
        """The policy of a request that names none; None: the request must name one."""
        if self.default_policy is None and len(self.policies) == 1:
            return self.policies[0]
        return self.default_policy


class Limits(ClosedModel):
    """Bounds of the whole gateway.

    Args:
        max_running: clips asked of Triton at once; keep it at or below the model's own bound.
        max_connections: calls and connections open at once, per front.
        max_connections_per_peer: of these, how many one address (of IPv6 a /64) may hold on which
            no tenant's request is being served; raise it where a proxy stands before the gateway.
        grpc_receive_bytes: the largest message that callers over gRPC take who do not say so in
            their metadata (max-receive-bytes); a larger clip is refused before it is made. None:
            any clip is made, though plain gRPC libraries then fail at its last message.
        read_timeout_s: how long a caller may take to send its request or to take an event.
        idle_timeout_s: how long Triton may be silent in a stream; None: from measured step times.
        default_deadline_s, max_deadline_s: for requests without a deadline, and at most.
        drain_timeout_s: how long running streams may go on after SIGTERM.
        max_videos, max_video_bytes: what is kept of one tenant's /v1/videos, in the memory.
        video_max_age_s: how long one is kept after it was made.
    """

    max_running: Count = 4
    max_waiting: Annotated[int, Field(ge=0)] = 32
    max_connections: Count = 256
    max_connections_per_peer: Count = 64
    max_request_bytes: Annotated[int, Field(ge=1024, le=16 * 1024 * 1024)] = 64 * 1024
    grpc_receive_bytes: Count | None = None
    read_timeout_s: Seconds = 10.0
    idle_timeout_s: Seconds | None = None
    default_deadline_s: Seconds = 600.0
    max_deadline_s: Seconds = 3600.0
    drain_timeout_s: Seconds = 30.0
    max_videos: Count = 16
    max_video_bytes: Count = 256 * 1024 * 1024
    video_max_age_s: Seconds = 3600.0

    def open_calls_of(self, tenant: Tenant) -> int:
        """How many calls `tenant` may have open: never so many that it keeps others out."""
        return min(tenant.max_open_calls, max(1, self.max_connections // 2))


class Settings(ClosedModel):
    """The content of `gateway.yaml`.

    Args:
        triton: host and gRPC port of the server behind the gateway.
        grpc, http: host and port to listen on; None: no such front.
        repository: the model repository, for the active revisions and their verdicts.
        verify_with: a public key, in PEM; reports that are not signed with it are no evidence.
        tls: None leaves tokens readable on the wire: for loopback addresses only, unless
            `tls_ends_elsewhere` says that something before the gateway does it.
        hosts: names under which callers reach `http`; a request for another host is refused. None:
            the loopback's names if `http` is a loopback address, else any name.
        page: serves a page for people at /; None: if `http` is a loopback address.
        openai_videos: serves /v1/videos; needs `repository`, for frame rate and limits.
        log_prompts: writes prompts into the request log.
        tracing: sends a span per request with OpenTelemetry.
    """

    triton: Address = "127.0.0.1:8001"
    grpc: Address | None = "127.0.0.1:9001"
    http: Address | None = "127.0.0.1:9000"
    repository: File | None = None
    verify_with: File | None = None
    tls: Tls | None = None
    tls_ends_elsewhere: bool = False
    tenants: tuple[Tenant, ...]
    limits: Limits = Limits()
    hosts: tuple[str, ...] | None = None
    page: bool | None = None
    openai_videos: bool = False
    log_prompts: bool = False
    tracing: bool = False

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if not self.tenants:
            raise ValueError("tenants is empty, so nobody could use the gateway")
        if self.grpc is None and self.http is None:
            raise ValueError("grpc and http are both off, so nobody could reach the gateway")
        if self.http is None and (self.page or self.openai_videos):
            raise ValueError("page and openai_videos are served over http, which is off")
        if self.openai_videos and self.repository is None:
            raise ValueError("openai_videos needs repository: it says how many frames a second has")
        listening = [self.triton, *filter(None, (self.grpc, self.http))]
        taken = [address for address in listening if split_address(address)[1] != 0]
        if len(set(taken)) < len(taken):
            raise ValueError(
                "triton, grpc and http must be three addresses: the gateway listens on grpc and "
                "http, and Triton on its own"
            )
        _no_twins("name", [tenant.name for tenant in self.tenants])
        hashes = [token.sha256 for tenant in self.tenants for token in tenant.token_sha256]
        _no_twins("token_sha256", hashes)
        names = [t.certificate_name for t in self.tenants if t.certificate_name is not None]
        _no_twins("certificate_name", names)
        if names and (self.tls is None or self.tls.client_ca is None):
            raise ValueError("certificate_name needs tls.client_ca, which signs the certificates")
        for address in filter(None, (self.grpc, self.http)):
            if not (is_loopback(address) or self.tls or self.tls_ends_elsewhere):
                raise ValueError(
                    f"listening on {address} without tls shows tokens to the network; give tls, "
                    "or say tls_ends_elsewhere: true"
                )
        return self

    @property
    def accepted_hosts(self) -> frozenset[str] | None:
        """The host names, without ports, that a request over HTTP may name; None: any."""
        if self.hosts is not None:
            return frozenset(host.lower() for host in self.hosts)
        if self.http is not None and is_loopback(self.http):
            return LOOPBACK_NAMES | {split_address(self.http)[0]}
        return None

    @property
    def shows_page(self) -> bool:
        """Whether there is a page at /."""
        if self.page is None:
            return self.http is not None and is_loopback(self.http)
        return self.page


def load_settings(path: Path) -> Settings:
    """Read a gateway.yaml; its relative paths are taken from its folder.

    Raises:
        InputError: it cannot be read, or a field is wrong; no value of a token is repeated.
    """
    content = read_yaml(path, "the gateway's settings")
    if not isinstance(content, dict):
        raise InputError(f'{path}: the settings need at least the field "tenants"')
    try:
        settings = Settings.model_validate(content, context=path.resolve().parent)
    except ValidationError as error:
        raise InputError(f"{path}: {'; '.join(problems(error))}") from error
    _check_files(settings)
    return settings


def split_address(address: str) -> tuple[str, int]:
    """`"127.0.0.1:9001"` as host and port; brackets of IPv6 are taken off."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def _no_twins(field: str, values: list[str]) -> None:
    twice = next((value for value in values if values.count(value) > 1), None)
    if twice is not None:
        raise ValueError(f"two tenants have the same {field} {twice[:16]}")


def _check_files(settings: Settings) -> None:
    tls = settings.tls
    for file in filter(None, (settings.verify_with, *(dict(tls).values() if tls else ()))):
        if not file.is_file():
            raise InputError(f"the gateway's settings name {file}, which is not a file")
    if tls is None:
        return
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(tls.certificate, tls.key)
    except OSError as error:
        raise InputError(
            f"{tls.certificate} and {tls.key} are no certificate and its key, in PEM"
        ) from error
    try:
        if tls.client_ca is not None:
            context.load_verify_locations(tls.client_ca)
    except OSError as error:
        raise InputError(f"{tls.client_ca} holds no certificate in PEM") from error
