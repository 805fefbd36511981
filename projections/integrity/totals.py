"""Check of sums over the ledger: the trial balance, the control account, accounts that must be zero.

The totals by day, computed from the log, are read under the adopted posting rules, and compared with the journal lines
in the database. Owns: sums over the whole ledger. Does not own: single blocks and positions.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Final

import sqlalchemy as sa

from projections.integrity.policies import LIABILITY
from projections.integrity.pools import Carried
from projections.replay.findings import Breach
from projections.replay.totals import Totals
from subledger.blocks import NO_PORTION
from subledger.kinds import Rules

TRIAL_BALANCE: Final = """
-- The trial balance from the view of journal lines: stored entries under stored rules.
SELECT account, currency,
       coalesce(sum(amount_minor) FILTER (WHERE side = 'debit'), 0),
       coalesce(sum(amount_minor) FILTER (WHERE side = 'credit'), 0),
       coalesce(sum(functional_minor) FILTER (WHERE side = 'debit'), 0),
       coalesce(sum(functional_minor) FILTER (WHERE side = 'credit'), 0)
FROM journal_lines WHERE ledger = :ledger GROUP BY account, currency
"""

_Account = tuple[str, str]
_Sides = tuple[int, ...]
"""Debits, credits, and both in the functional currency."""


def journal_line_sums(connection: sa.Connection, ledger: str) -> dict[_Account, _Sides]:
    """Returns the trial balance from the journal lines in the database."""
    rows = connection.execute(sa.text(TRIAL_BALANCE), {"ledger": ledger})
    return {(row[0], row[1]): tuple(int(value) for value in row[2:]) for row in rows}


def total_faults(
    found: dict[_Account, _Sides], totals: Totals, carried: Mapping[str, Carried], rules: dict[int, Rules]
) -> Iterator[Breach]:
    """Yields every sum of the ledger that does not tie.

    ``found`` are the sums of the journal lines; ``carried`` are the carrying amounts of all blocks, by currency.
    """
    expected = trial_balance(totals, rules)
    for account, currency in sorted(expected.keys() | found.keys()):
        from_days, lines = expected.get((account, currency)), found.get((account, currency))
        if from_days != lines:
            yield _breach(
                account,
                f"the trial balance of {account} in {currency} differs from the journal lines",
                from_days,
                lines,
            )
    yield from _out_of_balance(found)
    yield from _control(carried, expected)
    for (account, currency), (debit, credit, f_debit, f_credit) in sorted(expected.items()):
        if account == "transfer_clearing" and (debit, f_debit) != (credit, f_credit):
            yield _breach(
                account, f"transfer_clearing in {currency} is not zero", (0, 0), (debit - credit, f_debit - f_credit)
            )


def trial_balance(totals: Totals, rules: dict[int, Rules]) -> dict[_Account, _Sides]:
    """Returns account and currency → debits, credits, and both in the functional currency, from the day totals."""
    balances: dict[_Account, list[int]] = {}
    for (_, _, _, currency, policy, kind, _, _), total in totals.days.items():
        written, mirrored, f_written, f_mirrored = (int(value) for value in total[:4])
        if not (written or mirrored or f_written or f_mirrored):
            continue
        for pair in rules.get(policy, {}).get(kind, ()):
            for account, amounts in (
                (pair.debit, (written, mirrored, f_written, f_mirrored)),
                (pair.credit, (mirrored, written, f_mirrored, f_written)),
            ):
                balance = balances.setdefault((account, currency), [0, 0, 0, 0])
                for place, amount in enumerate(amounts):
                    balance[place] += amount
    return {key: tuple(balance) for key, balance in balances.items()}


def _out_of_balance(found: dict[_Account, _Sides]) -> Iterator[Breach]:
    """Yields the currencies in which debits and credits differ, in the currency or in the functional currency."""
    rest: Counter[tuple[str, str]] = Counter()
    for (_, currency), (debit, credit, f_debit, f_credit) in found.items():
        rest[currency, ""] += debit - credit
        rest[currency, " (functional)"] += f_debit - f_credit
    for (currency, suffix), amount in sorted(rest.items()):
        if amount:
            yield _breach(currency, f"the trial balance in {currency}{suffix} is out by {amount}", 0, amount)


def _control(carried: Mapping[str, Carried], balances: dict[_Account, _Sides]) -> Iterator[Breach]:
    """Compares prepaid_liability with the carrying amounts of blocks, in each currency and in the functional one."""
    currencies = carried.keys() | {currency for account, currency in balances if account == LIABILITY}
    for currency in sorted(currencies):
        debit, credit, f_debit, f_credit = balances.get((LIABILITY, currency), (0, 0, 0, 0))
        _, amount, functional = carried.get(currency, NO_PORTION)
        for suffix, balance, blocks in (
            ("", credit - debit, amount),
            (" (functional)", f_credit - f_debit, functional),
        ):
            if balance != blocks:
                yield Breach(
                    check="control",
                    subject=LIABILITY,
                    expected=balance,
                    found=blocks,
                    message=f"prepaid_liability in {currency}{suffix} is {balance}, "
                    f"the carrying amount of the blocks is {blocks}",
                )


def _breach(subject: str, message: str, expected: object, found: object) -> Breach:
    return Breach(check="trial_balance", message=message, subject=subject, expected=expected, found=found)
