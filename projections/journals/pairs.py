"""The pairs of a journal: one sum of its entries, from which its lines and its documents follow.

The day totals give the pairs by dimensions. They are a few hundred rows, however many events a month had, and have no
customers. So pairs by customer or block, or under an account mapping that depends on attributes of customers, are
summed from the entries, in one pass over their part of the log. The time of this pass grows with the month's events.

Owns: these two queries. Does not own: the pair itself (journal), the way from a line back to its entries (drill_down).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Literal

import msgspec

from projections.account_mapping.mapping import AccountMapping, mapping_of
from projections.journals.division import RULES_TABLE, UNDIVIDED, Division, rules_for
from projections.journals.interval import interval_of, with_positions
from projections.journals.journal import Journal, JournalPair, lines_from, swapped
from projections.journals.journal_customers import attributes_from, check_stored
from subledger.errors import IntegrityFault
from subledger.store.reading.queries import AnyConnection, rows
from subledger.store.tables import MIRRORED, WRITTEN

Level = Literal["account", "dimension", "customer", "block"]
LEVELS: Final[tuple[Level, ...]] = ("account", "dimension", "customer", "block")
"""The keys by which the lines of a document can be summed, from few lines to many."""

PAIRS_OF_DAYS: Final = f"""
-- The pairs of a period and an interval of cuts, by dimensions, from the day totals.
SELECT d.currency, moved.debit, moved.credit, s.product, s.credit_kind, s.pool, s.processor, s.refundable,
       s.own, s.usage, '', '', '', r.native,
       sum(moved.amount), sum(moved.functional),
       sum(d.entries) FILTER (WHERE moved.amount <> 0 OR moved.functional <> 0)
FROM ledger_days d
JOIN dimension_sets s ON s.ledger = d.ledger AND s.dimension_set = d.dimension_set
JOIN {RULES_TABLE} ON r.policy = d.policy AND r.kind = d.kind
CROSS JOIN LATERAL (VALUES (r.debit, r.credit, d.written_minor, d.functional_written_minor),
                           (r.credit, r.debit, d.mirrored_minor, d.functional_mirrored_minor))
    AS moved (debit, credit, amount, functional)
WHERE d.ledger = %(ledger)s AND d.accounting_date BETWEEN %(first_day)s AND %(last_day)s
  AND d.cut > %(from_cut)s AND d.cut <= %(to_cut)s
GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, r.native
HAVING sum(moved.amount) <> 0 OR sum(moved.functional) <> 0
"""
# Attributes are looked up by key, once for each customer and kind. A join could be slow: the rows were written a moment
# ago, so the planner has no statistics about them, and may compare each row with each.
PAIRS_OF_ENTRIES: Final = f"""
-- The same pairs from the entries: also by customer, by block, and by the stored attributes of customers.
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
SELECT b.currency, moved.debit, moved.credit, s.product, s.credit_kind, s.pool, s.processor, s.refundable,
       s.own, s.usage, b.customer, b.block_id, coalesce(b.attributes::text, ''), r.native,
       sum(moved.amount), sum(moved.functional), sum(moved.entries)
FROM by_attributes b
JOIN dimension_sets s ON s.ledger = b.ledger AND s.dimension_set = b.dimension_set
JOIN {RULES_TABLE} ON r.policy = b.policy AND r.kind = b.kind
CROSS JOIN LATERAL (VALUES (r.debit, r.credit, b.written, b.functional_written, b.entries_written),
                           (r.credit, r.debit, b.mirrored, b.functional_mirrored, b.entries_mirrored))
    AS moved (debit, credit, amount, functional, entries)
WHERE b.ledger = %(ledger)s
GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, r.native
HAVING sum(moved.amount) <> 0 OR sum(moved.functional) <> 0
"""


def pairs_of(
    connection: AnyConnection, journal: Journal, level: Level = "dimension", division: Division = UNDIVIDED
) -> tuple[JournalPair, ...]:
    """Returns the pairs of a stored journal, in a fixed order, with those that a division leaves out.

    The pairs of a reversal are in the order of the reversed journal, so that both are split into documents at the same
    places. Raises IntegrityFault if the pairs do not give the journal's lines: then the entries or the journal were
    changed.
    """
    check_stored(connection, journal.ledger, journal.period, journal.customers_number, journal.customers_hash)
    mapping = mapping_of(connection, journal.ledger, journal.mapping)
    pairs = sum_pairs(connection, journal, mapping, level, division)
    reverses = journal.reverses is not None
    _check_lines(journal, swapped(journal.lines) if reverses else journal.lines, lines_from(pairs, mapping))
    return tuple(pair.mirrored for pair in pairs) if reverses else pairs


def sum_pairs(
    connection: AnyConnection,
    journal: Journal,
    mapping: AccountMapping,
    level: Level = "dimension",
    division: Division = UNDIVIDED,
) -> tuple[JournalPair, ...]:
    """Sums the entries of a journal, stored or new, by every field on which its account mapping depends."""
    parameters = interval_of(journal) | rules_for(connection, journal.ledger, division)
    by_customer = level in ("customer", "block")
    if not by_customer and not mapping.attributes:
        found = rows(connection, PAIRS_OF_DAYS, parameters)
    else:
        journal_key = {"period": str(journal.period), "number": journal.customers_number}
        by = {"by_customer": by_customer, "by_block": level == "block", "by_attributes": bool(mapping.attributes)}
        found = rows(connection, PAIRS_OF_ENTRIES, with_positions(connection, parameters) | journal_key | by)
    return tuple(sorted((_pair(row, mapping.attributes) for row in found), key=lambda pair: pair.order))


def _pair(row: Sequence[Any], names: tuple[str, ...]) -> JournalPair:
    (
        currency,
        debit,
        credit,
        product,
        credit_kind,
        pool,
        processor,
        refundable,
        own,
        usage,
        customer,
        block_id,
        attributes,
        native,
        amount,
        functional,
        entries,
    ) = row
    return JournalPair(
        currency=currency,
        debit=debit,
        credit=credit,
        product=product,
        credit_kind=credit_kind,
        pool=pool,
        processor=processor,
        refundable=refundable,
        own=own,
        usage=usage,
        customer=customer,
        block_id=block_id,
        attributes=attributes_from(attributes, names),
        native=native,
        amount_minor=int(amount or 0),
        functional_minor=int(functional or 0),
        entries=int(entries or 0),
    )


def _check_lines(journal: Journal, *both: tuple[Any, ...]) -> None:
    """Raises IntegrityFault if the pairs do not give the journal's lines.

    Counts of entries are not compared: day totals count entries that round to zero, and pairs by customer do not.
    """
    stored, made = ([msgspec.structs.replace(line, entries=0) for line in lines] for lines in both)
    if stored != made:
        at = next((n for n, (one, other) in enumerate(zip(stored, made, strict=False)) if one != other), None)
        line = max(stored, made, key=len)[min(len(stored), len(made))] if at is None else stored[at]
        raise IntegrityFault(
            f"journal {journal.name} is not the sum of its entries: {line.side.value} of {line.role} in"
            f" {line.currency}; run verify",
            currency=line.currency,
            role=line.role,
        )
