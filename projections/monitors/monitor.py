"""The result of a monitor, and its input.

Owns: these values. Does not own: any monitor.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Final

import msgspec
from sqlalchemy import Connection

from projections.monitors.settings import MonitorSettings
from projections.reads.balances import AccountBalance
from subledger.ledger import LedgerState
from subledger.store.reading.queries import rows
from subledger.store.reading.views import View

SHOWN: Final = 10
"""Maximum number of items that evidence lists; the others are only counted."""


class Monitor(msgspec.Struct, frozen=True, kw_only=True):
    """The result of one monitor: its stable name, its question, its figure with a unit, and whether it rings.

    ``value`` is None if there is nothing to measure. ``threshold`` is the highest allowed figure, or with ``at_least``
    the lowest; with None the monitor is off. ``evidence`` names ids to look at, ``next`` the command to continue with.
    """

    name: str
    question: str
    value: float | None
    unit: str
    threshold: float | None
    at_least: bool = False
    rings: bool
    evidence: dict[str, Any] = {}
    next: str | None = None


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """The results of all monitors of a ledger, on one snapshot: the books as known at ``position``."""

    ledger: str
    looked_at: datetime
    position: int
    monitors: tuple[Monitor, ...]

    @property
    def ringing(self) -> tuple[Monitor, ...]:
        return tuple(monitor for monitor in self.monitors if monitor.rings)

    @property
    def well(self) -> bool:
        return not self.ringing

    def named(self, name: str) -> Monitor:
        return next(monitor for monitor in self.monitors if monitor.name == name)


class MonitorContext(msgspec.Struct, frozen=True, kw_only=True):
    """The input of a monitor: a ledger on one snapshot, the current time, the thresholds, the whole trial balance."""

    view: View
    now: datetime
    settings: MonitorSettings
    accounts: tuple[AccountBalance, ...]

    @property
    def ledger(self) -> str:
        return self.view.ledger

    @property
    def connection(self) -> Connection:
        connection: Connection = self.view.connection
        return connection

    @property
    def state(self) -> LedgerState:
        return self.view.head.state

    @property
    def window_start(self) -> datetime:
        return self.now - timedelta(days=self.settings.window_days)

    def before(self, seconds: float) -> datetime:
        return self.now - timedelta(seconds=seconds)

    def rows(self, query: str, **parameters: Any) -> Any:
        """The rows of a query about this ledger."""
        return rows(self.connection, query, {"ledger": self.ledger, **parameters})

    def command(self, words: str) -> str:
        return f"subledger {words} --ledger {self.ledger}"

    def counted(
        self,
        name: str,
        question: str,
        value: float,
        unit: str,
        *,
        allowed: float | None,
        evidence: dict[str, Any],
        next: str,
    ) -> Monitor:
        """Returns a monitor with a highest allowed figure. ``next`` is a command, shown if the figure is not zero."""
        return Monitor(
            name=name,
            question=question,
            value=value,
            unit=unit,
            threshold=allowed,
            rings=allowed is not None and value > allowed,
            evidence=evidence,
            next=self.command(next) if value else None,
        )
