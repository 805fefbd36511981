"""A customer's statement of credits: opening, movements and closing of each block; overage; amounts due.

Owns: the entries on a statement, and their sums. Does not own: the customer's words for an entry kind (the table of
kinds), a block's figures (``blocks``), the printed form.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date
from decimal import Decimal
from typing import Any, Final
from zoneinfo import ZoneInfo

from sqlalchemy import text

from projections.reads import date_reasons
from projections.reads.blocks import BlockView, customer_blocks
from projections.report import Column, Report, ReportRequest, Table, Tie, closing, end_of_day_before
from projections.report_inputs import control_balances, ties_of
from subledger.blocks import ZERO
from subledger.errors import MissingField
from subledger.events.envelope import format_time
from subledger.kinds import GAINS, KIND_BY_NAME, KINDS, LOSSES
from subledger.store.reading.views import View

WORDS: Final = {kind.name: kind.words for kind in KINDS if kind.words is not None}
"""The customer's words for entry kinds: for an entry, and for its mirror."""

DUE: Final = {
    "accounts_receivable": "invoiced, to be paid",
    "unbilled_receivable": "used beyond the credits, to be invoiced",
    "disputes_receivable": "disputed",
    "refunds_payable": "to be paid back",
    "customer_balance": "paid, not used for an invoice",
}
_ALL: Final = 2**31 - 1
ADDED, USED, EXPIRED = GAINS, ("consumed",), ("expired",)
ENDED: Final = tuple(column for column in LOSSES if column not in (*USED, *EXPIRED))

MOVEMENTS: Final = f"""
-- A customer's entries of some kinds in a range of accounting dates, with the events they come from, the moments of
-- their batches, and the reasons of their dates.
SELECT n.accounting_date, n.position, n.kind, n.block_id, n.unit, n.credits, n.amount_minor, n.currency, d.product,
       e.source, e.event_id, n.effective_date, {date_reasons.REASON} AS reason,
       {date_reasons.CLOSED_THROUGH} AS closed_through, b.recorded_at
FROM entries n
JOIN dimension_sets d ON d.ledger = n.ledger AND d.dimension_set = n.dimension_set
JOIN events e ON e.ledger = n.ledger AND e.position = n.position
JOIN LATERAL (SELECT recorded_at FROM batches b WHERE b.ledger = :ledger AND b.last_position >= n.position
              ORDER BY b.last_position LIMIT 1) b ON true
WHERE n.ledger = :ledger AND n.customer = :customer AND n.position <= :position
  AND n.accounting_date BETWEEN :from_date AND :as_of AND n.kind = ANY(:kinds)
ORDER BY n.accounting_date, n.position, n.number
"""


def statement(view: View, request: ReportRequest) -> Report:
    """Returns the statement of ``request.customer`` for the range. Raises MissingField, UnknownCustomer."""
    if request.customer is None:
        raise MissingField("a statement needs a customer: name one", field="customer", expected="a customer")
    end = closing(view, request)
    books = control_balances(end, request.customer)
    before = None if request.from_date is None else end_of_day_before(end, request.from_date)
    opened = {} if before is None else {block.block.block_id: block for block in _blocks(before, request.customer)}
    moved = end.connection.execute(
        text(MOVEMENTS),
        {
            "ledger": end.ledger,
            "customer": request.customer,
            "position": end.position,
            "as_of": end.as_of,
            "from_date": request.from_date or date.min,
            "kinds": list(WORDS),
            **date_reasons.parameters_of(end.connection, end.ledger, through=end.position),
        },
    ).all()
    touched = {row.block_id for row in moved}
    rows = tuple(
        _block_row(block, opened.get(block.block.block_id), end.zone)
        for block in _blocks(end, request.customer)
        if block.block.block_id in touched or block.remaining or block.carrying_minor
    )
    return Report(
        name="statement",
        title="Statement of credits",
        tables=(
            _block_table(rows),
            _movement_table(moved),
            _overage_table(moved),
            _due_table(books),
            _total_table(rows),
        ),
        ties=_ties(rows, books, {} if before is None else control_balances(before, request.customer)),
        notes=("Values are the unused part of the price. A credit's value is its share of the price of its block.",),
    )


def _blocks(view: View, customer: str) -> Iterable[BlockView]:
    # All blocks are read at once, because each page would read every entry of the customer again.
    return customer_blocks(view, customer, limit=_ALL)[0]


# --- tables ---------------------------------------------------------------------------------------------------------


def _block_table(rows: tuple[tuple[Any, ...], ...]) -> Table:
    columns = (
        Column("block_id"),
        Column("credit_kind"),
        Column("unit"),
        *(Column(f"{stage}_credits", "credits") for stage in _STAGES),
        Column("currency"),
        *(Column(f"{stage}_value", "money") for stage in _STAGES),
        Column("starts_on", "date"),
        Column("expires_on", "date"),
        Column("status"),
    )
    return Table(name="blocks", columns=columns, rows=rows)


_STAGES: Final = ("opening", "added", "used", "expired", "ended", "closing")


