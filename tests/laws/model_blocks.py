"""State of the plain model: blocks, usage, documents, estimates. Dictionaries and fractions, no rules."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, datetime
from fractions import Fraction
from typing import Any

HOME = "USD"
PLACES = {"USD": 2, "EUR": 2, "GBP": 2, "JPY": 0, "KWD": 3}
NANO = Fraction(1, 10**9)


class Refusal(Exception):
    """An event that the books do not allow; the argument is the code."""


def half_up(value: Fraction | int) -> int:
    """Rounds to the nearest integer, a half away from zero."""
    magnitude = int((abs(value) * 2 + 1) // 2)
    return magnitude if value >= 0 else -magnitude


def to_nine_places(credits: Fraction) -> Fraction:
    """Rounds credits in proportion to money to the nine places of credits."""
    return half_up(credits / NANO) * NANO


def minor(text: str, currency: str) -> int:
    return int(Fraction(text) * 10 ** PLACES[currency])


def amount_text(amount: int, currency: str) -> str:
    sign, digits, places = "-" * (amount < 0), str(abs(amount)), PLACES[currency]
    digits = digits.rjust(places + 1, "0")
    return sign + (f"{digits[:-places]}.{digits[-places:]}" if places else digits)


def credits_text(credits: Fraction) -> str:
    billionths = int(credits * 10**9)
    sign = "-" * (billionths < 0)
    return f"{sign}{abs(billionths) // 10**9}.{abs(billionths) % 10**9:09d}"


Figures = tuple[Fraction, int, int]
"""Credits, minor units of the block's currency, minor units of the functional currency."""

NOTHING: Figures = (Fraction(0), 0, 0)


def plus(a: Figures, b: Figures) -> Figures:
    return a[0] + b[0], a[1] + b[1], a[2] + b[2]


def minus(a: Figures, b: Figures) -> Figures:
    return a[0] - b[0], a[1] - b[1], a[2] - b[2]


@dataclass
class Segment:
    """A block from its purchase or a repricing on: its credits and value at the start, the added part, and the draws
    since.

    A reversal of usage of ``used_at``, an earlier segment, also begins a segment. ``corrected``: drawn at another
    price.
    """

    start: Figures
    since: datetime | None = None
    added: Figures = NOTHING
    used_at: datetime | None = None
    drawn: Figures = NOTHING
    corrected: bool = False


