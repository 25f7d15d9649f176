"""The gateway's Prometheus metrics. Every label comes from the settings or from Triton, none from a
caller, so their number is bounded."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

CLIP_BUCKETS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 500)
WAIT_BUCKETS = (0.001, 0.01, 0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 300)


class Metrics:
    """The metrics of one gateway, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.requests = Counter(
            "unsee_gateway_requests",
            "Requests that ended, by how: ok, refused, cancelled or failed.",
            ("tenant", "policy", "front", "outcome"),
            registry=registry,
        )
        self.refusals = Counter(
            "unsee_gateway_refusals",
            "Requests that got no clip, by reason.",
            ("tenant", "reason"),
            registry=registry,
        )
        self.clips = Counter(
            "unsee_gateway_clips",
            "Clips delivered, by what made them.",
            ("tenant", "policy", "revision"),
            registry=registry,
        )
        self.running = Gauge(
            "unsee_gateway_running", "Clips being made.", ("tenant",), registry=registry
        )
        self.waiting = Gauge(
            "unsee_gateway_waiting", "Requests in the queue.", ("tenant",), registry=registry
        )
        self.clip_seconds = Histogram(
            "unsee_gateway_clip_seconds",
            "Seconds from a clip's place to its last event.",
            ("policy",),
            buckets=CLIP_BUCKETS,
            registry=registry,
        )
        self.wait_seconds = Histogram(
            "unsee_gateway_wait_seconds",
            "Seconds in the queue, of requests that got a place.",
            ("tenant",),
            buckets=WAIT_BUCKETS,
            registry=registry,
        )
        self.stage_seconds = Histogram(
            "unsee_gateway_stage_seconds",
            "Seconds per stage of a clip, from its record.",
            ("stage",),
            buckets=CLIP_BUCKETS,
            registry=registry,
        )
        self.swaps = Counter(
            "unsee_gateway_swaps",
            "Changes of a policy's active revision, seen in clips that named none.",
            ("policy",),
            registry=registry,
        )
        self.active_revision = Gauge(
            "unsee_gateway_active_revision",
            "The revision of the last clip that named none.",
            ("policy",),
            registry=registry,
        )

    def text(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self.registry)
