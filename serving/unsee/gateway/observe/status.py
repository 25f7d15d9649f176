"""What `unsee status` shows: the state of a gateway as it says itself, or what a repository holds.

Knows how both are asked, not how they are drawn.
"""

from __future__ import annotations

import http.client
import json
import os
import ssl
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from unsee.client.address import CA_VARIABLE, TOKEN_VARIABLE, authorities_in, bearer, is_loopback
from unsee.core.errors import InputError, RequestRejected, ServerError, ServerUnreachable
from unsee.core.validation import path_in
from unsee.repository import ledger, pointer
from unsee.repository.records import AuditEvent

TIMEOUT_S = 15.0
MAX_BYTES = 4 * 1024 * 1024
SHOWN_EVENTS = 10


def gateway_status(url: str) -> dict[str, Any]:
    """The answer of GET /v2/status at `url`, such as `http://127.0.0.1:9000`.

    The token of an operator is taken from the environment's UNSEE_TOKEN.

    Raises:
        InputError: `url` is no address, there is no token, or it would travel unencrypted.
        ServerUnreachable, RequestRejected, ServerError: the gateway did not answer as asked.
    """
    request = urllib.request.Request(
        f"{url.rstrip('/')}/v2/status", headers={"authorization": bearer(_token(url))}
    )
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=_tls()), _NoRedirects
    )
    try:
        with opener.open(request, timeout=TIMEOUT_S) as response:
            answer = json.loads(response.read(MAX_BYTES))
    except urllib.error.HTTPError as error:
        raise _rejected(url, error) from error
    except (http.client.HTTPException, ValueError) as error:
        raise _another_server(url) from error
    except OSError as error:
        raise ServerUnreachable(f"no gateway answers at {url}; is its http front on?") from error
    if not isinstance(answer, dict) or "incidents" not in answer:
        raise _another_server(url)
    return answer


def repository_status(repository_dir: Path) -> dict[str, Any]:
    """What the files of a repository say: active revisions and the last events.

    Raises:
        InputError: it is no repository, or its files are broken.
    """
    policies = pointer.read(repository_dir).policies
    events = ledger.history(repository_dir).events[-SHOWN_EVENTS:]
    happened = [(event.at, _sentence(event)) for event in events]
    happened += [(one.at, one.what) for one in ledger.last_incidents(repository_dir, SHOWN_EVENTS)]
    return {
        "active_revisions": {name: policies[name].active for name in sorted(policies)},
        "incidents": [
            {"at": at.isoformat(timespec="seconds"), "what": what}
            for at, what in sorted(happened, reverse=True)[:SHOWN_EVENTS]
        ],
    }


def _sentence(event: AuditEvent) -> str:
    forced = f", forced: {event.reason}" if event.forced else ""
    return f"{event.policy}: {event.action} of revision {event.revision} by {event.who}{forced}"


def _token(url: str) -> str:
    token = os.environ.get(TOKEN_VARIABLE, "")
    try:
        parts = urlsplit(url)
        is_address = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        is_address = False
    if not is_address or len(url.split()) != 1:
        raise InputError(f"{url!r} is no address of a gateway; give http(s)://host:port")
    if not token:
        raise InputError(f"the status needs an operator's token in {TOKEN_VARIABLE}")
    if parts.scheme == "http" and not is_loopback(f"{parts.hostname}:0"):
        raise InputError(f"the token would travel to {url} unencrypted; use https")
    return token


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A gateway sends nobody elsewhere, and the token would go along."""

    def redirect_request(self, *arguments: Any) -> None:
        """Follow none."""


def _tls() -> ssl.SSLContext:
    file = path_in(CA_VARIABLE)
    if file is not None:
        authorities_in(file)
    return ssl.create_default_context(cafile=file)


def _another_server(url: str) -> ServerError:
    return ServerError(f"{url} did not answer like a gateway; is it the port of its http front?")


def _rejected(url: str, error: urllib.error.HTTPError) -> ServerError:
    try:
        told = json.loads(error.read(MAX_BYTES))["error"]
        return RequestRejected(str(told["message"]), str(told["status"]))
    except (ValueError, KeyError, TypeError):
        return ServerError(f"{url} answered with HTTP {error.code}")
