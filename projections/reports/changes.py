"""Changes between two moments: the events that explain a different trial balance of the same day.

The trial balance at one moment (``known_at``) and at a later one differ only by the entries that were recorded in
between, because no entry is ever changed. So the report lists these entries. The sums of their lines are the
difference, for each account and currency, and in the functional currency.

Owns: the difference of each account, and its sums by event type. Does not own: the list of lines (``changed_lines``),
the balances (``balances``), the reason of a date (``date_reasons``), the two points in time (the caller's).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date, datetime
from typing import Any, Final

import msgspec
from sqlalchemy import text

from projections.reads import balances, date_reasons
from projections.report import Column, Report, ReportRequest, Table, Tie, closing, end_of_day_before, stated
from subledger.accounts import CHART_ORDER, ROLE_BY_NAME
from subledger.errors import UnknownCustomer
from subledger.events.envelope import format_time
from subledger.kinds import Rules
from subledger.store.reading.views import View

Sums = dict[tuple[str, str], list[int]]
"""Account and currency → debits and credits in minor units, then both in the functional currency."""


class ChangesRequest(ReportRequest, frozen=True, kw_only=True):
    """The parameters of the report: a range of accounting dates as in every report, a customer, an account."""

    account: str | None = None


class Earlier(msgspec.Struct, frozen=True, kw_only=True):
    """The earlier of the two points in time: its moment, its position, and its balances."""

    known_at: datetime
    position: int
    sums: Sums


MOVING: Final = """
    n.ledger = :ledger AND n.position > :after_position AND n.position <= :position
    AND n.accounting_date BETWEEN :from_date AND :as_of AND (n.amount_minor <> 0 OR n.functional_minor <> 0)
    AND (CAST(:customer AS text) IS NULL OR n.customer = :customer) AND n.kind = ANY(:kinds)
"""
"""SQL: the condition on an entry ``n`` that moves a balance of the range. Its parameters are ``parameters_of``."""
TOTALS: Final = f"""
-- Entries between two positions, summed by event type, reason of their date, and kind.
SELECT t.type, t.reason, t.policy, t.kind, t.currency, count(*) AS entries,
       sum(greatest(t.amount_minor, 0)) AS written, sum(greatest(-t.amount_minor, 0)) AS mirrored,
       sum(greatest(t.functional_minor, 0)) AS functional_written,
       sum(greatest(-t.functional_minor, 0)) AS functional_mirrored
FROM (SELECT e.type, {date_reasons.REASON} AS reason, n.policy, n.kind, n.currency, n.amount_minor, n.functional_minor
      FROM entries n JOIN events e ON e.ledger = n.ledger AND e.position = n.position
      WHERE {MOVING}) t
GROUP BY 1, 2, 3, 4, 5 ORDER BY 1, 2, 3, 4, 5
"""
# --- the two points in time -----------------------------------------------------------------------------------------


def sums_of(view: View, request: ChangesRequest, *, may_be_unknown: bool = False) -> Sums:
    """Returns the balances of the range in a view, of the ledger or of the customer.

    Raises UnknownCustomer. With ``may_be_unknown``, an unknown customer has no balances instead.
    """
    end = closing(view, request)
    try:
        sums = _balances(end, request)
        if request.from_date is not None:
            for key, before in _balances(end_of_day_before(end, request.from_date), request).items():
                sums[key] = [after - figure for after, figure in zip(sums[key], before, strict=True)]
    except UnknownCustomer:
        if may_be_unknown:
            return {}
        raise
    return {key: figures for key, figures in sums.items() if request.account in (None, key[0])}


def _balances(view: View, request: ChangesRequest) -> Sums:
    customer = request.customer
    found = balances.trial_balance(view) if customer is None else balances.customer_balances(view, customer).accounts
    return {
        (of.account, of.currency): [
            of.debit_minor,
            of.credit_minor,
            of.functional_debit_minor,
            of.functional_credit_minor,
        ]
        for of in found
    }


# --- the report -----------------------------------------------------------------------------------------------------


def changes(view: View, request: ChangesRequest, earlier: Earlier) -> Report:
    """Returns the accounts with their difference, and the difference by event type. ``view`` is the later moment.

    Raises UnknownCustomer.
    """
    rows = view.connection.execute(text(TOTALS), parameters_of(view, request, earlier.position)).all()
    by_type = _by_type(rows, view.rules, request.account)
    listed: Sums = {}
    for (_, _, account, currency), (_, figures) in by_type.items():
        _add(listed.setdefault((account, currency), [0, 0, 0, 0]), figures)
    after = sums_of(view, request)
    accounts = sorted({*earlier.sums, *after, *listed}, key=lambda key: (CHART_ORDER[key[0]], key[1]))
    functional = view.functional_currency
    entries = sum(row.entries for row in rows)
    return Report(
        name="changes",
        title=f"Changes between {format_time(earlier.known_at)} and {format_time(view.known_at)}",
        tables=(_account_table(accounts, earlier.sums, listed, after, functional), _type_table(by_type, functional)),
        ties=tuple(_ties(accounts, earlier.sums, listed, after, functional)),
        notes=(
            f"{entries} {'entry' if entries == 1 else 'entries'} recorded between the two moments, with accounting "
            f"dates {'through' if request.from_date is None else f'from {request.from_date} through'} "
            f"{request.to_date or view.as_of}. Balances and changes are on the normal side of the account: "
            "before + change = after.",
        ),
    )


def _by_type(
    rows: Iterable[Any], rules: dict[int, Rules], only: str | None
) -> dict[tuple[str, str, str, str], tuple[int, list[int]]]:
    """Returns entries and sums by event type, reason, account and currency."""
    found: dict[tuple[str, str, str, str], tuple[int, list[int]]] = {}
    for row in rows:
        written = int(row.written), int(row.functional_written)
        mirrored = int(row.mirrored), int(row.functional_mirrored)
        moved: dict[str, list[int]] = {}
        for pair in rules[row.policy][row.kind]:
            _add(moved.setdefault(pair.debit, [0, 0, 0, 0]), (written[0], mirrored[0], written[1], mirrored[1]))
            _add(moved.setdefault(pair.credit, [0, 0, 0, 0]), (mirrored[0], written[0], mirrored[1], written[1]))
        for account, figures in moved.items():
            if only in (None, account):
                key = (row.type, row.reason, account, row.currency)
                entries, sums = found.get(key, (0, [0, 0, 0, 0]))
                _add(sums, figures)
                found[key] = (entries + row.entries, sums)
    return found


def _add(sums: list[int], figures: Sequence[int]) -> None:
    for at, figure in enumerate(figures):
        sums[at] += figure


def _change(account: str, sums: Sequence[int], *, functional: bool = False) -> int:
    """Returns debits less credits on the account's normal side."""
    debit, credit = sums[2:] if functional else sums[:2]
    return ROLE_BY_NAME[account].on_normal_side(debit - credit)


