"""What the entries of a period and an interval of cuts come to: from the day totals, or from the entries themselves.

Day totals are a few hundred rows, however many events a month had. They know nothing of customers: by customer, by
block, or by what a journal went by of its customers, the entries are read, in one pass over the positions they lie
between; that takes as long as the month was busy.

Owns: these two queries, and which positions those are. Does not own: what is made of the sums (summary, pairs).
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import msgspec

from projections.account_mapping.mapping import Attributes
from subledger.periods import Period
from subledger.store.reading.queries import AnyConnection, rows
from subledger.store.reading.recorded_days import recorded_between
from subledger.store.tables import MIRRORED, WRITTEN

EVERY_CUT: Final = 2**31 - 1


class Sum(NamedTuple):
    """What moves through one pair of a kind, by dimensions, and whose it is where asked.

    ``written`` and ``mirrored``: amount, functional amount and number of entries written as they are, and of those
    written with their sides swapped; never negative.
    """

    currency: str
    product: str
    credit_kind: str
    pool: str
    processor: str
    debit: str
    credit: str
    written: tuple[int, int, int]
    mirrored: tuple[int, int, int]
    customer: str = ""
    block_id: str = ""
    attributes: Attributes = ()


JOURNAL_TOTALS: Final = """
-- What the day totals of a period and an interval of cuts come to, by kind and dimensions, with the kind's pairs.
SELECT d.currency, s.product, s.credit_kind, s.pool, s.processor, r.debit, r.credit,
       sum(d.written_minor), sum(d.functional_written_minor),
       sum(d.entries) FILTER (WHERE d.written_minor <> 0 OR d.functional_written_minor <> 0),
       sum(d.mirrored_minor), sum(d.functional_mirrored_minor),
       sum(d.entries) FILTER (WHERE d.mirrored_minor <> 0 OR d.functional_mirrored_minor <> 0),
       '', '', ''
FROM ledger_days d
JOIN dimension_sets s ON s.ledger = d.ledger AND s.dimension_set = d.dimension_set
JOIN posting_rules r ON r.ledger = d.ledger AND r.policy = d.policy AND r.kind = d.kind
WHERE d.ledger = %(ledger)s AND d.accounting_date BETWEEN %(first_day)s AND %(last_day)s
  AND d.cut > %(from_cut)s AND d.cut <= %(to_cut)s
GROUP BY d.currency, s.product, s.credit_kind, s.pool, s.processor, r.policy, r.kind, r.pair, r.debit, r.credit
"""
# What a customer had is looked up by its key, once a customer and kind: a join would be planned for a table that the
# planner's statistics do not know yet, as its rows were written a moment ago, and may compare each row with each.
SUMS_OF_ENTRIES: Final = f"""
-- What the entries of a period and an interval of cuts come to, by kind and dimensions, and, where asked, by customer,
-- by block, and by what a journal went by of its customers; columns as in JOURNAL_TOTALS.
WITH of_customers AS MATERIALIZED (
    SELECT e.ledger, e.currency, e.dimension_set, e.policy, e.kind, e.customer,
           CASE WHEN %(by_block)s THEN e.block_id END AS block_id,
           sum(e.amount_minor) FILTER (WHERE e.amount_minor > 0) AS written,
           sum(e.functional_minor) FILTER (WHERE {WRITTEN}) AS functional_written,
           count(*) FILTER (WHERE {WRITTEN}) AS entries_written,
           -sum(e.amount_minor) FILTER (WHERE e.amount_minor < 0) AS mirrored,
           -sum(e.functional_minor) FILTER (WHERE {MIRRORED}) AS functional_mirrored,
           count(*) FILTER (WHERE {MIRRORED}) AS entries_mirrored
    FROM entries e
    WHERE e.ledger = %(ledger)s AND e.accounting_date BETWEEN %(first_day)s AND %(last_day)s
      AND e.cut > %(from_cut)s AND e.cut <= %(to_cut)s AND (e.amount_minor <> 0 OR e.functional_minor <> 0)
      AND e.position BETWEEN %(first_position)s AND %(last_position)s
    GROUP BY e.ledger, e.currency, e.dimension_set, e.policy, e.kind, e.customer, 7
), by_attributes AS MATERIALIZED (
    SELECT o.ledger, o.currency, o.dimension_set, o.policy, o.kind,
           CASE WHEN %(by_customer)s THEN coalesce(o.customer, '') ELSE '' END AS customer,
           coalesce(o.block_id, '') AS block_id,
           CASE WHEN %(by_attributes)s THEN (
               SELECT c.attributes FROM journal_customers c WHERE c.ledger = %(ledger)s AND c.period = %(period)s
                                                              AND c.number = %(number)s AND c.customer = o.customer
           ) END AS attributes,
           sum(o.written) AS written, sum(o.functional_written) AS functional_written,
           sum(o.entries_written) AS entries_written, sum(o.mirrored) AS mirrored,
           sum(o.functional_mirrored) AS functional_mirrored, sum(o.entries_mirrored) AS entries_mirrored
    FROM of_customers o WHERE o.ledger = %(ledger)s
    GROUP BY o.ledger, o.currency, o.dimension_set, o.policy, o.kind, 6, 7, 8
)
SELECT b.currency, s.product, s.credit_kind, s.pool, s.processor, r.debit, r.credit, b.written, b.functional_written,
       b.entries_written, b.mirrored, b.functional_mirrored, b.entries_mirrored, b.customer, b.block_id,
       coalesce(b.attributes::text, '')
