"""Command: making the next journal of a period if it has entries that are in no journal.

If the account mapping depends on attributes of customers, these are stored with the journal (journal_customers), and
the pairs are summed from the entries instead of the day totals.

Owns: the cut with which a journal ends. Does not own: the condition under which a journal is due (waiting), the sum of
its entries (pairs), storing it (stored_journals), corrections (reversing).
"""

from __future__ import annotations

import msgspec

from projections.account_mapping.mapping import mapping_for
from projections.journals.interval import interval_of
from projections.journals.journal import Journal, JournalCorrection, lines_from
from projections.journals.journal_customers import store_customers
from projections.journals.pairs import sum_pairs
from projections.journals.stored_journals import add_journal, journals_of
from projections.journals.waiting import NextJournal, next_journal
from subledger.closing import is_closed
from subledger.events.envelope import Event
from subledger.ledger import LedgerState, check_day_has_come
from subledger.own_events import period_cut
from subledger.periods import Period
from subledger.store.database import Database, WriteConnection
from subledger.store.reading.ledgers import ledger_head
from subledger.store.writing.recorder import Recorder, ledger_now, now_of, raise_first


def ensure_journals(
    recorder: Recorder, database: Database, ledger: str, period: Period, *, by: str | None = None
) -> tuple[Journal, ...]:
    """Makes the next journal of a period if entries are in no journal yet, and returns all journals of the period.

    The journal of a closed period ends with the last cut; the journal of an open period records its own cut. A month
    without entries has one empty journal. A month that has not begun has none. Without new entries nothing is made. Two
    callers at the same time make one journal, because it is made under the ledger's lock. Raises UnknownLedger,
    InTheFuture, UnmappedRole; after an error no journal and no cut was stored.
    """
    # The first look is without the ledger's lock: most calls find nothing new, and need not wait for the ledger's
    # writers.
    with database.read() as connection:
        ledger_head(connection, ledger)
        if not next_journal(connection, ledger, period).is_due:
            return journals_of(connection, ledger, period)
    due: list[NextJournal] = []

    def plan(connection: WriteConnection, state: LedgerState, position: int) -> list[Event]:
        # The recorder plans again after it has ended a stuck writer, and the journal must be made only once.
        due.clear()
        if not is_closed(state, period):
            check_day_has_come(
                state, period.first_day, now_of(connection), f"a journal of {period}", field="period", found=str(period)
            )
        # The second look is under the lock: another caller may have made the journal meanwhile.
        following = next_journal(connection, ledger, period)
        if not following.is_due:
            return []
        due.append(following)
        if is_closed(state, period) or not following.has_entries:
            return []
        return [period_cut(position, period, at=ledger_now(connection, state), by=by)]

    def make(connection: WriteConnection, state: LedgerState) -> None:
        # The journal is stored in the transaction that records the cut. If the cut were committed first, the entries
        # before it would be in no journal until the next one. If the journal were committed first, later entries could
        # still get its last cut.
        for following in due:
            cuts = (following.from_cut, state.open_cut - 1)
            add_journal(connection, new_journal(connection, state, period, number=following.number, cuts=cuts))

    raise_first(recorder.transact(ledger, plan, make))
    with database.read() as connection:
        return journals_of(connection, ledger, period)


def new_journal(
    connection: WriteConnection,
    state: LedgerState,
    period: Period,
    *,
    number: int,
    cuts: tuple[int, int],
    correction: JournalCorrection | None = None,
) -> Journal:
    """Returns a journal of the entries after the first of two cuts through the second, under the account mapping in
    force.

    The journal is not stored yet, but the attributes of its customers are. Raises UnmappedRole, IntegrityFault.
    """
    from_cut, to_cut = cuts
    mapping_number, mapping = mapping_for(connection, state.ledger, period)
    journal = Journal(
        ledger=state.ledger,
        entity=state.entity,
        functional_currency=state.functional_currency,
        period=period,
        number=number,
        from_cut=from_cut,
        to_cut=to_cut,
        mapping=mapping_number,
        lines=(),
        correction=correction,
        sandbox=state.sandbox,
    )
    customers_hash = ""
    if mapping.attributes:
        customers_hash = store_customers(connection, interval_of(journal), period, number, mapping.attributes)
    lines = lines_from(sum_pairs(connection, journal, mapping), mapping)
    return msgspec.structs.replace(journal, lines=lines, customers_hash=customers_hash)