@dataclass
class Block:
    name: str
    customer: str
    kind: str
    currency: str
    gains: Figures
    starts: datetime
    expires: datetime | None
    order: int
    unit: str = "credit"
    priority: int = 50
    scope: tuple[str, ...] | None = None
    refundable: bool = False
    pool: str | None = None
    month: str = ""
    escheat_class: str | None = None
    invoice: str | None = None
    tax: int = 0
    taxed: int = 0
    owed: int = 0
    lost: dict[str, Figures] = field(default_factory=dict)
    cancelled: int = 0
    tax_back: int = 0
    tax_taken: int = 0
    redeemed_tax: int = 0
    given_up: int = 0
    disputed: int = 0
    conceded: int = 0
    claimed: int = 0
    expired: bool = False
    disputes: int = 0
    frozen: Fraction = Fraction(0)
    through: dict[str, int] = field(default_factory=dict)
    brought: dict[str, int] = field(default_factory=dict)
    processor: str | None = None
    bad: WrittenOff = field(default_factory=lambda: WrittenOff())
    origin: Block | None = field(default=None, repr=False, compare=False)
    """The block that was bought, if this one was made by a transfer."""
    handed: list[Block] = field(default_factory=list, repr=False, compare=False)
    sold_with_tax: bool = False
    undone: bool = False
    segments: list[Segment] = field(init=False)

    def __post_init__(self) -> None:
        self.segments = [Segment(self.gains)]

    def of(self, column: str) -> Figures:
        return self.lost.get(column, NOTHING)

    @property
    def unclaimed(self) -> int:
        """Value that is owed to a state."""
        return self.of("escheated")[1] - self.claimed

    @property
    def wholly_frozen(self) -> bool:
        return self.disputes > 0 and self.frozen >= self.gains[0]

    @property
    def expires_now(self) -> Fraction:
        """The credits that lapse at its expiry, without those that a dispute freezes, and without those that were
        escheated.
        """
        if self.disputes and (self.escheat_class is not None or "escheated" in self.lost):
            return Fraction(0)
        return self.to_draw

    @property
    def bought(self) -> Block:
        return self.origin or self

    @property
    def family(self) -> list[Block]:
        """All blocks of a purchase, the bought block first."""
        return [self.bought, *self.bought.handed]

    @property
    def left(self) -> Fraction:
        return self.gains[0] - sum((lost[0] for lost in self.lost.values()), Fraction(0))

    @property
    def carrying(self) -> int:
        return self.gains[1] - sum(lost[1] for lost in self.lost.values())

    @property
    def carrying_functional(self) -> int:
        return self.gains[2] - sum(lost[2] for lost in self.lost.values())

    @property
    def tax_left(self) -> int:
        return max(self.tax - self.tax_back - self.tax_taken, 0)

    @property
    def redeemed_tax_left(self) -> int:
        return 0 if self.tax else max(sum(block.redeemed_tax for block in self.family) - self.tax_taken, 0)

    @property
    def recognised(self) -> int:
        """The recognised value: used, broken, or retained at a refund."""
        kept = self.of("voided")[1] + self.of("refunded")[1] - self.cancelled
        return self.of("consumed")[1] + self.of("expired")[1] + kept

    @property
    def claim(self) -> int:
        """The claim: unused value, recognised value that was not conceded, and tax."""
        return self.carrying + self.recognised + self.of("transferred")[1] - self.conceded + self.tax_left

    @property
    def received(self) -> int:
        return max(self.claim - self.owed, 0)

    @property
    def to_draw(self) -> Fraction:
        return max(self.left - self.frozen, Fraction(0)) if self.disputes else self.left

    def tax_in(self, amount: int) -> int:
        """Returns the tax in proportion to an amount of the price."""
        return min(half_up(Fraction(self.tax * amount, self.taxed)), self.tax_left) if self.taxed else 0

    def concedable_tax_in(self, amount: int) -> int:
        """Returns the tax that a memo on an amount of revenue may reverse."""
        if not self.redeemed_tax_left:
            return self.tax_in(amount)
        redeemed = sum(block.redeemed_tax for block in self.family)
        revenue = sum(block.of("consumed")[1] for block in self.family) - redeemed
        return min(half_up(Fraction(redeemed * amount, revenue)) if revenue else 0, self.redeemed_tax_left)

    def due(self, credits: Fraction) -> int:
        """Returns the value of all draws since the block was last priced, after drawing these credits (cumulative
        rounding).
        """
        return self._due(1, credits)

    def due_functional(self, credits: Fraction) -> int:
        return self._due(2, credits)

    def _due(self, money: int, credits: Fraction) -> int:
        s = self.segments[-1]
        if not s.start[0]:
            return half_up((self.carrying, self.carrying_functional)[money - 1] * credits / self.left)
        return max(half_up(s.start[money] * (s.drawn[0] + credits) / s.start[0]) - int(s.drawn[money]), 0)

    def cost(self, credits: Fraction) -> int:
        """Returns the amount of a draw. The last credit takes the remainder."""
        return self.carrying if credits == self.left else min(self.due(credits), self.carrying)

    def cost_functional(self, credits: Fraction, money: int) -> int:
        """Returns the functional amount of a draw, by the same rule at the block's rate; for a remeasured refundable
        block pro rata.
        """
        if self.currency == HOME:
            return money
        if credits == self.left:
            return self.carrying_functional
        if self.refundable:
            return self.share_functional(money, credits)
        return min(self.due_functional(credits), self.carrying_functional)

    def value(self, credits: Fraction) -> int:
        """Returns the part of the carrying amount for some of the remaining credits."""
        return self.carrying if credits == self.left else half_up(self.carrying * credits / self.left)

    def share_functional(self, money: int, credits: Fraction) -> int:
        """Returns the functional amount of a part of the carrying amount."""
        if self.currency == HOME:
            return money
        if money == self.carrying and (money or credits == self.left):
            return self.carrying_functional
        return half_up(Fraction(self.carrying_functional * money, self.carrying)) if self.carrying else 0

    def lose(self, column: str, credits: Fraction, money: int, functional: int | None = None) -> int:
        """Removes credits and value from the block. Returns the functional amount."""
        if functional is None:
            functional = self.share_functional(money, credits)
        if column == "consumed":
            self.use(credits, money, functional)
        else:
            self.lost[column] = plus(self.of(column), (credits, money, functional))
        return functional

    # --- segments --------------------------------------------------------------------------------------------

    def at(self, moment: datetime) -> int:
        """Returns the segment of a moment."""
        return sum(s.since is None or s.since <= moment for s in self.segments) - 1

    def end(self, number: int, expired: bool = False) -> Figures:
        """Returns the remainder at the end of a segment; with expired credits, if late usage may draw them."""
        if number + 1 < len(self.segments):
            after = self.segments[number + 1]
            return minus(after.start, after.added)
        left = (self.left, self.carrying, self.carrying_functional)
        return plus(left, self.of("expired")) if expired else left

    def drawable(self, number: int, credits: Fraction) -> Fraction:
        """Returns the part of these credits that existed in a segment, without credits that later segments added."""
        for s in self.segments[number + 1 :]:
            credits = min(credits, s.start[0] - max(s.added[0], Fraction(0)))
        return max(credits, Fraction(0))

    def kept(self, number: int, money: int) -> int:
        """Returns the value that a segment must leave at its end, because later segments reduce the price by this
        amount.
        """
        kept = 0
        for s in self.segments[:number:-1]:
            kept = max(kept - int(s.added[money]), 0)
        return kept

    def use(self, credits: Fraction, money: int, functional: int, number: int | None = None) -> None:
        """Applies usage, or its mirror, to a segment. The later segments begin with less by the same figures."""
        used = (credits, money, functional)
        self.lost["consumed"] = plus(self.of("consumed"), used)
        number = len(self.segments) - 1 if number is None else number
        self.segments[number].drawn = plus(self.segments[number].drawn, used)
        for later in self.segments[number + 1 :]:
            later.start = minus(later.start, used)

    def late_cost(self, number: int, credits: Fraction) -> Figures:
        """Returns the price of credits in an earlier segment. The last credits of a later one take all its value."""
        expired = credits > self.to_draw
        parts = []
        for money in (1, 2):
            drawn, left = self.segments[number].drawn, self.end(number, expired)
            rest = max(int(left[money]) - self.kept(number, money), 0)
            if credits < left[0]:
                due = half_up((drawn[money] + left[money]) * (drawn[0] + credits) / (drawn[0] + left[0]))
                rest = min(max(due - int(drawn[money]), 0), rest)
            for later in range(number + 1, len(self.segments)):
                whole = plus(self.segments[later].drawn, self.end(later, expired))
                most = max(int(whole[money]) - self.kept(later, money), 0)
                rest = most if credits >= whole[0] else min(rest, most)
            parts.append(rest)
        return credits, parts[0], parts[1] if self.currency != HOME else parts[0]

    def begin(self, since: datetime, added: Figures, used_at: datetime | None = None) -> int:
        """Begins a segment with the remainder, and with the figures that are added or returned by a reversal."""
        number = self.at(since) + 1
        for later in self.segments[number:]:
            later.start = plus(later.start, added)
        self.segments.insert(number, Segment(NOTHING, since, added, used_at))
        self.segments[number].start = self.end(number)
        return number

    def price_again(self, first: int, expired: bool = False) -> Figures:
        """Spreads the value of each segment, from one on, over the credits that were used in it and those that
        remained.
        """
        total = NOTHING
        for number in range(first, len(self.segments)):
            s = self.segments[number]
            if s.used_at is not None and (source := max(self._before(number, s.used_at), 0)) >= first:
                whole = plus(self.segments[source].drawn, self.end(source, expired))
                more = minus(self._part(whole, s.added[0], s.added, s.added), s.added)
                self.give_back(number, more)
                total = minus(total, more)
            whole = plus(s.drawn, self.end(number, expired))
            if whole[0]:
                now = self._part(whole, s.drawn[0], s.drawn, s.drawn)
                now = (now[0], *(min(now[i], max(int(whole[i]) - self.kept(number, i), 0)) for i in (1, 2)))
                fix = minus(now, s.drawn)
                self.use(Fraction(0), fix[1], fix[2], number)
                s.corrected = s.corrected or any(fix)
                total = plus(total, fix)
        return total

    def _before(self, number: int, moment: datetime) -> int:
        return sum(s.since is None or s.since <= moment for s in self.segments[:number]) - 1

    def _part(self, whole: Figures, credits: Fraction, of: Figures, was: Figures) -> Figures:
        money = half_up(whole[1] * credits / whole[0]) if whole[0] else was[1]
        if self.currency == HOME:
            return credits, money, money
        if self.refundable:
            return credits, money, was[2] + (half_up(Fraction(of[2] * (money - was[1]), of[1])) if of[1] else 0)
        return credits, money, half_up(whole[2] * credits / whole[0]) if whole[0] else was[2]

    def give_back(self, number: int, more: Figures) -> None:
        """Adds figures to a segment that a reversal began."""
        self.lost["consumed"] = minus(self.of("consumed"), more)
        self.segments[number].added = plus(self.segments[number].added, more)
        for s in self.segments[number:]:
            s.start = plus(s.start, more)

    def unbreak(self, credits: Fraction) -> None:
        """Restores as many expired credits as a draw needs in addition to all remaining credits."""
        broken, money, functional = self.of("expired")
        if credits == broken:
            self.lost["expired"] = NOTHING
            return
        if not self.segments[-1].start[0]:  # late usage drew all repriced credits, so none has a price
            back, back_functional = (half_up(part * credits / broken) for part in (money, functional))
            self.lost["expired"] = plus(self.of("expired"), (-credits, -back, -back_functional))
            return
        back = min(max(self.due(self.left + credits) - self.carrying, 0), money)
        if self.currency == HOME:
            back_functional = back
        elif self.refundable:
            back_functional = half_up(Fraction(functional * back, money)) if money else functional
        else:
            due = self.due_functional(self.left + credits)
            back_functional = min(max(due - self.carrying_functional, 0), functional)
        self.lost["expired"] = plus(self.of("expired"), (-credits, -back, -back_functional))

    def unbreak_to(self, rest: Fraction) -> None:
        """Sets the number of expired credits, with their share of the value of expired and remaining credits."""
        credits, *value = plus(self.of("expired"), (self.left, self.carrying, self.carrying_functional))
        money, functional = (half_up(part * rest / credits) if rest else 0 for part in value)
        self.lost["expired"] = (rest, money, functional)

    def tax_of(self, value: int) -> int:
        """Returns the tax of cancelled value, with cumulative rounding."""
        if not value or not self.tax:
            return 0
        due = half_up(Fraction(self.tax * min(self.cancelled + value, self.taxed), self.taxed)) - self.tax_back
        return min(max(due, 0), max(self.tax - self.tax_back - self.tax_taken, 0))

    def tax_given_up(self, amount: int) -> int:
        """Returns the tax in an amount of price and tax that is lost, with cumulative rounding."""
        total = self.taxed + self.tax
        if not total:
            return 0
        before, after = (
            half_up(Fraction(min(n, total) * self.tax, total)) for n in (self.given_up, self.given_up + amount)
        )
        # Tax in the loss is never treated as value, because a memo may have conceded value without its tax.
        return max(min(max(after - before, amount - (self.claim - self.tax_left)), self.tax_left, amount), 0)


