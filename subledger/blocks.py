"""The credit block: credits that a customer bought or was granted at one time, and the draws on them.

Owns: a block's figures, cumulative rounding. Does not own: the blocks of a customer (wallet), the order of draws
(draw_order), the entries of a draw (posting).
"""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Final

import msgspec
from msgspec.structs import replace

from subledger.availability import Changes, Portion, first_day, first_draw, least_credits
from subledger.lapses import Lapse, Lapses
from subledger.money import round_half_up, share
from subledger.written_off import WrittenOff

ZERO = Decimal(0)

PAID = "paid"
PROMOTIONAL = "promotional"
REFUNDABLE = "true"


class BlockStatus(StrEnum):
    """The status of a block at a moment."""

    SCHEDULED = "scheduled"
    ACTIVE = "active"
    DISPUTED = "disputed"
    EXHAUSTED = "exhausted"
    EXPIRED = "expired"
    VOIDED = "voided"
    REFUNDED = "refunded"
    TRANSFERRED = "transferred"
    ESCHEATED = "escheated"
    CHARGED_BACK = "charged_back"
    WRITTEN_OFF = "written_off"
    REVERSED = "reversed"


# The status of a block without credits is the first of these columns that took credits from it.
_ENDINGS = ("voided", "refunded", "charged_back", "written_off", "transferred", "escheated", "expired")


NO_PORTION: Final = Portion(ZERO, 0, 0)


