"""Entry kinds, entries, and the lines of an entry.

An entry has a kind and an amount. The rule of the kind names the account pairs through which the amount moves. So an
entry cannot be unbalanced, and one narrow row has the content of two to six journal lines. A negative amount is written
as the mirror, with the sides swapped and a positive amount.

Owns: the table of entry kinds, with every fact about a kind; entries; their expansion to lines. All other modules read
the facts from this table, so a new kind needs only a new row. Does not own: the rules of the kinds (policies), or when
an entry is made (deciding/decide, in which POSTS lists the kinds that each event may post).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from enum import StrEnum
from typing import Any, Final

import msgspec

from subledger.accounts import Side
from subledger.blocks import ZERO
from subledger.own_dimensions import of_role

MONETARY_ROLES: Final = (
    "cash", "processor_clearing", "disputes_receivable", "accounts_receivable", "unbilled_receivable",
    "refunds_payable", "customer_balance", "tax_payable", "unclaimed_property",
)  # fmt: skip
"""Roles whose balance is money owed or held. A close remeasures such a balance in another currency."""

REMEASURED_ROLES: Final = (*MONETARY_ROLES, "prepaid_liability")
"""The monetary roles, and the liability of refundable blocks, because it is owed back in money."""


LEDGER_ROLES: Final = ("cash", "processor_clearing", "tax_payable")
"""Monetary roles that are carried for the ledger as a whole: one balance a currency (and processor)."""

BLOCK_ROLES: Final = ("accounts_receivable", "disputes_receivable", "unclaimed_property", "processor_clearing")
"""Monetary roles that are carried by block or by processor; for the customer if an entry names neither."""


REMEASUREMENT_OF: Final = {
    "cash": "fx_remeasurement_cash",
    "processor_clearing": "fx_remeasurement_processor_clearing",
    "disputes_receivable": "fx_remeasurement_disputes_receivable",
    "accounts_receivable": "fx_remeasurement_accounts_receivable",
    "unbilled_receivable": "fx_remeasurement_unbilled_receivable",
    "refunds_payable": "fx_remeasurement_refunds_payable",
    "customer_balance": "fx_remeasurement_customer_balance",
    "tax_payable": "fx_remeasurement_tax_payable",
    "unclaimed_property": "fx_remeasurement_unclaimed_property",
    "prepaid_liability": "fx_remeasurement_prepaid_liability",
}
"""The kind that restates each remeasured role at the rate of a period's end."""

SETTLEMENT_OF: Final = {
    "cash": "fx_settlement_cash",
    "processor_clearing": "fx_settlement_processor_clearing",
    "disputes_receivable": "fx_settlement_disputes_receivable",
    "accounts_receivable": "fx_settlement_accounts_receivable",
    "unbilled_receivable": "fx_settlement_unbilled_receivable",
    "refunds_payable": "fx_settlement_refunds_payable",
    "customer_balance": "fx_settlement_customer_balance",
    "tax_payable": "fx_settlement_tax_payable",
    "unclaimed_property": "fx_settlement_unclaimed_property",
    "prepaid_liability": "fx_settlement_prepaid_liability",
}
"""The kind of the gain or loss if an amount of a remeasured role is settled at another rate than its carrying rate."""

REMEASUREMENTS: Final = tuple(REMEASUREMENT_OF.values())
SETTLEMENTS: Final = tuple(SETTLEMENT_OF.values())


class Relieves(StrEnum):
    """The monetary sides of an entry in another currency that are relieved at their carrying amount.

    If one side is relieved, the other side takes over the same functional amount, because the debt only moves to
    another role. If both sides are relieved, the entry has the carrying amount of the debit side. The difference from
    the carrying amount of the credit side is an exchange gain or loss.
    """

    NEITHER = "neither"
    DEBIT = "debit"
    CREDIT = "credit"
    BOTH = "both"


class Effect(StrEnum):
    """The effect of a kind on its block, invoice or payment, besides credits, value and receivable."""

    NONE = "none"
    TAXES = "taxes"
    REVERSES_TAX = "reverses tax"
    TAKES_TAX = "takes tax"
    CONCEDES = "concedes"
    OPENS_DISPUTE = "opens a dispute"
    WINS_DISPUTE = "wins a dispute"
    CLAIMS = "claims escheated value"
    CHANGES_EXPIRY = "changes the expiry"
    REVALUES = "revalues the liability"
    APPLIES_PAYMENT = "applies a payment"
    LEAVES_UNAPPLIED = "leaves a payment unapplied"
    PAYS_BACK_UNAPPLIED = "pays back an unapplied payment"
    ENDS_RESERVATION = "ends a reservation"
    PAYS_ELSEWHERE = "pays an invoice that is kept elsewhere"