@dataclass
class Draw:
    block: Block | None
    credits: Fraction
    money: int
    on: date
    functional: int = 0
    restored: Fraction = Fraction(0)
    restored_money: int = 0
    restored_functional: int = 0
    tax: int = 0

    @property
    def tax_functional(self) -> int:
        return half_up(Fraction(self.functional * self.tax, self.money)) if self.tax else 0

    def back(self, credits: Fraction) -> tuple[int, int, int]:
        """Returns money, functional money and tax of a part of its credits. Revenue and tax are each in proportion."""
        share = credits / self.credits
        tax, of_tax = half_up(self.tax * share), half_up(self.tax_functional * share)
        revenue = half_up((self.money - self.tax) * share)
        return revenue + tax, half_up((self.functional - self.tax_functional) * share) + of_tax, tax


@dataclass
class Usage:
    name: str
    customer: str
    product: str | None
    draws: list[Draw]
    moment: datetime
    unit: str = "credit"
    currency: str = HOME
    price: Fraction = Fraction(0)
    backfill: bool = False
    settled: Fraction = Fraction(0)
    settled_money: int = 0

    @property
    def overage(self) -> Draw | None:
        return next((draw for draw in self.draws if draw.block is None), None)

    @property
    def open(self) -> Fraction:
        return self.overage.credits - self.overage.restored - self.settled if self.overage else Fraction(0)

    @property
    def open_money(self) -> int:
        return self.overage.money - self.overage.restored_money - self.settled_money if self.overage else 0


