"""The chart of accounts: the roles that entries post to.

A role is not a GL account. The ledger's account mapping gives it an account number of the ERP, at export.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

import msgspec


class AccountClass(StrEnum):
    """The five elements of financial statements, with the contra accounts separate; accounts that only clear."""

    ASSET = "asset"
    LIABILITY = "liability"
    CONTRA_LIABILITY = "contra_liability"
    REVENUE = "revenue"
    CONTRA_REVENUE = "contra_revenue"
    EXPENSE = "expense"
    CLEARING = "clearing"


class Side(StrEnum):
    """Debit or credit. *Credit* alone is always this side; prepaid units are *credits*."""

    DEBIT = "debit"
    CREDIT = "credit"

    @property
    def opposite(self) -> Side:
        return Side.CREDIT if self is Side.DEBIT else Side.DEBIT


class Role(msgspec.Struct, frozen=True, kw_only=True):
    """One account role: its name, class, normal side, and a sentence that says what its balance means."""

    name: str
    account_class: AccountClass
    meaning: str

    @property
    def normal_side(self) -> Side:
        debit_classes = (
            AccountClass.ASSET,
            AccountClass.EXPENSE,
            AccountClass.CONTRA_LIABILITY,
            AccountClass.CONTRA_REVENUE,
        )
        return Side.DEBIT if self.account_class in debit_classes else Side.CREDIT

    def on_normal_side(self, debits: int) -> int:
        """Returns a balance as it is shown: debits less credits, with the sign changed if the normal side is credit."""
        return debits if self.normal_side is Side.DEBIT else -debits


def _roles(account_class: AccountClass, **meanings: str) -> tuple[Role, ...]:
    return tuple(Role(name=name, account_class=account_class, meaning=meaning) for name, meaning in meanings.items())


ROLES: Final[tuple[Role, ...]] = (
    *_roles(
        AccountClass.ASSET,
        cash="money in the bank",
        processor_clearing="money that a payment processor holds for the company",
        disputes_receivable="money withdrawn for disputes that are not decided",
        accounts_receivable="invoiced and not paid; consumption debits and credits it by the same amount",
        unbilled_receivable="overage that is not invoiced yet",
        credits_clearing="credits outstanding; clears against customer_deposits, block by block",
    ),
    *_roles(
        AccountClass.LIABILITY,
        deferred_revenue="between invoice and prepaid liability; under customer_deposits_arm: released to the ERP's "
        "revenue module",
        prepaid_liability="credits sold or granted for value and not consumed (contract liability, ASC 606-10-45-2)",
        customer_deposits="deposits behind the credits outstanding; clears against credits_clearing",
        refunds_payable="owed back to customers",
        customer_balance="payments that are not applied yet",
        tax_payable="sales tax, VAT or GST collected",
        unclaimed_property="escheated remainders owed to a state",
        transfer_clearing="credits on their way from one customer to another",
    ),
    *_roles(AccountClass.CONTRA_LIABILITY, breakage_recognized="breakage recognised before expiry, by pool"),
    *_roles(
        AccountClass.REVENUE,
        usage_revenue="credits consumed",
        overage_revenue="usage beyond the credits",
        breakage_revenue="credits that expired unused (ASC 606-10-55-48)",
    ),
    *_roles(AccountClass.CONTRA_REVENUE, contra_revenue="credit memos, goodwill, lost disputes"),
    *_roles(
        AccountClass.EXPENSE,
        processing_fees="fees that payment processors deduct",
        dispute_fees="fees that payment processors charge for disputes",
        bad_debt="receivables written off",
        fx_gain_loss="exchange gains and losses",
    ),
    *_roles(
        AccountClass.CLEARING,
        billed_elsewhere="paid for invoices that this ledger does not keep",
        opening_balances="the other side of balances taken over from another system; zero together with the general "
        "ledger's own opening balances",
    ),
)

ROLE_BY_NAME: Final[dict[str, Role]] = {role.name: role for role in ROLES}

CHART_ORDER: Final[dict[str, int]] = {role.name: place for place, role in enumerate(ROLES)}
"""Position of each role in the chart: every list of accounts has this order."""
