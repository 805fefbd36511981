"""The next journal of a period: the entries that are in no journal yet.

Owns: the condition under which a journal is due, and the cut after which it begins. Does not own: making it (making).
"""

from __future__ import annotations

from typing import Final

import msgspec

from projections.journals.interval import interval
from subledger.periods import Period
from subledger.store.reading.queries import AnyConnection, rows

LAST_JOURNAL: Final = """
-- The number of a period's latest journal, and the last cut in any of its journals: a correction has earlier cuts.
SELECT max(number), max(to_cut) FROM journals WHERE ledger = %(ledger)s AND period = %(period)s HAVING count(*) > 0
"""
ENTRIES_AFTER: Final = """
-- True if a period has entries after a cut.
SELECT EXISTS (SELECT FROM ledger_days WHERE ledger = %(ledger)s AND cut > %(from_cut)s
               AND accounting_date BETWEEN %(first_day)s AND %(last_day)s)
"""


class NextJournal(msgspec.Struct, frozen=True, kw_only=True):
    """The next journal of a period: its number, the last cut before it, and ``True`` if it would have entries."""

    number: int
    from_cut: int
    has_entries: bool

    @property
    def is_due(self) -> bool:
        """True if it has entries, or would be the first journal of its period."""
        return self.has_entries or self.number == 1


def next_journal(connection: AnyConnection, ledger: str, period: Period) -> NextJournal:
    """Returns the next journal of a period."""
    last = rows(connection, LAST_JOURNAL, {"ledger": ledger, "period": str(period)})
    number, from_cut = (last[0][0] + 1, last[0][1]) if last else (1, 0)
    (has_entries,) = rows(connection, ENTRIES_AFTER, interval(ledger, period, from_cut=from_cut))[0]
    return NextJournal(number=number, from_cut=from_cut, has_entries=has_entries)


def entries_waiting(connection: AnyConnection, ledger: str, period: Period) -> bool:
    """True if a period has entries that are in no journal yet."""
    return next_journal(connection, ledger, period).has_entries
