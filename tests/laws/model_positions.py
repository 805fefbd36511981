"""The plain model's money: the balance of each monetary role, exchange rates, and their changes by entries.

An increase is at the rate of the day. A decrease is at the carrying rate (an average per block, customer, processor or
ledger). An amount that only moves to another role keeps its carrying amount. The difference between the two sides is a
gain or a loss. The model does not track it; the trial balance has it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta, tzinfo
from fractions import Fraction
from typing import Any

from tests.laws.model_blocks import (
    HOME,
    NANO,
    PLACES,
    Block,
    Dispute,
    Invoice,
    Payment,
    Pool,
    Refund,
    Refusal,
    Reservation,
    Usage,
    half_up,
    minor,
    names,
    to_nine_places,
)

OF_LEDGER = ("cash", "tax_payable", "processor_clearing")
OF_BLOCK = ("accounts_receivable", "disputes_receivable", "unclaimed_property")

Place = tuple[str, str, str, str]
"""Role, currency, customer ("" for the ledger's own), and the block or the processor."""


class Positions:
    """The state of a ledger, and the arithmetic of its money."""

    def __init__(self, *, shortfall: str = "reject", late_usage: str = "new", zone: tzinfo = UTC) -> None:
        self.shortfall, self.late_usage, self.zone = shortfall, late_usage, zone
        self.blocks: dict[str, Block] = {}
        self.usage: dict[str, Usage] = {}
        self.carry: dict[tuple[str, str], Fraction] = {}
        self.invoices: dict[str, Invoice] = {}
        self.payments: dict[str, Payment] = {}
        self.disputes: dict[str, Dispute] = {}
        self.refunds: list[Refund] = []
        self.pools: dict[str, Pool] = {}
        self.reservations: dict[str, Reservation] = {}
        self.rates: dict[str, dict[date, Fraction]] = {}
        self.standing: dict[Place, tuple[int, int]] = defaultdict(lambda: (0, 0))
        self.closed: date | None = None
        self.order = 0
        self.event_id = ""
        self.moment = datetime.min.replace(tzinfo=UTC)
        self.customer = ""
        self.day = date.min
        self.recorded: set[str] = set()
        self.types: dict[str, tuple[str, str]] = {}
        self.undone: set[str] = set()
        self.latest: tuple[str, dict[str, Any]] | None = None

    # --- references -----------------------------------------------------------------------------------------

    def own(self, name: str) -> Block:
        block = self.blocks.get(name)
        if block is None:
            raise Refusal("unknown_block")
        if block.customer != self.customer:
            raise Refusal("block_of_another_customer")
        if block.undone:
            raise Refusal("unknown_block")
        return block

    def paid(self, name: str) -> Block:
        """Returns the bought block behind the block that an event about money names. It belongs to the buyer."""
        block = self.blocks.get(name)
        if block is None or block.origin is None:
            return self.own(name)
        self.allow(block.origin.customer == self.customer, "block_of_another_customer")
        return block.origin

    @contextmanager
    def of_payer(self, block: Block) -> Iterator[Block]:
        """Yields the bought block behind a block. Until the end of the context entries belong to its customer."""
        holder, self.customer = self.customer, block.bought.customer
        yield block.bought
        self.customer = holder

    @staticmethod
    def hand_back(block: Block, credits: Fraction, money: int, functional: int | None = None) -> int:
        """Returns credits and value to the bought block. Returns the functional amount."""
        if block.origin is None:
            return block.share_functional(money, credits) if functional is None else functional
        functional = block.lose("transferred", credits, money, functional)
        block.origin.lose("transferred", -credits, -money, -functional)
        return functional

    def recall(self, block: Block, credits: Fraction, money: int) -> None:
        """Recalls the missing credits and value of a bought block from its transfers, oldest first."""
        for held in block.handed:
            lacking, value = credits - block.left, money - block.carrying
            if not held.left or (lacking <= 0 and value <= 0):
                continue
            part, worth = held.left, held.carrying
            if lacking < part and value < worth:
                for_value = to_nine_places(held.left * value / worth) if value > 0 else Fraction(0)
                part = min(max(lacking, for_value, NANO), held.left - NANO)
                worth = max(held.value(part), value) if part > 0 else 0
            if part <= 0:
                part, worth = held.left, held.carrying
            self.hand_back(held, part, worth)

    def live(self, name: str) -> Block:
        """Returns a block that may be voided, refunded, transferred or changed."""
        block = self.own(name)
        self.must_be_live(block)
        return block

    def must_be_live(self, block: Block) -> None:
        expired = block.expires is not None and block.expires <= self.moment
        if not block.left or (expired and (block.expires_now or not block.disputes)):
            raise Refusal("no_credits_left")

    def must_not_be_disputed(self, block: Block) -> None:
        self.allow(not block.disputes and not block.bought.disputes, "block_disputed")

    def free_of(self, block: Block, data: dict[str, Any]) -> Fraction:
        """Returns the credits that an event takes: those that it names, or all that are not frozen by a dispute."""
        self.allow(block.to_draw > 0, "block_disputed")
        credits = Fraction(data["credits"]) if "credits" in data else block.to_draw
        self.allow(credits <= block.to_draw, "insufficient_credits")
        return credits

    def not_of_a_dispute(self, bought: Block, amount: int) -> None:
        """Refuses to owe money back that a dispute has withdrawn."""
        held = sum(r.amount for r in self.refunds if r.of == (bought.name, None) and r.held)
        disputed = max(bought.disputed - held - bought.unclaimed, 0) if bought.disputes else 0
        self.allow(not bought.disputes or amount <= max(bought.claim - disputed, 0), "block_disputed")

    def owe(self, amount: int, currency: str, block: Block | None, invoice: Invoice | None = None) -> None:
        """Adds an amount that is owed back for a block or an invoice."""
        of = names(block, invoice)
        for refund in self.refunds:
            if (refund.customer, refund.of, refund.currency) == (self.customer, of, currency):
                refund.amount += amount
                return
        self.refunds.append(Refund(self.customer, of, currency, amount))

    def pay(self, refund: Refund, amount: int) -> None:
        refund.amount -= amount
        self.refunds = [refund for refund in self.refunds if refund.amount]

    def not_conceded(self, block: Block, amount: int, tax: int = 0) -> None:
        """Refuses to return value that a memo, a write-off or a lost dispute has already compensated."""
        recognised, conceded = sum(part.recognised for part in block.family), block.bought.conceded
        self.allow(amount <= max(recognised - conceded, 0) or not conceded, "conceded")
        twice = not block.bought.tax and tax > block.bought.redeemed_tax_left
        self.allow(not (twice and conceded), "conceded")

    def owed_back(self, block: Block | None, invoice: Invoice | None) -> int:
        of = names(block, invoice)
        return sum(r.amount for r in self.refunds if (r.customer, r.of) == (self.customer, of))

    def give_back(self, block: Block, value: int, tax: int) -> None:
        """Cancels value and tax: first the unpaid part, value before tax; the rest is owed back."""
        for side, part in ((None, value), ("tax_payable", tax)):
            unpaid = min(part, block.owed)
            if unpaid:
                self.book(side, "accounts_receivable", unpaid, block.currency, block=block, how="both")
                block.owed -= unpaid
            if part - unpaid:
                how = "spot" if side else "both"
                self.book(side, "refunds_payable", part - unpaid, block.currency, how=how)
                self.owe(part - unpaid, block.currency, block)

    @staticmethod
    def allow(condition: bool, code: str) -> None:
        if not condition:
            raise Refusal(code)

    @staticmethod
    def amount(data: dict[str, Any], name: str = "amount") -> int:
        return minor(data[name], data["currency"]) if name in data else 0

    # --- dates and rates ------------------------------------------------------------------------------------

    def effective(self, moment: datetime) -> date:
        return moment.astimezone(self.zone).date()

    def on(self, *others: date | None) -> date:
        """Returns the accounting date of an entry of the current event."""
        days = [self.day, *(day for day in others if day is not None)]
        if self.closed is not None:
            days.append(self.closed + timedelta(days=1))
        return max(days)

    def rate(self, currency: str, day: date) -> Fraction:
        known = [since for since in self.rates.get(currency, {}) if since <= day]
        if not known:
            raise Refusal("exchange_rate_missing")
        return self.rates[currency][max(known)]

    def spot(self, amount: int, currency: str, day: date | None = None) -> int:
        if currency == HOME:
            return amount
        rate = self.rate(currency, day or self.day)
        return half_up(amount * rate * Fraction(10 ** PLACES[HOME], 10 ** PLACES[currency]))

    # --- balances ----------------------------------------------------------------------------------------

    def place(self, role: str, currency: str, block: str | None, processor: str | None) -> Place:
        if role in OF_LEDGER:
            return role, currency, "", (processor or "") if role == "processor_clearing" else ""
        return role, currency, self.customer, (block or "") if role in OF_BLOCK else ""

    def stands(self, role: str, currency: str) -> int:
        """Returns the balance of a role of the current customer, debits positive."""
        return self.standing[self.place(role, currency, None, None)][0]

    def _move(self, place: Place, change: int, grow: Callable[[int], int]) -> int:
        """Moves a role, debits positive. Returns the functional amount of the move."""
        held, carried = self.standing[place]
        if not change:
            moved = 0
        elif not held or (held > 0) == (change > 0):
            moved = grow(change)
        elif abs(change) < abs(held):
            moved = -half_up(Fraction(carried * abs(change), abs(held)))
        else:
            rest = change + held
            moved = -carried + (grow(rest) if rest else 0)
        self.standing[place] = (held + change, carried + moved)
        return moved

    def book(
        self,
        debit: str | None,
        credit: str | None,
        amount: int,
        currency: str,
        *,
        block: Block | None = None,
        processor: str | None = None,
        how: str = "spot",
        functional: int = 0,
    ) -> None:
        """Books an entry between two monetary roles, or between a monetary and another role.

        ``how`` is ``spot`` (the other side is at the rate of the day), ``gain`` (of a block, at ``functional``),
        ``both`` (both sides are relieved), ``from_debit`` or ``from_credit`` (the amount only moves from that side).
        """
        if how == "spot":
            self.spot(amount, currency)  # a missing rate is an error
        name = block.name if block is not None else None

        def at_spot(part: int) -> int:
            return self.spot(part, currency)

        def taken_over(part: int) -> int:
            return half_up(Fraction(functional * abs(part), abs(amount))) * (1 if part > 0 else -1)

        sides = [(role, sign) for role, sign in ((debit, 1), (credit, -1)) if role is not None]
        if how == "from_credit":
            sides.reverse()
        grow = taken_over if how == "gain" else at_spot
        for role, sign in sides:
            moved = self._move(self.place(role, currency, name, processor), sign * amount, grow)
            if how.startswith("from_"):
                functional, grow = sign * moved, taken_over
