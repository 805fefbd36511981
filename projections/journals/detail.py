"""The entries of a journal one by one, for the detail renderings: read as a stream, never whole into memory."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from functools import lru_cache
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, text

from projections.account_mapping.mapping import GLAccount, mapping_of
from projections.journals.interval import interval_of, with_positions
from projections.journals.journal import Journal
from projections.journals.journal_customers import check_stored, stored_customers
from subledger.accounts import Side
from subledger.kinds import expand
from subledger.own_dimensions import of_role
from subledger.store.database import Database
from subledger.store.reading.in_force import rules_of

_CHUNK: Final = 2_000

ENTRIES_OF_JOURNAL: Final = """
-- The entries of a period and an interval of cuts that move money, with their events and dimensions, by date.
SELECT e.position, e.number, e.policy, e.kind, e.customer, e.block_id, e.unit, e.credits, e.amount_minor, e.currency,
       e.functional_minor, e.accounting_date, e.effective_date, v.source, v.event_id, v.type AS event_type,
       s.product, s.credit_kind, s.pool, s.processor, s.refundable, s.own, s.usage
FROM entries e
JOIN events v ON v.ledger = e.ledger AND v.position = e.position
JOIN dimension_sets s ON s.ledger = e.ledger AND s.dimension_set = e.dimension_set
WHERE e.ledger = :ledger AND e.accounting_date BETWEEN :first_day AND :last_day
  AND e.position BETWEEN :first_position AND :last_position
  AND e.cut > :from_cut AND e.cut <= :to_cut AND (e.amount_minor <> 0 OR e.functional_minor <> 0)
ORDER BY e.accounting_date, e.position, e.number
"""


class DetailLine(msgspec.Struct, frozen=True, kw_only=True):
    """One line of an entry. Amounts are positive minor units."""

    role: str
    account: GLAccount
    side: Side
    amount_minor: int
    functional_minor: int


class DetailEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One entry with its event, its dimensions and its lines: pair by pair, debit before credit."""

    position: int
    number: int
    kind: str
    source: str
    event_id: str
    event_type: str
    customer: str | None
    block_id: str | None
    unit: str | None
    credits: Decimal
    currency: str
    accounting_date: date
    effective_date: date
    product: str = ""
    credit_kind: str = ""
    pool: str = ""
    processor: str = ""
    refundable: str = ""
    own: str = ""
    usage: str = ""
    lines: tuple[DetailLine, ...]


def entries_of(database: Database, connection: Connection, journal: Journal) -> Iterator[DetailEntry]:
    """Yields the entries of a journal that move money, by accounting date, position and number.

    Accounts are those of the journal's own mapping. A reversal has the mirrored entries of the journal that it
    reverses. So the details of all journals add up to the trial balance, by role and by account, as their summaries do.
    The database snapshot stays open while the entries are read.
    """
    sign = 1 if journal.reverses is None else -1
    rules = rules_of(database, connection, journal.ledger)
    mapping = mapping_of(connection, journal.ledger, journal.mapping)
    resolve = lru_cache(maxsize=4096)(mapping.resolve)
    check_stored(connection, journal.ledger, journal.period, journal.customers_number, journal.customers_hash)
    customers = stored_customers(
        connection, journal.ledger, journal.period, journal.customers_number, mapping.attributes
    )
    none = tuple((name, "") for name in mapping.attributes)
    result = connection.execute(
        text(ENTRIES_OF_JOURNAL),
        with_positions(connection, interval_of(journal)),
        execution_options={"stream_results": True, "yield_per": _CHUNK},
    )
    for row in result:
        attributes = customers.get(row.customer, none)
        lines = tuple(
            DetailLine(
                role=line.account,
                account=resolve(
                    line.account,
                    row.product,
                    row.credit_kind,
                    row.currency,
                    attributes,
                    refundable=row.refundable,
                    own=of_role(line.account, row.own, row.usage),
                ),
                side=line.side,
                amount_minor=line.amount_minor,
                functional_minor=line.functional_minor,
            )
            for line in expand(row.kind, sign * row.amount_minor, sign * row.functional_minor, rules[row.policy])
        )
        yield _entry(row, sign * row.credits, lines)


def _entry(row: Any, credits: Decimal, lines: tuple[DetailLine, ...]) -> DetailEntry:
    return DetailEntry(
        position=row.position,
        number=row.number,
        kind=row.kind,
        source=row.source,
        event_id=row.event_id,
        event_type=row.event_type,
        customer=row.customer,
        block_id=row.block_id,
        unit=row.unit,
        credits=credits,
        currency=row.currency,
        accounting_date=row.accounting_date,
        effective_date=row.effective_date,
        product=row.product,
        credit_kind=row.credit_kind,
        pool=row.pool,
        processor=row.processor,
        refundable=row.refundable,
        own=row.own,
        usage=row.usage,
        lines=lines,
    )
