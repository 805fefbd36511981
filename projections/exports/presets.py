"""Presets: the divisions of work between a company's ERP and this ledger that occur in practice, ready for use.

Owns: their names and settings. Does not own: the words of a division (journals/division), the settings of a target.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from projections.exports.formats.target import Target
from subledger.errors import InvalidInput


class Preset(msgspec.Struct, frozen=True, kw_only=True):
    """A preset. ``targets``: the general ledgers for which it is meant; none: all of them.

    ``meaning``: who posts what. ``accounts``: what the account mapping needs. ``policy``: the posting policy that the
    ledger needs; empty: any. ``format``: the format that it needs; empty: any of the target.
    """

    name: str
    meaning: str
    accounts: str
    native: tuple[str, ...] = ()
    pass_through: bool = False
    targets: tuple[str, ...] = ()
    policy: str = ""
    format: str = ""

    @property
    def settings(self) -> dict[str, Any]:
        """The settings of a target that it stands for."""
        return {"native": list(self.native), "pass_through": self.pass_through}

    def is_for(self, target: Target) -> bool:
        return not self.targets or target.name in self.targets


_BILLED: Final = ("invoices", "credit_memos")
_PAID: Final = ("payments", "refunds", "fees", "payouts", "disputes")

PRESETS: Final[dict[str, Preset]] = {
    preset.name: preset
    for preset in (
        Preset(
            name="everything",
            meaning="This ledger posts everything. The ERP has neither the invoices nor the payments of credits.",
            accounts="accounts_receivable, cash and tax_payable in control accounts of their own, which are not of the "
            "ERP's receivable, bank or tax type",
        ),
        Preset(
            name="invoices_native",
            meaning="The ERP posts invoices and credit memos. This ledger posts payments and everything else.",
            accounts="the item of an invoice in the account of deferred_revenue (plain policy: of prepaid_liability)",
            native=_BILLED,
        ),
        Preset(
            name="invoices_and_payments_native",
            meaning="The ERP or the billing connector posts invoices, credit memos, payments, refunds, fees, payouts "
            "and disputes. This ledger posts what happens to the credits.",
            accounts="the item of an invoice in the account of deferred_revenue (plain policy: of prepaid_liability)",
            native=(*_BILLED, *_PAID),
        ),
        Preset(
            name="netsuite_deposits",
            meaning="NetSuite gets a customer deposit for each block and an application for each month of its usage. "
            "This ledger posts everything.",
            accounts="credits_clearing in an account of the type Bank; customer_deposits in NetSuite's own account for "
            "customer deposits",
            pass_through=True,
            targets=("netsuite",),
            policy="customer_deposits",
            format="netsuite-deposits",
        ),
        Preset(
            name="revenue_module",
            meaning="The ERP posts invoices, payments and an invoice for each usage, and its revenue module posts "
            "revenue. This ledger posts the liability.",
            accounts="deferred_revenue in the deferral account of the revenue module's items",
            native=(*_BILLED, *_PAID, "usage_invoices"),
            pass_through=True,
            policy="customer_deposits_arm",
        ),
    )
}
"""All presets, by name."""


def preset_named(name: str, target: Target) -> Preset:
    """Returns a preset for a target. Raises InvalidInput."""
    fitting = [preset.name for preset in PRESETS.values() if preset.is_for(target)]
    if name not in fitting:
        raise InvalidInput(
            f"{target.name} has no preset {name[:60]}", field="preset", expected=", ".join(fitting), found=name[:60]
        )
    return PRESETS[name]