_NONE: Final = (0, 0, 0, 0)


def _account_table(
    accounts: Iterable[tuple[str, str]], before: Sums, listed: Sums, after: Sums, functional: str
) -> Table:
    stages = ("before", "debit", "credit", "change", "after")
    rows = []
    for account, currency in accounts:
        row: list[Any] = [account, currency]
        for converted in (False, True):
            first, moved, last = (sums.get((account, currency), _NONE) for sums in (before, listed, after))
            row += [
                *([functional] if converted else []),
                _change(account, first, functional=converted),
                *(moved[2:] if converted else moved[:2]),
                _change(account, moved, functional=converted),
                _change(account, last, functional=converted),
            ]
        rows.append(tuple(row))
    columns = (
        Column("account"),
        Column("currency"),
        *(stated(stage) for stage in stages),
        Column("functional_currency"),
        *(Column(f"{stage}_functional", "functional") for stage in stages),
    )
    return Table(name="accounts", columns=columns, rows=tuple(rows))


_FIGURES: Final = ("debit", "credit", "change")


def figure_columns() -> tuple[Column, ...]:
    return (
        Column("currency"),
        *(Column(name, "money") for name in _FIGURES),
        Column("functional_currency"),
        *(Column(f"{name}_functional", "functional") for name in _FIGURES),
    )


def figures_of(account: str, currency: str, sums: Sequence[int], functional: str) -> tuple[Any, ...]:
    change, converted = _change(account, sums), _change(account, sums, functional=True)
    return currency, *sums[:2], change, functional, *sums[2:], converted


def _type_table(by_type: dict[tuple[str, str, str, str], tuple[int, list[int]]], functional: str) -> Table:
    keys = sorted(by_type, key=lambda key: (key[0], key[1], CHART_ORDER[key[2]], key[3]))
    columns = (Column("event_type"), Column("date_reason"), Column("account"), Column("entries", "integer"))
    rows = tuple(
        (
            type,
            reason,
            account,
            by_type[type, reason, account, currency][0],
            *figures_of(account, currency, by_type[type, reason, account, currency][1], functional),
        )
        for type, reason, account, currency in keys
    )
    return Table(name="event_types", columns=(*columns, *figure_columns()), rows=rows)


def _ties(
    accounts: Iterable[tuple[str, str]], before: Sums, listed: Sums, after: Sums, functional_currency: str
) -> Iterable[Tie]:
    """Yields ties of the listed change of each account with the difference of its two balances.

    The functional amounts of entries in the functional currency are these entries' own amounts.
    """
    for account, currency in accounts:
        first, moved, last = (sums.get((account, currency), _NONE) for sums in (before, listed, after))
        for converted in (False, True)[: 1 if currency == functional_currency else 2]:
            change, earlier, later = (_change(account, sums, functional=converted) for sums in (moved, first, last))
            yield Tie(
                what=f"changes of {account} = after − before" + (f", entries in {currency}" if converted else ""),
                currency=functional_currency if converted else currency,
                report_minor=change,
                trial_balance_minor=later - earlier,
            )


# --- parameters of the sums and of the list ---------------------------------------------------------------------------


def parameters_of(view: View, request: ChangesRequest, earlier_position: int) -> dict[str, Any]:
    """Returns the parameters of the SQL above. ``view`` is the later moment."""
    end = closing(view, request)
    kinds = {
        kind
        for of_policy in view.rules.values()
        for kind in of_policy
        if request.account is None or _touches(request.account, kind, of_policy)
    }
    return {
        "ledger": view.ledger,
        "after_position": earlier_position,
        "position": view.position,
        "from_date": request.from_date or date.min,
        "as_of": end.as_of,
        "customer": request.customer,
        "kinds": sorted(kinds),
        **date_reasons.parameters_of(view.connection, view.ledger, through=view.position),
    }


def _touches(account: str, kind: str, rules: Rules) -> bool:
    return any(account in (pair.debit, pair.credit) for pair in rules[kind])
