"""The state of the money model: blocks with their claims, payments, disputes, entries; and balances by role.

A claim has the parts of a block's price and tax that are open, received, and owed back. Owns: recording an event
completely or not at all, dates, shares, cancelling claims. Does not own: the effect of each event (money_credits,
money_model).
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any

Event = dict[str, Any]

DEBIT_SIDE = frozenset({
    "cash", "processor_clearing", "disputes_receivable", "accounts_receivable", "contra_revenue", "processing_fees",
    "dispute_fees", "bad_debt",
})  # fmt: skip
OF_THE_HOLDER = frozenset({"prepaid_liability", "usage_revenue", "breakage_revenue", "transfer_clearing"})
OF_NOBODY = frozenset({"cash", "processor_clearing", "processing_fees"})


class Refused(Exception):
    """The event is refused. ``args[0]`` is the code, or ``refused`` if the specification names no code."""


class Silent(Exception):
    """The specification does not decide the case. ``args[0]`` is the question."""


@dataclass
class Entry:
    """One debit and one credit of the same amount, with the customer that each side names."""

    day: date
    debit: str
    credit: str
    amount: int
    currency: str
    block: str | None
    debit_customer: str | None
    credit_customer: str | None


@dataclass
class Payment:
    id: str
    payer: str
    amount: int
    currency: str
    processor: str | None
    day: date
    unapplied: int = 0
    back: int = 0  # paid back or charged back
    charged: int = 0  # in disputes, open or lost
    disputed: bool = False


@dataclass
class Block:
    """A block, and its claim: the open and the received parts of its price and tax.

    Always open + received = carrying + recognised − conceded + tax left.
    """

    id: str
    family: str
    holder: str
    payer: str
    invoice: str
    currency: str
    credits: int
    price: int
    starts: datetime
    expires: datetime | None
    escheat: bool
    invoiced_on: date
    basis: int  # its own part of the price, and below of the tax, without transferred parts
    tax: int
    tax_left: int = 0
    open: int = 0
    received: Counter[str] = field(default_factory=Counter)  # by payment
    owed: Counter[str] = field(default_factory=Counter)  # refunds payable, by payment
    unclaimed: int = 0
    used: int = 0
    drawn: int = 0
    gone: int = 0
    gone_value: int = 0
    lapsed: int = 0  # broken or kept at a refund: revenue without usage
    cancelled: int = 0  # value voided or refunded, and its tax, pro rata to the whole so that rounding does not add up
    cancelled_tax: int = 0
    conceded: int = 0
    bad_value: int = 0  # written off: drawn value, unused value, tax; and the value and tax collected later
    bad_unused: int = 0
    bad_tax: int = 0
    back_value: int = 0
    back_tax: int = 0
    relief: bool = True
    written_off_on: date | None = None
    swept: bool = False
    broken: list[tuple[date, int, int]] = field(default_factory=list)  # each breakage: day, remaining credits and value
    mixed: bool = False  # parts of several payments went back, and it is not stated which
    disputed: int = 0  # disputed amount that is not owed back: it freezes credits
    contested: bool = False  # in an open dispute
    came: Counter[str] = field(default_factory=Counter)  # all money from payments, less disputed money
    freed_on: date | None = None
    days: list[tuple[date, int, int]] = field(default_factory=list)  # credits and value, by accounting date

    @property
    def left(self) -> int:
        return self.credits - self.used - self.gone

    @property
    def carrying(self) -> int:
        return self.price - self.drawn - self.gone_value

    @property
    def standing(self) -> int:
        """Value for which money is owed or was paid: unused value, and recognised value that was not conceded."""
        return self.carrying + self.drawn + self.lapsed - self.conceded


@dataclass
class Draw:
    block: str
    credits: int
    value: int
    day: date
    restored: int = 0
    restored_value: int = 0


@dataclass
class Dispute:
    id: str
    payment: str | None
    parts: list[tuple[str, str, int]]  # block, payment, amount
    balance: int  # of the payment's unapplied part
    currency: str
    payer: str
    twice: list[tuple[str, str, int]]  # money paid back before the dispute: block, payment, amount
    frozen: dict[str, int]
    ended: bool = False

    @property
    def amount(self) -> int:
        return self.balance + sum(amount for _, _, amount in (*self.parts, *self.twice))


@dataclass
class Step:
    """One event of the log: its answer, its entries, and its changes of the days of each block."""

    event: Event
    answer: str
    entries: list[Entry]
    days: dict[str, list[tuple[date, int, int]]]
    undone: bool = False


def rounded(amount: int, part: int, whole: int) -> int:
    """Returns ``amount × part / whole`` of non-negative integers, rounded half up."""
    return (2 * amount * part + whole) // (2 * whole) if whole else 0


def minor(text: str | None) -> int:
    return round(float(text or 0) * 100)


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


class Books:
    """The state, the entries, and the steps that all events share. ``strict``: an amount that needs rounding raises
    Silent.
    """

    def __init__(self, *, strict: bool = True) -> None:
        self.strict = strict
        self.entries: list[Entry] = []
        self.blocks: dict[str, Block] = {}
        self.payments: dict[str, Payment] = {}
        self.disputes: dict[str, Dispute] = {}
        self.draws: dict[str, list[Draw]] = {}
        self.subjects: dict[str, str] = {}  # usage event -> customer
        self.documents: set[tuple[str, str]] = set()
        self.gone_documents: set[tuple[str, str]] = set()  # documents of undone events
        self.gone_blocks: set[str] = set()
        self.closed: date | None = None
        self.log: list[Step] = []

    # --- the front door -------------------------------------------------------------------------------------------

    def record(self, event: Event) -> str:
        """Records an event. Returns ``recorded`` or the code of the refusal. If it raises Silent, nothing changes."""
        log = self.__dict__.pop("log")
        before = copy.deepcopy(self.__dict__)
        self.log = log
        try:
            getattr(self, "_" + event["type"].replace(".", "_"))(event, event.get("data", {}))
            self._prove()
        except (Refused, Silent, AssertionError) as refused:
            self.__dict__ = before | {"log": log}
            if not isinstance(refused, Refused):
                raise
            self.log.append(Step(event, str(refused.args[0]), [], {}))
            return str(refused.args[0])
        known = {name: len(b.days) for name, b in before["blocks"].items()}
        days = {name: b.days[known.get(name, 0) :] for name, b in self.blocks.items()}
        self.log.append(Step(event, "recorded", self.entries[len(before["entries"]) :], days))
        return "recorded"

    def balances(self, through: date) -> Counter[tuple[str, str]]:
        """Returns balances by role and currency, on the normal sides of the roles, through the end of a day."""
        found: Counter[tuple[str, str]] = Counter()
        for role, _, _, currency, amount in self.lines(through):
            found[role, currency] += amount
        return Counter({key: amount for key, amount in found.items() if amount})

    def by_customer(self, through: date) -> Counter[tuple[str, str, str]]:
        """Returns balances by role, currency and customer, for the roles that name a customer."""
        found: Counter[tuple[str, str, str]] = Counter()
        for role, customer, _, currency, amount in self.lines(through):
            if customer is not None:
                found[role, customer, currency] += amount
        return Counter({key: amount for key, amount in found.items() if amount})

    def by_block(self, through: date) -> Counter[tuple[str, str]]:
        """Returns prepaid liability and revenue by block."""
        found: Counter[tuple[str, str]] = Counter()
        for role, _, block, _, amount in self.lines(through):
            if role in ("prepaid_liability", "usage_revenue", "breakage_revenue"):
                found[role, block or ""] += amount
        return Counter({key: amount for key, amount in found.items() if amount})

    def lines(self, through: date) -> Iterator[tuple[str, str | None, str | None, str, int]]:
        for entry in self.entries:
            if entry.day <= through:
                for role, customer, sign in (
                    (entry.debit, entry.debit_customer, 1),
                    (entry.credit, entry.credit_customer, -1),
                ):
                    yield (
                        role,
                        customer,
                        entry.block,
                        entry.currency,
                        entry.amount * (sign if role in DEBIT_SIDE else -sign),
                    )

    def _prove(self) -> None:
        for b in self.blocks.values():
            claim = b.open + b.received.total()
            assert claim == b.standing + b.tax_left, (b, claim)
            assert min(b.left, b.carrying, b.open, b.tax_left, b.unclaimed, b.conceded, b.standing) >= 0, b
            assert all(amount >= 0 for amount in (*b.received.values(), *b.owed.values())), b
            assert b.left or not b.carrying, b
        for p in self.payments.values():
            assert 0 <= p.unapplied <= p.amount - p.back, p

    # --- shared steps ---------------------------------------------------------------------------------------------

    def _share(self, amount: int, part: int, whole: int) -> int:
        if self.strict and whole and amount * part % whole:
            raise Silent("a share that needs rounding")
        return rounded(amount, part, whole)

    def _day(self, event: Event) -> date:
        return self._open(moment(event["time"]).astimezone(UTC).date())

    def _open(self, day: date) -> date:
        return day if self.closed is None else max(day, self.closed + timedelta(days=1))

    def _post(
        self,
        day: date,
        debit: str,
        credit: str,
        amount: int,
        b: Block | None = None,
        payer: str = "",
        currency: str = "",
    ) -> None:
        if not amount:
            return

        def customer(role: str) -> str | None:
            if role in OF_NOBODY:
                return None
            if b is None:
                return payer
            return b.holder if role in OF_THE_HOLDER else b.payer

        self.entries.append(
            Entry(
                self._open(day), debit, credit, amount, b.currency if b else currency, b.id if b else None,
                customer(debit), customer(credit),
            )
        )  # fmt: skip

    def _spared(self, role: str, payer: str, currency: str, day: date, amount: int) -> date:
        """Returns the first day from which the amount owed to a customer is at least this amount in every view."""
        moved = [
            (e.day, e.amount * ((e.credit == role) - (e.debit == role)))
            for e in self.entries
            if e.currency == currency
            and ((e.credit, e.credit_customer) == (role, payer) or (e.debit, e.debit_customer) == (role, payer))
        ]
        found = self._open(day)
        for d in sorted({d for d, _ in moved if d > found}, reverse=True):
            if sum(n for x, n in moved if x < d) < amount:
                return d
        return found

    def _lowest(self, b: Block, day: date, credits: int, value: int) -> date:
        """Returns the first day from which the block has at least these credits and this value in every view."""
        candidates = sorted({day, *(d for d, _, _ in b.days if d > day)})
        totals: list[tuple[date, int, int]] = []
        for d in candidates:
            totals.append((d, sum(c for x, c, _ in b.days if x <= d), sum(v for x, _, v in b.days if x <= d)))
        found = candidates[-1]
        for d, c, v in reversed(totals):
            if c < credits or v < value:
                break
            found = d
        return found

    def _take(self, b: Block, day: date, credits: int, value: int) -> date:
        day = self._lowest(b, self._open(day), credits, value)
        b.days.append((day, -credits, -value))
        return day

    def _siblings(self, b: Block) -> list[Block]:
        """Returns the block, then the other blocks of the same purchase, which were made by transfers."""
        return [b, *(o for o in self.blocks.values() if o.family == b.family and o.id != b.id)]

    def _block(self, name: str | None) -> Block:
        if name not in self.blocks:
            raise Refused("unknown_block")
        return self.blocks[name]

    def _held(self, event: Event, name: str) -> Block:
        b = self._block(name)
        if b.holder != event["subject"]:
            raise Refused("refused")
        return b

    def _owing(self, event: Event, data: Event) -> list[Block]:
        """Returns the payer's blocks that an event about money names, by block or by invoice."""
        if "block_id" in data:
            found = [self._block(data["block_id"])]
        else:
            found = [b for b in self.blocks.values() if b.invoice == data["invoice_id"]]
            if not found:
                raise Refused("unknown_invoice")
        if any(b.payer != event["subject"] for b in found):
            if any(b.holder == event["subject"] for b in found):
                raise Silent("the holder speaks about money that the payer owes")
            raise Refused("refused")
        if any(b.currency != data.get("currency", b.currency) for b in found):
            raise Refused("refused")
        return found

    def _document(self, kind: str, id: str | None) -> None:
        if id is not None:
            if (kind, id) in self.gone_documents:
                raise Silent("a document id of an event that was undone comes again")
            if (kind, id) in self.documents:
                raise Refused("document_exists")
            self.documents.add((kind, id))

    def _move(self, b: Block, to: Counter[str] | None, amount: int, payments: list[str] | None = None) -> None:
        """Takes an amount from the received part of the block, oldest payment first."""
        if len(+b.received) > 1 and 0 < amount < b.received.total() and payments is None:
            b.mixed = True
        for id in payments or list(b.received):
            part = min(amount, b.received[id])
            b.received[id] -= part
            amount -= part
            if to is not None:
                to[id] += part
        assert amount == 0, (b, amount)

    def _give_back(self, b: Block, debits: list[tuple[str, int, date]]) -> None:
        """Cancels a part of the claim: first the open part, also of the purchase's other blocks; the rest is owed."""
        pending = [list(debit) for debit in debits]

        def against(role: str, amount: int) -> None:
            for debit in pending:
                part = min(amount, debit[1])
                debit[1] -= part
                amount -= part
                self._post(debit[2], debit[0], role, part, b)

        total = sum(amount for _, amount, _ in debits)
        for other in self._siblings(b):
            part = min(total, other.open)
            other.open -= part
            total -= part
            if other is not b and part:
                self._move(b, other.received, part)
                other.mixed |= b.mixed
            against("accounts_receivable", part)
        self._move(b, b.owed, total)
        against("refunds_payable", total)

    def _frozen(self, b: Block) -> bool:
        """True if a dispute freezes the block. Raises Silent if it freezes a part of it."""
        if b.disputed and b.disputed < b.standing + b.tax_left:
            raise Silent("which credits a dispute of a part freezes")
        return b.disputed > 0

    def _split(self, b: Block, amount: int) -> tuple[int, int, int, int]:
        """Divides a part of a claim: its tax pro rata, unused value with its credits, and used value."""
        tax = rounded(amount, b.tax, b.basis + b.tax)
        bounded = min(b.tax_left, max(tax, amount - b.standing))
        tax = self._share(amount, b.tax, b.basis + b.tax) if bounded == tax else bounded
        unused = min(amount - tax, b.carrying)
        if unused and b.left * unused % b.carrying:
            raise Silent("how credits that are cancelled in proportion to value are rounded")
        credits = b.left * unused // b.carrying if unused else 0
        used = amount - tax - unused
        if used > b.drawn + b.lapsed - b.conceded:
            raise Silent("a loss beyond what is unused and used")
        return tax, credits, unused, used
