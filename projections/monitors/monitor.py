"""What a monitor says, and what it looks at.

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
"""Items that evidence lists; what is more is counted."""


class Monitor(msgspec.Struct, frozen=True, kw_only=True):
    """One monitor: its stable name, what it asks, its figure and in what, the threshold, and whether it rings.

    ``value`` is None where there is nothing to measure. ``threshold`` is what the figure may be: at most, or where
    ``at_least`` says so at least; None where it is off. ``evidence`` leads on by ids; ``next`` is the command that goes
    on.
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
    """Every monitor of a ledger at a moment, all of one snapshot: the books as known at ``position``."""

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


class Looking(msgspec.Struct, frozen=True, kw_only=True):
    """What a monitor looks at: a ledger on one snapshot, a moment, the thresholds, and the whole trial balance."""

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
        self, name: str, question: str, value: float, unit: str, *, allowed: float | None, evidence: dict[str, Any],
        next: str,
    ) -> Monitor:  # fmt: skip
        """A monitor whose figure may be so high at most; ``next`` is a command's words, told where it is not zero."""
        return Monitor(
            name=name, question=question, value=value, unit=unit, threshold=allowed,
            rings=allowed is not None and value > allowed, evidence=evidence,
            next=self.command(next) if value else None,
        )  # fmt: skip
