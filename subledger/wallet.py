"""The wallet: one customer's credits as the writer knows them, and how a decision changes them.

Owns: the open blocks and overages of a customer, and ``evolve``. Does not own: what to do about an event (deciding).
Everything here is pure: no clock, no database. Replaying a log through ``evolve`` gives the same wallets.

A block without credits, and an overage with nothing open, are *finished*: they leave the wallet and are kept with
the ledger's finished blocks and documents, from where they are recalled when a later event refers to them.
"""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Any

import msgspec
from msgspec.structs import replace

from subledger.blocks import PAID, ZERO, Block, draw_order
from subledger.events import CreditsGranted, CreditsPurchased, Event
from subledger.money import MAX_MINOR, exponent, nano, round_half_up, share

_CARRY_SCALE = 10**21  # nine places of credits and twelve of a unit price


class Movement(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing that happens to a block or a customer: an entry kind and its amount, with the date it is booked on.

    ``credits`` and ``amount`` (minor units) are negative where the entry is written as the mirror. ``overage`` is
    the position of the usage whose overage is meant; ``backfill`` marks overage that the next purchase pays first
    (stored, because the ledger's setting may change later). ``policy`` is set where it is not the decision's own: a
    reversal mirrors what was stored, under the policy of that day.
    """

    kind: str
    on: date
    amount: int = 0
    credits: Decimal = ZERO
    block: str | None = None
    overage: int | None = None
    backfill: bool = False
    product: str | None = None
    policy: int | None = None


class Decision(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What was decided about an event when it was recorded; stored with it and never recomputed."""

    policy: int
    movements: tuple[Movement, ...] = ()
    original: int | None = None


class Overage(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Usage beyond the credits, recorded at ``position``. ``settled`` has been paid by later purchases."""

    position: int
    unit: str
    product: str | None = None
    price: Decimal
    currency: str
    credits: Decimal
    amount_minor: int
    booked_on: date
    backfill: bool = False
    restored: Decimal = ZERO
    restored_minor: int = 0
    settled: Decimal = ZERO
    settled_minor: int = 0
    settled_by: tuple[str, ...] = ()

    @property
    def open(self) -> Decimal:
        return self.credits - self.restored - self.settled

    @property
    def open_minor(self) -> int:
        return self.amount_minor - self.restored_minor - self.settled_minor

    def settle_amount(self, credits: Decimal) -> int:
        """The part of the overage's price that ``credits`` of it carry; the last credit takes what is left."""
        if credits == self.open:
            return self.open_minor
        target = share(self.amount_minor, self.settled + credits, self.credits)
        return min(max(target - self.settled_minor, 0), self.open_minor)


class Correction(msgspec.Struct, frozen=True, kw_only=True):
    """What has been reversed so far of the usage at ``position``: per block ("" for overage) credits and money."""

    position: int
    restored: dict[str, tuple[Decimal, int]]

    def of(self, block_id: str | None) -> tuple[Decimal, int]:
        return self.restored.get(block_id or "", (ZERO, 0))


class Wallet(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One customer's blocks in draw order, overages in order of position, and recalled corrections.

    ``carry`` holds, per currency, the fraction of a minor unit by which overage is priced but not posted yet.
    """

    customer: str
    blocks: tuple[Block, ...] = ()
    overages: tuple[Overage, ...] = ()
    corrections: tuple[Correction, ...] = ()
    carry: dict[str, Decimal] = {}

    def block(self, block_id: str) -> Block | None:
        for block in self.blocks:
            if block.block_id == block_id:
                return block
        return None

    def overage(self, position: int) -> Overage | None:
        for overage in self.overages:
            if overage.position == position:
                return overage
        return None

    def correction(self, position: int) -> Correction:
        for correction in self.corrections:
            if correction.position == position:
                return correction
        return Correction(position=position, restored={})

    def recall(
        self, blocks: tuple[Block, ...] = (), overages: tuple[Overage, ...] = (),
        corrections: tuple[Correction, ...] = (),
    ) -> Wallet:  # fmt: skip
        """The wallet with finished things brought back; what it already holds wins."""
        held = {block.block_id for block in self.blocks}
        held_overages = {overage.position for overage in self.overages}
        held_corrections = {correction.position for correction in self.corrections}
        return replace(
            self,
            blocks=_in_draw_order((*self.blocks, *(b for b in blocks if b.block_id not in held))),
            overages=tuple(
                sorted(
                    (*self.overages, *(o for o in overages if o.position not in held_overages)),
                    key=lambda overage: overage.position,
                )
            ),
            corrections=(*self.corrections, *(c for c in corrections if c.position not in held_corrections)),
        )

    def without_finished(self) -> Wallet:
        """The wallet as it is kept: open blocks and overages only, no corrections."""
        if not self.corrections and all(b.left for b in self.blocks) and all(o.open for o in self.overages):
            return self
        return replace(
            self,
            blocks=tuple(block for block in self.blocks if block.left),
            overages=tuple(overage for overage in self.overages if overage.open),
            corrections=(),
        )


def price_overage(wallet: Wallet, credits: Decimal, price: Decimal, currency: str) -> tuple[int, Decimal]:
    """The amount to post for overage, and the fraction of a minor unit that is carried to the customer's next.

    Cumulative like every rounding here: a thousand overages of a tenth of a cent post a dollar, not nothing.
    """
    exact = _exact_minor(credits, price, currency) + _carry(wallet, currency)
    amount = min(max(round_half_up(exact, _CARRY_SCALE), 0), 10 * MAX_MINOR)
    return amount, _as_carry(exact - amount * _CARRY_SCALE)


def _exact_minor(credits: Decimal, price: Decimal, currency: str) -> int:
    minor_units: int = 10 ** exponent(currency)
    return nano(credits) * int(price.scaleb(12)) * minor_units


def _carry(wallet: Wallet, currency: str) -> int:
    return int(wallet.carry.get(currency, ZERO).scaleb(21))


def _as_carry(scaled: int) -> Decimal:
    return Decimal(scaled).scaleb(-21)


def evolve(wallet: Wallet, event: Event, decision: Decision, *, position: int, functional_currency: str) -> Wallet:
    """The wallet after a decision. Total: any decision that ``decide`` can make is applied without looking again."""
    for movement in decision.movements:
        wallet = _apply(wallet, event, movement, position, functional_currency)
    if decision.original is not None:
        wallet = _remember_correction(wallet, decision, decision.original)
    return wallet


def _apply(wallet: Wallet, event: Event, movement: Movement, position: int, functional_currency: str) -> Wallet:
    kind, amount, credits = movement.kind, movement.amount, movement.credits
    if kind in ("purchase", "promotional_grant", "goodwill", "allocation"):
        return _with_block(wallet, _new_block(event, movement, position, functional_currency))
    if kind == "overage":
        return _apply_overage(wallet, event, movement, position)
    if movement.block is None:
        return wallet
    block = wallet.block(movement.block)
    if block is None:
        raise LookupError(f"block {movement.block} of customer {wallet.customer} is not at hand")
    match kind:
        case "consumption":
            changed = replace(
                block,
                used=block.used + credits,
                drawn_minor=block.drawn_minor + amount,
                gained_on=max(block.gained_on, movement.on) if credits < 0 else block.gained_on,
            )
        case "overage_backfilled" | "backfill_difference":
            changed = replace(block, used=block.used + credits, drawn_minor=block.drawn_minor + amount)
            if kind == "overage_backfilled":
                wallet = _settle(wallet, event, movement)
        case "breakage":
            changed = replace(
                block,
                broken=block.broken + credits,
                broken_minor=block.broken_minor + amount,
                # A later breakage may be dated earlier; a reinstatement follows all of them.
                broken_on=max(block.broken_on or movement.on, movement.on),
                expired=True,
            )
        case "reinstatement":
            changed = replace(
                block,
                broken=block.broken - credits,
                broken_minor=block.broken_minor - amount,
                expired=False,
                gained_on=max(block.gained_on, movement.on),
            )
        case "expiry_changed":
            changed = replace(block, expires_at=event.data.expires_at)
        case "void_unpaid" | "void_paid":
            changed = replace(
                block,
                voided=block.voided + credits,
                voided_minor=block.voided_minor + amount,
                receivable_minor=block.receivable_minor - (amount if kind == "void_unpaid" else 0),
            )
        case "tax_reversed_unpaid" | "tax_reversed_paid":
            changed = replace(
                block,
                tax_reversed_minor=block.tax_reversed_minor + amount,
                receivable_minor=block.receivable_minor - (amount if kind == "tax_reversed_unpaid" else 0),
            )
        case "purchase_tax":
            changed = replace(
                block, tax_minor=block.tax_minor + amount, receivable_minor=block.receivable_minor + amount
            )
        case "payment_cash" | "payment_processor":
            changed = replace(block, receivable_minor=block.receivable_minor - amount)
        case _:
            raise LookupError(f"no entry kind {kind}")
    return _with_block(wallet, changed)


def _new_block(event: Event, movement: Movement, position: int, functional_currency: str) -> Block:
    data: Any = event.data
    purchased = isinstance(data, CreditsPurchased)
    assert purchased or isinstance(data, CreditsGranted)
    return Block(
        block_id=data.block_id,
        credit_kind=PAID if purchased else data.reason,
        unit=data.unit,
        credits=movement.credits,
        price_minor=movement.amount,
        currency=data.currency or functional_currency,
        starts_at=data.starts_at or event.occurred_at,
        expires_at=data.expires_at,
        priority=data.priority,
        scope=None if data.scope is None else tuple(data.scope),
        invoice_id=data.invoice_id if purchased else None,
        opened_at_position=position,
        gained_on=movement.on,
        receivable_minor=movement.amount if purchased else 0,
    )


def _with_block(wallet: Wallet, changed: Block) -> Wallet:
    """The wallet with one block replaced or added, still in draw order."""
    blocks = list(wallet.blocks)
    for index, block in enumerate(blocks):
        if block.block_id == changed.block_id:
            blocks[index] = changed
            if block.expires_at == changed.expires_at:
                return replace(wallet, blocks=tuple(blocks))
            break
    else:
        blocks.append(changed)
    return replace(wallet, blocks=_in_draw_order(tuple(blocks)))


def _in_draw_order(blocks: tuple[Block, ...]) -> tuple[Block, ...]:
    return tuple(sorted(blocks, key=draw_order))


def _apply_overage(wallet: Wallet, event: Event, movement: Movement, position: int) -> Wallet:
    if movement.credits > 0:
        data = event.data
        _, carry = price_overage(wallet, movement.credits, data.overage_price, data.currency)
        overage = Overage(
            position=position,
            unit=data.unit,
            product=data.product,
            price=data.overage_price,
            currency=data.currency,
            credits=movement.credits,
            amount_minor=movement.amount,
            booked_on=movement.on,
            backfill=movement.backfill,
        )
        return replace(wallet, overages=(*wallet.overages, overage), carry={**wallet.carry, data.currency: carry})
    held = wallet.overage(movement.overage or 0)
    if held is None:
        raise LookupError(f"the overage of position {movement.overage} is not at hand")
    restored = -movement.credits
    changed = replace(held, restored=held.restored + restored, restored_minor=held.restored_minor - movement.amount)
    exact = _carry(wallet, held.currency) - _exact_minor(restored, held.price, held.currency)
    carry = _as_carry(exact - movement.amount * _CARRY_SCALE)
    return replace(_with_overage(wallet, changed), carry={**wallet.carry, held.currency: carry})


def _settle(wallet: Wallet, event: Event, movement: Movement) -> Wallet:
    held = wallet.overage(movement.overage or 0)
    if held is None:
        raise LookupError(f"the overage of position {movement.overage} is not at hand")
    return _with_overage(
        wallet,
        replace(
            held,
            settled=held.settled + movement.credits,
            settled_minor=held.settled_minor + movement.amount,
            settled_by=(*held.settled_by, event.event_id),
        ),
    )


def _with_overage(wallet: Wallet, changed: Overage) -> Wallet:
    return replace(
        wallet,
        overages=tuple(changed if o.position == changed.position else o for o in wallet.overages),
    )


def _remember_correction(wallet: Wallet, decision: Decision, original: int) -> Wallet:
    correction = wallet.correction(original)
    restored = dict(correction.restored)
    for movement in decision.movements:
        if movement.credits < 0:  # the mirrored draws; a breakage that follows them is not a correction
            credits, amount = restored.get(movement.block or "", (ZERO, 0))
            restored[movement.block or ""] = (credits - movement.credits, amount - movement.amount)
    others = tuple(c for c in wallet.corrections if c.position != original)
    return replace(wallet, corrections=(*others, replace(correction, restored=restored)))
