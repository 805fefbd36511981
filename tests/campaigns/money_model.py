"""A second, independent model of the money side: who owes what, what was received, paid back and charged back.

Written from the specification of the accounting alone (sections 1, 4, 6a, 6b, 7), in plain Python, and sharing nothing
with the product. It takes events as plain dicts, in the order of recording, and answers each with ``recorded`` or with
the code of a refusal (``refused`` where the specification names none). ``balances`` gives the books by role.

Owns: purchases with tax, usage and its reversal, payments, refunds, voids, memos, write-offs, disputes, transfers,
escheat, expiry, months that close, undoing the last event. Does not own: pools, repricing, overage, grants, exchange
rates (a second currency is modelled in its own amounts).

Where the specification does not say what happens the model raises ``Silent`` with the question; the generator leaves
such an event out. ``tests/campaigns/README.md`` lists these questions with the answers that the model takes.
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
    """The event is refused; ``args[0]`` is the code, or ``refused`` where the specification names none."""


class Silent(Exception):
    """The specification does not say; ``args[0]`` is the question."""


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
    disputed: bool = False


@dataclass
class Block:
    """A block, and its claim: what of the price and the tax that it stands for is open, and what was received.

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
    basis: int  # the part of the price, and below of the tax, that is its own and not transferred away
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
    conceded: int = 0
    bad_value: int = 0  # written off and not recovered: drawn value, and its tax
    bad_tax: int = 0
    relief: bool = True
    written_off_on: date | None = None
    swept: bool = False
    mixed: bool = False  # parts of several payments went back: which, nobody says
    disputed: int = 0
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
        """Value that is owed or paid for: unused, or recognised and not conceded."""
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
    ended: bool = False

    @property
    def amount(self) -> int:
        return self.balance + sum(amount for _, _, amount in self.parts)


@dataclass
class Step:
    """One event of the log: its answer, its entries, and what it added to the days of each block."""

    event: Event
    answer: str
    entries: list[Entry]
    days: dict[str, list[tuple[date, int, int]]]
    undone: bool = False


def rounded(amount: int, part: int, whole: int) -> int:
    """Half up: ``amount × part / whole`` of non-negative integers."""
    return (2 * amount * part + whole) // (2 * whole) if whole else 0


def minor(text: str | None) -> int:
    return round(float(text or 0) * 100)


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


