"""The credit block: what a customer bought or was granted in one go, and how it is drawn down.

Owns: a block's figures, cumulative rounding. Does not own: which blocks a customer has (wallet), in which order they
are drawn (draw_order), what a draw posts (posting).
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

    It begins at ``since``, in the books on ``day``; None for the opening of the block. ``added`` are the credits and
    value that came with it, a part of its credits and price: by a repricing, or back from usage of
    ``gives_back_from``. ``days`` has its draws by day; ``corrected`` is True if they were priced again.
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
    """A block before it was opened at a cut-over: the price and credits that its draws are a share of, and the draws.

    ``earlier_minor`` is what was drawn before these, at another price; ``expired_minor`` the value that had expired, or
    was kept at a refund: revenue, but of no used credits; ``escheated_minor`` the part of its value that
    was owed to a state by then.
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

    @property
    def redeemed_minor(self) -> int:
        """The value that was used, at whatever price."""
        return self.drawn_minor + self.earlier_minor


_STORED_AS: Final = {"disposed": "gone", "losses_from": "gained_on", "last_breakage_date": "broken_on"}
"""Names of a block's fields in what is stored, if they differ: stored bytes never change."""


class Block(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False, rename=_STORED_AS):
    """A credit block as the writer knows it.

    Amounts are minor units of ``currency``; ``price_minor`` is the basis to be recognised (0 for a promotional
    grant) and ``credits`` counts paid, bonus and added credits alike, so that bonus credits share the price.
    ``expires_at`` is exclusive; None means never. ``scope`` lists the products it may pay for; None means any.
    ``rate`` is the exchange rate it was bought at, None in the functional currency, where the ``…_functional``
    figures stay 0. ``cohort`` is the month in which a pooled block, or the block that it was transferred from, was
    opened; None if that was before there were cohorts. ``refundable_apart``: it is refundable, and its entries have
    that as a dimension; False if it was opened before entries had it, so that all entries of a block have the same.
    Its price is due at ``due_at``, and its customer may cancel it while it is not paid if it is ``cancellable``;
    neither changes an entry.

    ``used`` and ``drawn_minor`` are net of reversals; ``disposed`` has the credits and value that left the block
    otherwise, by column of its roll-forward. ``receivable_minor`` is the unpaid part of its price and tax, and
    ``receivable_from`` has the parts of it that came after the block was opened, by day; ``cancelled_minor`` the value
    whose tax was reversed with it; ``tax_taken_minor`` the tax that memos, disputes and write-offs took;
    ``redemption_tax_minor`` the tax that was due when its credits were used, a part of ``drawn_minor``;
    ``given_up_minor`` the price and tax that disputes and write-offs took; ``conceded_minor`` the value that memos,
    disputes and write-offs conceded, the last of them ``conceded_by``; ``written_off`` what of it was written off, and
    collected after all; ``disputed_minor`` the amount in open disputes.
    ``processor_minor`` is what was paid through ``processor``, the last one, and not disputed, charged or paid back;
    ``other_processors`` has the same of those before. ``chargeable`` is what each processor brought in and that was not
    disputed, whether it was paid back or not.
    ``expired`` is True if its expiry has been recorded and not been undone; ``disputes`` is the number of disputes that
    are open, which freeze ``frozen`` of its credits: all of them, or what remained in proportion to what is disputed.

    A transfer leaves the purchase where it is: ``origin`` is the block that was bought, and ``payer`` its customer, if
    that is another block; ``handed`` has the blocks to which its own credits were transferred, with their customers.

    Its accounting dates: it was opened on ``opened_on``; its losses are not dated before ``losses_from``, and only if
    ``changes``, all of them since that day, allow it (``loss_day``); its breakage not before ``breakable_from``, when
    its expiry was last moved or its last dispute ended. ``last_breakage_date`` is the latest date of its breakages and
    escheats; ``lapses`` has the credits that expired, by the day of their breakage.

    ``dimensions`` are the company's own, of its purchase (own_dimensions).

    If it was opened at a cut-over, its credits and price are those that it had then, and ``before`` has what it was
    before: its draws go on from there.

    If it was repriced, ``segment`` is the one that holds now, and ``earlier`` has those before. A block whose opening
    was ``undone`` has its terms, and nothing in it.
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
        """The carrying amount in the functional currency; it has a meaning if ``rate`` is set."""
        disposed = sum(functional for _, _, functional in self.disposed.values())
        return self.price_functional - self.drawn_functional - disposed

    @property
    def _recognised_before(self) -> tuple[int, int]:
        """The value that was used, and all that was used or had expired, before the block was opened at a cut-over."""
        if self.before is None or self.undone:
            return 0, 0
        redeemed = self.before.redeemed_minor
        return redeemed, redeemed + self.before.expired_minor

    @property
    def sold_minor(self) -> int:
        """The price; of a block that was opened at a cut-over with what was recognised of it before."""
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
        """Price and tax that are owed or were paid for: all but what was cancelled, conceded, lost or escheated.

        Of a transferred block nothing is owed: all of it is the bought block's.
        """
        if self.origin is not None:
            return 0
        escheated = self.disposed.get("escheated", NO_PORTION).amount_minor
        unused = sum(self.disposed.get(column, NO_PORTION).amount_minor for column in ("charged_back", "written_off"))
        kept = self.sold_minor - self.cancelled_minor - escheated - unused - self.conceded_minor
        return kept + self.tax_remaining_minor

    @property
    def received_minor(self) -> int:
        """The part of the claim that was paid, and was not owed or paid back, charged back or escheated since."""
        return max(self.claim_minor - max(self.receivable_minor, 0), 0)

    @property
    def recoverable_minor(self) -> int:
        """The written-off amount that can be collected: used value, and its tax."""
        return 0 if self.written_off is None else self.written_off.recoverable_minor(self.unused_written_off_minor)

    @property
    def unused_written_off_minor(self) -> int:
        """The unused value that was written off: its credits were cancelled."""
        return self.disposed.get("written_off", NO_PORTION).amount_minor

    @property
    def recognised_minor(self) -> int:
        """Value that was used, broke or was kept at a refund: what a memo, a write-off or a lost dispute concedes."""
        given_up = ("voided", "refunded")
        kept = sum(self.disposed.get(column, NO_PORTION).amount_minor for column in given_up) - self.cancelled_minor
        return self._recognised_before[1] + self.drawn_minor + self.expired_minor + kept

    def tax_in(self, amount_minor: int) -> int:
        """The tax in proportion to a part of the price, half up; no more than remains."""
        tax = share(self.tax_minor, Decimal(amount_minor), Decimal(self.taxed_minor)) if self.taxed_minor else 0
        return max(min(tax, self.tax_remaining_minor), 0)

    @property
    def redeemed_minor(self) -> int:
        """The revenue of the used credits: without the tax that was due with their redemption."""
        return self._recognised_before[0] + self.drawn_minor - self.redemption_tax_minor

    @property
    def redemption_tax_remaining(self) -> int:
        """Tax that was due with redemption, less what memos took back of it. Such a block was sold without tax."""
        return 0 if self.tax_minor else max(self.redemption_tax_minor - self.tax_taken_minor, 0)

    @property
    def concedable_minor(self) -> int:
        """The revenue of used credits that a memo can concede: what was not conceded, lost or written off yet."""
        free = self.recognised_minor - self.conceded_minor - self.redemption_tax_remaining
        return max(min(self.redeemed_minor, free), 0)

    def concedable_tax_in(self, amount_minor: int) -> int:
        """The tax that a memo of an amount of revenue can take back: in proportion, of the sale or of redemption."""
        if not self.redemption_tax_remaining:
            return self.tax_in(amount_minor)
        part, revenue = Decimal(amount_minor), Decimal(self.redeemed_minor)
        return min(share(self.redemption_tax_minor, part, revenue) if revenue else 0, self.redemption_tax_remaining)

    @property
    def is_frozen_whole(self) -> bool:
        """True if disputes freeze all of it, with all that comes back to it meanwhile."""
        return self.disputes > 0 and self.frozen >= self.credits

    @property
    def expiry_due_at(self) -> datetime | None:
        """The moment at which its expiry is due. Credits that a dispute freezes wait for its end.

        So do credits whose value would be a state's: how much of it was received is known then.
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
        """The first day from ``on`` for a draw, its amount, and its functional amount where the block has a rate."""
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
        """The open receivable by the day from which it is owed, first days first; payments paid the first ones."""
        remaining, days = max(self.receivable_minor, 0), []
        for on, amount in reversed(self.receivable_from):
            part = min(amount, remaining)
            days.append((on, part))
            remaining -= part
        return tuple(day for day in ((self.opened_on, remaining), *reversed(days)) if day[1])

    def owed_from(self, amount: int) -> date:
        """The day from which an amount of the open receivable is owed, if the parts owed first are taken first."""
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
        price, credits and draws since the repricing. Of a block that was opened at a cut-over it uses those of before.
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
        """The value of some credits of a lapse, if they are drawn after all: by that rule, and no more than broke."""
        amount, functional = lapse.amount_minor, lapse.functional_minor
        if credits == lapse.credits:
            return Portion(credits, amount, functional)
        # What came back is drawn next; what did not would be drawn after what remains.
        ahead, value, worth = ZERO, 0, 0
        if lapse.back_on is None:
            ahead, value, worth = self.left
        if self.segment is not None and not self.segment.credits:  # it has no price: late usage drew all that it had
            part = share(amount, credits, lapse.credits)
            return Portion(credits, part, 0 if self.rate is None else share(functional, credits, lapse.credits))
        part = min(max(self._due_for(ahead + credits) - value, 0), amount)
        if self.rate is None:
            return Portion(credits, part, 0)
        if self.refundable:
            return Portion(credits, part, round_half_up(functional * part, amount) if amount else 0)
        return Portion(credits, part, min(max(self._functional_due_for(ahead + credits) - worth, 0), functional))

    def functional_drawn(self, credits: Decimal, amount_minor: int) -> int:
        """The functional amount of a draw: by cumulative rounding; of a remeasured block, by its carrying amount."""
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
        """The block of which nothing is breakage before a day."""
        return replace(self, breakable_from=on if self.breakable_from is None else max(self.breakable_from, on))

    def paid_through(self, processor: str | None, amount: int) -> Block:
        """The block that a processor's money paid for; negative if that was paid back, or is disputed.

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
        """The block of which a processor's money is disputed; negative if it was brought in, or came back."""
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
