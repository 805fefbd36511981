"""Reports of accounts: the trial balance, and the debits and credits of each month.

Owns: the two reports. Does not own: the balances (``balances``), totals and presentation (``presentation``), the
exported journals (``journals``): the summary of a month contains all its entries in the view, exported or not.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date
from functools import lru_cache
from typing import Any, Final

from sqlalchemy import text

from projections.account_mapping.mapping import mapping_at
from projections.reads import balances
from projections.report import Column, Report, ReportRequest, Table, Tie, closing
from projections.reports.presentation import NOTE, presentation_table, totals_table
from projections.reports.shown_net import netted_by_currency, shown_net
from subledger.accounts import CHART_ORDER
from subledger.periods import Period
from subledger.store.reading.recorded_days import recorded_before
from subledger.store.reading.views import View

DEBITS_ARE_CREDITS: Final = "debits = credits"


def trial_balance(view: View, request: ReportRequest) -> Report:
    """Returns the trial balance: debits and credits of every account by currency, and in the functional currency."""
    end = closing(view, request)
    accounts = balances.trial_balance(end)
    functional_currency = view.functional_currency
    rows = tuple(
        (
            account.account,
            account.currency,
            account.debit_minor,
            account.credit_minor,
            account.balance_minor,
            functional_currency,
            account.functional_debit_minor,
            account.functional_credit_minor,
            account.functional_minor,
        )
        for account in accounts
    )
    sides = ("debit", "credit", "balance")
    columns = (
        Column("account"),
        Column("currency"),
        *(Column(side, "money") for side in sides),
        Column("functional_currency"),
        *(Column(f"{side}_functional", "functional") for side in sides),
    )
    over_all = tuple(
        (account.account, account.debit_minor, account.credit_minor, account.balance_minor)
        for account in balances.in_functional_currency(accounts)
    )
    return Report(
        name="trial-balance",
        title="Trial balance",
        tables=(
            Table(name="accounts", columns=columns, rows=rows),
            Table(
                name="functional",
                columns=(Column("account"), *(Column(side, "functional") for side in sides)),
                rows=over_all,
            ),
            totals_table(("currency",), (((row[1],), (*row[2:4], *row[6:8])) for row in rows), functional_currency),
            presentation_table(accounts, netted_by_currency(shown_net(end)), functional_currency),
        ),
        ties=_ties(((row[1], row[2], row[3]) for row in rows), functional_currency, over_all),
        notes=(NOTE,),
    )


MONTHS: Final = """
-- Debits and credits of each month, by kind and dimensions: day totals, and the entries of the view's last day.
SELECT date_trunc('month', t.accounting_date)::date AS month, t.policy, t.kind, t.currency, d.product, d.credit_kind,
       d.pool, d.processor, d.refundable, sum(t.written) AS written, sum(t.mirrored) AS mirrored,
       sum(t.functional_written) AS functional_written, sum(t.functional_mirrored) AS functional_mirrored
