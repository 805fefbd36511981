"""Reports of accounts: the trial balance, and the debits and credits of each month.

Owns: the two reports. Does not own: the balances (``balances``), totals and presentation (``presentation``), the
exported journals (``journals``): the summary of a month contains all its entries in the view, exported or not.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import date
from functools import lru_cache
from typing import Any, Final

from sqlalchemy import text

from projections.account_mapping.mapping import mapping_at
from projections.reads import balances
from projections.report import Column, Report, ReportRequest, Table, Tie, closing
from projections.report_inputs import DIMENSION
from projections.reports.presentation import NOTE, presentation_table, totals_table
from projections.reports.shown_net import netted_by_currency, shown_net
from subledger.accounts import CHART_ORDER
from subledger.kinds import Rules
from subledger.own_dimensions import of_role, pairs_of
from subledger.periods import Period
from subledger.store.reading.recorded_days import recorded_before
from subledger.store.reading.views import View

DEBITS_ARE_CREDITS: Final = "debits = credits"


TOLD_APART_BY: Final = ("product", "credit_kind", "refundable", "pool", "processor")
_SIDES: Final = ("debit", "credit", "balance")


def trial_balance(view: View, request: ReportRequest) -> Report:
    """Returns the trial balance: debits and credits of every account by currency, and in the functional currency.

    With ``request.by`` the accounts are also divided by this property of their lines.
    """
    end = closing(view, request)
    accounts = balances.trial_balance(end)
    functional_currency = view.functional_currency
    by = request.by
    found = [((), account) for account in accounts] if by is None else list(_accounts_by(end, by))
    rows = tuple(
        (
            account.account,
            *key,
            account.currency,
            account.debit_minor,
            account.credit_minor,
            account.balance_minor,
            functional_currency,
            account.functional_debit_minor,
            account.functional_credit_minor,
            account.functional_minor,
        )
        for key, account in found
    )
    columns = (
        Column("account"),
        *(() if by is None else (Column(by),)),
        Column("currency"),
        *(Column(side, "money") for side in _SIDES),
        Column("functional_currency"),
        *(Column(f"{side}_functional", "functional") for side in _SIDES),
    )
    over_all = tuple(
        (account.account, account.debit_minor, account.credit_minor, account.balance_minor)
        for account in balances.in_functional_currency(accounts)
    )
    sums = [
        (a.currency, (a.debit_minor, a.credit_minor, a.functional_debit_minor, a.functional_credit_minor))
        for _, a in found
    ]
    return Report(
        name="trial-balance",
        title="Trial balance",
        tables=(
            Table(name="accounts", columns=columns, rows=rows),
            Table(
                name="functional",
                columns=(Column("account"), *(Column(side, "functional") for side in _SIDES)),
                rows=over_all,
            ),
            totals_table(("currency",), (((currency,), figures) for currency, figures in sums), functional_currency),
            presentation_table(accounts, netted_by_currency(shown_net(end)), functional_currency),
        ),
        ties=(
            *_ties(((currency, *figures[:2]) for currency, figures in sums), functional_currency, over_all),
            *(() if by is None else _account_ties(accounts, [account for _, account in found])),
        ),
        notes=(NOTE,),
    )


def _accounts_by(end: View, by: str) -> Iterator[tuple[tuple[str], balances.AccountBalance]]:
    """Yields the accounts divided by a property of their lines, in the order of the chart."""
    rules = end.rules
    sums: dict[tuple[str, str, str], list[int]] = {}
    for row in _rows(end, None):
        for account, figures in _sides(rules, row):
            total = sums.setdefault((account, _value(by, account, row), row.currency), [0, 0, 0, 0])
            for at, figure in enumerate(figures):
                total[at] += figure
    for account, key, currency in sorted(sums, key=lambda line: (CHART_ORDER[line[0]], *line[1:])):
        debit, credit, functional_debit, functional_credit = sums[account, key, currency]
        if any((debit, credit, functional_debit, functional_credit)):
            yield (
                (key,),
                balances.AccountBalance(
                    account=account,
                    currency=currency,
                    debit_minor=debit,
                    credit_minor=credit,
                    functional_debit_minor=functional_debit,
                    functional_credit_minor=functional_credit,
                ),
            )


def _value(by: str, account: str, row: Any) -> str:
    """The value of a property of a line. The role of the line decides which own dimension it has."""
    if not by.startswith(DIMENSION):
        return str(getattr(row, by))
    return dict(pairs_of(of_role(account, row.own, row.usage))).get(by.removeprefix(DIMENSION), "")


def _account_ties(
    accounts: Iterable[balances.AccountBalance], apart: Iterable[balances.AccountBalance]
) -> Iterator[Tie]:
    """Yields ties of the balance of every account with the sum of the balances into which it is divided."""
    sums: dict[tuple[str, str], int] = {}
    for one in apart:
        sums[one.account, one.currency] = sums.get((one.account, one.currency), 0) + one.balance_minor
    for whole in accounts:
        yield Tie(
            what=whole.account,
            currency=whole.currency,
            report_minor=sums.get((whole.account, whole.currency), 0),
            trial_balance_minor=whole.balance_minor,
        )


MONTHS: Final = """
-- Debits and credits of each month, by kind and dimensions: day totals, and the entries of the view's last day.
SELECT date_trunc('month', t.accounting_date)::date AS month, t.policy, t.kind, t.currency, d.product, d.credit_kind,
       d.pool, d.processor, d.refundable, d.own, d.usage, sum(t.written) AS written, sum(t.mirrored) AS mirrored,
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
GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11
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
        *(Column(f"{DIMENSION}{name}") for name in end.settings.dimensions),
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


