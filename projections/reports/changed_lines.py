"""The list of lines that were recorded between two moments, each with its event and the reason of its date.

Owns: the list, in pages. Does not own: the difference that it explains (``changes``).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import msgspec
from sqlalchemy import text

from projections.reads import date_reasons
from projections.reads.recorded_by import person_of
from projections.report import Column, Table
from projections.reports.changes import MOVING, ChangesRequest, figure_columns, figures_of, parameters_of
from subledger.accounts import Side
from subledger.events.envelope import format_time
from subledger.kinds import Rules, expand
from subledger.store.reading.views import View

Key = tuple[int, int]
"""Position and number of an entry."""

LINES: Final = f"""
-- A page of the entries between two positions, each with the reason of its date, its event, the moment of its batch and
-- the person behind it. Each event is read once, as the decision of a large draw is long.
WITH page AS MATERIALIZED (
    SELECT n.position, n.number, n.customer, n.block_id, n.policy, n.kind, n.effective_date, n.accounting_date,
           {date_reasons.REASON} AS reason, {date_reasons.CLOSED_THROUGH} AS closed_through, n.currency,
           n.amount_minor, n.functional_minor
    FROM entries n
    WHERE {MOVING} AND (n.position, n.number) > (:page_position, :page_number)
    ORDER BY n.position, n.number LIMIT :limit
), facts AS MATERIALIZED (
    SELECT e.position, e.type, e.event_id, e.source, e.data::jsonb ->> 'by' AS by,
           e.decision::jsonb #>> '{{approval,maker}}' AS maker,
           e.decision::jsonb #>> '{{approval,checker}}' AS checker, b.recorded_at
    FROM events e
    JOIN LATERAL (SELECT recorded_at FROM batches b WHERE b.ledger = :ledger AND b.last_position >= e.position
                  ORDER BY b.last_position LIMIT 1) b ON true
    WHERE e.ledger = :ledger AND e.position = ANY(ARRAY(SELECT DISTINCT position FROM page))
)
SELECT page.*, facts.type, facts.event_id, facts.source, facts.by, facts.maker, facts.checker, facts.recorded_at
FROM page JOIN facts ON facts.position = page.position
ORDER BY page.position, page.number
"""
_LINE_COLUMNS: Final = (
    Column("position", "integer"),
    Column("event_type"),
    Column("event_id"),
    Column("source"),
    Column("recorded_at"),
    Column("who"),
    Column("customer"),
    Column("block_id"),
    Column("kind"),
    Column("effective_date", "date"),
    Column("accounting_date", "date"),
    Column("date_reason"),
    Column("closed_through", "date"),
    Column("account"),
)


class Lines(msgspec.Struct, frozen=True, kw_only=True):
    """A page of lines, in the order of the log. ``following`` is the last entry, if there are more after it."""

    table: Table
    following: Key | None


def lines(view: View, request: ChangesRequest, earlier_position: int, *, after: Key = (0, 0), limit: int) -> Lines:
    """Returns the lines of at most ``limit`` entries after an entry. A page has whole entries."""
    parameters = parameters_of(view, request, earlier_position)
    # One more entry than the page has is read, to know if another page follows.
    parameters |= {"page_position": after[0], "page_number": after[1], "limit": limit + 1}
    found = view.connection.execute(text(LINES), parameters).all()
    entries = found[:limit]
    functional = view.functional_currency
    rows = tuple(row for entry in entries for row in _lines_of(entry, view.rules, request.account, functional))
    last = entries[-1] if len(found) > limit else None
    return Lines(
        table=Table(name="lines", columns=(*_LINE_COLUMNS, *figure_columns()), rows=rows, lists_items=True),
        following=None if last is None else (last.position, last.number),
    )


def _lines_of(entry: Any, rules: dict[int, Rules], only: str | None, functional: str) -> Iterable[tuple[Any, ...]]:
    dated = date_reasons.dated_because(entry.reason, entry.closed_through)
    for line in expand(entry.kind, entry.amount_minor, entry.functional_minor, rules[entry.policy]):
        if only in (None, line.account):
            amounts = (line.amount_minor, 0), (line.functional_minor, 0)
            sides = [pair if line.side is Side.DEBIT else pair[::-1] for pair in amounts]
            yield (
                entry.position,
                entry.type,
                entry.event_id,
                entry.source,
                format_time(entry.recorded_at),
                person_of(entry.source, entry.by, entry.maker, entry.checker),
                entry.customer,
                entry.block_id,
                entry.kind,
                entry.effective_date,
                entry.accounting_date,
                dated.reason.value,
                dated.closed_through,
                line.account,
                *figures_of(line.account, entry.currency, (*sides[0], *sides[1]), functional),
            )
