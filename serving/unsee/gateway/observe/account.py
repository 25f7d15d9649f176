"""The account of every request: one JSON line in the log, the metrics, a span, the incidents.

Prompts are written down only if the settings say so, and tokens never: the ledger is not given any.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from unsee.core.record import GenerationRecord
from unsee.gateway.callers.refusal import Refusal, gateway_failed
from unsee.gateway.callers.request import ClipRequest
from unsee.gateway.observe.metrics import Metrics
from unsee.gateway.observe.tracing import Tracer

LOGGER = logging.getLogger("unsee.gateway")
REQUEST_LOGGER = logging.getLogger("unsee.gateway.requests")
MAX_INCIDENTS = 50
INCIDENT_REASONS = ("model", "model_server", "gateway")

Front = Literal["grpc", "http"]


@dataclass
class Entry:
    """What is known of one request so far.

    Args:
        id: the gateway's own; it is also Triton's.
        policy: set once it is permitted, so that it comes from the settings.
        revision: that of the request or, if it names none, of the clip; None until that is made.
        frames_sent: how many frames went out in parts; the caller has them however it ends.
    """

    front: Front
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    client_id: str = ""
    tenant: str = ""
    policy: str = ""
    revision: int | None = None
    prompt: str | None = None
    wait_s: float | None = None
    clip_s: float | None = None
    frames_sent: int = 0
    stages: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Incident:
    """Something that an operator should see. `at` is in UTC, ISO 8601."""

    at: str
    what: str


class Ledger:
    """Where the requests of one gateway are accounted for."""

    def __init__(self, metrics: Metrics, tracer: Tracer, *, log_prompts: bool) -> None:
        self.metrics = metrics
        self.incidents: deque[Incident] = deque(maxlen=MAX_INCIDENTS)
        self._tracer = tracer
        self._log_prompts = log_prompts
        self._active: dict[str, int] = {}
        self._unknown_callers = LineBudget()

    def turned_away(self, front: Front) -> None:
        """Count a call or connection that was closed or refused for being one too many.

        It gets no line in the log: there may be thousands of them a second.
        """
        self.metrics.requests.labels("", "", front, "refused").inc()
        self.metrics.refusals.labels("", "connections").inc()

    @contextmanager
    def request(self, front: Front, tenant: str = "") -> Iterator[Entry]:
        """Account for what happens in the block; an unforeseen error becomes a Refusal."""
        entry, started = Entry(front, tenant=tenant), time.monotonic()
        span = self._tracer.start_span("clip")
        outcome, refusal = "cancelled", None
        try:
            yield entry
            outcome = "ok"
        except Refusal as error:
            outcome = "failed" if error.reason in INCIDENT_REASONS else "refused"
            refusal = error
            raise
        except (asyncio.CancelledError, GeneratorExit):
            raise
        except Exception as error:
            LOGGER.exception("the request %s failed", entry.id)
            outcome, refusal = "failed", gateway_failed()
            raise refusal from error
        finally:
            self._close(entry, outcome, refusal, time.monotonic() - started, span)

    def made(self, entry: Entry, request: ClipRequest, record: GenerationRecord) -> None:
        """Note what made the clip of `entry`."""
        entry.revision, entry.stages = record.revision, dict(record.seconds)
        if request.revision is not None:
            return
        before = self._active.get(entry.policy)
        self._active[entry.policy] = record.revision
        self.metrics.active_revision.labels(entry.policy).set(record.revision)
        if before is not None and before != record.revision:
            self.metrics.swaps.labels(entry.policy).inc()
            self.incident(f"{entry.policy}: revision {before} -> {record.revision}")

    def incident(self, what: str) -> None:
        """Remember something for the status page."""
        self.incidents.append(Incident(datetime.now(UTC).isoformat(timespec="seconds"), what))

    def _close(
        self, entry: Entry, outcome: str, refusal: Refusal | None, seconds: float, span: Any
    ) -> None:
        self._count(entry, outcome, refusal)
        line = self._line(entry, outcome, refusal, seconds)
        if refusal is not None and refusal.reason == "credentials":
            suppressed = self._unknown_callers.spend()
            if suppressed is None:
                span.end()
                return
            line["not_logged_before"] = suppressed
        REQUEST_LOGGER.info(json.dumps(line, ensure_ascii=True))
        for key, value in line.items():
            if isinstance(value, str | int | float) and key != "prompt":
                span.set_attribute(f"unsee.{key}", value)
        span.end()

    def _count(self, entry: Entry, outcome: str, refusal: Refusal | None) -> None:
        metrics = self.metrics
        metrics.requests.labels(entry.tenant, entry.policy, entry.front, outcome).inc()
        if refusal is not None:
            metrics.refusals.labels(entry.tenant, refusal.reason).inc()
            if refusal.reason in INCIDENT_REASONS:
                self.incident(f"request {entry.id}: {refusal.status}: {refusal}")
        if entry.wait_s is not None:
            metrics.wait_seconds.labels(entry.tenant).observe(entry.wait_s)
        if entry.clip_s is not None:
            metrics.clip_seconds.labels(entry.policy).observe(entry.clip_s)
            metrics.clips.labels(entry.tenant, entry.policy, str(entry.revision)).inc()
        for stage, seconds in entry.stages.items():
            metrics.stage_seconds.labels(stage).observe(seconds)

    def _line(
        self, entry: Entry, outcome: str, refusal: Refusal | None, seconds: float
    ) -> dict[str, Any]:
        line = asdict(entry) | {"outcome": outcome, "seconds": round(seconds, 4)}
        if not self._log_prompts:
            del line["prompt"]
        if entry.revision is None:
            del line["revision"]
        if refusal is not None:
            line |= {"status": refusal.status, "reason": refusal.reason, "message": str(refusal)}
        return {"at": datetime.now(UTC).isoformat(timespec="milliseconds"), **line}


class LineBudget:
    """How many lines anybody without a token can put into the log: `LINES` in `PERIOD_S`."""

    LINES = 20
    PERIOD_S = 10.0

    def __init__(self) -> None:
        self._began = -math.inf
        self._spent = 0
        self._suppressed = 0

    def spend(self) -> int | None:
        """How many lines were left out since the last one; None if this one is left out too."""
        now = time.monotonic()
        if now - self._began >= self.PERIOD_S:
            self._began, self._spent = now, 0
        if self._spent >= self.LINES:
            self._suppressed += 1
            return None
        self._spent += 1
        suppressed, self._suppressed = self._suppressed, 0
        return suppressed


def log_to(write: Callable[[str], None]) -> logging.Handler:
    """A handler that passes each record's line to `write`; requests are JSON already."""
    handler = _Writing(write)
    handler.setFormatter(_JsonFormatter())
    return handler


class _Writing(logging.Handler):
    def __init__(self, write: Callable[[str], None]) -> None:
        super().__init__()
        self._write = write

    def emit(self, record: logging.LogRecord) -> None:
        self._write(self.format(record))


class _JsonFormatter(logging.Formatter):
    """One JSON object a line: request lines as they are, everything else wrapped."""

    def format(self, record: logging.LogRecord) -> str:
        if record.name == REQUEST_LOGGER.name:
            return record.getMessage()
        line = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=True)
