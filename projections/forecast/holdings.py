"""Balances and movements of credit blocks by month: the input of forecasts.

Owns: classifying a block's entries as usage, expiry or neither. Does not own: a block's terms on a day (``terms``), the
use of both (``runoff``, ``backtest``, ``forecast``, ``performance``).

Credits are integers in billionths here, and months are consecutive integers (``month_number``). So the computations are
exact, and fast for tens of thousands of blocks.
"""

from __future__ import annotations

from bisect import bisect_right
from datetime import date
from decimal import Decimal
from typing import Any, Final

import msgspec
from sqlalchemy import text

from projections.reads.terms import Expiry, expiry_history
from subledger.accounting_dates import effective_date, last_usable_day
from subledger.blocks import PROMOTIONAL, Block
from subledger.kinds import GAINS, KINDS, Effect
from subledger.money import nano
from subledger.periods import Period
from subledger.store.reading.views import View
from subledger.store.writing.rows import decode_block, decode_wallet, parts_sql

NEVER: Final = date.max
_SIGNS: Final = {kind.name: kind.sign for kind in KINDS if kind.column is not None}
_COLUMNS: Final = {kind.name: kind.column for kind in KINDS if kind.column is not None}
_DISPUTES: Final = {
    kind.name: 1 if kind.debit_role == "disputes_receivable" else -1
    for kind in KINDS
    if "disputes_receivable" in (kind.debit_role, kind.credit_role) and not kind.is_exchange
}
_REMEASURED: Final = tuple(kind.name for kind in KINDS if kind.effect is Effect.REVALUES)
"""Kinds that debit prepaid_liability only in the functional currency."""

MOVEMENTS: Final = """
-- The movements of each block by month and kind; everything before a day counts as one month. Blocks that were empty
-- on that day and have no entries since are left out.
WITH moved AS (
    SELECT block_id, CASE WHEN accounting_date >= :since THEN date_trunc('month', accounting_date)::date END AS month,
           kind, sum(credits) AS credits, sum(amount_minor)::bigint AS amount_minor,
           sum(functional_minor)::bigint AS functional_minor
    FROM entries
    WHERE ledger = :ledger AND position <= :position AND accounting_date <= :as_of AND block_id IS NOT NULL
      AND kind = ANY(:kinds)
    GROUP BY 1, 2, 3
), summed AS (
    SELECT *, count(month) OVER block AS months,
           sum(CASE WHEN kind = ANY(:adding) THEN credits WHEN kind = ANY(:taking) THEN -credits ELSE 0 END)
               OVER block AS balance
    FROM moved WINDOW block AS (PARTITION BY block_id)
)
SELECT block_id, month, kind, credits, amount_minor, functional_minor FROM summed
WHERE months > 0 OR balance <> 0 ORDER BY block_id COLLATE "C", month NULLS FIRST, kind
"""
FINISHED: Final = """
-- The states of finished blocks.
SELECT block_id, customer, state FROM blocks
WHERE ledger = :ledger AND NOT is_open AND opened_at_position <= :position
"""
WALLETS: Final = f"""
-- The wallets with open blocks.
SELECT w.customer, w.state, {parts_sql(":ledger")} FROM wallets w
WHERE w.ledger = :ledger AND EXISTS (
    SELECT 1 FROM blocks b WHERE b.ledger = :ledger AND b.customer = w.customer AND b.is_open)
"""


def month_number(day: date) -> int:
    """Returns the number of a month; the next month has the next number."""
    return day.year * 12 + day.month - 1


