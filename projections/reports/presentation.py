"""The lines of a balance sheet that are the difference of two accounts, and the totals of debits and credits.

Owns: which accounts are presented net of each other. Does not own: the refund liability of refundable blocks, which
needs the blocks (``performance``), the balances (``balances``).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from projections.reads.balances import AccountBalance
from projections.report import Column, Table, stated

NOTE: Final = (
    "Balances are on the account's normal side. Presentation: customer_deposits and credits_clearing are two sides of "
    "the same credits and are shown net; breakage_recognized is deducted from prepaid_liability. The liability of "
    "refundable blocks is a refund liability (606-10-32-10), apart from the contract liability: report performance "
    "shows both."
)
_NET: Final = (
    ("contract and refund liability", "prepaid_liability", "breakage_recognized"),
    ("deposits and clearing, net", "customer_deposits", "credits_clearing"),
)
"""The line, the account that it begins with, and the account that is deducted from it."""


def presentation_table(accounts: Iterable[AccountBalance], functional_currency: str) -> Table:
    """Returns the accounts that are presented net of each other, by currency, with the two balances behind each."""
    found = {(account.account, account.currency): account for account in accounts}
    rows = []
    for line, gross, deducted in _NET:
        for currency in sorted({currency for account, currency in found if account in (gross, deducted)}):
            pair = [found.get((account, currency)) for account in (gross, deducted)]
            own = [0 if each is None else each.balance_minor for each in pair]
            functional = [0 if each is None else each.functional_minor for each in pair]
            rows.append(
                (
                    line,
                    gross,
                    deducted,
                    currency,
                    *own,
                    own[0] - own[1],
                    functional_currency,
                    functional[0] - functional[1],
                )
            )
    columns = (
        Column("line"),
        Column("account"),
        Column("less"),
        Column("currency"),
        stated("balance"),
        stated("deducted"),
        stated("presented"),
        Column("functional_currency"),
        Column("presented_functional", "functional"),
    )
    return Table(name="presentation", columns=columns, rows=tuple(rows))


def totals_table(keys: Sequence[str], sums: Iterable[tuple[tuple[str, ...], Sequence[int]]], functional: str) -> Table:
    """Returns all debits and all credits by ``keys``, the last of which is ``currency``.

    ``sums`` are debits and credits in minor units, then both in the functional currency.
    """
    found: dict[tuple[str, ...], list[int]] = {}
    for key, figures in sums:
        total = found.setdefault(key, [0, 0, 0, 0])
        for at, figure in enumerate(figures):
            total[at] += figure
    columns = (
        *(Column(key) for key in keys),
        stated("debit"),
        stated("credit"),
        Column("functional_currency"),
        Column("debit_functional", "functional"),
        Column("credit_functional", "functional"),
    )
    rows = tuple((*key, *found[key][:2], functional, *found[key][2:]) for key in sorted(found))
    return Table(name="totals", columns=columns, rows=rows)
