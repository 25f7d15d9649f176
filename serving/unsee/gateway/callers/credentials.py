"""Who calls: a token or the name in a client certificate becomes a tenant.

Knows tokens only as they are presented, and keeps none: settings hold their SHA-256.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from unsee.gateway.callers.refusal import Refusal
from unsee.gateway.callers.settings import Tenant

TOKEN_BYTES = 32
PREFIX = "unsee_"
FORM = re.compile(r"unsee_[A-Za-z0-9_-]{43}")
"""Of every token that `new_token` makes; nothing else is accepted, whatever its hash."""
MAX_HEADER = 512


@dataclass(frozen=True)
class Presented:
    """What a caller shows: the value of `authorization`, and its verified certificate's name."""

    authorization: str | None = None
    certificate_name: str | None = None


def new_token() -> str:
    """A fresh token: 256 random bits behind a prefix that secret scanners can look for."""
    return PREFIX + secrets.token_urlsafe(TOKEN_BYTES)


def token_sha256(token: str) -> str:
    """What the settings hold of `token`: 64 hex digits.

    A plain hash is enough: a token has 256 bits of its own, so none can be found by guessing.
    """
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()


class Credentials:
    """The tenants by what they show."""

    def __init__(self, tenants: Sequence[Tenant]) -> None:
        self._by_hash = tuple((token, t) for t in tenants for token in t.token_sha256)
        self._by_name = {t.certificate_name: t for t in tenants if t.certificate_name is not None}

    def tenant(self, presented: Presented) -> Tenant:
        """The tenant that calls; the time it takes does not depend on the token.

        A token beside a certificate must be of the same tenant.

        Raises:
            Refusal: UNAUTHENTICATED; the message never repeats what was presented.
        """
        certified = self._by_name.get(presented.certificate_name or "")
        if presented.authorization is None:
            if certified is not None:
                return certified
            raise _unknown(
                "this call has no token; send it as: authorization: Bearer <token> "
                "(the unsee command takes it from UNSEE_TOKEN)"
            )
        bearer = self._bearer(presented.authorization)
        if bearer is None or (certified is not None and bearer is not certified):
            raise _unknown("the token is not known here; ask the operator for a valid one")
        return bearer

    def _bearer(self, authorization: str) -> Tenant | None:
        scheme, _, token = authorization[:MAX_HEADER].partition(" ")
        token = token.strip()
        presented = token_sha256(token).encode()
        found = None
        for known, tenant in self._by_hash:  # every one is compared: no early way out
            if hmac.compare_digest(known.sha256.encode(), presented) and known.is_valid():
                found = tenant
        return found if scheme.lower() == "bearer" and FORM.fullmatch(token) else None


def _unknown(message: str) -> Refusal:
    return Refusal("UNAUTHENTICATED", "credentials", message)