def _rows(end: View, from_date: date | None) -> Iterator[Any]:
    """Yields the rows of ``MONTHS``."""
    day, first = recorded_before(end)
    parameters = {
        "ledger": end.ledger,
        "as_of": end.as_of,
        "position": end.position,
        "from_date": from_date or date.min,
        "day": day,
        "first": first,
    }
    yield from end.connection.execute(text(MONTHS), parameters)


def _sides(rules: Mapping[int, Rules], row: Any) -> Iterator[tuple[str, tuple[int, int, int, int]]]:
    """Yields the accounts of a row with debits and credits, in its currency and in the functional one."""
    written, mirrored = int(row.written), int(row.mirrored)
    functional_written, functional_mirrored = int(row.functional_written), int(row.functional_mirrored)
    for pair in rules[row.policy][row.kind]:
        yield pair.debit, (written, mirrored, functional_written, functional_mirrored)
        yield pair.credit, (mirrored, written, functional_mirrored, functional_written)


def _lines(end: View, from_date: date | None) -> Iterable[tuple[tuple[str, ...], tuple[int, int, int, int]]]:
    rules = end.rules
    of_month = lru_cache(lambda period: mapping_at(end, period))
    names = end.settings.dimensions
    sums: dict[tuple[str, ...], list[int]] = {}
    for row in _rows(end, from_date):
        period = Period.of(row.month)
        dimensions = (row.currency, row.product, row.credit_kind, row.pool, row.processor, row.refundable)
        for account, figures in _sides(rules, row):
            own = of_role(account, row.own, row.usage)
            gl = of_month(period).resolve_for_all(
                account, row.product, row.credit_kind, row.currency, refundable=row.refundable, own=own
            )
            texts = dict(pairs_of(own))
            line = (str(period), account, gl.number, gl.name, *dimensions, *(texts.get(name, "") for name in names))
            total = sums.setdefault(line, [0, 0, 0, 0])
            for at, figure in enumerate(figures):
                total[at] += figure
    for line in sorted(sums, key=lambda key: (key[0], CHART_ORDER[key[1]], key[2:])):
        debit, credit, functional_debit, functional_credit = sums[line]
        if any(sums[line]):
            yield line, (debit, credit, functional_debit, functional_credit)


def _ties(
    rows: Iterable[tuple[str, int, int]], functional_currency: str, functional: Iterable[tuple[Any, ...]]
) -> tuple[Tie, ...]:
    """Yields ties of all debits with all credits: per currency, and over all currencies in the functional currency."""
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
