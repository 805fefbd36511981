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


class Kind(msgspec.Struct, frozen=True, kw_only=True):
    """An entry kind: which column of a block's roll-forward it fills, and in which direction.

    ``column`` names what happened to the block's credits and value (None: it does not touch a block's value);
    ``sign`` is +1 where the kind adds to the block and -1 where it takes from it.
    """

    name: str
    meaning: str
    column: str | None = None
    sign: int = 0


KINDS: Final[tuple[Kind, ...]] = (
    Kind(name="purchase", column="purchased", sign=1, meaning="credits bought: deferred, never revenue"),
    Kind(name="purchase_tax", meaning="tax on a purchase; never part of a block's value, never drawn"),
    Kind(name="promotional_grant", column="granted", sign=1, meaning="free credits: units, never money"),
    Kind(name="goodwill", column="granted", sign=1, meaning="credits given for past service"),
    Kind(name="allocation", column="granted", sign=1, meaning="credits of another plan, at a share of its price"),
    Kind(name="consumption", column="consumed", sign=-1, meaning="credits used: revenue"),
    Kind(name="overage", meaning="usage beyond the credits: unbilled revenue"),
    Kind(name="overage_backfilled", column="consumed", sign=-1, meaning="unbilled overage paid with a later block"),
    Kind(name="backfill_difference", column="consumed", sign=-1, meaning="the block's basis above the overage's price"),
    Kind(name="breakage", column="expired", sign=-1, meaning="credits that expired unused"),
    Kind(name="reinstatement", column="expired", sign=1, meaning="expired credits brought back: breakage mirrored"),
    Kind(name="void_unpaid", column="voided", sign=-1, meaning="cancelled before it was paid"),
    Kind(name="void_paid", column="voided", sign=-1, meaning="cancelled after it was paid: owed back"),
    Kind(name="tax_reversed_unpaid", meaning="the tax of what was cancelled, not paid yet"),
    Kind(name="tax_reversed_paid", meaning="the tax of what was cancelled, owed back"),
    Kind(name="payment_processor", meaning="a receivable paid through a processor"),
    Kind(name="payment_cash", meaning="a receivable paid into the bank"),
    Kind(name="unapplied_processor", meaning="a payment through a processor, not applied to anything"),
    Kind(name="unapplied_cash", meaning="a payment into the bank, not applied to anything"),
    Kind(name="processing_fee", meaning="what the processor keeps of a payment"),
    Kind(name="expiry_changed", meaning="a block's expiry was moved; no money, no credits"),
)  # fmt: skip

KIND_BY_NAME: Final[dict[str, Kind]] = {kind.name: kind for kind in KINDS}

CREDIT_COLUMNS: Final = (
    "purchased",
    "granted",
    "consumed",
    "expired",
    "voided",
    "refunded",
    "transferred",
    "other",
)


class Pair(msgspec.Struct, frozen=True, order=True):
    """The two accounts that an amount moves through."""

    debit: str
    credit: str


Rules = Mapping[str, tuple[Pair, ...]]
"""A posting policy's rules: the pairs of every entry kind, in the order of the lines."""


class Dimensions(msgspec.Struct, frozen=True, order=True):
    """What a total is told apart by, besides the account. Empty text where it does not apply."""

    product: str = ""
    credit_kind: str = ""
    pool: str = ""
    processor: str = ""


class Entry(msgspec.Struct, frozen=True, kw_only=True):
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


class Line(msgspec.Struct, frozen=True, kw_only=True):
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