FROM (
    SELECT accounting_date, policy, kind, currency, dimension_set, written_minor AS written,
           mirrored_minor AS mirrored, functional_written_minor AS functional_written,
           functional_mirrored_minor AS functional_mirrored
    FROM ledger_days
    WHERE ledger = :ledger AND accounting_date BETWEEN :from_date AND :as_of AND recorded_date < :day
    UNION ALL
    SELECT accounting_date, policy, kind, currency, dimension_set, greatest(amount_minor, 0),
           greatest(-amount_minor, 0), greatest(functional_minor, 0), greatest(-functional_minor, 0)
    FROM entries
    WHERE ledger = :ledger AND accounting_date BETWEEN :from_date AND :as_of AND position BETWEEN :first AND :position
) t
JOIN dimension_sets d ON d.ledger = :ledger AND d.dimension_set = t.dimension_set
GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9
"""
_KEY: Final = (
    "period", "account", "gl_account", "gl_name", "currency", "product", "credit_kind", "pool", "processor",
    "refundable",
)  # fmt: skip
_CURRENCY: Final = _KEY.index("currency")


def summary(view: View, request: ReportRequest) -> Report:
    """Returns debits and credits by month, account and dimensions, with the GL account of the account mapping.

    Raises UnmappedRole if the ledger's mapping has no GL account for a role.
    """
    end = closing(view, request)
    functional_currency = view.functional_currency
    columns = (
        *(Column(name) for name in _KEY),
        Column("debit", "money"),
        Column("credit", "money"),
        Column("functional_currency"),
        Column("debit_functional", "functional"),
        Column("credit_functional", "functional"),
    )
    lines = tuple(_lines(end, request.from_date))
    rows = tuple((*key, debit, credit, functional_currency, *functional) for key, (debit, credit, *functional) in lines)
    return Report(
        name="summary",
        title="Debits and credits by month",
        tables=(
            Table(name="summary", columns=columns, rows=rows),
            totals_table(
                ("period", "currency"), (((key[0], key[_CURRENCY]), sums) for key, sums in lines), functional_currency
            ),
        ),
        ties=_ties(
            ((key[_CURRENCY], debit, credit) for key, (debit, credit, *_) in lines),
            functional_currency,
            ((key[1], debit, credit) for key, (_, _, debit, credit) in lines),
        ),
        notes=("All entries of a month, exported or not, with the GL accounts of the account mapping of that month.",),
    )


def _lines(end: View, from_date: date | None) -> Iterable[tuple[tuple[str, ...], tuple[int, int, int, int]]]:
    rules = end.rules
    of_month = lru_cache(lambda period: mapping_at(end, period))
    day, first = recorded_before(end)
    parameters = {
        "ledger": end.ledger,
        "as_of": end.as_of,
        "position": end.position,
        "from_date": from_date or date.min,
        "day": day,
        "first": first,
    }
    sums: dict[tuple[str, ...], list[int]] = {}
    line: tuple[str, ...]
    for row in end.connection.execute(text(MONTHS), parameters):
        period = Period.of(row.month)
        written, mirrored = (row.written, row.functional_written), (row.mirrored, row.functional_mirrored)
        for pair in rules[row.policy][row.kind]:
            for account, debited, credited in ((pair.debit, written, mirrored), (pair.credit, mirrored, written)):
                gl = of_month(period).resolve_for_all(
                    account, row.product, row.credit_kind, row.currency, refundable=row.refundable
                )
                dimensions = (row.currency, row.product, row.credit_kind, row.pool, row.processor, row.refundable)
                line = (str(period), account, gl.number, gl.name, *dimensions)
                total = sums.setdefault(line, [0, 0, 0, 0])
                for at, figure in enumerate((debited[0], credited[0], debited[1], credited[1])):
                    total[at] += int(figure)
    for line in sorted(sums, key=lambda key: (key[0], CHART_ORDER[key[1]], key[2:])):
        debit, credit, functional_debit, functional_credit = sums[line]
        if any(sums[line]):
            yield line, (debit, credit, functional_debit, functional_credit)


def _ties(
    rows: Iterable[tuple[str, int, int]], functional_currency: str, functional: Iterable[tuple[Any, ...]]
) -> tuple[Tie, ...]:
    """Yields all debits beside all credits: per currency, and over all currencies in the functional currency."""
    sums: dict[str, list[int]] = {}
    for currency, debit, credit in rows:
        total = sums.setdefault(currency, [0, 0])
        total[0] += debit
        total[1] += credit
    over_all = [0, 0]
    for row in functional:
        over_all[0] += row[1]
        over_all[1] += row[2]
    ties = [
        Tie(what=DEBITS_ARE_CREDITS, currency=currency, report_minor=debit, trial_balance_minor=credit)
        for currency, (debit, credit) in sorted(sums.items())
    ]
    ties.append(
        Tie(
            what=f"{DEBITS_ARE_CREDITS}, over all currencies",
            currency=functional_currency,
            report_minor=over_all[0],
            trial_balance_minor=over_all[1],
        )
    )
    return tuple(ties)
