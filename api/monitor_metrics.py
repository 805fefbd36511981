"""Metrics of the monitors of every ledger, for Prometheus.

A call for the metrics runs the monitors, but at most once in ``SUBLEDGER_METRICS_MONITORS_S`` in a process. Calls in
between, or while the monitors run, get the last result. If there are more ledgers than ``SUBLEDGER_METRICS_LEDGERS``,
the monitors of the first ones by id run, and ``subledger_monitor_ledgers_left_out`` is 1. These runs write nothing.

Owns: these metrics, and the time of their collection. Does not own: the monitors (``projections.monitors``).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Annotated, Final

import msgspec
import prometheus_client
import structlog
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from projections import monitors
from subledger.errors import DatabaseUnavailable
from subledger.store.database import Database
from subledger.store.reading.ledgers import ledger_heads

log = structlog.get_logger("subledger.monitors")


class MonitorsInMetrics(msgspec.Struct, frozen=True, kw_only=True):
    """Number of ledgers that are checked (0: none), and the shortest time between two checks."""

    metrics_ledgers: Annotated[int, msgspec.Meta(ge=0)] = 100
    metrics_monitors_s: Annotated[float, msgspec.Meta(ge=0)] = 60.0


class MonitorMetrics(Collector):
    """The metrics of one process."""

    def __init__(self, database: Database, chosen: MonitorsInMetrics) -> None:
        self._database = database
        self._chosen = chosen
        self._lock = threading.Lock()
        self._found: tuple[GaugeMetricFamily, ...] = ()
        self._due_at = 0.0
        self._registry = prometheus_client.CollectorRegistry(auto_describe=False)
        self._registry.register(self)

    def exposition(self) -> bytes:
        """The metrics in Prometheus's text format."""
        return prometheus_client.generate_latest(self._registry)

    def describe(self) -> Iterable[GaugeMetricFamily]:
        return ()

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """Returns the last result, or a new one if it is due and no other call is making it."""
        if self._chosen.metrics_ledgers and time.monotonic() >= self._due_at and self._lock.acquire(blocking=False):
            try:
                self._found = self._look()
                self._due_at = time.monotonic() + self._chosen.metrics_monitors_s
            finally:
                self._lock.release()
        return self._found

    def _look(self) -> tuple[GaugeMetricFamily, ...]:
        families = _Families()
        try:
            with self._database.read() as connection:
                heads = ledger_heads(connection, after="", limit=self._chosen.metrics_ledgers + 1)
            ledgers = [head.state.ledger for head, _ in heads]
            for ledger in ledgers[: self._chosen.metrics_ledgers]:
                self._add(families, ledger)
            families.left_out.add_metric([], float(len(ledgers) > self._chosen.metrics_ledgers))
        except DatabaseUnavailable as error:  # the other metrics must still be readable
            log.warning("monitors were not looked at", detail=error.message)
        return families.all

    def _add(self, families: _Families, ledger: str) -> None:
        try:
            families.add(monitors.look_at_open(self._database, ledger, datetime.now(UTC)))
        except DatabaseUnavailable:
            raise
        except Exception as error:  # a changed row may fail in any way, and must not hide other ledgers
            log.error("monitors were not looked at", ledger=ledger, detail=repr(error))


_OF_A_MONITOR: Final = ("ledger", "monitor")


class _Families:
    def __init__(self) -> None:
        self.values = GaugeMetricFamily(
            "subledger_monitor_value",
            "A monitor's figure; none where there is nothing to measure",
            labels=_OF_A_MONITOR,
        )
        self.ringing = GaugeMetricFamily(
            "subledger_monitor_ringing", "1 while a monitor is over its threshold", labels=_OF_A_MONITOR
        )
        self.deliveries = GaugeMetricFamily(
            "subledger_deliveries",
            "Deliveries by state: all that are not in the books, of the others those that changed in the window",
            labels=("ledger", "destination", "state"),
        )
        self.rejections = GaugeMetricFamily(
            "subledger_rejected_open",
            "Rejected events that are neither recorded nor dismissed, by code; the first 10,000 of each",
            labels=("ledger", "code"),
        )
        self.left_out = GaugeMetricFamily(
            "subledger_monitor_ledgers_left_out", "1 where there are more ledgers than are looked at"
        )

    @property
    def all(self) -> tuple[GaugeMetricFamily, ...]:
        return self.values, self.ringing, self.deliveries, self.rejections, self.left_out

    def add(self, result: monitors.LookResult) -> None:
        ledger = result.report.ledger
        for monitor in result.report.monitors:
            if monitor.value is not None:
                self.values.add_metric([ledger, monitor.name], monitor.value)
            self.ringing.add_metric([ledger, monitor.name], float(monitor.rings))
        for (destination, state), count in sorted(result.deliveries.items()):
            self.deliveries.add_metric([ledger, destination, state], count)
        for code, count in sorted(result.rejections.items()):
            self.rejections.add_metric([ledger, code], count)
