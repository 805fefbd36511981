"""Months to close: their events, their journals, and the state of the ledger."""

from __future__ import annotations

from collections import Counter
from datetime import date
from functools import partial
from typing import Any

from api.service import Subledger
from projections.close.close import close_period, reopen_period
from projections.journals.journal import Journal
from projections.journals.making import ensure_journals
from subledger.periods import Period
from subledger.store.database import Database
from tests.building import cloud_event, purchase, recorded, usage

JANUARY, FEBRUARY, MARCH, APRIL = (Period(2026, month) for month in (1, 2, 3, 4))
buy = partial(purchase, customer="cust-1", time="2026-01-10", credits="1000", price="100.00")
use = partial(usage, customer="cust-1")


def journals(service: Subledger, ledger: str, period: Period) -> tuple[Journal, ...]:
    """Returns the journals of a month. Makes them if they do not exist."""
    return ensure_journals(service.recorder, service.database, ledger, period)


def sums(*several: Journal) -> dict[tuple[str, str], int]:
    """Returns role and side → minor units, over some journals."""
    total: Counter[tuple[str, str]] = Counter()
    for journal in several:
        for line in journal.lines:
            total[line.role, line.side.value] += line.amount_minor
    return dict(total)


def query(database: Database, sql: str, ledger: str) -> list[tuple[Any, ...]]:
    with database.write() as connection:
        return connection.execute(sql, {"ledger": ledger}).fetchall()


def state(database: Database, ledger: str) -> tuple[date | None, int]:
    """Returns the last closed day, and the open cut."""
    return query(database, "SELECT closed_through, open_cut FROM ledgers WHERE ledger = %(ledger)s", ledger)[0]


def a_quarter(service: Subledger, ledger: str) -> None:
    """Records three months with late facts, a reopening and interim exports."""
    recorded(
        service,
        ledger,
        buy("b1", expires_at="2026-02-15T00:00:00Z", tax="7.00"),
        buy("b2", time="2026-01-11T00:00:00Z", price="33.33", customer="cust-2"),
        cloud_event(
            "g1", "credits.granted", "cust-2", "2026-01-12T00:00:00Z", block_id="g1", credits="5", reason="promotional"
        ),
        cloud_event(
            "p1",
            "payment.received",
            "cust-1",
            "2026-01-20T00:00:00Z",
            amount="107.00",
            currency="USD",
            block_id="b1",
            processor="stripe",
            fee="3.40",
        ),
        use("u1", "333", time="2026-01-21T00:00:00Z"),
        use("u2", "7", time="2026-01-22T00:00:00Z", customer="cust-2", product="api"),
    )
    journals(service, ledger, JANUARY)
    recorded(service, ledger, use("u3", "1", time="2026-01-23T00:00:00Z"), use("u4", "2", time="2026-02-01T00:00:00Z"))
    close_period(service.recorder, ledger, JANUARY)
    journals(service, ledger, JANUARY)
    recorded(
        service,
        ledger,
        use("u5", "3", time="2026-01-30T00:00:00Z"),
        cloud_event("v1", "purchase.voided", "cust-2", "2026-02-20T00:00:00Z", block_id="b2", reason="returned"),
    )
    close_period(service.recorder, ledger, FEBRUARY)
    reopen_period(service.recorder, ledger, JANUARY, "late invoice")
    recorded(service, ledger, buy("b3", time="2026-01-31T00:00:00Z", price="9.99", customer="cust-3"))
    for period in (JANUARY, FEBRUARY, MARCH):
        close_period(service.recorder, ledger, period)
