"""Random histories of events about money, in the order of recording, for ``tests.campaigns.money``.

The model follows a history while it is made. So most amounts are allowed by the state of the books, and a few must be
refused. Events that the specification does not decide (``Silent``) are left out.
"""

from __future__ import annotations

import random
from datetime import UTC, date, datetime, timedelta
from typing import Any

from tests.campaigns.money_claims import Block, Event, Payment, Silent, minor, moment
from tests.campaigns.money_model import MoneyModel

RATES = (0, 0, 10, 20)
UNITS = (100, 100, 200, 50)

WEIGHTS = {
    "credits.purchased": 10, "credits.consumed": 16, "consumption.reversed": 6, "payment.received": 14,
    "payment.applied": 5, "payment.refunded": 8, "purchase.voided": 5, "credits.refunded": 5,
    "credit_memo.issued": 5, "receivable.written_off": 5, "dispute.opened": 6, "dispute.won": 3, "dispute.lost": 4,
    "credits.transferred": 6, "credits.escheated": 2, "escheat.reclaimed": 3, "escheat.remitted": 3,
    "payout.settled": 3, "event.reversed": 2, "close": 2, "again": 2,
}  # fmt: skip


def money(minor: int) -> str:
    return f"{minor // 100}.{minor % 100:02d}"


