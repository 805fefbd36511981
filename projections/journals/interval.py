"""The interval of a journal: the entries of a period in an interval of cuts, as parameters of queries.

Owns: the choice of these entries, and the log positions between which they are. Does not own: their sums (pairs).
"""

from __future__ import annotations

from typing import Any, Final

from projections.journals.journal import Journal
from subledger.periods import Period
from subledger.store.reading.queries import AnyConnection, rows
from subledger.store.reading.recorded_days import recorded_between

EVERY_CUT: Final = 2**31 - 1

OF_CUTS: Final = recorded_between(
    "accounting_date BETWEEN %(first_day)s AND %(last_day)s AND cut > %(from_cut)s AND cut <= %(to_cut)s",
    ledger="%(ledger)s",
)


def interval(ledger: str, period: Period, *, from_cut: int = 0, to_cut: int = EVERY_CUT) -> dict[str, Any]:
    """Returns the parameters for the entries of a period in the cuts after ``from_cut`` through ``to_cut``."""
    days = {"first_day": period.first_day, "last_day": period.last_day}
    return {"ledger": ledger, **days, "from_cut": from_cut, "to_cut": to_cut}


def interval_of(journal: Journal) -> dict[str, Any]:
    """Returns the parameters for the entries of a journal: its ledger, the days of its period, its cuts."""
    return interval(journal.ledger, journal.period, from_cut=journal.from_cut, to_cut=journal.to_cut)


def with_positions(connection: AnyConnection, interval: dict[str, Any]) -> dict[str, Any]:
    """Adds the positions between which the entries are, so that a query reads only that part of the log."""
    first, last = rows(connection, OF_CUTS, interval)[0]
    return {**interval, "first_position": first, "last_position": last}
