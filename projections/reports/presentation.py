"""Lines of a balance sheet that combine accounts, and the totals of debits and credits.

Owns: the list of accounts that are presented net of each other. Does not own:

- the balances (``balances``);
- the refund liability of refundable blocks, which is computed from the blocks (``performance``);
- the purchases that are shown net (``shown_net``).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from projections.reads.balances import AccountBalance
from projections.report import Column, Table, stated
from projections.reports.shown_net import Netted

NOTE: Final = (
    "Balances are on the account's normal side. Presentation: customer_deposits and credits_clearing are two sides of "
    "the same credits and are shown net; breakage_recognized is deducted from prepaid_liability. The liability of "
    "refundable blocks is a refund liability (606-10-32-10), apart from the contract liability: report performance "
    "shows both. netted: receivables whose right is not unconditional yet, and the liability for the same purchases, "
    "are not shown (606-10-45-4, Example 38): report receivables lists them."
)
_NET: Final = (
    ("contract and refund liability", "prepaid_liability", "breakage_recognized"),
    ("deposits and clearing, net", "customer_deposits", "credits_clearing"),
    ("receivables", "accounts_receivable", None),
)
"""Each line, its main account, and the account that is deducted from the main account. The lines are in order of name,
as in reports over several ledgers.
"""
_WITH_PURCHASES: Final = ("accounts_receivable", "prepaid_liability")
"""The two main accounts from which the netted amount of purchases is deducted."""


def presentation_table(accounts: Iterable[AccountBalance], netted: Netted, functional_currency: str) -> Table:
    """Returns the lines of the balance sheet by currency: presented = balance − deducted − netted.

    ``netted`` has by currency the part of receivables and liability that is not presented, because purchases are shown
    net.
    """
    found = {(account.account, account.currency): account for account in accounts}
    rows = []
    for line, gross, deducted in _NET:
        for currency in sorted({currency for account, currency in found if account in (gross, deducted)}):
            pair = [None if account is None else found.get((account, currency)) for account in (gross, deducted)]
            own = [0 if each is None else each.balance_minor for each in pair]
            functional = [0 if each is None else each.functional_minor for each in pair]
            of_purchases = netted.get(currency, (0, 0)) if gross in _WITH_PURCHASES else (0, 0)
            rows.append(
                (
                    line,
                    gross,
                    deducted,
                    currency,
                    *own,
                    of_purchases[0],
                    own[0] - own[1] - of_purchases[0],
                    functional_currency,
                    of_purchases[1],
                    functional[0] - functional[1] - of_purchases[1],
                )
            )
    columns = (
        Column("line"),
        Column("account"),
        Column("less"),
        Column("currency"),
        stated("balance"),
        stated("deducted"),
        Column("netted", "money"),
        stated("presented"),
        Column("functional_currency"),
        Column("netted_functional", "functional"),
        Column("presented_functional", "functional"),
    )
    return Table(name="presentation", columns=columns, rows=tuple(rows))


def totals_table(keys: Sequence[str], sums: Iterable[tuple[tuple[str, ...], Sequence[int]]], functional: str) -> Table:
    """Returns the totals of debits and credits, grouped by ``keys``. The last of the keys is ``currency``.

    ``sums`` has for each key four amounts in minor units: debits and credits, and then debits and credits in the
    functional currency.
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
