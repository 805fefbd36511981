"""Journal entries and the lines they stand for.

An entry is a kind and an amount; the kind's rule names the account pairs that the amount moves through. So an entry
cannot be unbalanced, and one narrow row stands for two to six journal lines. A negative amount is written as the
mirror: sides swapped, amount positive.

Owns: the entry kinds with their effect on credits, entries, the expansion to lines. Does not own: the rules
themselves (policies), or when an entry is made (deciding).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from typing import Final

import msgspec

from subledger.accounts import Side
from subledger.blocks import ZERO

MONETARY_ROLES: Final = (
    "cash", "processor_clearing", "disputes_receivable", "accounts_receivable", "unbilled_receivable",
    "refunds_payable", "customer_balance", "tax_payable", "unclaimed_property",
)  # fmt: skip
"""Roles whose balance is money owed or held: remeasured where it is in another currency than the books."""

REMEASURED_ROLES: Final = (*MONETARY_ROLES, "prepaid_liability")
"""The monetary roles, and the liability of refundable blocks, which is owed back in money."""


LEDGER_ROLES: Final = ("cash", "processor_clearing", "tax_payable")
"""Monetary roles that are carried for the ledger as a whole: one balance a currency (and processor)."""

BLOCK_ROLES: Final = ("accounts_receivable", "disputes_receivable", "unclaimed_property", "processor_clearing")
"""Monetary roles that are carried block by block (or processor by processor), and only else for the customer."""


REMEASUREMENTS: Final = tuple(f"fx_remeasurement_{role}" for role in REMEASURED_ROLES)
SETTLEMENTS: Final = tuple(f"fx_settlement_{role}" for role in REMEASURED_ROLES)


class Kind(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An entry kind: which column of a block's roll-forward it fills, and in which direction.

    ``column`` names what happened to the block's credits and value (None: it does not touch a block's value);
    ``sign`` is +1 where the kind adds to the block and -1 where it takes from it. ``debits`` and ``credits`` are the
    monetary role on either side, None where that side is none: the same under every policy.

    ``since`` is the version of this table in which the kind came. A kind that is added later takes the next number:
    policies adopted before it inherit its rule from a shipped policy (posting.rules_from).
    """

    name: str
    meaning: str
    since: int = 1
    column: str | None = None
    sign: int = 0
    debits: str | None = None
    credits: str | None = None


def _kind(
    name: str, meaning: str, *, since: int = 1, gains: str | None = None, loses: str | None = None, moves: str = "/"
) -> Kind:  # fmt: skip
    debits, _, credits = (part.strip() or None for part in moves.partition("/"))
    return Kind(
        name=name,
        meaning=meaning,
        since=since,
        column=gains or loses,
        sign=(gains is not None) - (loses is not None),
        debits=debits,
        credits=credits,
    )


_RECEIVABLE, _REFUNDS, _TAX = "accounts_receivable", "refunds_payable", "tax_payable"
_CLEARING, _DISPUTES, _BALANCE = "processor_clearing", "disputes_receivable", "customer_balance"