class Result(StrEnum):
    """The class of the account that a policy may choose for a kind. A policy chooses at most one account per kind."""

    REVENUE = "revenue"
    """Earned: a revenue account, or deferred_revenue for the ERP's revenue module."""
    SHARE = "share"
    """A share of another plan's price: deferred_revenue."""
    CONCESSION = "concession"
    """A reduction of revenue: contra-revenue, deferred_revenue or an expense."""
    LOSS = "loss"
    """Earned revenue that is given up: contra-revenue or an expense."""
    EXPENSE = "expense"


BLOCK, OVERAGE, POOL = "block", "overage", "pool"
"""The rows of the revenue waterfall: the block's month of sale, usage beyond the credits, estimated breakage."""
USAGE, BREAKAGE, OTHER = "usage", "breakage", "other"
"""The columns of the revenue waterfall."""


class Kind(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An entry kind, with every fact about its entries that does not depend on the policy.

    - ``column``: the column of a block's roll-forward to which the entry adds. None if the entry does not change a
      block's value.
    - ``sign``: +1 if the kind adds to the block, and -1 if it takes from it.
    - ``debit_role``, ``credit_role``: the monetary roles of the entry; None for a side without one.
    - ``debits_also``, ``credits_also``: a clearing account that the entry must move too.
    - ``has_amount``: False if the entry has only units, or neither units nor money.

    - ``opens_block``: the kind is the first entry of its block.
    - ``is_usage``: a reversal of usage mirrors it.
    - ``cancels``: the amount is cancelled from the block's price.
    - ``gives_up``: the amount is a debt of the customer that is given up.
    - ``writes_off``: the part of a write-off: used ``value``, ``tax``, or tax without relief (``tax_borne``).
    - ``recovers``: the amount had been given up, and is owed again.
    - ``is_exchange``: the amount is an exchange difference.
    - ``opens_balance``: the amount was a balance when the ledger took over from another system.
    - ``redeems_tax``: the amount is the tax in the consumed value.
    - ``backfills``: the amount of a purchase that pays for earlier usage.
    - ``signed``: the amount may have either sign, so a negative one is no mirror.

    - ``recognised``: the row, column and sign of the amount in the revenue waterfall.
    - ``result``: the class of the account that a policy may choose.
    - ``words``: the words on a customer's statement, for the entry and for its mirror. None if a statement does not
      show the entry.
    - ``overage_sign``: +1 if the entry adds to a customer's overage, and -1 if it settles overage.
    - ``native``: the document by which a general ledger or a billing connector may post the amount by itself
      (projections/journals/division); empty if there is none.
    - ``since``: the version of this table that added the kind. A later kind gets the next number. Policies that were
      adopted before inherit its rule from a shipped policy (posting.rules_from).
    """

    name: str
    meaning: str
    since: int = 1
    column: str | None = None
    sign: int = 0
    debit_role: str | None = None
    credit_role: str | None = None
    debits_also: str | None = None
    credits_also: str | None = None
    has_amount: bool = True
    relieves: Relieves = Relieves.NEITHER
    opens_block: bool = False
    is_usage: bool = False
    cancels: bool = False
    gives_up: bool = False
    writes_off: str | None = None
    recovers: bool = False
    is_exchange: bool = False
    opens_balance: bool = False
    redeems_tax: bool = False
    backfills: bool = False
    signed: bool = False
    effect: Effect = Effect.NONE
    result: Result = Result.EXPENSE
    recognised: tuple[tuple[str, str, int], ...] = ()
    words: tuple[str, str] | None = None
    overage_sign: int = 0
    native: str = ""

    @property
    def opens_ahead(self) -> bool:
        """True if the amount is breakage that was recognised before a cut-over, for blocks that had not expired."""
        return self.opens_balance and self.debits_also == "breakage_recognized"

    @property
    def value_sign(self) -> int:
        """The sign of the functional amount: ``sign``, or -1 for exchange differences that debit prepaid_liability."""
        return -1 if self.debit_role == "prepaid_liability" else self.sign


def _kind(
    name: str,
    meaning: str,
    *,
    gains: str | None = None,
    loses: str | None = None,
    moves: str = "/",
    also: str = "/",
    **more: Any,
) -> Kind:
    """Makes a row. ``gains`` or ``loses`` is its column. ``moves`` and ``also`` are its roles, as debit / credit."""
    debit_role, credit_role = _roles(moves)
    debits_also, credits_also = _roles(also)
    return Kind(
        name=name,
        meaning=meaning,
        column=gains or loses,
        sign=(gains is not None) - (loses is not None),
        debit_role=debit_role,
        credit_role=credit_role,
        debits_also=debits_also,
        credits_also=credits_also,
        **more,
    )


def _roles(text: str) -> tuple[str | None, str | None]:
    debit, _, credit = (part.strip() or None for part in text.partition("/"))
    return debit, credit


_RECEIVABLE, _REFUNDS, _TAX = "accounts_receivable", "refunds_payable", "tax_payable"
_CLEARING, _DISPUTES, _BALANCE = "processor_clearing", "disputes_receivable", "customer_balance"
_ELSEWHERE = "billed_elsewhere"

_SETTLED_BY: Final = {
    _TAX: "invoices", _RECEIVABLE: "payments", _BALANCE: "payments", _REFUNDS: "refunds", _DISPUTES: "disputes",
    _CLEARING: "payouts", "cash": "payouts",
}  # fmt: skip
_REMEASURED_BY: Final = {**_SETTLED_BY, _RECEIVABLE: "invoices"}
"""The document of a role's exchange differences: whoever posts the amounts of the role posts them, too."""

KINDS: Final[tuple[Kind, ...]] = (
    _kind("purchase", "credits bought: deferred, never revenue", gains="purchased", moves=f"{_RECEIVABLE} /",
          opens_block=True, words=("bought", "purchase taken back"), native="invoices"),
    _kind("purchase_tax", "tax on a purchase; never part of a block's value, never drawn",
          moves=f"{_RECEIVABLE} / {_TAX}", effect=Effect.TAXES, native="invoices"),
    _kind("promotional_grant", "free credits: units, never money", gains="granted", has_amount=False, opens_block=True,
          words=("granted", "grant taken back")),
    _kind("goodwill", "credits given for past service", gains="granted", opens_block=True, result=Result.CONCESSION,
          words=("granted as goodwill", "grant taken back")),
    _kind("allocation", "credits included in another plan, at a share of its price", gains="granted", opens_block=True,
          result=Result.SHARE, words=("included in a plan", "inclusion taken back")),
    _kind("repricing", "credits or price added to a block", gains="repriced", moves=f"{_RECEIVABLE} /",
          words=("terms changed: added", "terms changed: taken off"), signed=True, native="invoices"),
    _kind("transfer_in", "credits received from another customer, at the same carrying amount", gains="transferred_in",
          also="transfer_clearing /", opens_block=True, words=("taken over from another customer", "handed back")),
    _kind("transfer_out", "credits transferred to another customer, at their carrying amount", loses="transferred",
          also="/ transfer_clearing", words=("handed to another customer", "taken back")),
    _kind("consumption", "credits used: revenue", loses="consumed", is_usage=True, result=Result.REVENUE,
          recognised=((BLOCK, USAGE, 1),), words=("used", "usage taken back")),
    _kind("redemption_tax", "tax due when credits are used: a part of their value, not revenue", since=2,
          loses="consumed", moves=f"/ {_TAX}", redeems_tax=True,
          words=("tax on usage", "tax on usage taken back")),
    _kind("overage", "usage beyond the credits: unbilled revenue", moves="unbilled_receivable /", is_usage=True,
          result=Result.REVENUE, recognised=((OVERAGE, OTHER, 1),), overage_sign=1,
          words=("used beyond the credits", "usage beyond the credits taken back")),
    _kind("overage_billed", "invoiced overage", moves=f"{_RECEIVABLE} / unbilled_receivable",
          relieves=Relieves.CREDIT, overage_sign=-1,
          words=("usage beyond the credits invoiced", "invoice of usage taken back"), native="invoices"),
    _kind("overage_tax", "tax on invoiced overage", moves=f"{_RECEIVABLE} / {_TAX}", native="invoices"),
    _kind("overage_backfilled", "unbilled overage paid with a later block", loses="consumed",
          moves="/ unbilled_receivable", recognised=((BLOCK, OTHER, 1), (OVERAGE, OTHER, -1)), overage_sign=-1,
          backfills=True, words=("paid for earlier usage", "earlier usage taken back")),
    _kind("backfill_difference", "the price of a block's credits above the overage price", loses="consumed",
          result=Result.REVENUE, recognised=((BLOCK, OTHER, 1),), backfills=True,
          words=("price difference of earlier usage", "price difference of earlier usage"), signed=True),
    _kind("breakage", "credits that expired unused", loses="expired", result=Result.REVENUE,
          recognised=((BLOCK, BREAKAGE, 1),), words=("expired", "expiry taken back")),
    _kind("pooled_breakage", "credits that expired unused; their breakage was estimated for their pool",
          loses="expired", also="/ breakage_recognized", recognised=((BLOCK, BREAKAGE, 1), (POOL, BREAKAGE, -1)),
          words=("expired", "expiry taken back")),
    _kind("reinstatement", "expired credits restored: breakage mirrored", gains="expired", result=Result.REVENUE,
          recognised=((BLOCK, BREAKAGE, -1),), words=("brought back after expiry", "expired again")),
    _kind("breakage_estimate", "breakage of a pool, in proportion to redeemed credits; signed: a true-up",
          also="breakage_recognized /", result=Result.REVENUE, recognised=((POOL, BREAKAGE, 1),), signed=True),
    _kind("escheat", "an unused remainder that goes to a state, never to revenue", loses="escheated",
          moves="/ unclaimed_property", words=("turned over as unclaimed property", "turned back")),
    _kind("escheat_reclaimed", "an escheated remainder reclaimed by its customer",
          moves=f"unclaimed_property / {_REFUNDS}", relieves=Relieves.DEBIT, effect=Effect.CLAIMS),
    _kind("escheat_remitted", "an escheated remainder paid to the state", moves="unclaimed_property / cash",
          relieves=Relieves.BOTH, effect=Effect.CLAIMS),
    _kind("void_unpaid", "cancelled before it was paid", loses="voided", moves=f"/ {_RECEIVABLE}", cancels=True,
          words=("cancelled", "cancellation taken back"), native="credit_memos"),
    _kind("void_paid", "cancelled after it was paid: owed back", loses="voided", moves=f"/ {_REFUNDS}", cancels=True,
          words=("cancelled", "cancellation taken back"), native="credit_memos"),
    _kind("goodwill_voided", "goodwill taken back, unused", since=2, loses="voided", result=Result.CONCESSION,
          words=("cancelled", "cancellation taken back")),
    _kind("allocation_voided", "credits included in another plan, taken back unused", since=2, loses="voided",
          result=Result.SHARE, words=("cancelled", "cancellation taken back")),
    _kind("refund", "unused credits refunded: owed to the customer", loses="refunded", moves=f"/ {_REFUNDS}",
          cancels=True, words=("refunded", "refund taken back"), native="credit_memos"),
    _kind("refund_unpaid", "unused credits refunded before they were paid: nothing is owed for them", since=2,
          loses="refunded", moves=f"/ {_RECEIVABLE}", cancels=True, words=("refunded", "refund taken back"),
          native="credit_memos"),
    _kind("refund_retained", "the retained value of refunded credits: revenue, not breakage", loses="refunded",
          result=Result.REVENUE, recognised=((BLOCK, OTHER, 1),), words=("kept on refund", "kept on refund")),
    _kind("tax_reversed_unpaid", "tax of a cancelled sale, not paid yet", moves=f"{_TAX} / {_RECEIVABLE}",
          relieves=Relieves.BOTH, effect=Effect.REVERSES_TAX, native="credit_memos"),
    _kind("tax_reversed_paid", "tax of a cancelled sale, owed back", moves=f"{_TAX} / {_REFUNDS}",
          effect=Effect.REVERSES_TAX, native="credit_memos"),
    _kind("memo_unpaid", "a price concession on consumed value, not paid yet", moves=f"/ {_RECEIVABLE}",
          effect=Effect.CONCEDES, result=Result.CONCESSION, native="credit_memos"),
    _kind("memo_paid", "a price concession on consumed value, owed back", moves=f"/ {_REFUNDS}",
          effect=Effect.CONCEDES, result=Result.CONCESSION, native="credit_memos"),
    _kind("payment_processor", "a receivable paid through a processor", moves=f"{_CLEARING} / {_RECEIVABLE}",
          effect=Effect.APPLIES_PAYMENT, native="payments"),
    _kind("payment_cash", "a receivable paid into the bank", moves=f"cash / {_RECEIVABLE}",
          effect=Effect.APPLIES_PAYMENT, native="payments"),
    _kind("unapplied_processor", "a payment through a processor, not applied yet",
          moves=f"{_CLEARING} / {_BALANCE}", effect=Effect.LEAVES_UNAPPLIED, native="payments"),
    _kind("unapplied_cash", "a payment into the bank, not applied yet", moves=f"cash / {_BALANCE}",
          effect=Effect.LEAVES_UNAPPLIED, native="payments"),
    _kind("payment_applied", "an unapplied payment applied to a receivable", moves=f"{_BALANCE} / {_RECEIVABLE}",
          relieves=Relieves.BOTH, effect=Effect.APPLIES_PAYMENT, native="payments"),
    _kind("balance_refunded", "an unapplied payment to be paid back", moves=f"{_BALANCE} / {_REFUNDS}",
          relieves=Relieves.DEBIT, effect=Effect.PAYS_BACK_UNAPPLIED, native="refunds"),
    _kind("paid_elsewhere_processor", "money through a processor for invoices that are kept elsewhere; signed", since=2,
          moves=f"{_CLEARING} /", also=f"/ {_ELSEWHERE}", relieves=Relieves.DEBIT, effect=Effect.PAYS_ELSEWHERE,
          signed=True, native="payments"),
    _kind("paid_elsewhere_cash", "money into the bank for invoices that are kept elsewhere; signed", since=2,
          moves="cash /", also=f"/ {_ELSEWHERE}", relieves=Relieves.DEBIT, effect=Effect.PAYS_ELSEWHERE, signed=True,
          native="payments"),
    _kind("processing_fee", "the fee that the processor deducts from a payment", moves=f"/ {_CLEARING}", native="fees"),
    _kind("processor_adjustment", "a processor's fee that stands alone, or an adjustment of its balance; signed",
          since=2, moves=f"/ {_CLEARING}", signed=True, native="fees"),
    _kind("processor_tax", "tax on a processor's fees that can be recovered; signed", since=2,
          moves=f"{_TAX} / {_CLEARING}", signed=True, native="fees"),
    _kind("refund_fee", "the fee that the processor charges for a refund", since=2, moves=f"/ {_CLEARING}",
          native="fees"),
    _kind("payout", "money that a processor pays into the bank", moves=f"cash / {_CLEARING}", relieves=Relieves.CREDIT,
          native="payouts"),
    _kind("exchange", "money in the bank that came from another currency, or went there; signed", since=2,
          moves="cash /", relieves=Relieves.DEBIT, signed=True, native="payouts"),
    _kind("exchange_processor", "money of a processor that came from another currency, or went there; signed", since=2,
          moves=f"{_CLEARING} /", relieves=Relieves.DEBIT, signed=True, native="payouts"),
    _kind("refund_paid_processor", "a refund paid through a processor", moves=f"{_REFUNDS} / {_CLEARING}",
          relieves=Relieves.BOTH, native="refunds"),
    _kind("refund_paid_cash", "a refund paid from the bank", moves=f"{_REFUNDS} / cash", relieves=Relieves.BOTH,
          native="refunds"),
    _kind("dispute_opened", "money withdrawn while a dispute is undecided", moves=f"{_DISPUTES} / {_CLEARING}",
          relieves=Relieves.CREDIT, effect=Effect.OPENS_DISPUTE, native="disputes"),
    _kind("dispute_fee", "the processor's fee for a dispute; not returned if the dispute is won",
          moves=f"/ {_CLEARING}", native="fees"),
    _kind("dispute_won", "disputed money that is returned", moves=f"{_CLEARING} / {_DISPUTES}",
          relieves=Relieves.CREDIT, effect=Effect.WINS_DISPUTE, native="disputes"),
    _kind("dispute_opened_cash", "money that a bank took back while a dispute is undecided", since=2,
          moves=f"{_DISPUTES} / cash", relieves=Relieves.CREDIT, effect=Effect.OPENS_DISPUTE, native="disputes"),
    _kind("dispute_fee_cash", "a bank's fee for a dispute; not returned if the dispute is won", since=2,
          moves="/ cash", native="fees"),
    _kind("dispute_won_cash", "disputed money that a bank returned", since=2, moves=f"cash / {_DISPUTES}",
          relieves=Relieves.CREDIT, effect=Effect.WINS_DISPUTE, native="disputes"),
    _kind("dispute_lost_unused", "a lost dispute: its unused part", loses="charged_back",
          moves=f"/ {_DISPUTES}", gives_up=True, words=("charged back", "charge back taken back"), native="disputes"),
    _kind("dispute_lost_used", "a lost dispute: its used part", moves=f"/ {_DISPUTES}",
          gives_up=True, effect=Effect.CONCEDES, result=Result.CONCESSION, native="disputes"),
    _kind("dispute_lost_tax", "a lost dispute: its tax", moves=f"{_TAX} / {_DISPUTES}", relieves=Relieves.BOTH,
          gives_up=True, effect=Effect.TAKES_TAX, native="disputes"),
    _kind("dispute_lost_refund", "a lost dispute: a refund that was owed, and needs no paying any more", since=2,
          moves=f"{_REFUNDS} / {_DISPUTES}", relieves=Relieves.BOTH, native="disputes"),
    _kind("dispute_lost_balance", "a lost dispute: the unapplied part of its payment", since=2,
          moves=f"{_BALANCE} / {_DISPUTES}", relieves=Relieves.BOTH, native="disputes"),
    _kind("dispute_lost_unclaimed", "a lost dispute: unclaimed property, which is owed to no state any more", since=2,
          moves=f"unclaimed_property / {_DISPUTES}", relieves=Relieves.BOTH, effect=Effect.CLAIMS, native="disputes"),
    _kind("dispute_lost_twice",
          "a lost dispute: money that had already been paid back to the customer, or paid to a state", since=2,
          moves=f"/ {_DISPUTES}", native="disputes"),
    _kind("dispute_lost_elsewhere", "a lost dispute: money for invoices that are kept elsewhere, which are owed again",
          since=2, moves=f"/ {_DISPUTES}", also=f"{_ELSEWHERE} /", relieves=Relieves.CREDIT, native="disputes"),
    _kind("write_off_unused", "a receivable written off: its unused part", loses="written_off",
          moves=f"/ {_RECEIVABLE}", gives_up=True, words=("cancelled, not paid", "cancellation taken back")),
    _kind("write_off_used", "a receivable written off: its used part", moves=f"/ {_RECEIVABLE}",
          gives_up=True, writes_off="value", effect=Effect.CONCEDES, result=Result.LOSS),
    _kind("write_off_overage", "an invoice of overage written off: its revenue", since=2, moves=f"/ {_RECEIVABLE}",
          gives_up=True, writes_off="value", effect=Effect.CONCEDES, result=Result.LOSS),
    _kind("write_off_tax", "a receivable written off: its tax, with tax relief", moves=f"{_TAX} / {_RECEIVABLE}",
          relieves=Relieves.BOTH, gives_up=True, writes_off="tax", effect=Effect.TAKES_TAX),
    _kind("write_off_tax_borne", "a receivable written off: its tax, without tax relief", moves=f"/ {_RECEIVABLE}",
          gives_up=True, writes_off="tax_borne", effect=Effect.TAKES_TAX, result=Result.LOSS),
    _kind("write_off_recovered", "money after a write-off: used value that is owed again, and paid", since=2,
          moves=f"{_RECEIVABLE} /", gives_up=True, writes_off="value", recovers=True, effect=Effect.CONCEDES,
          result=Result.LOSS),
    _kind("recovered_tax", "money after a write-off: its tax, payable again", since=2,
          moves=f"{_RECEIVABLE} / {_TAX}", gives_up=True, writes_off="tax", recovers=True, effect=Effect.TAKES_TAX),
    _kind("recovered_tax_borne", "money after a write-off: its tax, for which there was no tax relief", since=2,
          moves=f"{_RECEIVABLE} /", gives_up=True, writes_off="tax_borne", recovers=True, effect=Effect.TAKES_TAX,
          result=Result.LOSS),
    *(
        _kind(name, f"{role} remeasured at the rate of the period's end", moves=f"{role} /", is_exchange=True,
              native=_REMEASURED_BY.get(role, ""),
              effect=Effect.REVALUES if role == "prepaid_liability" else Effect.NONE)
        for role, name in REMEASUREMENT_OF.items()
    ),
    *(
        _kind(name, f"{role} settled at a rate other than its carrying rate", moves=f"{role} /", is_exchange=True,
              native=_SETTLED_BY.get(role, ""),
              effect=Effect.REVALUES if role == "prepaid_liability" else Effect.NONE)
        for role, name in SETTLEMENT_OF.items()
    ),
    _kind("credits_reserved", "credits held for usage to come; no money, no credits", since=2, has_amount=False),
    _kind("reservation_settled", "a reservation ended by the usage that it was for; no money, no credits", since=2,
          has_amount=False, effect=Effect.ENDS_RESERVATION),
    _kind("reservation_released", "a reservation given up; no money, no credits", since=2, has_amount=False,
          effect=Effect.ENDS_RESERVATION),
    _kind("expiry_changed", "a block's expiry was changed; no money, no credits", has_amount=False,
          effect=Effect.CHANGES_EXPIRY, words=("expiry changed", "expiry changed")),
    _kind("opening_prepaid_liability", "credits that a block had at a cut-over, with their carrying amount", since=2,
          gains="opened", also="opening_balances /", opens_block=True, opens_balance=True,
          words=("opened at the cut-over", "opening taken back")),
    _kind("opening_accounts_receivable", "a receivable that was open at a cut-over", since=2,
          moves=f"{_RECEIVABLE} /", also="/ opening_balances", opens_balance=True),
    _kind("opening_customer_balance", "a payment that was not applied yet at a cut-over", since=2,
          moves=f"/ {_BALANCE}", also="opening_balances /", opens_balance=True),
    _kind("opening_unbilled_receivable", "overage that was not invoiced yet at a cut-over", since=2,
          moves="unbilled_receivable /", also="/ opening_balances", opens_balance=True, overage_sign=1,
          words=("used beyond the credits before the cut-over", "opening taken back")),
    _kind("opening_tax_payable", "tax that was payable at a cut-over; signed", since=2,
          moves=f"/ {_TAX}", also="opening_balances /", opens_balance=True, signed=True),
    _kind("opening_refunds_payable", "a refund that was owed at a cut-over", since=2,
          moves=f"/ {_REFUNDS}", also="opening_balances /", opens_balance=True),
    _kind("opening_unclaimed_property", "an escheated remainder that was owed to a state at a cut-over", since=2,
          moves="/ unclaimed_property", also="opening_balances /", opens_balance=True),
    _kind("opening_breakage_recognized", "breakage of a pool's cohort that was recognised ahead at a cut-over", since=2,
          also="breakage_recognized / opening_balances", opens_balance=True),
    _kind("opening_processor_clearing", "money that a processor held at a cut-over; signed", since=2,
          moves=f"{_CLEARING} /", also="/ opening_balances", opens_balance=True, signed=True),
)  # fmt: skip
"""All kinds, in the order of every table that lists them."""

KIND_BY_NAME: Final[dict[str, Kind]] = {kind.name: kind for kind in KINDS}

RECOVERIES: Final = {kind.writes_off: kind.name for kind in KINDS if kind.recovers}
"""For each part of a write-off, the kind of the entry by which it is owed again when it is paid later."""

USAGE_KINDS: Final = tuple(kind.name for kind in KINDS if kind.is_usage)

YOUNGER_KINDS: Final = tuple(kind for kind in KINDS if kind.since > 1)
"""Kinds that the policy of an existing ledger may lack, because the policy is older than the kinds."""

GAINS: Final = ("purchased", "granted", "transferred_in", "repriced", "opened")
LOSSES: Final = (
    "consumed", "expired", "voided", "refunded", "transferred", "escheated", "charged_back", "written_off",
)  # fmt: skip
"""The columns of a block. Gains less losses are its remaining credits and its carrying amount."""

OPENINGS: Final = tuple(kind.name for kind in KINDS if kind.opens_block)
"""The kinds that open a block. The first entry of every block has one of these kinds, and no other entry has one."""

CREDIT_COLUMNS: Final = (
    "purchased", "granted", "consumed", "expired", "voided", "refunded", "transferred", "other",
)  # fmt: skip
"""The columns of a customer's credits. ``purchased + granted + other`` less the other columns is the remainder."""

CREDIT_COLUMN: Final[dict[str, tuple[str, int]]] = {
    **{column: (column, 1) for column in (*GAINS[:2], *LOSSES[:5])},
    "transferred_in": ("transferred", -1),
    "repriced": ("other", 1),
    "opened": ("other", 1),
    "escheated": ("other", -1),
    "charged_back": ("other", -1),
    "written_off": ("other", -1),
}
"""For each column of a block, the column of a customer's credits to which it is added, and the sign."""


class AccountPair(msgspec.Struct, frozen=True, order=True, gc=False):
    """Account pair: the roles that an amount is debited and credited to."""

    debit: str
    credit: str


Rules = Mapping[str, tuple[AccountPair, ...]]
"""A posting policy's rules: the pairs of every entry kind, in the order of the lines."""


class Dimensions(msgspec.Struct, frozen=True, order=True, gc=False):
    """Dimensions of a total besides the account. A dimension that does not apply is an empty text.

    - ``refundable``: ``"true"`` for entries of a refundable block, which is owed back in money. Empty for other
      entries, and for a block that is older than this dimension.
    - ``own``: the company's own dimensions of the block.
    - ``usage``: those of the usage that the entry recognises, if they differ.

    Both are texts of ``own_dimensions``, which decides the dimensions of each line.
    """

    product: str = ""
    credit_kind: str = ""
    pool: str = ""
    processor: str = ""
    cohort: str = ""
    refundable: str = ""
    own: str = ""
    usage: str = ""

    def own_of(self, role: str) -> str:
        """The company's own dimensions of a line of this role."""
        return of_role(role, self.own, self.usage)


class Entry(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One journal entry. ``number`` counts from 1 within its event. Amounts are in minor units; a mirror is negative.

    ``functional_minor`` is the amount in the ledger's functional currency. ``policy`` is the number of the adopted
    policy that gives the rule of the kind. ``cut`` decides to which journal the entry belongs.
    """

    number: int
    policy: int
    kind: str
    customer: str | None
    block_id: str | None
    unit: str | None
    credits: Decimal = ZERO
    amount_minor: int
    currency: str
    functional_minor: int
    accounting_date: date
    effective_date: date
    cut: int
    dimensions: Dimensions


class EntryLine(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Entry line: one side of one role, with a positive amount in minor units."""

    account: str
    side: Side
    amount_minor: int
    functional_minor: int


def is_mirrored(amount_minor: int, functional_minor: int) -> bool:
    """True if an entry of these amounts is written with its sides swapped: in both currencies, or in neither.

    The sign of the amount decides. If the amount is 0, the sign of the functional amount decides. The same condition in
    SQL is ``MIRRORED`` (store/tables/log).
    """
    return amount_minor < 0 or (amount_minor == 0 and functional_minor < 0)


def expand(kind: str, amount_minor: int, functional_minor: int, rules: Rules) -> tuple[EntryLine, ...]:
    """Returns the lines of an entry, pair by pair, debit before credit. There are none if both amounts are 0.

    Debits equal credits in both currencies by construction. An amount and its functional amount may differ in
    sign only if one of them is 0.
    """
    if amount_minor == 0 and functional_minor == 0:
        return ()
    mirrored = is_mirrored(amount_minor, functional_minor)
    lines = []
    for pair in rules[kind]:
        first, second = (pair.credit, pair.debit) if mirrored else (pair.debit, pair.credit)
        for account, side in ((first, Side.DEBIT), (second, Side.CREDIT)):
            lines.append(
                EntryLine(
                    account=account, side=side, amount_minor=abs(amount_minor), functional_minor=abs(functional_minor)
                )
            )
    return tuple(lines)


def effect(account: str, kind: str, rules: Rules) -> int:
    """Returns the number of debits of the account by an entry of this kind, less the number of credits."""
    return sum((pair.debit == account) - (pair.credit == account) for pair in rules[kind])
