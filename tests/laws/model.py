"""A plain model of the accounting, from the specification and not from the code: dictionaries and fractions.

It says what each event must do: recorded or refused with which code, and what the blocks, receivables and overages
are afterwards. Slow, simple, and independent of ``subledger``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta, tzinfo
from fractions import Fraction
from typing import Any


def half_up(value: Fraction) -> int:
    """To the nearest integer, a half upwards; the model rounds nothing negative."""
    return int((value * 2 + 1) // 2)


class Refusal(Exception):
    """An event that the books do not allow; the argument is the code."""


@dataclass
class Block:
    name: str
    customer: str
    total: Fraction
    price: int
    tax: int
    starts: datetime
    expires: datetime | None
    priority: int
    scope: tuple[str, ...] | None
    free: bool
    invoice: str | None
    order: int
    gained: date
    owed: int
    unit: str = "credit"
    used: Fraction = Fraction(0)
    drawn: int = 0
    broken: Fraction = Fraction(0)
    broken_money: int = 0
    broken_on: date | None = None
    voided: Fraction = Fraction(0)
    voided_money: int = 0
    tax_back: int = 0
    expired: bool = False

    @property
    def left(self) -> Fraction:
        return self.total - self.used - self.broken - self.voided

    @property
    def carrying(self) -> int:
        return self.price - self.drawn - self.broken_money - self.voided_money

    def cost(self, credits: Fraction) -> int:
        if credits == self.left:
            return self.carrying
        due = half_up(self.price * (self.used + credits) / self.total) - self.drawn
        return min(max(due, 0), self.carrying)

    def draw(self, credits: Fraction, money: int) -> None:
        self.used += credits
        self.drawn += money


@dataclass
class Draw:
    block: Block | None
    credits: Fraction
    money: int
    on: date
    restored: Fraction = Fraction(0)
    restored_money: int = 0


@dataclass
class Usage:
    name: str
    customer: str
    product: str | None
    draws: list[Draw]
    unit: str = "credit"
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
class Model:
    """The whole ledger: one functional currency with two decimals, one time zone."""

    shortfall: str = "reject"
    zone: tzinfo = UTC
    blocks: dict[str, Block] = field(default_factory=dict)
    usage: dict[str, Usage] = field(default_factory=dict)
    carry: dict[str, Fraction] = field(default_factory=dict)
    closed: date | None = None
    order: int = 0
    event_id: str = ""
    recorded: set[str] = field(default_factory=set)

    def on(self, moment: datetime, *others: date | None) -> date:
        days = [moment.astimezone(self.zone).date(), *(day for day in others if day is not None)]
        if self.closed is not None:
            days.append(self.closed + timedelta(days=1))
        return max(days)

    def apply(self, event: dict[str, Any]) -> None:
        """Raises Refusal; then nothing has changed."""
        moment = datetime.fromisoformat(event["time"])
        self.event_id = event["id"]
        method = getattr(self, event["type"].replace(".", "_"))
        self.order += 1
        method(event["subject"], moment, event["data"])
        self.recorded.add(self.event_id)

    def _own(self, customer: str, name: str) -> Block:
        block = self.blocks.get(name)
        if block is None:
            raise Refusal("unknown_block")
        if block.customer != customer:
            raise Refusal("block_of_another_customer")
        return block

    # --- events ---------------------------------------------------------------------------------------------

    def _open(self, customer: str, moment: datetime, data: dict[str, Any], credits: Fraction, price: int) -> Block:
        starts = datetime.fromisoformat(data["starts_at"]) if data.get("starts_at") else moment
        expires = datetime.fromisoformat(data["expires_at"]) if data.get("expires_at") else None
        if expires is not None and expires <= starts:
            raise Refusal("invalid_value")
        if data["block_id"] in self.blocks:
            raise Refusal("block_exists")
        if data.get("currency", "USD") != "USD":
            raise Refusal("exchange_rate_missing")
        return Block(
            data["block_id"], customer, credits, price, 0, starts, expires, data.get("priority", 50),
            tuple(data["scope"]) if data.get("scope") else None, data.get("reason") == "promotional",
            data.get("invoice_id"), self.order, self.on(moment), 0, data.get("unit", "credit"),
        )  # fmt: skip

    def credits_purchased(self, customer: str, moment: datetime, data: dict[str, Any]) -> None:
        credits = Fraction(data["credits"]) + Fraction(data.get("bonus_credits", 0))
        block = self._open(customer, moment, data, credits, int(Fraction(data["price"]) * 100))
        block.tax = int(Fraction(data.get("tax", 0)) * 100)
        block.owed = block.price + block.tax
        self.blocks[block.name] = block
        for usage in self.usage.values():
            fits = block.unit == usage.unit and (block.scope is None or usage.product in block.scope)
            if usage.customer == customer and usage.backfill and usage.open > 0 and fits and block.left > 0:
                part = min(block.left, usage.open)
                assert usage.overage is not None
                if part == usage.open:
                    owed = usage.open_money
                else:
                    due = half_up(usage.overage.money * (usage.settled + part) / usage.overage.credits)
                    owed = min(max(due - usage.settled_money, 0), usage.open_money)
                block.draw(part, block.cost(part))
                usage.settled += part
                usage.settled_money += owed

    def credits_granted(self, customer: str, moment: datetime, data: dict[str, Any]) -> None:
        value = int(Fraction(data.get("value", 0)) * 100)
        block = self._open(customer, moment, data, Fraction(data["credits"]), value)
        self.blocks[block.name] = block

    def credits_consumed(self, customer: str, moment: datetime, data: dict[str, Any]) -> None:
        product, unit, need = data.get("product"), data.get("unit", "credit"), Fraction(data["credits"])
        if "block_id" in data:
            candidates = [self._own(customer, data["block_id"])]
        else:
            candidates = [block for block in self.blocks.values() if block.customer == customer]
        candidates = [
            block
            for block in candidates
            if block.unit == unit
            and block.starts <= moment
            and (block.expires is None or moment < block.expires)
            and (block.scope is None or product in block.scope)
            and block.left > 0
        ]
        never = datetime.max.replace(tzinfo=moment.tzinfo)
        candidates.sort(key=lambda b: (b.scope is None, b.priority, b.expires or never, not b.free, b.starts, b.name))
        plan = []
        for block in candidates:
            part = min(block.left, need)
            if part:
                plan.append((block, part))
                need -= part
        usage = Usage(self.event_id, customer, product, [], unit)
        if need:
            setting = data.get("on_shortfall", self.shortfall)
            if setting == "reject":
                raise Refusal("insufficient_credits")
            if "overage_price" not in data:
                raise Refusal("overage_price_missing")
            if data["currency"] != "USD":
                raise Refusal("exchange_rate_missing")
            usage.backfill, usage.price = setting == "backfill", Fraction(data["overage_price"])
        for block, part in plan:
            money = block.cost(part)
            usage.draws.append(Draw(block, part, money, self.on(moment, block.gained)))
            block.draw(part, money)
        if need:
            exact = self.carry.get(customer, Fraction(0)) + need * usage.price * 100
            money = max(half_up(exact), 0) if exact > 0 else 0
            self.carry[customer] = exact - money
            usage.draws.append(Draw(None, need, money, self.on(moment)))
        self.usage[usage.name] = usage

    def consumption_reversed(self, customer: str, moment: datetime, data: dict[str, Any]) -> None:
        usage = self.usage.get(data["event_id"])
        if usage is None:
            raise Refusal("not_reversible" if data["event_id"] in self.recorded else "unknown_original")
        if usage.customer != customer:
            raise Refusal("not_reversible")
        remaining = sum((draw.credits - draw.restored for draw in usage.draws), Fraction(0))
        wanted = Fraction(data["credits"]) if "credits" in data else remaining
        if wanted > remaining or not remaining:
            raise Refusal("reversal_exceeds_original")
        overage = usage.overage
        if overage is not None and min(overage.credits - overage.restored, wanted) > usage.open:
            raise Refusal("overage_settled")
        for draw in reversed(usage.draws):
            part = min(draw.credits - draw.restored, wanted)
            if part <= 0:
                continue
            wanted -= part
            money = half_up(draw.money * (draw.restored + part) / draw.credits) - draw.restored_money
            if draw.block is None:
                money = usage.open_money if part == usage.open else min(money, usage.open_money)
                carried = self.carry.get(customer, Fraction(0))
                self.carry[customer] = carried - part * usage.price * 100 + money
            else:
                block = draw.block
                block.gained = self.on(moment, block.gained, draw.on)
                block.draw(-part, -money)
                if block.expired or (block.expires is not None and block.expires <= moment):
                    block.expired = True
                    block.broken += part
                    block.broken_money += money
                    block.broken_on = max(block.broken_on or block.gained, block.gained)
            draw.restored += part
            draw.restored_money += money

    def purchase_voided(self, customer: str, _moment: datetime, data: dict[str, Any]) -> None:
        block = self._own(customer, data["block_id"])
        if block.invoice is None and not block.free:
            raise Refusal("not_a_purchase")
        if not block.left:
            raise Refusal("no_credits_left")
        value = block.carrying
        cancelled = block.voided_money + value
        tax = half_up(Fraction(block.tax * cancelled, block.price)) - block.tax_back if value else 0
        unpaid = min(value, block.owed)
        tax_unpaid = min(tax, block.owed - unpaid)
        block.voided += block.left
        block.voided_money += value
        block.tax_back += tax
        block.owed -= unpaid + tax_unpaid

    def block_expiry_changed(self, customer: str, moment: datetime, data: dict[str, Any]) -> None:
        block = self._own(customer, data["block_id"])
        expires = datetime.fromisoformat(data["expires_at"]) if data["expires_at"] else None
        if expires is not None and expires <= block.starts:
            raise Refusal("invalid_value")
        block.expires = expires
        if block.broken and (expires is None or expires > moment):
            block.gained = self.on(moment, block.gained, block.broken_on)
            block.broken, block.broken_money, block.expired = Fraction(0), 0, False

    def payment_received(self, customer: str, _moment: datetime, data: dict[str, Any]) -> None:
        left = int(Fraction(data["amount"]) * 100)
        if "block_id" in data:
            blocks = [self._own(customer, data["block_id"])]
        else:
            blocks = [b for b in self.blocks.values() if b.customer == customer and b.invoice == data["invoice_id"]]
            if not blocks:
                raise Refusal("unknown_invoice")
        for block in sorted(blocks, key=lambda block: block.order):
            part = min(left, block.owed)
            block.owed -= part
            left -= part

    def sweep(self, until: datetime) -> int:
        """Everything that expired before a moment is breakage, dated when it expired or later."""
        due = [b for b in self.blocks.values() if b.left and b.expires is not None and b.expires < until]
        for block in due:
            assert block.expires is not None
            on = self.on(block.expires, block.gained)
            block.broken_on = max(block.broken_on or on, on)
            block.broken_money += block.carrying
            block.broken += block.left
            block.expired = True
        return len(due)