KINDS: Final[tuple[Kind, ...]] = (
    _kind("purchase", "credits bought: deferred, never revenue", gains="purchased", moves=f"{_RECEIVABLE} /"),
    _kind("purchase_tax", "tax on a purchase; never part of a block's value, never drawn",
          moves=f"{_RECEIVABLE} / {_TAX}"),
    _kind("promotional_grant", "free credits: units, never money", gains="granted"),
    _kind("goodwill", "credits given for past service", gains="granted"),
    _kind("allocation", "credits of another plan, at a share of its price", gains="granted"),
    _kind("repricing", "credits or price added to what a block has left", gains="repriced",
          moves=f"{_RECEIVABLE} /"),
    _kind("transfer_in", "credits taken over from another customer, at the same basis", gains="transferred_in"),
    _kind("transfer_out", "credits handed to another customer, at their basis", loses="transferred"),
    _kind("consumption", "credits used: revenue", loses="consumed"),
    _kind("overage", "usage beyond the credits: unbilled revenue", moves="unbilled_receivable /"),
    _kind("overage_billed", "overage that has been invoiced", moves=f"{_RECEIVABLE} / unbilled_receivable"),
    _kind("overage_tax", "tax on invoiced overage", moves=f"{_RECEIVABLE} / {_TAX}"),
    _kind("overage_backfilled", "unbilled overage paid with a later block", loses="consumed",
          moves="/ unbilled_receivable"),
    _kind("backfill_difference", "the block's basis above the overage's price", loses="consumed"),
    _kind("breakage", "credits that expired unused", loses="expired"),
    _kind("pooled_breakage", "credits that expired unused; their breakage was estimated for their pool",
          loses="expired"),
    _kind("reinstatement", "expired credits brought back: breakage mirrored", gains="expired"),
    _kind("breakage_estimate", "breakage of a pool, in proportion to what is redeemed; signed: a true-up"),
    _kind("escheat", "an unused remainder that goes to a state, never to revenue", loses="escheated",
          moves="/ unclaimed_property"),
    _kind("escheat_reclaimed", "an escheated remainder claimed back by its customer",
          moves=f"unclaimed_property / {_REFUNDS}"),
    _kind("escheat_remitted", "an escheated remainder paid to the state", moves="unclaimed_property / cash"),
    _kind("void_unpaid", "cancelled before it was paid", loses="voided", moves=f"/ {_RECEIVABLE}"),
    _kind("void_paid", "cancelled after it was paid: owed back", loses="voided", moves=f"/ {_REFUNDS}"),
    _kind("refund", "unused credits taken back: owed to the customer", loses="refunded", moves=f"/ {_REFUNDS}"),
    _kind("refund_retained", "what is kept of the value of refunded credits: revenue, not breakage",
          loses="refunded"),
    _kind("tax_reversed_unpaid", "the tax of what was cancelled, not paid yet", moves=f"{_TAX} / {_RECEIVABLE}"),
    _kind("tax_reversed_paid", "the tax of what was cancelled, owed back", moves=f"{_TAX} / {_REFUNDS}"),
    _kind("memo_unpaid", "a price concession on consumed value, not paid yet", moves=f"/ {_RECEIVABLE}"),
    _kind("memo_paid", "a price concession on consumed value, owed back", moves=f"/ {_REFUNDS}"),
    _kind("payment_processor", "a receivable paid through a processor", moves=f"{_CLEARING} / {_RECEIVABLE}"),
    _kind("payment_cash", "a receivable paid into the bank", moves=f"cash / {_RECEIVABLE}"),
    _kind("unapplied_processor", "a payment through a processor, not applied to anything",
          moves=f"{_CLEARING} / {_BALANCE}"),
    _kind("unapplied_cash", "a payment into the bank, not applied to anything", moves=f"cash / {_BALANCE}"),
    _kind("payment_applied", "an unapplied payment applied to a receivable", moves=f"{_BALANCE} / {_RECEIVABLE}"),
    _kind("balance_refunded", "an unapplied payment to be paid back", moves=f"{_BALANCE} / {_REFUNDS}"),
    _kind("processing_fee", "what the processor keeps of a payment", moves=f"/ {_CLEARING}"),
    _kind("payout", "what a processor paid into the bank", moves=f"cash / {_CLEARING}"),
    _kind("refund_paid_processor", "a refund paid through a processor", moves=f"{_REFUNDS} / {_CLEARING}"),
    _kind("refund_paid_cash", "a refund paid from the bank", moves=f"{_REFUNDS} / cash"),
    _kind("dispute_opened", "money withdrawn while a dispute is undecided", moves=f"{_DISPUTES} / {_CLEARING}"),
    _kind("dispute_fee", "what the processor charges for a dispute; a win does not return it",
          moves=f"/ {_CLEARING}"),
    _kind("dispute_won", "disputed money that came back", moves=f"{_CLEARING} / {_DISPUTES}"),
    _kind("dispute_lost_unused", "a lost dispute: the part of it that was not consumed", loses="charged_back",
          moves=f"/ {_DISPUTES}"),
    _kind("dispute_lost_used", "a lost dispute: the part of it that was consumed", moves=f"/ {_DISPUTES}"),
    _kind("dispute_lost_tax", "a lost dispute: its tax", moves=f"{_TAX} / {_DISPUTES}"),
    _kind("write_off_unused", "a receivable given up: the part of it that was not consumed", loses="written_off",
          moves=f"/ {_RECEIVABLE}"),
    _kind("write_off_used", "a receivable given up: the part of it that was consumed", moves=f"/ {_RECEIVABLE}"),
    _kind("write_off_tax", "a receivable given up: its tax, with relief", moves=f"{_TAX} / {_RECEIVABLE}"),
    _kind("write_off_tax_borne", "a receivable given up: its tax, where there is no relief",
          moves=f"/ {_RECEIVABLE}"),
    *(
        _kind(f"fx_remeasurement_{role}", f"{role} at the rate of the period's end", moves=f"{role} /")
        for role in REMEASURED_ROLES
    ),
    *(
        _kind(f"fx_settlement_{role}", f"{role} settled at another rate than it was carried at", moves=f"{role} /")
        for role in REMEASURED_ROLES
    ),
    _kind("expiry_changed", "a block's expiry was moved; no money, no credits"),
)  # fmt: skip