FROM by_attributes b
JOIN dimension_sets s ON s.ledger = b.ledger AND s.dimension_set = b.dimension_set
JOIN posting_rules r ON r.ledger = b.ledger AND r.policy = b.policy AND r.kind = b.kind
WHERE b.ledger = %(ledger)s
"""
OF_CUTS: Final = recorded_between(
    "accounting_date BETWEEN %(first_day)s AND %(last_day)s AND cut > %(from_cut)s AND cut <= %(to_cut)s",
    ledger="%(ledger)s",
)


def interval(ledger: str, period: Period, *, from_cut: int = 0, to_cut: int = EVERY_CUT) -> dict[str, Any]:
    """The entries of a period in the cuts after ``from_cut`` through ``to_cut``, as queries name them."""
    days = {"first_day": period.first_day, "last_day": period.last_day}
    return {"ledger": ledger, **days, "from_cut": from_cut, "to_cut": to_cut}


def with_positions(connection: AnyConnection, asked: dict[str, Any]) -> dict[str, Any]:
    """An interval with the positions its entries lie between."""
    first, last = rows(connection, OF_CUTS, asked)[0]
    return {**asked, "first_position": first, "last_position": last}


def sums_of(
    connection: AnyConnection, asked: dict[str, Any], *, by_customer: bool = False, by_block: bool = False,
    journal: tuple[Period, int] | None = None, attributes: tuple[str, ...] = (),
) -> list[Sum]:  # fmt: skip
    """What the entries of an interval come to. By attributes where any are named: as ``journal`` keeps them."""
    if by_customer or by_block or attributes:
        period, number = journal or (None, None)
        parameters = {
            **with_positions(connection, asked), "by_customer": by_customer, "by_block": by_block,
            "by_attributes": bool(attributes), "period": None if period is None else str(period), "number": number,
        }  # fmt: skip
        found = rows(connection, SUMS_OF_ENTRIES, parameters)
    else:
        found = rows(connection, JOURNAL_TOTALS, asked)
    return [
        Sum._make(
            (*row[:7], _amounts(row[7:10]), _amounts(row[10:13]), *row[13:15], attributes_from(row[15], attributes))
        )
        for row in found
    ]


def _amounts(found: Any) -> tuple[int, int, int]:
    amount, functional, entries = (int(value or 0) for value in found)
    return amount, functional, entries


def attributes_from(text: str, names: tuple[str, ...]) -> Attributes:
    """Attributes as a journal keeps them, JSON or nothing: each of the names with its value, which may be empty."""
    held: dict[str, str] = msgspec.json.decode(text) if text else {}
    return tuple((name, held.get(name, "")) for name in names)