@dataclass
class Invoice:
    """An invoice of overage."""

    name: str
    customer: str
    currency: str
    billed: int
    tax: int
    owed: int
    conceded: int = 0
    tax_back: int = 0
    disputed: int = 0
    bad: WrittenOff = field(default_factory=lambda: WrittenOff())

    @property
    def received(self) -> int:
        return max(self.billed + self.tax - self.conceded - self.tax_back - self.owed, 0)

    def tax_in(self, amount: int) -> int:
        tax = half_up(Fraction(self.tax * amount, self.billed)) if self.billed else 0
        return min(tax, self.tax - self.tax_back)


@dataclass
class WrittenOff:
    """Used value, its tax, and tax without relief: the amounts written off, and the parts collected later."""

    written: dict[str, int] = field(default_factory=lambda: {"value": 0, "tax": 0, "borne": 0})
    came: dict[str, int] = field(default_factory=lambda: {"value": 0, "tax": 0, "borne": 0})

    def collectable(self, unused: int) -> dict[str, int]:
        """Returns the amounts that can still be collected. The tax of unused value, whose credits are gone, is not
        among them.
        """
        value, written_off = self.written["value"], self.written["value"] + unused
        share = Fraction(value, written_off) if written_off else Fraction(1)
        return {
            name: part if name == "value" else half_up(Fraction(part * share)) for name, part in self.written.items()
        }

    def open(self, unused: int) -> int:
        return max(sum(self.collectable(unused).values()) - sum(self.came.values()), 0)

    def comes(self, amount: int, unused: int) -> dict[str, int]:
        """Divides a collected amount into its parts. Each part is in proportion to all amounts collected so far."""
        whole, before = self.collectable(unused), dict(self.came)
        taxes, so_far = whole["tax"] + whole["borne"], before["tax"] + before["borne"]
        due = half_up(Fraction(taxes * (sum(before.values()) + amount), sum(whole.values()))) - so_far
        due = min(max(due, amount - (whole["value"] - before["value"])), amount, taxes - so_far)
        due = max(due, 0)
        tax = 0
        if due:
            tax = half_up(Fraction(whole["tax"] * (so_far + due), taxes)) - before["tax"]
            tax = min(max(tax, due - (whole["borne"] - before["borne"]), 0), due)
        parts = {"value": amount - due, "tax": tax, "borne": due - tax}
        for name, part in parts.items():
            self.came[name] += part
        return parts