class Segment(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """The basis of a repriced block since a moment: its price and credits then, and the figures of earlier draws.

    - ``since``, ``day``: the moment at which it begins, and its day in the books; None for the opening of the block.
    - ``added``: the credits and value that came with it, by a repricing or by reversed usage. They are a part of its
      credits and price.
    - ``gives_back_from``: the moment of that usage.
    - ``days``: its draws by day.
    - ``corrected``: True if these draws were priced again.
    """

    credits: Decimal
    price_minor: int
    price_functional: int = 0
    used: Decimal
    drawn_minor: int
    drawn_functional: int = 0
    since: datetime | None = None
    day: date | None = None
    added: Portion | None = None
    gives_back_from: datetime | None = None
    days: Changes = ()
    corrected: bool = False


class Before(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """A block before it was opened at a cut-over: its price and credits, which its draws are a share of, and its draws.

    - ``earlier_minor``: the value of earlier draws, at another price.
    - ``expired_minor``: the value that had expired or was retained at a refund. It is revenue, but not of used credits.
    - ``escheated_minor``: the part of its value that was owed to a state at the cut-over.
    - ``refunded_minor``: the refunds of it that were owed at the cut-over.
    - ``left_minor``: the value that had left it otherwise, by a void, a refund, a transfer or an escheat. None if it
      was repriced, because its value at the earlier price is unknown.
    - ``released_minor``: the same with its tax and the conceded amounts: the most that can be owed back.
    """

    credits: Decimal
    price_minor: int = 0
    price_functional: int = 0
    used: Decimal = ZERO
    drawn_minor: int = 0
    drawn_functional: int = 0
    earlier_minor: int = 0
    expired_minor: int = 0
    escheated_minor: int = 0
    refunded_minor: int = 0
    left_minor: int | None = None
    released_minor: int = 0

    @property
    def redeemed_minor(self) -> int:
        """The value that was used, at any price."""
        return self.drawn_minor + self.earlier_minor


_STORED_AS: Final = {"disposed": "gone", "losses_from": "gained_on", "last_breakage_date": "broken_on"}
"""Names of a block's fields in stored data, if they differ: stored bytes never change."""


class Block(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False, rename=_STORED_AS):
    """A credit block with all the facts that later decisions read.

    Terms. Amounts are minor units of ``currency``.
    - ``price_minor``: the value to be recognised; 0 for a promotional grant.
    - ``credits``: paid, bonus and added credits together, so that bonus credits share the price.
    - ``expires_at``: exclusive; None means never.
    - ``scope``: the products that it may pay for; None means any.
    - ``rate``: the exchange rate of its purchase. None in the functional currency, where the ``…_functional`` figures
      stay 0.
    - ``cohort``: the month in which a pooled block was opened; of a transferred block, the month of the bought block.
      None if the block is older than cohorts.
    - ``refundable_apart``: True if it is refundable, and its entries have this as a dimension. False if the block is
      older than this dimension, so that all entries of a block have the same dimensions.
    - ``due_at``: the time at which its price is due. It changes no entry.
    - ``cancellable``: the customer may cancel the block while it is not paid. It changes no entry.
    - ``dimensions``: the company's own dimensions of its purchase (own_dimensions).

    Figures.
    - ``used``, ``drawn_minor``: credits and value of its draws, net of reversals.
    - ``disposed``: the credits and value that left the block otherwise, by column of its roll-forward.
    - ``receivable_minor``: the unpaid part of its price and tax.
    - ``receivable_from``: the parts of the receivable that came after the block was opened, by day.
    - ``cancelled_minor``: the value whose tax was reversed with it.
    - ``tax_taken_minor``: the tax that memos, disputes and write-offs took.
    - ``redemption_tax_minor``: the tax that was due when its credits were used, a part of ``drawn_minor``.
    - ``given_up_minor``: the price and tax that disputes and write-offs took.
    - ``conceded_minor``: the value that memos, disputes and write-offs conceded; ``conceded_by`` is the last of them.
    - ``written_off``: the amounts that were written off, and the part of them that was collected later.
    - ``disputed_minor``: the amount in open disputes.
    - ``processor_minor``: the money that came through ``processor``, the last one, and was not disputed, charged or
      paid back.
    - ``other_processors``: the same for each earlier processor.
    - ``chargeable``: the money of each processor that was not disputed, whether it was paid back or not.
    - ``expired``: True if its expiry was recorded and not undone.
    - ``disputes``: the number of its open disputes.
    - ``frozen``: the credits that these disputes freeze: all of them, or the disputed share of the remaining credits.

    Transfers. The purchase stays with the bought block.
    - ``origin``, ``payer``: the bought block and its customer, if this block is a transferred one.
    - ``handed``: the blocks to which its own credits were transferred, with their customers.

    Accounting dates.
    - ``opened_on``: the day of its opening.
    - ``losses_from``: the first day for a loss.
    - ``changes``: all changes since that day. They may move a loss to a later day (``loss_day``).
    - ``breakable_from``: the first day for breakage: the day on which its expiry was last moved, or its last dispute
      ended.
    - ``last_breakage_date``: the latest date of its breakages and escheats.
    - ``lapses``: the credits that expired, by the day of their breakage.

    If it was opened at a cut-over, its credits and price are those of the cut-over. ``before`` has its earlier figures,
    which its draws continue.

    If it was repriced, ``segment`` is the current one, and ``earlier`` has the earlier ones. A block whose opening was
    ``undone`` has its terms, and no credits or value.
    """

    block_id: str
    credit_kind: str
    unit: str
    credits: Decimal
    price_minor: int
    currency: str
    rate: Decimal | None = None
    price_functional: int = 0
    starts_at: datetime
    expires_at: datetime | None = None
    priority: int = 50
    scope: tuple[str, ...] | None = None
    refundable: bool = False
    refundable_apart: bool = False
    pool: str | None = None
    cohort: str | None = None
    escheat_class: str | None = None
    invoice_id: str | None = None
    due_at: datetime | None = None
    cancellable: bool = False
    opened_at_position: int
    opened_on: date = date.min
    losses_from: date
    changes: Changes = ()
    breakable_from: date | None = None
    tax_minor: int = 0
    taxed_minor: int = 0
    receivable_minor: int = 0
    receivable_from: tuple[tuple[date, int], ...] = ()
    used: Decimal = ZERO
    drawn_minor: int = 0
    drawn_functional: int = 0
    disposed: dict[str, Portion] = {}
    last_breakage_date: date | None = None
    lapses: Lapses = ()
    cancelled_minor: int = 0
    tax_reversed_minor: int = 0
    tax_taken_minor: int = 0
    redemption_tax_minor: int = 0
    given_up_minor: int = 0
    disputed_minor: int = 0
    conceded_minor: int = 0
    conceded_by: str | None = None
    written_off: WrittenOff | None = None
    claimed_minor: int = 0
    processor: str | None = None
    processor_minor: int = 0
    other_processors: tuple[tuple[str, int], ...] = ()
    chargeable: tuple[tuple[str, int], ...] = ()
    frozen: Decimal = ZERO
    expired: bool = False
    disputes: int = 0
    earlier: tuple[Segment, ...] = ()
    segment: Segment | None = None
    origin: str | None = None
    payer: str | None = None
    handed: tuple[tuple[str, str], ...] = ()
    dimensions: str = ""
    undone: bool = False
    before: Before | None = None

    @property
    def refundable_dimension(self) -> str:
        """The dimension ``refundable`` of its entries."""
        return REFUNDABLE if self.refundable_apart else ""

    @property
    def remaining(self) -> Decimal:
        """Credits that can still be drawn, expire or be cancelled."""
        remaining = self.credits - self.used
        if self.disposed:
            for credits, _, _ in self.disposed.values():
                remaining -= credits
        return remaining

    @property
    def available(self) -> Decimal:
        """The remaining credits that no dispute freezes."""
        return max(self.remaining - self.frozen, ZERO) if self.disputes else self.remaining

    @property
    def carrying_minor(self) -> int:
        """The part of the price that is not recognised or cancelled: the block's part of prepaid_liability."""
        if not self.disposed:
            return self.price_minor - self.drawn_minor
        return self.price_minor - self.drawn_minor - sum(amount for _, amount, _ in self.disposed.values())

    @property
    def carrying_functional(self) -> int:
        """The carrying amount in the functional currency; meaningful only if ``rate`` is set."""
        disposed = sum(functional for _, _, functional in self.disposed.values())
        return self.price_functional - self.drawn_functional - disposed

    @property
    def _recognised_before(self) -> tuple[int, int]:
        """The value that was used before the cut-over that opened the block; and the same plus the value that had
        expired.
        """
        if self.before is None or self.undone:
            return 0, 0
        redeemed = self.before.redeemed_minor
        return redeemed, redeemed + self.before.expired_minor

    @property
    def sold_minor(self) -> int:
        """The price, plus the value that was recognised before a cut-over."""
        return self.price_minor + self._recognised_before[1]

    @property
    def unclaimed_minor(self) -> int:
        """The escheated value that is still owed to a state."""
        before = 0 if self.before is None else self.before.escheated_minor
        return before + self.disposed.get("escheated", NO_PORTION).amount_minor - self.claimed_minor

    @property
    def expired_credits(self) -> Decimal:
        """Credits that expired."""
        return self.disposed.get("expired", NO_PORTION).credits

    @property
    def expired_minor(self) -> int:
        """The value of the credits that expired."""
        return self.disposed.get("expired", NO_PORTION).amount_minor

    @property
    def tax_remaining_minor(self) -> int:
        """The tax of its sale, less the tax that was reversed or taken back."""
        return max(self.tax_minor - self.tax_reversed_minor - self.tax_taken_minor, 0)

    @property
    def claim_minor(self) -> int:
        """The price and tax that are owed or were paid, less the cancelled, conceded, lost and escheated amounts.

        It is 0 for a transferred block, because the claim belongs to the bought block.
        """
        if self.origin is not None:
            return 0
        escheated = self.disposed.get("escheated", NO_PORTION).amount_minor
        unused = sum(self.disposed.get(column, NO_PORTION).amount_minor for column in ("charged_back", "written_off"))
        kept = self.sold_minor - self.cancelled_minor - escheated - unused - self.conceded_minor
        return kept + self.tax_remaining_minor

    @property
    def received_minor(self) -> int:
        """The part of the claim that was paid, and was not owed back, paid back, charged back or escheated later."""
        return max(self.claim_minor - max(self.receivable_minor, 0), 0)

    @property
    def recoverable_minor(self) -> int:
        """The written-off amount that can be collected: used value, and its tax."""
        return 0 if self.written_off is None else self.written_off.recoverable_minor(self.unused_written_off_minor)

    @property
    def unused_written_off_minor(self) -> int:
        """The unused value that was written off. Its credits were cancelled."""
        return self.disposed.get("written_off", NO_PORTION).amount_minor

    @property
    def recognised_minor(self) -> int:
        """The value that was used, expired or was retained at a refund. A memo, a write-off or a lost dispute can
        concede it.
        """
        given_up = ("voided", "refunded")
        kept = sum(self.disposed.get(column, NO_PORTION).amount_minor for column in given_up) - self.cancelled_minor
        return self._recognised_before[1] + self.drawn_minor + self.expired_minor + kept

    def tax_in(self, amount_minor: int) -> int:
        """The tax in proportion to a part of the price, half up; no more than remains."""
        tax = share(self.tax_minor, Decimal(amount_minor), Decimal(self.taxed_minor)) if self.taxed_minor else 0
        return max(min(tax, self.tax_remaining_minor), 0)

    @property
    def redeemed_minor(self) -> int:
        """The revenue of the used credits, without the tax that was due when they were used."""
        return self._recognised_before[0] + self.drawn_minor - self.redemption_tax_minor

    @property
    def redemption_tax_remaining(self) -> int:
        """The tax that was due at redemption, less the part that memos took back; 0 for a block that was sold with
        tax.
        """
        return 0 if self.tax_minor else max(self.redemption_tax_minor - self.tax_taken_minor, 0)

    @property
    def concedable_minor(self) -> int:
        """The revenue of used credits that a memo can concede: the part that was not conceded, lost or written off."""
        free = self.recognised_minor - self.conceded_minor - self.redemption_tax_remaining
        return max(min(self.redeemed_minor, free), 0)

    def concedable_tax_in(self, amount_minor: int) -> int:
        """The tax that a memo can take back with an amount of revenue: in proportion, of the tax of the sale or at
        redemption.
        """
        if not self.redemption_tax_remaining:
            return self.tax_in(amount_minor)
        part, revenue = Decimal(amount_minor), Decimal(self.redeemed_minor)
        return min(share(self.redemption_tax_minor, part, revenue) if revenue else 0, self.redemption_tax_remaining)

    @property
    def is_frozen_whole(self) -> bool:
        """True if disputes freeze the whole block, with credits that come back to it meanwhile."""
        return self.disputes > 0 and self.frozen >= self.credits

    @property
    def expiry_due_at(self) -> datetime | None:
        """The moment at which its expiry is due. Credits that a dispute freezes expire only after the dispute.

        The same holds for credits whose value would go to a state, because the received part is known only after the
        dispute.
        """
        waits = self.available <= 0 or self.escheat_class is not None or "escheated" in self.disposed
        return None if self.disputes and waits else self.expires_at

    @property
    def left(self) -> Portion:
        """The remaining credits with their value."""
        functional = 0 if self.rate is None else self.carrying_functional
        return Portion(self.remaining, self.carrying_minor, functional)

    def loss_day(self, on: date, credits: Decimal, amount_minor: int) -> date:
        """The first day from ``on`` on which the block can lose credits and value; see ``availability``."""
        on = max(on, self.losses_from)
        if not self.changes or self.changes[-1].on <= on:
            return on
        functional = 0 if self.rate is None else self.functional_part(credits, amount_minor)
        return first_day(self.changes, on=on, left=self.left, loss=Portion(credits, amount_minor, functional))

    def draw_on(self, on: date, credits: Decimal) -> tuple[date, int, int | None]:
        """The first day from ``on`` for a draw, its amount, and its functional amount if the block has a rate."""
        on, amount, functional = max(on, self.losses_from), self.amount_for(credits), 0
        if self.rate is not None:
            functional = self.functional_drawn(credits, amount)
        if self.changes and self.changes[-1].on > on:
            draw = Portion(credits, amount, functional)
            on, (_, amount, functional) = first_draw(self.changes, on=on, left=self.left, draw=draw)
        return on, amount, None if self.rate is None else functional

    def credits_between(self, first: date, until: date) -> Decimal:
        """The fewest credits that the block has on a day from ``first`` until before ``until``."""
        return least_credits(self.changes, first=first, until=until, credits=self.remaining)

    def receivable_days(self) -> tuple[tuple[date, int], ...]:
        """The open receivable by the day from which it is owed, earliest first. Payments are taken off the earliest
        days.
        """
        remaining, days = max(self.receivable_minor, 0), []
        for on, amount in reversed(self.receivable_from):
            part = min(amount, remaining)
            days.append((on, part))
            remaining -= part
        return tuple(day for day in ((self.opened_on, remaining), *reversed(days)) if day[1])

    def owed_from(self, amount: int) -> date:
        """The day from which an amount of the open receivable is owed, if the earliest parts are taken first."""
        owed_from = self.opened_on
        for day, part in self.receivable_days():
            if amount <= 0:
                break
            owed_from, amount = day, amount - part
        return owed_from

    def admits(self, *, unit: str, product: str | None, at: datetime) -> bool:
        """True if usage of ``unit`` for ``product`` that happened ``at`` may draw on this block, if it has credits."""
        return (
            self.unit == unit
            and self.starts_at <= at
            and (self.expires_at is None or at < self.expires_at)
            and (self.scope is None or product in self.scope)
            and not self.is_frozen_whole
        )

    def amount_for(self, credits: Decimal) -> int:
        """Returns the amount of a draw of ``credits``, by cumulative rounding, half up.

        The amount is round(price × used after / credits) − drawn so far. It is never negative, and never above the
        carrying amount. The draw of the last credit takes the whole carrying amount. So usage below a cent posts a cent
        when half a cent has accumulated, and a block ends at exactly zero. After a repricing, the formula uses the
        price, credits and draws since the repricing. For a block that was opened at a cut-over, it includes the figures
        of before the cut-over.
        """
        carrying = self.carrying_minor
        if credits == self.remaining:
            return carrying
        return min(max(self._due_for(credits), 0), carrying)

    def functional_for(self, credits: Decimal) -> int:
        """Returns the functional amount of a draw of ``credits``, by the rule of ``amount_for``."""
        if credits == self.remaining:
            return self.carrying_functional
        return min(max(self._functional_due_for(credits), 0), self.carrying_functional)

    def lapsed_part(self, lapse: Lapse, credits: Decimal) -> Portion:
        """The value of some credits of a lapse that late usage draws: by the rule of ``amount_for``, at most the value
        of the lapse.
        """
        amount, functional = lapse.amount_minor, lapse.functional_minor
        if credits == lapse.credits:
            return Portion(credits, amount, functional)
        # Credits that came back are drawn next. Credits that did not come back would be drawn after the remaining ones.
        ahead, value, worth = ZERO, 0, 0
        if lapse.back_on is None:
            ahead, value, worth = self.left
        if self.segment is not None and not self.segment.credits:  # no price: late usage drew all its credits
            part = share(amount, credits, lapse.credits)
            return Portion(credits, part, 0 if self.rate is None else share(functional, credits, lapse.credits))
        part = min(max(self._due_for(ahead + credits) - value, 0), amount)
        if self.rate is None:
            return Portion(credits, part, 0)
        if self.refundable:
            return Portion(credits, part, round_half_up(functional * part, amount) if amount else 0)
        return Portion(credits, part, min(max(self._functional_due_for(ahead + credits) - worth, 0), functional))

    def functional_drawn(self, credits: Decimal, amount_minor: int) -> int:
        """The functional amount of a draw: by cumulative rounding, or from the carrying amount if the block is
        remeasured.
        """
        return self.functional_part(credits, amount_minor) if self.refundable else self.functional_for(credits)

    def functional_part(self, credits: Decimal, amount_minor: int) -> int:
        """A part of the carrying amount in proportion to an amount; all of it with the last credit."""
        carrying = self.carrying_minor
        if amount_minor == carrying and (credits == self.remaining or amount_minor):
            return self.carrying_functional
        return round_half_up(self.carrying_functional * amount_minor, carrying) if carrying else 0

    def _due_for(self, credits: Decimal) -> int:
        s = self.segment
        if s is None and (b := self.before) is not None:
            return share(b.price_minor, b.used + self.used + credits, b.credits) - b.drawn_minor - self.drawn_minor
        if s is None:
            return share(self.price_minor, self.used + credits, self.credits) - self.drawn_minor
        if not s.credits:
            return share(self.carrying_minor, credits, self.remaining)
        return share(s.price_minor, self.used - s.used + credits, s.credits) - (self.drawn_minor - s.drawn_minor)

    def _functional_due_for(self, credits: Decimal) -> int:
        s = self.segment
        if s is None and (b := self.before) is not None:
            drawn = b.drawn_functional + self.drawn_functional
            return share(b.price_functional, b.used + self.used + credits, b.credits) - drawn
        if s is None:
            return share(self.price_functional, self.used + credits, self.credits) - self.drawn_functional
        if not s.credits:
            return share(self.carrying_functional, credits, self.remaining)
        drawn = self.drawn_functional - s.drawn_functional
        return share(s.price_functional, self.used - s.used + credits, s.credits) - drawn

    def value_of(self, credits: Decimal) -> int:
        """Returns the carrying amount of ``credits``, in proportion to the remaining credits."""
        return self.carrying_minor if credits == self.remaining else share(self.carrying_minor, credits, self.remaining)

    def breakable_after(self, on: date) -> Block:
        """The block with this first day for breakage."""
        return replace(self, breakable_from=on if self.breakable_from is None else max(self.breakable_from, on))

    def paid_through(self, processor: str | None, amount: int) -> Block:
        """The block after a processor's money paid for it; negative if the money was paid back or is disputed.

        Money of a bank (None) changes nothing.
        """
        if processor is None:
            return self
        through = self.processors
        through[processor] = max(through.get(processor, 0) + amount, 0)
        last = processor if amount > 0 or self.processor is None else self.processor
        others = sorted((name, part) for name, part in through.items() if name != last and part)
        return replace(self, processor=last, processor_minor=through.get(last, 0), other_processors=tuple(others))

    def charged_through(self, processor: str | None, amount: int) -> Block:
        """The block after a processor's money was disputed; negative if the money was received or won back."""
        if processor is None:
            return self
        through = dict(self.chargeable)
        through[processor] = max(through.get(processor, 0) - amount, 0)
        return replace(self, chargeable=tuple(sorted((name, part) for name, part in through.items() if part)))

    def chargeable_through(self, processor: str | None) -> int:
        """The amount that a processor brought in and that was not disputed."""
        return dict(self.chargeable).get(processor or "", 0)

    @property
    def processors(self) -> dict[str, int]:
        """The amounts that processors brought in for it, and that were not disputed, charged or paid back."""
        found = dict(self.other_processors)
        if self.processor is not None:
            found[self.processor] = self.processor_minor
        return found

    def status(self, at: datetime) -> BlockStatus:
        """The status at a moment, by the events recorded so far."""
        if self.remaining > 0:
            if self.disputes:
                return BlockStatus.DISPUTED
            if self.expires_at is not None and at >= self.expires_at:
                return BlockStatus.EXPIRED
            return BlockStatus.SCHEDULED if at < self.starts_at else BlockStatus.ACTIVE
        if self.undone and not self.credits:
            return BlockStatus.REVERSED
        for column in _ENDINGS:
            if self.disposed.get(column, NO_PORTION).credits > 0:
                return BlockStatus(column)
        return BlockStatus.EXHAUSTED
