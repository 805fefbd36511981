"""The way from a line of a journal or document back to its entries, and to the events behind them.

Owns: the entries of some pairs of a journal, page by page. Does not own: the pairs of a document's line (exports).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Final

import msgspec
from sqlalchemy import Connection

from projections.account_mapping.mapping import mapping_of
from projections.journals.division import RULES_TABLE, UNDIVIDED, Division, rules_for
from projections.journals.interval import interval_of, with_positions
from projections.journals.journal import Journal, JournalPair
from projections.journals.pairs import Level, pairs_of
from subledger.events.envelope import canonical
from subledger.store.reading.queries import rows
from subledger.store.tables import MIRRORED, WRITTEN


class EntryBehind(msgspec.Struct, frozen=True, kw_only=True):
    """Entry behind a line, with its event, and the amount that it adds to the line.

    Amounts are positive minor units, on the line's side.
    """

    position: int
    number: int
    source: str
    event_id: str
    event_type: str
    kind: str
    customer: str | None
    block_id: str | None
    accounting_date: date
    effective_date: date
    amount_minor: int
    currency: str
    functional_minor: int


ENTRIES_OF_PAIRS: Final = f"""
-- The entries that move amounts through some pairs, in a period and an interval of cuts. A kind may have two such
-- pairs.
SELECT e.position, e.number, v.source, v.event_id, v.type, e.kind, e.customer, e.block_id, e.accounting_date,
       e.effective_date, abs(e.amount_minor) * moves.times, e.currency, abs(e.functional_minor) * moves.times
FROM entries e
JOIN dimension_sets s ON s.ledger = e.ledger AND s.dimension_set = e.dimension_set
JOIN events v ON v.ledger = e.ledger AND v.position = e.position
CROSS JOIN LATERAL (
    SELECT count(*) AS times FROM {RULES_TABLE}
    JOIN unnest(%(debit)s::text[], %(credit)s::text[], %(currency)s::text[], %(product)s::text[],
                %(credit_kind)s::text[], %(pool)s::text[], %(processor)s::text[], %(refundable)s::text[],
                %(own)s::text[], %(usage)s::text[], %(customer)s::text[], %(block_id)s::text[],
                %(attributes)s::text[], %(native)s::text[])
         AS p (debit, credit, currency, product, credit_kind, pool, processor, refundable, own, usage,
               customer, block_id, attributes, native)
      ON p.native = r.native
     AND ({WRITTEN} AND p.debit = r.debit AND p.credit = r.credit
          OR {MIRRORED} AND p.debit = r.credit AND p.credit = r.debit)
    WHERE r.policy = e.policy AND r.kind = e.kind AND p.currency = e.currency
      AND p.product = s.product AND p.credit_kind = s.credit_kind AND p.pool = s.pool AND p.processor = s.processor
      AND p.refundable = s.refundable AND p.own = s.own AND p.usage = s.usage
      AND (NOT %(by_customer)s OR p.customer = coalesce(e.customer, ''))
      AND (NOT %(by_block)s OR p.block_id = coalesce(e.block_id, ''))
      AND (NOT %(by_attributes)s OR p.attributes::jsonb = coalesce((
          SELECT c.attributes FROM journal_customers c WHERE c.ledger = %(ledger)s AND c.period = %(period)s
                                                         AND c.number = %(number)s AND c.customer = e.customer
      ), '{{}}'))
) AS moves
WHERE e.ledger = %(ledger)s AND e.accounting_date BETWEEN %(first_day)s AND %(last_day)s
  AND e.cut > %(from_cut)s AND e.cut <= %(to_cut)s
  AND (e.amount_minor <> 0 OR e.functional_minor <> 0) AND moves.times > 0
  AND e.position BETWEEN %(first_position)s AND %(last_position)s
  AND (e.position, e.number) > (%(after_position)s, %(after_number)s)
ORDER BY e.position, e.number LIMIT %(limit)s
"""


def entries_behind_line(
    connection: Connection, journal: Journal, number: int, *, after: tuple[int, int] | None = None, limit: int = 100
) -> list[EntryBehind]:
    """Returns the entries behind a line of the journal itself. Raises UnknownExport if there is no such line."""
    line = journal.line(number)
    mapping = mapping_of(connection, journal.ledger, journal.mapping)
    pairs = [
        pair
        for pair in pairs_of(connection, journal)
        if (pair.role(line.side), pair.currency, pair.dimensions) == (line.role, line.currency, line.dimensions)
        and pair.own_of(line.role) == line.own
        and pair.account(line.role, mapping) == line.account
    ]
    return entries_behind(connection, journal, pairs, after=after, limit=limit)


_OF_A_PAIR: Final = (
    "debit", "credit", "currency", "product", "credit_kind", "pool", "processor", "refundable", "own", "usage",
    "customer", "block_id", "native",
)  # fmt: skip


def entries_behind(
    connection: Connection,
    journal: Journal,
    pairs: Sequence[JournalPair],
    level: Level = "dimension",
    division: Division = UNDIVIDED,
    *,
    after: tuple[int, int] | None = None,
    limit: int = 100,
) -> list[EntryBehind]:
    """Returns the entries behind some pairs of a journal, after (position, number), in that order.

    Their amounts add up to those of the pairs. A reversal has the entries of the journal that it reverses.
    """
    if journal.reverses is not None:
        pairs = [pair.mirrored for pair in pairs]
    parameters = {
        **with_positions(connection, interval_of(journal)),
        **rules_for(connection, journal.ledger, division),
        **{name: [getattr(pair, name) for pair in pairs] for name in _OF_A_PAIR},
        "attributes": [canonical({name: value for name, value in pair.attributes if value}) for pair in pairs],
        "by_customer": level in ("customer", "block"),
        "by_block": level == "block",
        "by_attributes": bool(journal.customers_hash),
        "period": str(journal.period),
        "number": journal.customers_number,
        "after_position": after[0] if after else 0,
        "after_number": after[1] if after else 0,
        "limit": limit,
    }
    names = EntryBehind.__struct_fields__
    return [EntryBehind(**dict(zip(names, row, strict=True))) for row in rows(connection, ENTRIES_OF_PAIRS, parameters)]