@dataclass
class Refund:
    """Money that is owed back for a block or an invoice; ``held`` during a dispute."""

    customer: str
    of: tuple[str | None, str | None]
    currency: str
    amount: int
    held: int = 0


def names(block: Block | None, invoice: Invoice | None) -> tuple[str | None, str | None]:
    return block.name if block is not None else None, invoice.name if invoice is not None else None


Part = tuple[Block | None, Invoice | None, int]
"""The target of a payment or a dispute, with the amount."""


@dataclass
class Payment:
    name: str
    customer: str
    currency: str
    processor: str | None
    parts: list[Part]
    unapplied: int
    disputed: list[Part] = field(default_factory=list)
    returned: list[Part] = field(default_factory=list)
    elsewhere: int = 0
    """Money for invoices of another ledger that was not paid back and is not disputed."""
    again: list[Part] = field(default_factory=list)
    """Disputed money that was paid back before."""
    paid_back: int = 0
    """The amount paid back of its unapplied part and of the part for invoices of another ledger."""

    def applied_to(self, of: tuple[str | None, str | None]) -> int:
        """Returns the amount that it paid for a block or an invoice, or (for neither) its unapplied amount; without
        amounts paid back or disputed.
        """
        signs = ((1, self.parts), (-1, self.returned), (-1, self.disputed))
        return sum(sign * part[2] for sign, parts in signs for part in parts if names(*part[:2]) == of)


@dataclass
class Dispute:
    name: str
    customer: str
    currency: str
    processor: str | None
    parts: list[Part]
    payment: str | None = None
    decided: bool = False
    elsewhere: int = 0
    froze: dict[str, Fraction] = field(default_factory=dict)
    holds: list[int] = field(default_factory=list)
    called_back: list[tuple[Block, Fraction]] = field(default_factory=list)
    again: list[Part] = field(default_factory=list)
    """Its last parts: money that was paid back before."""

    @property
    def amount(self) -> int:
        return self.elsewhere + sum(part for _, _, part in (*self.parts, *self.again))


@dataclass
class Estimate:
    """The estimate of a pool: rates, or amounts for the amount issued at that time."""

    issued: int
    breakage: int | None
    breakage_rate: Fraction | None
    escheat: int | None
    escheat_rate: Fraction | None

    def at(self, issued: int) -> tuple[Fraction, Fraction]:
        def scaled(amount: int | None, rate: Fraction | None) -> Fraction:
            if rate is not None:
                return rate * issued
            return Fraction((amount or 0) * issued, self.issued) if self.issued else Fraction(0)

        return scaled(self.breakage, self.breakage_rate), scaled(self.escheat, self.escheat_rate)


@dataclass
class Pool:
    """A pool: its currency, the grouping of its months, the rates of new cohorts by day, and its cohorts by name."""

    name: str
    currency: str
    grouping: str | None = None
    estimates: dict[date, Estimate] = field(default_factory=dict)
    cohorts: dict[str, Any] = field(default_factory=dict)


@dataclass
class Reservation:
    """A reservation. A wallet stores it until it ends, or until a day after its expiry."""

    name: str
    customer: str
    credits: Fraction
    unit: str
    product: str | None
    begins: datetime
    expires: datetime
    ended: bool = False
    remembered: bool = True