KIND_BY_NAME: Final[dict[str, Kind]] = {kind.name: kind for kind in KINDS}

YOUNGER_KINDS: Final = tuple(kind for kind in KINDS if kind.since > 1)
"""Kinds that a policy of an existing ledger may lack, because it was adopted before they came."""

GAINS: Final = ("purchased", "granted", "transferred_in", "repriced")
LOSSES: Final = (
    "consumed", "expired", "voided", "refunded", "transferred", "escheated", "charged_back", "written_off",
)  # fmt: skip
"""The columns of a block: gains less losses is what it carries, in credits and in value."""

OPENINGS: Final = tuple(kind.name for kind in KINDS if kind.column in GAINS and kind.name != "repricing")
"""The kinds that open a block: the first entry of every block is of one of them, and no other entry is."""

CREDIT_COLUMNS: Final = (
    "purchased", "granted", "consumed", "expired", "voided", "refunded", "transferred", "other",
)  # fmt: skip
"""The columns of a customer's credits: ``purchased + granted + other`` less the rest is what remains."""

CREDIT_COLUMN: Final[dict[str, tuple[str, int]]] = {
    **{column: (column, 1) for column in (*GAINS[:2], *LOSSES[:5])},
    "transferred_in": ("transferred", -1),
    "repriced": ("other", 1),
    "escheated": ("other", -1),
    "charged_back": ("other", -1),
    "written_off": ("other", -1),
}
"""Where a column of a block is counted among the columns of a customer's credits, and with which sign."""


class Pair(msgspec.Struct, frozen=True, order=True, gc=False):
    """The two accounts that an amount moves through."""

    debit: str
    credit: str


Rules = Mapping[str, tuple[Pair, ...]]
"""A posting policy's rules: the pairs of every entry kind, in the order of the lines."""


class Dimensions(msgspec.Struct, frozen=True, order=True, gc=False):
    """What a total is told apart by, besides the account. Empty text where it does not apply."""

    product: str = ""
    credit_kind: str = ""
    pool: str = ""
    processor: str = ""


class Entry(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One journal entry. Numbered from 1 within its event; amounts in minor units, signed as above.

    ``functional_minor`` is the amount in the ledger's functional currency. ``policy`` says under which of the
    ledger's adopted policies the kind is to be read; ``cut`` to which export it will belong.
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


class Line(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One journal line: a side of an account, and a positive amount."""

    account: str
    side: Side
    amount_minor: int
    functional_minor: int


def expand(kind: str, amount_minor: int, functional_minor: int, rules: Rules) -> tuple[Line, ...]:
    """The lines of an entry, pair by pair, debit before credit; none where both amounts are 0.

    Debits equal credits in both currencies by construction. An amount and its functional amount may differ in
    sign only where one of them is 0.
    """
    if amount_minor == 0 and functional_minor == 0:
        return ()
    mirrored = amount_minor < 0 or (amount_minor == 0 and functional_minor < 0)
    lines = []
    for pair in rules[kind]:
        first, second = (pair.credit, pair.debit) if mirrored else (pair.debit, pair.credit)
        for account, side in ((first, Side.DEBIT), (second, Side.CREDIT)):
            lines.append(
                Line(
                    account=account,
                    side=side,
                    amount_minor=abs(amount_minor),
                    functional_minor=abs(functional_minor),
                )
            )
    return tuple(lines)


def effect(account: str, kind: str, rules: Rules) -> int:
    """How often an entry of this kind debits the account, less how often it credits it."""
    return sum((pair.debit == account) - (pair.credit == account) for pair in rules[kind])