class Histories:
    """Makes one history at a time.

    ``in_order``: nothing is recorded late. ``paid``: every purchase is paid at once. ``odd``: shares need rounding.
    """

    def __init__(
        self,
        dice: random.Random,
        *,
        types: frozenset[str] | None = None,
        in_order: bool = False,
        paid: bool = False,
        odd: bool = False,
    ) -> None:
        self.dice = dice
        self.odd = odd
        self.all_paid = paid
        self.in_order = in_order
        self.types = types

    def history(self) -> list[Event]:
        dice = self.dice
        self.model = MoneyModel(strict=not self.odd)
        self.now = datetime(2026, 1, 2, 8, tzinfo=UTC)
        self.events: list[Event] = []
        self.count = 0
        self.customers = ("ann", "bob", "cy")[: dice.choice((1, 2, 2, 3))]
        self.currency = {name: dice.choice(("USD", "USD", "USD", "EUR")) for name in self.customers}
        self.expiring = dice.random() < 0.5
        self.paid = self.all_paid or dice.random() < 0.25
        wanted = dice.choice((6, 10, 15, 25, 40))
        for _ in range(wanted * 6):
            if len(self.events) >= wanted or not self._one():
                break
        return self.events

    def _one(self) -> bool:
        """Adds one event, or none. Returns False if the history cannot continue."""
        dice = self.dice
        self.now += timedelta(hours=dice.choice((1, 3, 9, 30, 100, 250)))
        due = [b for b in self.model.blocks.values() if b.left and b.expires and b.expires <= self.now]
        if due and not all(b.disputed for b in due):
            sweep = self._event("sweep", None, through=self.now.date().isoformat())
            if not self._add(sweep):
                return self.now < datetime(2026, 12, 1, tzinfo=UTC)
        types = [type for type in WEIGHTS if self.types is None or type in self.types]
        [type] = dice.choices(types, [WEIGHTS[type] for type in types])
        if not self.model.blocks and dice.random() < 0.9:
            type = "credits.purchased"
        made = getattr(self, "_" + type.replace(".", "_"))()
        if made is not None and self._add(made) and self.paid and type == "credits.purchased":
            self._add(self._paid(made))
        return self.now < datetime(2027, 2, 1, tzinfo=UTC)

    def _add(self, event: Event) -> bool:
        try:
            self.model.record(event)
        except Silent:
            return False
        self.events.append(event)
        return True

    def _event(self, type: str, subject: str | None, *, lag: bool = False, **data: Any) -> Event:
        self.count += 1
        time = self.now
        if lag and self.dice.random() < 0.12 and not self.in_order:
            time = max(datetime(2026, 1, 1, tzinfo=UTC), time - timedelta(hours=self.dice.choice((5, 40, 300, 900))))
        event: Event = {
            "specversion": "1.0",
            "id": f"e{self.count}",
            "source": "billing",
            "type": type,
            "time": time.isoformat().replace("+00:00", "Z"),
            "data": {name: value for name, value in data.items() if value is not None},
        }
        return event | ({"subject": subject} if subject else {})

    # --- choices --------------------------------------------------------------------------------------------------

    def _some(self, found: list[Any]) -> Any:
        return self.dice.choice(found) if found else None

    def _block(self, wish: Any) -> Block | None:
        """Returns a block that satisfies ``wish``; sometimes any block."""
        blocks = list(self.model.blocks.values())
        wished = [b for b in blocks if wish(b)]
        if self.dice.random() < 0.1:
            return self.dice.choice(blocks) if blocks else None
        return self.dice.choice(wished) if wished else None

    def _part(self, b: Block, most: int) -> int:
        """Returns a part of an amount that divides into value and tax without rounding; sometimes another amount."""
        each = (b.basis + b.tax) * 1 // max(1, b.credits) or 1
        n = max(1, most // each)
        roll = self.dice.random()
        if roll < 0.4:
            return most
        if roll < 0.9:
            return min(most, each * self.dice.randint(1, n)) or each
        return most + self.dice.choice((1, each, each * 10))

    # --- events ---------------------------------------------------------------------------------------------------

    def _credits_purchased(self) -> Event:
        dice = self.dice
        customer = dice.choice(self.customers)
        credits, unit, rate = dice.choice((10, 20, 50, 100)), dice.choice(UNITS), dice.choice(RATES)
        price = credits * unit
        if self.odd:
            credits, price = dice.choice((3, 7, 30, 90, 1000)), dice.choice((1000, 9999, 10, 12345))
        name = f"B{len(self.model.blocks) + len(self.model.gone_blocks) + 1}"
        mine = [b.invoice for b in self.model.blocks.values() if b.payer == customer]
        invoice = mine[-1] if mine and dice.random() < 0.15 else f"I-{name}"
        expires = None
        if self.expiring and dice.random() < 0.7:
            day = self.now.date() + timedelta(days=dice.choice((10, 30, 45, 90)))
            expires = f"{day}T{dice.choice(('00:00:00', '12:30:00'))}Z"
        return self._event(
            "credits.purchased", customer, lag=True, block_id=name, credits=str(credits), price=money(price),
            currency=self.currency[customer], tax=money(price * rate // 100) if rate else None, invoice_id=invoice,
            expires_at=expires, escheat_class="DE-5" if expires and dice.random() < 0.4 else None,
        )  # fmt: skip

    def _credits_consumed(self) -> Event | None:
        if self.dice.random() < 0.15 and (late := self._late_usage()) is not None:
            return late
        b = self._block(lambda b: b.left)
        if b is None:
            return None
        there = sum(o.left for o in self.model.blocks.values() if o.holder == b.holder)
        credits = self.dice.choice((b.left, max(1, b.left // 2), max(1, b.left * 3 // 5), there, there + 1, 10, 5)) or 1
        named = b.id if self.dice.random() < 0.2 else None
        return self._event("credits.consumed", b.holder, lag=True, credits=str(credits), block_id=named)

    def _late_usage(self) -> Event | None:
        """Returns usage before the expiry of a block whose expiry is recorded."""
        b = self._some([b for b in self.model.blocks.values() if b.broken and not b.escheat])
        if b is None or self.in_order:
            return None
        credits = self.dice.choice((1, max(1, b.broken[0][1] // 2), b.broken[0][1]))
        event = self._event("credits.consumed", b.holder, credits=str(credits))
        time = b.expires - timedelta(hours=self.dice.choice((1, 30, 100)))
        return event | {"time": time.isoformat().replace("+00:00", "Z")}

    def _consumption_reversed(self) -> Event | None:
        ids = [id for id, draws in self.model.draws.items() if any(d.credits > d.restored for d in draws)]
        if not ids:
            return None
        id = self.dice.choice(ids)
        there = sum(d.credits - d.restored for d in self.model.draws[id])
        credits = self.dice.choice((None, None, str(max(1, there // 2)), str(there)))
        return self._event(
            "consumption.reversed", self.model.subjects[id], event_id=id, credits=credits, reason="wrong meter"
        )

    def _to(self, b: Block) -> dict[str, str]:
        return {"block_id": b.id} if self.dice.random() < 0.7 else {"invoice_id": b.invoice}

    def _payment_received(self) -> Event | None:
        b = self._block(lambda b: b.open)
        if b is None:
            return None
        processor = self.dice.choice(("stripe", "stripe", None))
        amount = self._part(b, b.open or 1000) if self.dice.random() < 0.9 else (b.open + 4000)
        fee = money(self.dice.choice((30, 100))) if processor and amount > 500 and self.dice.random() < 0.3 else None
        to = self._to(b) if self.dice.random() < 0.9 else {}
        return self._event(
            "payment.received", b.payer, lag=True, amount=money(amount), currency=b.currency, processor=processor,
            fee=fee, payment_id=f"p{self.count + 1}", **to,
        )  # fmt: skip

    def _paid(self, bought: Event) -> Event:
        """Returns a payment of a purchase, at once."""
        data = bought["data"]
        return self._event(
            "payment.received", bought["subject"], amount=money(minor(data["price"]) + minor(data.get("tax"))),
            currency=data["currency"], processor=self.dice.choice(("stripe", "stripe", None)),
            payment_id=f"p{self.count + 1}", block_id=data["block_id"],
        )  # fmt: skip

    def _unapplied(self) -> Payment | None:
        ps = [p for p in self.model.payments.values() if p.unapplied]
        return self._some(ps)

    def _payment_applied(self) -> Event | None:
        p = self._unapplied()
        if p is None:
            return None
        b = self._block(lambda b: b.open and b.payer == p.payer)
        if b is None:
            return None
        amount = min(p.unapplied, self._part(b, b.open or 1))
        amount += self.dice.choice((0, 0, 0, 0, 0, 1))
        return self._event(
            "payment.applied", p.payer, payment_id=p.id, amount=money(amount), currency=p.currency, **self._to(b)
        )

    def _payment_refunded(self) -> Event | None:
        dice, refund = self.dice, f"r{self.count + 1}" if self.dice.random() < 0.3 else None
        b = self._block(lambda b: b.owed.total())
        if b is not None and b.owed.total() and dice.random() < 0.8:
            ids = [id for id in +b.owed if id in self.model.payments]
            roll = dice.random()
            to = {"block_id": b.id} if roll < 0.5 else {"payment_id": ids[0]} if roll < 0.9 and ids else {}
            most = b.owed[ids[0]] if "payment_id" in to else b.owed.total()
            amount = dice.choice((most, most, max(1, most // 2), most + 1))
        else:
            ps = list(self.model.payments.values())
            if not ps:
                return None
            p = dice.choice([p for p in ps if p.unapplied] or ps)
            b = next((b for b in self.model.blocks.values() if b.payer == p.payer), None)
            if b is None:
                return None
            amount = dice.choice((p.unapplied or p.amount, max(1, p.unapplied // 2), p.amount))
            to = {"payment_id": p.id}
        return self._event(
            "payment.refunded", b.payer, amount=money(amount), currency=self._currency(b, to), refund_id=refund, **to
        )

    def _currency(self, b: Block, to: dict[str, str]) -> str:
        return self.model.payments[to["payment_id"]].currency if "payment_id" in to else b.currency

    def _purchase_voided(self) -> Event | None:
        b = self._block(lambda b: b.left)
        if b is None:
            return None
        credits = str(self.dice.randint(1, max(1, b.left))) if self.dice.random() < 0.25 else None
        return self._event("purchase.voided", b.holder, block_id=b.id, credits=credits, reason="cancelled")

    def _credits_refunded(self) -> Event | None:
        b = self._block(lambda b: b.left)
        if b is None:
            return None
        k = self.dice.randint(1, max(1, b.left)) if self.dice.random() < 0.5 else None
        amount = None
        if self.dice.random() < 0.4 and b.left:
            value = b.carrying * (k or b.left) // b.left
            amount = money(max(1, self.dice.choice((value // 2, value, value + 1))))
        return self._event(
            "credits.refunded", b.holder, block_id=b.id, credits=str(k) if k else None, amount=amount,
            currency=b.currency if amount else None, reason="ends early",
        )  # fmt: skip

    def _credit_memo_issued(self) -> Event | None:
        b = self._block(lambda b: b.drawn > b.conceded)
        if b is None:
            return None
        used = max(1, b.drawn - b.conceded)
        amount = self.dice.choice((used, max(1, used // 2), 100, used + 1))
        tax = b.tax * amount // b.basis if b.basis else 0
        tax += self.dice.choice((0, 0, 0, 0, 1))
        return self._event(
            "credit_memo.issued", b.payer, amount=money(amount), currency=b.currency, tax=money(tax) if tax else None,
            reason="an outage", **self._to(b),
        )  # fmt: skip

    def _receivable_written_off(self) -> Event | None:
        b = self._block(lambda b: b.open)
        if b is None:
            return None
        amount = money(self._part(b, b.open or 100)) if self.dice.random() < 0.4 else None
        relief = False if self.dice.random() < 0.2 else None
        return self._event(
            "receivable.written_off", b.payer, block_id=b.id, amount=amount, tax_relief=relief, reason="bankrupt"
        )

    def _dispute_opened(self) -> Event | None:
        fee = "15.00" if self.dice.random() < 0.3 else None
        id = f"d{self.count + 1}"
        if self.dice.random() < 0.7:
            ps = [p for p in self.model.payments.values() if p.processor and not p.disputed]
            if not ps:
                return None
            p = self.dice.choice(ps)
            amount = self._parts_of(p)
            return self._event(
                "dispute.opened", p.payer, dispute_id=id, payment_id=p.id, amount=amount,
                currency=p.currency if amount or fee else None, fee=fee,
            )  # fmt: skip
        b = self._block(lambda b: b.received.total())
        if b is None:
            return None
        amount = money(self._part(b, b.received.total() or 100)) if self.dice.random() < 0.5 else None
        return self._event(
            "dispute.opened", b.payer, dispute_id=id, block_id=b.id, amount=amount,
            currency=b.currency if amount or fee else None, fee=fee,
        )  # fmt: skip

    def _parts_of(self, p: Payment) -> str | None:
        roll = self.dice.random()
        return (
            None if roll < 0.5 else money(p.amount) if roll < 0.75 else money(p.amount // 2) if p.amount > 1 else None
        )

    def _dispute_won(self) -> Event | None:
        d = self._some([d for d in self.model.disputes.values() if not d.ended])
        return d and self._event("dispute.won", d.payer, dispute_id=d.id)

    def _dispute_lost(self) -> Event | None:
        d = self._some([d for d in self.model.disputes.values() if not d.ended])
        if d is None:
            return None
        amount = money(max(1, d.amount // 2)) if self.dice.random() < 0.2 else None
        return self._event(
            "dispute.lost", d.payer, dispute_id=d.id, amount=amount, currency=d.currency if amount else None
        )

    def _credits_transferred(self) -> Event | None:
        b = self._block(lambda b: b.left)
        if b is None:
            return None
        same = [name for name in self.customers if self.currency[name] == b.currency]
        to = b.holder if self.dice.random() < 0.6 else self.dice.choice(same or [b.holder])
        k = str(self.dice.randint(1, b.left)) if b.left and self.dice.random() < 0.5 else None
        return self._event(
            "credits.transferred", b.holder, block_id=b.id, to_customer=to,
            new_block_id=f"B{len(self.model.blocks) + len(self.model.gone_blocks) + 1}", credits=k,
        )  # fmt: skip

    def _credits_escheated(self) -> Event | None:
        b = self._some([b for b in self.model.blocks.values() if b.escheat and b.left])
        return b and self._event("credits.escheated", b.holder, block_id=b.id)

    def _unclaimed(self, type: str) -> Event | None:
        b = self._some([b for b in self.model.blocks.values() if b.unclaimed])
        if b is None:
            return None
        amount = self.dice.choice((b.unclaimed, max(1, b.unclaimed // 2), b.unclaimed + 1))
        return self._event(type, b.payer, block_id=b.id, amount=money(amount), currency=b.currency)

    def _escheat_reclaimed(self) -> Event | None:
        return self._unclaimed("escheat.reclaimed")

    def _escheat_remitted(self) -> Event | None:
        return self._unclaimed("escheat.remitted")

    def _payout_settled(self) -> Event | None:
        currency = self.currency[self.dice.choice(self.customers)]
        amount = money(self.dice.choice((1000, 2500, 10000)))
        return self._event(
            "payout.settled", None, lag=True, amount=amount, currency=currency, processor="stripe",
            payout_id=f"po{self.count + 1}",
        )  # fmt: skip

    def _event_reversed(self) -> Event | None:
        """Undoes the latest fact. Older facts are not chosen, because the rules differ: the model undoes a fact if all
        later facts could have been recorded without it, and the product if nothing that it changed was changed again.
        """
        steps = [s for s in self.model.log if s.answer == "recorded"]
        if not steps or steps[-1].event["type"] in USAGE or steps[-1].undone:
            return None
        undone = steps[-1].event
        return self._event("event.reversed", undone.get("subject"), event_id=undone["id"], reason="a mistake")

    def _close(self) -> Event | None:
        closed = self.model.closed
        month = date(2026, 1, 31) if closed is None else last_of(closed + timedelta(days=1))
        if self.now.date() <= month + timedelta(days=5):
            return None
        return self._event("close", None, through=month.isoformat())

    def _again(self) -> Event | None:
        """Returns a document that is sent again under another event id."""
        made = [
            e for e in self.events
            if {"payment_id", "payout_id", "refund_id", "dispute_id"} & e["data"].keys()
            and e["type"] in ("payment.received", "payout.settled", "payment.refunded", "dispute.opened")
            and ("refund_id" in e["data"] or e["type"] != "payment.refunded")
        ]  # fmt: skip
        if not made:
            return None
        first = self.dice.choice(made)
        self.count += 1
        return first | {"id": f"e{self.count}", "time": max(first["time"], self.now.isoformat().replace("+00:00", "Z"))}


WITH_KNOWN_ROUNDING = frozenset({
    "credits.purchased", "credits.consumed", "consumption.reversed", "payment.received", "payment.applied",
    "purchase.voided", "credits.refunded", "payout.settled", "close", "event.reversed",
})  # fmt: skip
"""Events whose shares the specification rounds cumulatively, half up."""

BY_BLOCK = frozenset({
    "dispute.opened", "dispute.won", "dispute.lost", "escheat.reclaimed", "escheat.remitted", "credit_memo.issued",
    "payment.applied", "payment.refunded", "receivable.written_off",
})  # fmt: skip
"""Types that are left out after a transfer, because the rules differ. In the model a transferred block stands for its
own share of the purchase. In the product a dispute, a memo, a reclaimed amount or a payment for one block refers to the
whole purchase, so a payment can be paid back from any of its blocks.
"""

WITHOUT_TRANSFERS = frozenset(WEIGHTS) - {"credits.transferred"}
WITH_TRANSFERS = frozenset(WEIGHTS) - BY_BLOCK

USAGE = frozenset({"credits.consumed", "consumption.reversed", "event.reversed", "sweep", "close"})


def last_of(day: date) -> date:
    """The last day of the month."""
    return (day.replace(day=28) + timedelta(days=4)).replace(day=1) - timedelta(days=1)


def month_ends(events: list[Event]) -> list[date]:
    """Returns the last day of every month from the first event through the month after the last event."""
    times = [moment(e["time"]).date() for e in events if "time" in e]
    ends, day = [last_of(min(times))], max(times) + timedelta(days=62)
    while ends[-1] < day:
        ends.append(last_of(ends[-1] + timedelta(days=1)))
    return ends
