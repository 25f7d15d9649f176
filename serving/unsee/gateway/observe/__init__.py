"""What the gateway shows of itself: log, metrics, tracing, incidents, readiness, status."""