def month_of(number: int) -> Period:
    return Period(number // 12, number % 12 + 1)


def last_whole_month(day: date) -> int:
    """Returns the last month that has ended by a day."""
    number = month_number(day)
    return number if month_of(number).last_day == day else number - 1


class Moved(msgspec.Struct):
    """The movements of a block in a month.

    ``credits``, ``value`` and ``functional`` are the signed changes of its balance. The other fields are the amounts
    used, lapsed, added, and frozen by disputes.
    """

    credits: int = 0
    value: int = 0
    functional: int = 0
    used: int = 0
    gained: int = 0
    consumed: int = 0
    expired: int = 0
    escheated: int = 0
    disputed: int = 0


class Holding(msgspec.Struct, kw_only=True):
    """A block: its terms, its movements by month, and its expiries with their first days.

    Months are ascending. The first may contain everything before the range.
    """

    block: Block
    customer: str
    starts_on: date
    months: list[int]
    moved: list[Moved]
    expiries: list[tuple[date, date]]
    credits: list[int] = []
    value: list[int] = []
    functional: list[int] = []
    disputed: list[int] = []

    def __post_init__(self) -> None:
        sums = [0, 0, 0, 0]
        cumulated: list[tuple[int, int, int, int]] = []
        for month in self.moved:
            sums = [
                sums[0] + month.credits,
                sums[1] + month.value,
                sums[2] + month.functional,
                sums[3] + month.disputed,
            ]
            cumulated.append((sums[0], sums[1], sums[2], sums[3]))
        self.credits, self.value, self.functional, self.disputed = (
            list(column) for column in zip(*cumulated, strict=True)
        )

    def month_index(self, month: int) -> int:
        """Returns the index in ``months`` of this month, or of the last month before it; -1 before the first."""
        return bisect_right(self.months, month) - 1

    def last_day(self, day: date) -> date:
        """Returns the last day on which its credits can be used, by the terms of a day; NEVER without an expiry."""
        at = bisect_right(self.expiries, (day, NEVER)) - 1
        return self.expiries[max(at, 0)][1]

    @property
    def escheats(self) -> bool:
        return self.block.escheat_class is not None

    @property
    def is_promotional(self) -> bool:
        return self.block.credit_kind == PROMOTIONAL


def holdings(view: View, *, since: date | None = None) -> list[Holding]:
    """Returns the blocks of a view in order of id, by month from a day on (default: from the beginning).

    Everything before the day counts as the month before the day's month.
    """
    months = _movements(view, since or date.min)
    blocks = _blocks(view, months.keys())
    changed = expiry_history(view)
    found = []
    for block_id, moved in months.items():
        if block_id not in blocks:
            continue
        customer, block = blocks[block_id]
        found.append(
            Holding(
                block=block,
                customer=customer,
                starts_on=effective_date(block.starts_at, view.zone),
                months=list(moved),
                moved=list(moved.values()),
                expiries=[
                    (held.from_date, _last_day(held.expires_at, view))
                    for held in changed.get(block_id, (Expiry(date.min, block.expires_at),))
                ],
            )
        )
    return found


def _movements(view: View, since: date) -> dict[str, dict[int, Moved]]:
    """Returns the movements by block (in order of id) and month. All before ``since`` is in the month before it."""
    parameters = {
        "ledger": view.ledger,
        "position": view.position,
        "as_of": view.as_of,
        "since": since,
        "kinds": [*_SIGNS, *(kind for kind in _DISPUTES if kind not in _SIGNS), *_REMEASURED],
        "adding": [name for name, sign in _SIGNS.items() if sign > 0],
        "taking": [name for name, sign in _SIGNS.items() if sign < 0],
    }
    before = month_number(since) - 1  # a month that no entry lies in where the day is the first of all
    found: dict[str, dict[int, Moved]] = {}
    for block_id, month, kind, credits, amount, functional in view.connection.execute(text(MOVEMENTS), parameters):
        number = before if month is None else month_number(month)
        moved = found.setdefault(block_id, {}).setdefault(number, Moved())
        _count(moved, kind, credits, amount, functional)
    return found


def _count(moved: Moved, kind: str, credits: Decimal, amount: int, functional: int) -> None:
    if kind in _DISPUTES:
        moved.disputed += _DISPUTES[kind] * amount
    if kind in _REMEASURED:
        moved.functional -= functional
    sign = _SIGNS.get(kind, 0)
    if not sign:
        return
    billionths, column = nano(credits), _COLUMNS[kind]
    moved.credits += sign * billionths
    moved.value += sign * amount
    moved.functional += sign * functional
    if column in GAINS:
        moved.gained += billionths
    elif column == "consumed":
        moved.used += billionths
        moved.consumed += amount
    elif column == "expired":
        moved.expired -= sign * amount
    elif column == "escheated":
        moved.escheated += amount


def _blocks(view: View, wanted: Any) -> dict[str, tuple[str, Block]]:
    parameters = {"ledger": view.ledger, "position": view.position}
    found = {
        row.block_id: (row.customer, decode_block(row.state))
        for row in view.connection.execute(text(FINISHED), parameters)
        if row.block_id in wanted
    }
    for row in view.connection.execute(text(WALLETS), parameters):
        found |= {block.block_id: (row.customer, block) for block in decode_wallet(row.state, row.blocks).blocks}
    return found


def _last_day(expires_at: Any, view: View) -> date:
    return NEVER if expires_at is None else last_usable_day(expires_at, view.zone)