def _total_table(rows: Iterable[tuple[Any, ...]]) -> Table:
    """Returns the sums of the blocks by unit and currency."""
    names = [column.name for column in _block_table(()).columns]
    figures = [*(f"{stage}_credits" for stage in _STAGES), *(f"{stage}_value" for stage in _STAGES)]
    at = [names.index(name) for name in figures]
    sums: dict[tuple[str, str], list[Any]] = {}
    for row in rows:
        key = row[names.index("unit")], row[names.index("currency")]
        before = sums.get(key, [0] * len(at))
        sums[key] = [sum_ + row[index] for sum_, index in zip(before, at, strict=True)]
    columns = (
        Column("unit"),
        Column("currency"),
        *(Column(name, "credits" if name.endswith("_credits") else "money") for name in figures),
    )
    return Table(name="totals", columns=columns, rows=tuple((*key, *sums[key]) for key in sorted(sums)))


def _block_row(now: BlockView, before: BlockView | None, zone: ZoneInfo) -> tuple[Any, ...]:
    block = now.block
    opening = (ZERO, 0) if before is None else (before.remaining, before.carrying_minor)
    moved = [_moved(now, before, columns) for columns in (ADDED, USED, EXPIRED, ENDED)]
    return (
        block.block_id,
        block.credit_kind,
        block.unit,
        opening[0],
        *(credits for credits, _ in moved),
        now.remaining,
        block.currency,
        opening[1],
        *(amount for _, amount in moved),
        now.carrying_minor,
        block.starts_at.astimezone(zone).date(),
        None if now.expires_at is None else now.expires_at.astimezone(zone).date(),
        now.status.value,
    )


def _moved(now: BlockView, before: BlockView | None, columns: Iterable[str]) -> tuple[Decimal, int]:
    """Returns the change of some columns of a block since ``before``: credits and minor units."""
    credits, amount = ZERO, 0
    for column in columns:
        later = now.columns.get(column, (ZERO, 0))
        earlier = (ZERO, 0) if before is None else before.columns.get(column, (ZERO, 0))
        credits += later[0] - earlier[0]
        amount += later[1] - earlier[1]
    return credits, amount


def _movement_table(moved: Iterable[Any]) -> Table:
    """Returns the movements of blocks: credits and value, positive if added to the block."""
    columns = (
        Column("date", "date"),
        Column("block_id"),
        Column("what"),
        Column("product"),
        Column("credits", "credits"),
        Column("unit"),
        Column("currency"),
        Column("value", "money"),
        Column("source"),
        Column("event_id"),
        Column("position", "integer"),
        *_DATED,
    )
    rows = []
    for row in moved:
        if row.block_id is not None:
            sign = KIND_BY_NAME[row.kind].sign
            rows.append(
                (
                    row.accounting_date,
                    row.block_id,
                    _word(row),
                    row.product or None,
                    sign * Decimal(row.credits),
                    row.unit,
                    row.currency,
                    sign * int(row.amount_minor),
                    row.source,
                    row.event_id,
                    row.position,
                    *_dated(row),
                )
            )
    return Table(name="movements", columns=columns, rows=tuple(rows))


def _overage_table(moved: Iterable[Any]) -> Table:
    """Returns overage, and its settlement: by an invoice, or by a block that was bought later."""
    columns = (
        Column("date", "date"),
        Column("what"),
        Column("product"),
        Column("credits", "credits"),
        Column("unit"),
        Column("currency"),
        Column("amount", "money"),
        Column("source"),
        Column("event_id"),
        Column("position", "integer"),
        *_DATED,
    )
    rows = []
    for row in moved:
        sign = KIND_BY_NAME[row.kind].overage_sign
        if sign:
            rows.append(
                (
                    row.accounting_date,
                    _word(row),
                    row.product or None,
                    sign * Decimal(row.credits),
                    row.unit,
                    row.currency,
                    sign * int(row.amount_minor),
                    row.source,
                    row.event_id,
                    row.position,
                    *_dated(row),
                )
            )
    return Table(name="overage", columns=columns, rows=tuple(rows))


_DATED: Final = (
    Column("effective_date", "date", of_late=True),
    Column("date_reason", of_late=True),
    Column("closed_through", "date", of_late=True),
    Column("recorded_at", of_late=True),
)


def _dated(row: Any) -> tuple[Any, ...]:
    dated = date_reasons.dated_because(row.reason, row.closed_through)
    return row.effective_date, dated.reason.value, dated.closed_through, format_time(row.recorded_at)


def _word(row: Any) -> str:
    mirrored = row.amount_minor < 0 or (row.amount_minor == 0 and row.credits < 0)
    return WORDS[row.kind][mirrored]


def _due_table(books: dict[tuple[str, str], int]) -> Table:
    rows = tuple(
        (meaning, currency, balance)
        for account, meaning in DUE.items()
        for (name, currency), balance in sorted(books.items())
        if name == account and balance
    )
    return Table(name="due", columns=(Column("what"), Column("currency"), Column("amount", "money")), rows=rows)


# --- ties -----------------------------------------------------------------------------------------------------------


def _ties(
    rows: tuple[tuple[Any, ...], ...], books: dict[tuple[str, str], int], before: dict[tuple[str, str], int]
) -> tuple[Tie, ...]:
    names = [column.name for column in _block_table(()).columns]

    def summed(name: str) -> dict[str, int]:
        sums: dict[str, int] = {}
        for row in rows:
            currency = row[names.index("currency")]
            sums[currency] = sums.get(currency, 0) + row[names.index(name)]
        return sums

    return (
        *ties_of(
            "closing value = the customer's prepaid_liability", summed("closing_value"), "prepaid_liability", books
        ),
        *ties_of("opening value = what it was then", summed("opening_value"), "prepaid_liability", before),
    )