class MoneyModel:
    """The books of a ledger whose currencies have two decimals. ``strict``: what would need rounding is Silent."""

    def __init__(self, *, strict: bool = True) -> None:
        self.strict = strict
        self.entries: list[Entry] = []
        self.blocks: dict[str, Block] = {}
        self.payments: dict[str, Payment] = {}
        self.disputes: dict[str, Dispute] = {}
        self.draws: dict[str, list[Draw]] = {}
        self.subjects: dict[str, str] = {}  # usage event -> customer
        self.documents: set[tuple[str, str]] = set()
        self.gone_documents: set[tuple[str, str]] = set()  # of events that were undone
        self.closed: date | None = None
        self.log: list[Step] = []

    # --- the front door -------------------------------------------------------------------------------------------

    def record(self, event: Event) -> str:
        """Answers ``recorded``, or the code of the refusal. Raises Silent; then nothing has changed."""
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
        """Balances by role and currency on the roles' normal sides, through the end of a day."""
        found: Counter[tuple[str, str]] = Counter()
        for role, _, _, currency, amount in self.lines(through):
            found[role, currency] += amount
        return Counter({key: amount for key, amount in found.items() if amount})

    def by_customer(self, through: date) -> Counter[tuple[str, str, str]]:
        """The same by customer, of the roles that name one."""
        found: Counter[tuple[str, str, str]] = Counter()
        for role, customer, _, currency, amount in self.lines(through):
            if customer is not None:
                found[role, customer, currency] += amount
        return Counter({key: amount for key, amount in found.items() if amount})

    def by_block(self, through: date) -> Counter[tuple[str, str]]:
        """Prepaid liability and revenue by block."""
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

    # --- small things ---------------------------------------------------------------------------------------------

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

    def _lowest(self, b: Block, day: date, credits: int, value: int) -> date:
        """The first day from which on every view of the block can spare these credits and this value."""
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
        """The block, then the others that came out of the same purchase by transfers."""
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
        """The blocks of the payer that an event about money names, by block or by invoice."""
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
        """Takes from what the block received, oldest payment first."""
        if len(+b.received) > 1 and 0 < amount < b.received.total() and payments is None:
            b.mixed = True
        for id in payments or list(b.received):
            part = min(amount, b.received[id])
            b.received[id] -= part
            amount -= part
            if to is not None:
                to[id] += part
        assert amount == 0, (b, amount)

    def _give_back(self, b: Block, day: date, debits: list[tuple[str, int, date]]) -> None:
        """Cancels a part of the claim: what is open first, of the purchase's other blocks too; the rest is owed back."""
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
        """If the block is frozen by a dispute; of a part, Silent."""
        if b.disputed and b.disputed < b.standing + b.tax_left:
            raise Silent("which credits a dispute of a part freezes")
        return b.disputed > 0

    def _split(self, b: Block, amount: int) -> tuple[int, int, int, int]:
        """A part of a claim: its tax pro rata, unused value with its credits, and used value."""
        tax = self._share(amount, b.tax, b.basis + b.tax)
        tax = min(b.tax_left, max(tax, amount - b.standing))
        unused = min(amount - tax, b.carrying)
        credits = self._share(b.left, unused, b.carrying) if unused else 0
        used = amount - tax - unused
        if used > b.drawn + b.lapsed - b.conceded:
            raise Silent("a loss beyond what is unused and used")
        return tax, credits, unused, used

    # --- purchases and usage --------------------------------------------------------------------------------------

    def _credits_purchased(self, event: Event, data: Event) -> None:
        if data["block_id"] in self.blocks:
            raise Refused("block_exists")
        day, price, tax = self._day(event), minor(data["price"]), minor(data.get("tax"))
        b = self.blocks[data["block_id"]] = Block(
            id=data["block_id"], family=data["block_id"], holder=event["subject"], payer=event["subject"],
            invoice=data.get("invoice_id", data["block_id"]), currency=data["currency"], credits=int(data["credits"]),
            price=price, starts=moment(data.get("starts_at", event["time"])),
            expires=moment(data["expires_at"]) if "expires_at" in data else None, escheat="escheat_class" in data,
            invoiced_on=day, basis=price, tax=tax, tax_left=tax, open=price + tax,
        )  # fmt: skip
        b.days.append((day, b.credits, b.price))
        self._post(day, "accounts_receivable", "prepaid_liability", price, b)
        self._post(day, "accounts_receivable", "tax_payable", tax, b)

    def _credits_consumed(self, event: Event, data: Event) -> None:
        at, wanted = moment(event["time"]), int(data["credits"])
        mine = [b for b in self.blocks.values() if b.holder == event["subject"]]
        if any(b.swept and b.expires and b.expires > at for b in mine):
            raise Silent("usage of before an expiry that is recorded")
        able = [b for b in mine if b.left and b.starts <= at and (b.expires is None or b.expires > at)]
        if "block_id" in data:
            able = [b for b in able if b.id == data["block_id"]]
        able = [b for b in able if not self._frozen(b)]
        far = datetime(9000, 1, 1, tzinfo=UTC)
        able.sort(key=lambda b: (b.expires or far, b.starts, b.id))
        if sum(b.left for b in able) < wanted:
            raise Refused("insufficient_credits")
        draws = []
        for b in able:
            k = min(wanted, b.left)
            if k:
                after = self._share(b.price, b.used + k, b.credits)
                value = b.carrying if k == b.left else min(b.carrying, max(0, after - b.drawn))
                day = self._take(b, self._day(event), k, value)
                b.used += k
                b.drawn += value
                self._post(day, "prepaid_liability", "usage_revenue", value, b)
                draws.append(Draw(b.id, k, value, day))
                wanted -= k
        self.draws[event["id"]] = draws
        self.subjects[event["id"]] = event["subject"]

    def _consumption_reversed(self, event: Event, data: Event) -> None:
        draws = self.draws.get(data["event_id"])
        if draws is None or self.subjects[data["event_id"]] != event["subject"]:
            raise Refused("refused")
        there = sum(d.credits - d.restored for d in draws)
        wanted = int(data.get("credits", there))
        if wanted > there or not wanted:
            raise Refused("refused")
        for d in reversed(draws):
            k = min(wanted, d.credits - d.restored)
            if not k:
                continue
            wanted -= k
            b = self.blocks[d.block]
            value = self._share(d.value, d.restored + k, d.credits) - d.restored_value
            if b.drawn + b.lapsed - value < b.conceded:
                raise Refused("conceded")
            if b.drawn - value < b.conceded:
                raise Silent("whether usage or what lapsed was conceded")
            d.restored += k
            d.restored_value += value
            b.used -= k
            b.drawn -= value
            day = max(self._day(event), d.day)
            b.days.append((day, k, value))
            self._post(day, "usage_revenue", "prepaid_liability", value, b)
            if b.expires and (b.swept or b.expires <= moment(event["time"])) and not self._frozen(b):
                self._expire(b, day)

    # --- endings --------------------------------------------------------------------------------------------------

    def _sweep(self, event: Event, data: Event) -> None:
        through = datetime.fromisoformat(data["through"]).replace(tzinfo=UTC) + timedelta(days=1)
        for b in list(self.blocks.values()):
            if b.left and b.expires and b.expires <= through and not self._frozen(b):
                self._expire(b, None)

    def _close(self, event: Event, data: Event) -> None:
        through = date.fromisoformat(data["through"])
        self._sweep(event, data)
        self.closed = through

    def _expire(self, b: Block, reversed_on: date | None) -> None:
        assert b.expires
        last = (b.expires - timedelta(microseconds=1)).date()
        day = max(d for d in (last, b.freed_on, reversed_on, b.invoiced_on) if d)
        b.swept = True
        if b.escheat:
            self._to_the_state(b, day)
            return
        credits, value = b.left, b.carrying
        day = self._take(b, day, credits, value)
        b.gone += credits
        b.gone_value += value
        b.lapsed += value
        self._post(day, "prepaid_liability", "breakage_revenue", value, b)

    def _to_the_state(self, b: Block, day: date) -> None:
        """The open part is cancelled with its tax; the received part of the value is owed to the state."""
        credits, value = b.left, b.carrying
        tax = min(b.tax_left, self._share(b.tax, value, b.basis))
        still_open = sum(o.open for o in self._siblings(b))
        cancelled = min(still_open, value + tax)
        value_open = self._share(value, cancelled, value + tax)
        day = self._take(b, day, credits, value)
        b.gone += credits
        b.gone_value += value
        b.tax_left -= cancelled - value_open
        self._give_back(b, day, [("prepaid_liability", value_open, day), ("tax_payable", cancelled - value_open, day)])
        self._move(b, None, value - value_open)
        b.unclaimed += value - value_open
        self._post(day, "prepaid_liability", "unclaimed_property", value - value_open, b)

    def _credits_escheated(self, event: Event, data: Event) -> None:
        b = self._held(event, data["block_id"])
        if not b.escheat:
            raise Silent("escheat of a block without an escheat class")
        if b.disputed:
            raise Silent("escheat of a disputed block")
        if not b.left:
            raise Refused("refused")
        self._to_the_state(b, self._day(event))

    def _escheat_reclaimed(self, event: Event, data: Event) -> None:
        b, amount = self._owing(event, data)[0], minor(data["amount"])
        if amount > b.unclaimed:
            raise Refused("refused")
        b.unclaimed -= amount
        b.owed["reclaimed"] += amount
        self._post(self._day(event), "unclaimed_property", "refunds_payable", amount, b)

    def _escheat_remitted(self, event: Event, data: Event) -> None:
        b, amount = self._owing(event, data)[0], minor(data["amount"])
        if amount > b.unclaimed:
            raise Refused("refused")
        b.unclaimed -= amount
        self._post(self._day(event), "unclaimed_property", "cash", amount, b)

    def _purchase_voided(self, event: Event, data: Event) -> None:
        self._cancel(event, data, None)

    def _credits_refunded(self, event: Event, data: Event) -> None:
        self._cancel(event, data, minor(data["amount"]) if "amount" in data else None)

    def _cancel(self, event: Event, data: Event, paid_back: int | None) -> None:
        b = self._held(event, data["block_id"])
        if b.disputed:
            self._frozen(b)
            raise Refused("block_disputed")
        credits = int(data.get("credits", b.left))
        if not credits or credits > b.left:
            raise Refused("refused")
        value = self._share(b.carrying, credits, b.left)
        given = value if paid_back is None else paid_back
        if given > value:
            raise Refused("refused")
        tax = min(b.tax_left, self._share(b.tax, given, b.basis))
        day = self._take(b, self._day(event), credits, value)
        b.gone += credits
        b.gone_value += value
        b.lapsed += value - given
        b.tax_left -= tax
        self._post(day, "prepaid_liability", "usage_revenue", value - given, b)
        self._give_back(b, day, [("prepaid_liability", given, day), ("tax_payable", tax, self._day(event))])

    # --- money that comes -----------------------------------------------------------------------------------------

    def _payment_received(self, event: Event, data: Event) -> None:
        amount, day, id = minor(data["amount"]), self._day(event), data.get("payment_id", event["id"])
        targets: list[Block] = []
        if "block_id" in data or "invoice_id" in data:
            targets = self._owing(event, data)
        self._document("payment", id)
        p = Payment(id, event["subject"], amount, data["currency"], data.get("processor"), day, unapplied=amount)
        self.payments[id] = p
        where = "processor_clearing" if p.processor else "cash"
        self._post(day, "processing_fees", where, minor(data.get("fee")), payer=p.payer, currency=p.currency)
        for b, part, on in self._settle(p, targets, amount, day):
            if on > day:
                self._post(day, where, "customer_balance", part, b)
                self._post(on, "customer_balance", "accounts_receivable", part, b)
            else:
                self._post(day, where, "accounts_receivable", part, b)
        self._post(day, where, "customer_balance", p.unapplied, payer=p.payer, currency=p.currency)

    def _payment_applied(self, event: Event, data: Event) -> None:
        p = self.payments.get(data["payment_id"])
        amount, day = minor(data["amount"]), self._day(event)
        if p is None or p.payer != event["subject"] or p.currency != data["currency"]:
            raise Refused("refused")
        if p.disputed:
            raise Silent("applying a disputed payment")
        targets = self._owing(event, data)
        if amount > p.unapplied:
            raise Refused("refused")
        done = 0
        for b, part, on in self._settle(p, targets, amount, day):
            self._post(max(on, p.day), "customer_balance", "accounts_receivable", part, b)
            done += part
        if done < amount:
            raise Refused("refused")

    def _settle(self, p: Payment, targets: list[Block], amount: int, day: date) -> Iterator[tuple[Block, int, date]]:
        """Pays what is open: first a write-off is undone, then the blocks of the purchase are paid in turn."""
        blocks = {o.id: o for b in targets for o in self._siblings(b)}
        for b in blocks.values():
            if b.payer == p.payer and amount:
                recovered = min(amount, b.bad_value + b.bad_tax)
                if recovered:
                    self._recover(b, recovered, day)
                part = min(amount, b.open)
                if part:
                    b.open -= part
                    b.received[p.id] += part
                    p.unapplied -= part
                    amount -= part
                    yield b, part, max(day, b.invoiced_on)

    def _recover(self, b: Block, amount: int, day: date) -> None:
        if b.open and self.strict:
            raise Silent("whether money after a write-off in part recovers it, or pays what is open, first")
        if b.written_off_on and day < b.written_off_on:
            raise Silent("money of before a write-off that is recorded after it")
        tax = self._share(b.bad_tax, amount, b.bad_value + b.bad_tax)
        b.bad_tax -= tax
        b.bad_value -= amount - tax
        b.conceded -= amount - tax
        b.tax_left += tax
        b.open += amount
        self._post(day, "accounts_receivable", "bad_debt", amount - tax, b)
        self._post(day, "accounts_receivable", "tax_payable" if b.relief else "bad_debt", tax, b)

    def _payout_settled(self, event: Event, data: Event) -> None:
        self._document("payout", data["payout_id"])
        self._post(
            self._day(event), "cash", "processor_clearing", minor(data["amount"]), currency=data["currency"], payer=""
        )

    # --- money that goes back -------------------------------------------------------------------------------------

    def _payment_refunded(self, event: Event, data: Event) -> None:
        amount, day, payer, currency = minor(data["amount"]), self._day(event), event["subject"], data["currency"]
        theirs = [p for p in self.payments.values() if p.payer == payer and p.currency == currency]
        mine = [b for b in self.blocks.values() if b.payer == payer and b.currency == currency]
        if "payment_id" in data:
            theirs = [p for p in theirs if p.id == data["payment_id"]]
            if not theirs or amount > theirs[0].amount - theirs[0].back:
                raise Refused("refused")
            mine = [b for b in mine if b.owed[theirs[0].id]]
            if any(b.mixed for b in mine):
                raise Silent("which of several payments is paid back")
        elif "block_id" in data:
            mine = self._siblings(self._owing(event, data)[0])
        self._document("refund", data.get("refund_id"))
        if any(p.disputed for p in theirs):
            raise Silent("paying back while a payment is disputed")
        sources = [(b, id) for b in mine for id in +b.owed if "payment_id" not in data or id == theirs[0].id]
        owed = sum(b.owed[id] for b, id in sources)
        balance = 0 if "block_id" in data and "payment_id" not in data else sum(p.unapplied for p in theirs)
        if amount > owed + balance:
            if "payment_id" not in data and amount <= owed + sum(p.unapplied for p in theirs):
                raise Silent("whether a refund that names a block may pay back unapplied payments")
            raise Refused("refused")
        if "payment_id" not in data and len(sources) > 1 and amount < owed:
            raise Silent("which of several refunds is paid first")
        if (
            "payment_id" not in data
            and amount > owed
            and sum(p.unapplied > 0 for p in theirs) > 1
            and amount < owed + balance
        ):
            raise Silent("which of several unapplied payments is paid back")
        default = theirs[0].processor if "payment_id" in data else None
        where = "processor_clearing" if data.get("processor", default) else "cash"
        left = amount
        for b, id in sources:
            part = min(left, b.owed[id])
            b.owed[id] -= part
            left -= part
            if id in self.payments:
                self.payments[id].back += part
            self._post(day, "refunds_payable", where, part, b)
        for p in theirs:
            part = min(left, p.unapplied)
            p.unapplied -= part
            p.back += part
            left -= part
            self._post(day, "customer_balance", "refunds_payable", part, payer=payer, currency=currency)
            self._post(day, "refunds_payable", where, part, payer=payer, currency=currency)

    def _credit_memo_issued(self, event: Event, data: Event) -> None:
        if "block_id" not in data and "invoice_id" not in data:
            raise Refused("refused")
        blocks, amount, tax = self._owing(event, data), minor(data["amount"]), minor(data.get("tax"))
        b, day = blocks[0], self._day(event)
        if len(blocks) > 1:
            raise Silent("a memo on an invoice of several blocks")
        if b.disputed:
            raise Silent("a memo on a disputed block")
        if b.lapsed and b.conceded:
            raise Silent("whether usage or what lapsed was conceded")
        if amount > b.drawn - b.conceded:
            if amount <= sum(o.drawn - o.conceded for o in self._siblings(b)):
                raise Silent("a memo for what another block of the purchase consumed")
            raise Refused("refused")
        if tax > self._share(b.tax, amount, b.basis) or tax > b.tax_left:
            raise Refused("refused")
        b.conceded += amount
        b.tax_left -= tax
        self._give_back(b, day, [("contra_revenue", amount, day), ("tax_payable", tax, day)])

    def _receivable_written_off(self, event: Event, data: Event) -> None:
        blocks = self._owing(event, data)
        b, day = blocks[0], self._day(event)
        if len(blocks) > 1:
            raise Silent("a write-off of an invoice of several blocks")
        if b.disputed:
            raise Refused("block_disputed")
        amount = minor(data["amount"]) if "amount" in data else b.open
        if not amount or amount > b.open:
            if amount <= sum(o.open for o in self._siblings(b)) and amount:
                raise Silent("a write-off of what another block of the purchase owes")
            raise Refused("refused")
        tax, credits, unused, used = self._split(b, amount)
        of_used = self._share(b.tax, used, b.basis)
        relief = data.get("tax_relief", True)
        if b.bad_value + b.bad_tax and b.relief != relief:
            raise Silent("write-offs of one block with and without relief")
        on = self._take(b, day, credits, unused) if unused else day
        b.gone += credits
        b.gone_value += unused
        b.tax_left -= tax
        b.conceded += used
        b.open -= amount
        b.bad_value += used
        b.bad_tax += min(tax, of_used)
        b.relief, b.written_off_on = relief, day
        self._post(on, "prepaid_liability", "accounts_receivable", unused, b)
        self._post(day, "bad_debt", "accounts_receivable", used, b)
        self._post(day, "tax_payable" if relief else "bad_debt", "accounts_receivable", tax, b)

    # --- disputes and transfers -----------------------------------------------------------------------------------

    def _dispute_opened(self, event: Event, data: Event) -> None:
        day, payment = self._day(event), data.get("payment_id")
        balance, received = 0, 0
        if payment is not None:
            p = self.payments.get(payment)
            if p is None or p.payer != event["subject"] or data.get("currency", p.currency) != p.currency:
                raise Refused("refused")
            if p.processor is None:
                raise Silent("a dispute of a payment that came through no processor")
            if p.disputed:
                raise Silent("two disputes of one payment")
            parts = [(b, payment, b.received[payment]) for b in self.blocks.values() if b.received[payment]]
            balance, received, currency = p.unapplied, p.amount - p.back, p.currency
            owed = sum(b.owed[payment] + b.unclaimed for b in self.blocks.values() if payment in b.owed | b.received)
        else:
            b = self._owing(event, data)[0]
            parts = [(b, id, n) for id, n in (+b.received).items() if self.payments[id].processor]
            owed = b.owed.total() + b.unclaimed
            received, currency = sum(n for _, _, n in parts) + owed, b.currency
        self._document("dispute", data["dispute_id"])
        whole = balance + sum(n for _, _, n in parts)
        amount = minor(data["amount"]) if "amount" in data else whole
        if amount > received or not received:
            raise Refused("refused")
        if amount > whole or not amount or (owed and amount == whole):
            raise Silent("a dispute of what is owed back, but not paid back yet")
        if any(b.disputed or b.mixed for b, _, _ in parts):
            raise Silent("two disputes of one block, or of a block that was paid back in part")
        if amount < whole and len(parts) + (balance > 0) > 1:
            raise Silent("how a dispute of a part divides over blocks and the unapplied part")
        if amount < whole:
            parts, balance = [(b, id, amount) for b, id, _ in parts], balance and amount
        for b, id, n in parts:
            if b.expires and n < b.standing + b.tax_left:
                raise Silent("which credits a dispute of a part freezes")
            b.disputed += n
            self.payments[id].disputed = True
        if payment is not None:
            self.payments[payment].disputed = True
        ids = [(b.id, id, n) for b, id, n in parts]
        self.disputes[data["dispute_id"]] = Dispute(
            data["dispute_id"], payment, ids, balance, currency, event["subject"]
        )
        of = {"payer": event["subject"], "currency": currency}
        self._post(day, "disputes_receivable", "processor_clearing", amount, **of)
        self._post(day, "dispute_fees", "processor_clearing", minor(data.get("fee")), **of)

    def _end(self, event: Event, data: Event) -> Dispute:
        d = self.disputes.get(data["dispute_id"])
        if d is None or d.ended or d.payer != event["subject"]:
            raise Refused("refused")
        d.ended = True
        for name, id, n in d.parts:
            self.blocks[name].disputed -= n
            self.blocks[name].freed_on = self._day(event)
            self.payments[id].disputed = False
        if d.payment:
            self.payments[d.payment].disputed = False
        return d

    def _dispute_won(self, event: Event, data: Event) -> None:
        d = self._end(event, data)
        self._post(
            self._day(event), "processor_clearing", "disputes_receivable", d.amount, payer=d.payer, currency=d.currency
        )

    def _dispute_lost(self, event: Event, data: Event) -> None:
        d, day = self._end(event, data), self._day(event)
        lost = minor(data["amount"]) if "amount" in data else d.amount
        if lost > d.amount or not lost:
            raise Refused("refused")
        parts, balance = d.parts, d.balance
        if lost < d.amount:
            if len(parts) + (balance > 0) > 1:
                raise Silent("how a loss of a part divides over blocks and the unapplied part")
            parts, balance = [(name, id, lost) for name, id, _ in parts], balance and lost
        of = {"payer": d.payer, "currency": d.currency}
        self._post(day, "processor_clearing", "disputes_receivable", d.amount - lost, **of)
        for name, id, n in parts:
            b = self.blocks[name]
            tax, credits, unused, used = self._split(b, n)
            on = self._take(b, day, credits, unused) if unused else day
            b.gone += credits
            b.gone_value += unused
            b.tax_left -= tax
            b.conceded += used
            b.received[id] -= n
            self.payments[id].back += n
            self._post(on, "prepaid_liability", "disputes_receivable", unused, b)
            self._post(day, "contra_revenue", "disputes_receivable", used, b)
            self._post(day, "tax_payable", "disputes_receivable", tax, b)
        if balance:
            assert d.payment
            self.payments[d.payment].unapplied -= balance
            self.payments[d.payment].back += balance
            self._post(day, "customer_balance", "disputes_receivable", balance, **of)

    def _credits_transferred(self, event: Event, data: Event) -> None:
        b, day = self._held(event, data["block_id"]), self._day(event)
        if data["new_block_id"] in self.blocks:
            raise Refused("block_exists")
        credits = int(data.get("credits", b.left))
        if not credits or credits > b.left:
            raise Refused("refused")
        if b.disputed:
            raise Silent("transfer of a disputed block")
        value = self._share(b.carrying, credits, b.left)
        tax = min(b.tax_left, self._share(b.tax, value, b.basis))
        claim, part = b.standing + b.tax_left, value + tax
        received = Counter({id: self._share(n, part, claim) for id, n in b.received.items()})
        still_open = part - received.total()
        if still_open != self._share(b.open, part, claim):
            raise Silent("a share that needs rounding")
        day = self._take(b, day, credits, value)
        b.gone += credits
        b.gone_value += value
        b.open -= still_open
        b.received -= received
        basis_tax = self._share(b.tax, value, b.basis)
        b.basis -= value
        b.tax -= basis_tax
        b.tax_left -= tax
        new = self.blocks[data["new_block_id"]] = Block(
            id=data["new_block_id"], family=b.family, holder=data["to_customer"], payer=b.payer, invoice=b.invoice,
            currency=b.currency, credits=credits, price=value, starts=b.starts, expires=b.expires, escheat=b.escheat,
            invoiced_on=b.invoiced_on, basis=value, tax=basis_tax, tax_left=tax, open=still_open, received=received,
            mixed=b.mixed,
        )  # fmt: skip
        new.days.append((day, credits, value))
        self._post(day, "prepaid_liability", "transfer_clearing", value, b)
        self._post(day, "transfer_clearing", "prepaid_liability", value, new)

    # --- undoing --------------------------------------------------------------------------------------------------

    def _event_reversed(self, event: Event, data: Event) -> None:
        """Takes back an event: the state is as if it had not been recorded, and its entries are mirrored.

        What was recorded since must be the same without it; where a later fact could not have been, ``changed_since``.
        """
        undone = next((step for step in self.log if step.event["id"] == data["event_id"]), None)
        if undone is None or undone.answer != "recorded" or undone.event.get("subject") != event.get("subject"):
            raise Refused("refused")
        if undone.event["type"] in ("credits.consumed", "consumption.reversed", "event.reversed") or undone.undone:
            raise Silent("undoing usage, or twice")
        books = MoneyModel(strict=self.strict)
        for step in self.log:
            if step is undone or step.answer != "recorded":
                continue
            if books.record(step.event) != "recorded":
                raise Refused("changed_since")
            if books.log[-1].entries != step.entries:
                raise Silent("undoing what later events depend on, though they could have been without it")
        day, entries, log, days = self._day(event), self.entries, self.log, {b.id: b.days for b in self.blocks.values()}
        closed, gone = self.closed, self.gone_documents | (self.documents - books.documents)
        self.__dict__ = books.__dict__
        self.entries, self.log, self.closed, self.gone_documents = entries, log, closed, gone
        undone.undone = True
        for b in self.blocks.values():
            taken = undone.days.get(b.id, [])
            b.days = days[b.id] + [(self._open(max(day, d)), -credits, -value) for d, credits, value in taken]
        for e in reversed(undone.entries):
            mirror = copy.copy(e)
            mirror.debit, mirror.credit = e.credit, e.debit
            mirror.debit_customer, mirror.credit_customer = e.credit_customer, e.debit_customer
            mirror.day = self._open(max(day, e.day))
            self.entries.append(mirror)
