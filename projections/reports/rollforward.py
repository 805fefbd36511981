"""The liability roll-forward: opening, additions, reductions and closing by month, in value and in credits.

The columns are those of a block (``kinds.GAINS`` and ``LOSSES``). The ties compare the closing figures with
prepaid_liability. Owns: the column of each entry.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from decimal import Decimal
from typing import Any, Final

import msgspec

from projections.report import Column, Report, ReportRequest, Table, Tie, closing
from projections.report_inputs import (
    EntryTotal,
    control_balances,
    functional_balances,
    functional_ties_of,
    ties_of,
    totals,
)
from subledger.blocks import ZERO
from subledger.kinds import GAINS, KIND_BY_NAME, LOSSES, Rules, effect
from subledger.periods import Period
from subledger.store.reading.views import View

LIABILITY: Final = "prepaid_liability"
TOLD_APART_BY: Final = ("customer", "product", "credit_kind", "pool", "refundable")
FX: Final = "fx"


class Movements(msgspec.Struct):
    """The movements of a liability in a month: per column the amounts in both currencies, and the credits."""

    amounts: dict[str, int] = msgspec.field(default_factory=dict)
    functional: dict[str, int] = msgspec.field(default_factory=dict)
    credits: dict[str, Decimal] = msgspec.field(default_factory=dict)

    def add(self, total: EntryTotal, rules: Rules) -> None:
        """Adds a total to its column. A remeasurement of the liability has no column in a block, and is added to fx."""
        kind = KIND_BY_NAME[total.kind]
        if kind.column is not None:
            sign = kind.sign if kind.column in GAINS else -kind.sign
            _count(self.amounts, kind.column, sign * total.amount_minor)
            _count(self.functional, kind.column, sign * total.functional_minor)
            self.credits[kind.column] = self.credits.get(kind.column, ZERO) + sign * total.credits
        else:
            _count(self.functional, FX, -effect(LIABILITY, total.kind, rules) * total.functional_minor)


def _count(columns: dict[str, int], column: str, amount: int) -> None:
    columns[column] = columns.get(column, 0) + amount


def net(columns: dict[str, Any]) -> Any:
    """Returns additions and fx less reductions."""
    gained = sum(columns.get(column, 0) for column in (*GAINS, FX))
    return gained - sum(columns.get(column, 0) for column in LOSSES)


RollLine = tuple[str, str]
"""The key of a row of the roll-forward: the value by which it is grouped, and the currency or the unit."""
Roll = dict[RollLine, dict[Period | None, Movements]]


def rollforward(view: View, request: ReportRequest) -> Report:
    """Returns the roll-forward per month of the range and currency, grouped by ``request.by``.

    If the range begins or ends inside a month, that month contains only days of the range. Raises UnknownCustomer.
    """
    end = closing(view, request)
    found = totals(end, from_date=request.from_date, by=request.by, customer=request.customer)
    rules = view.rules
    months = _months(found, request, end)
    by_currency, by_unit = _roll(found, rules, "currency"), _roll(found, rules, "unit")
    functional_currency = view.functional_currency
    rows = tuple(_value_rows(by_currency, months, request.by, functional_currency))
    return Report(
        name="rollforward",
        title="Liability roll-forward",
        tables=(
            Table(name="rollforward", columns=_value_columns(request.by), rows=rows),
            Table(
                name="credits",
                columns=_credit_columns(request.by),
                rows=tuple(_credit_rows(by_unit, months, request.by)),
            ),
            *(_totals(found, rules, months, functional_currency) if request.by else ()),
        ),
        ties=_ties(end, request, found, rows),
        notes=_notes(request.by),
    )


def _totals(
    found: Iterable[EntryTotal], rules: dict[int, Rules], months: list[Period], functional_currency: str
) -> tuple[Table, Table]:
    """Returns the roll-forward of value and of credits over all groups."""
    together = [msgspec.structs.replace(total, key="") for total in found]
    rolls = [_roll(together, rules, grouped_by) for grouped_by in ("currency", "unit")]
    rows = tuple(_value_rows(rolls[0], months, None, functional_currency))
    credits = tuple(_credit_rows(rolls[1], months, None))
    return (
        Table(name="totals", columns=_value_columns(None), rows=rows),
        Table(name="total_credits", columns=_credit_columns(None), rows=credits),
    )


def _notes(by: str | None) -> tuple[str, ...]:
    notes = ["Closing is opening plus additions less reductions; the closing of a month is the opening of the next."]
    if by == "product":
        notes.append(
            "Credits are not bought for one product, so opening, closing and additions are in the row without a "
            "product; the rows of a month add up."
        )
    return tuple(notes)


def _months(found: Iterable[EntryTotal], request: ReportRequest, end: View) -> list[Period]:
    """Returns the months of the range. Without ``to_date`` the range ends with the last month that has entries."""
    booked = [total.month for total in found if total.month is not None]
    first = Period.of(request.from_date) if request.from_date is not None else min(booked, default=None)
    if first is None:
        return []
    last = max(booked, default=first) if request.to_date is None else Period.of(end.as_of)
    months = [first]
    while months[-1] < last:
        months.append(months[-1].next)
    return months


def _roll(found: Iterable[EntryTotal], rules: dict[int, Rules], grouped_by: str) -> Roll:
    roll: Roll = {}
    for total in found:
        line = (total.key, getattr(total, grouped_by))
        roll.setdefault(line, {}).setdefault(total.month, Movements()).add(total, rules[total.policy])
    return roll


# --- rows ---------------------------------------------------------------------------------------------------------


def _key_columns(by: str | None, what: str) -> tuple[Column, ...]:
    return (Column("period"), *((Column(by),) if by else ()), Column(what))


def _value_columns(by: str | None) -> tuple[Column, ...]:
    names = ("opening", *GAINS, *LOSSES, "closing")
    functional = ("opening", *GAINS, *LOSSES, FX, "closing")
    return (
        *_key_columns(by, "currency"),
        *(Column(name, "money") for name in names),
        Column("functional_currency"),
        *(Column(f"{name}_functional", "functional") for name in functional),
    )


def _credit_columns(by: str | None) -> tuple[Column, ...]:
    names = ("opening", *GAINS, *LOSSES, "closing")
    return (*_key_columns(by, "unit"), *(Column(name, "credits") for name in names))


def _value_rows(
    roll: Roll, months: list[Period], by: str | None, functional_currency: str
) -> Iterator[tuple[Any, ...]]:
    amounts = _figures(roll, months, by, "amounts", (*GAINS, *LOSSES))
    functional = _figures(roll, months, by, "functional", (*GAINS, *LOSSES, FX))
    for (month, line, figures), (_, _, converted) in zip(amounts, functional, strict=True):
        if any(figures) or any(converted):
            yield (*_keys(month, line, by), *figures, functional_currency, *converted)


def _credit_rows(roll: Roll, months: list[Period], by: str | None) -> Iterator[tuple[Any, ...]]:
    for month, line, figures in _figures(roll, months, by, "credits", (*GAINS, *LOSSES)):
        if any(figures):
            yield (*_keys(month, line, by), *figures)


def _keys(month: Period, line: RollLine, by: str | None) -> tuple[str, ...]:
    key, what = line
    return (str(month), *((key,) if by else ()), what)


def _figures(
    roll: Roll, months: list[Period], by: str | None, measure: str, columns: tuple[str, ...]
) -> Iterator[tuple[Period, RollLine, tuple[Any, ...]]]:
    """Yields per month and line the opening, the columns and the closing.

    Grouped by product, only the row without a product has an opening and a closing.
    """
    closing = {line: net(getattr(of_line[None], measure)) if None in of_line else 0 for line, of_line in roll.items()}
    if by == "product":
        closing = _under_no_product(closing)
    nothing = Movements()
    for month in months:
        moved = {line: getattr(roll.get(line, {}).get(month, nothing), measure) for line in closing}
        changes = {line: net(of_month) for line, of_month in moved.items()}
        if by == "product":
            changes = _under_no_product(changes)
        for line in sorted(closing):
            opening, closing[line] = closing[line], closing[line] + changes[line]
            shown = (opening, *(moved[line].get(column, 0) for column in columns), closing[line])
            yield month, line, shown if by != "product" or not line[0] else (None, *shown[1:-1], None)


def _under_no_product(figures: dict[RollLine, Any]) -> dict[RollLine, Any]:
    gathered = dict.fromkeys([*figures, *(("", what) for _, what in figures)], 0)
    for (_, what), figure in figures.items():
        gathered["", what] += figure
    return gathered


# --- ties ---------------------------------------------------------------------------------------------------------


def _ties(
    end: View, request: ReportRequest, found: list[EntryTotal], rows: tuple[tuple[Any, ...], ...]
) -> tuple[Tie, ...]:
    names = [column.name for column in _value_columns(request.by)]
    closings, converted = _closing(rows, names, "closing"), _closing(rows, names, "closing_functional")
    books = control_balances(end, request.customer)
    functional = end.functional_currency
    in_functional = functional_balances(end, found, (LIABILITY,))
    return (
        *ties_of("closing = prepaid_liability", closings, LIABILITY, books),
        *functional_ties_of(
            f"closing of {{currency}} = prepaid_liability, in {functional}",
            converted,
            LIABILITY,
            in_functional,
            functional,
            sorted({*converted, *(currency for _, currency in in_functional)}),
        ),
    )


def _closing(rows: tuple[tuple[Any, ...], ...], names: list[str], column: str) -> dict[str, int]:
    """Returns the closing of the last month, per currency."""
    closings: dict[str, int] = {}
    for row in rows:
        if row[0] == rows[-1][0]:
            _count(closings, row[names.index("currency")], row[names.index(column)] or 0)
    return closings
