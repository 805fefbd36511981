"""Metrics of calls and commits, for Prometheus.

Owns: names and buckets of the metrics. Does not own: the route that returns them (routes/operations).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from functools import cache
from typing import Final

import prometheus_client

REQUESTS: Final = prometheus_client.Counter(
    "subledger_http_requests_total", "HTTP requests answered", ["method", "path", "status"]
)
LATENCY: Final = prometheus_client.Histogram(
    "subledger_http_request_seconds", "Time to answer an HTTP request", ["method", "path"]
)
WAITING: Final = prometheus_client.Gauge(
    "subledger_waiting_events", "Events handed in and not yet answered, over all ledgers"
)
BATCH_EVENTS: Final = prometheus_client.Histogram(
    "subledger_batch_events", "Events in a gathered batch", buckets=(1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 10_000)
)
BATCH_CALLERS: Final = prometheus_client.Histogram(
    "subledger_batch_callers", "Callers in a gathered batch", buckets=(1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000)
)
COMMIT: Final = prometheus_client.Histogram(
    "subledger_batch_seconds",
    "Time to record a gathered batch, from the ledger's lock to the commit",
    buckets=(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 5),
)
REFUSED: Final = prometheus_client.Counter(
    "subledger_refused_calls_total", "Calls that were not taken in because too much waits, or at the end", ["code"]
)

REJECTED: Final = prometheus_client.Counter(
    "subledger_rejected_events_total", "Events refused with this process's answers, by code", ["code"]
)

_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})

# Looking up a child takes some microseconds, and there are few children.
_requests = cache(REQUESTS.labels)
_latency = cache(LATENCY.labels)


def answered(method: str, path: str, status: int, seconds: float) -> None:
    """Counts an HTTP request."""
    # Callers choose the method, and each one would be stored for ever.
    method = method if method in _METHODS else "other"
    _requests(method, path, str(status)).inc()
    _latency(method, path).observe(seconds)


def rejected(codes: Iterable[str]) -> None:
    """Counts refused events."""
    for code, count in Counter(codes).items():
        REJECTED.labels(code).inc(count)


class BatchMetrics:
    """Counter of the batches and refusals of a gatherer."""

    def committed(self, *, callers: int, events: int, seconds: float) -> None:
        BATCH_EVENTS.observe(events)
        BATCH_CALLERS.observe(callers)
        COMMIT.observe(seconds)

    def refused(self, code: str) -> None:
        REFUSED.labels(code).inc()
