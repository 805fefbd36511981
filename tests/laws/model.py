"""A plain model of the accounting, made from the specification and not from the code: dictionaries and fractions.

It computes the result of each event: recorded, or refused with a code; and then the blocks, receivables, overages,
payments, disputes, pools and all amounts owed or held, in each currency and in the functional one. It is slow, simple,
and independent of ``subledger``.
"""

from __future__ import annotations

import copy
from datetime import datetime, timedelta
from fractions import Fraction
from typing import Any

from tests.laws.model_blocks import HOME, NOTHING, Block, Draw, Figures, Pool, Refusal, Usage, half_up, minor, minus
from tests.laws.model_ending import Ending
from tests.laws.model_money import Money
from tests.laws.model_pools import Pools
from tests.laws.model_reservations import Reservations

__all__ = ["Model", "Refusal"]


WAYS_OF_THEIR_OWN = (
    "credits.consumed", "consumption.reversed", "event.reversed", "credits.reserved", "reservation.released",
)  # fmt: skip
"""Events that cannot be undone: another event reverses them, or none."""


class Model(Ending, Money, Pools, Reservations):
    """The whole ledger: one functional currency with two decimals, one time zone."""

    def apply(self, event: dict[str, Any]) -> None:
        """Applies an event. If it raises Refusal, nothing has changed."""
        latest, self.latest = self.latest, None
        before = copy.deepcopy(self.__dict__)
        self.latest = latest
        moment = datetime.fromisoformat(event["time"])
        self.event_id, self.customer, self.day = event["id"], event.get("subject", ""), self.effective(moment)
        self.order += 1
        self.moment = moment
        try:
            getattr(self, event["type"].replace(".", "_"))(moment, event["data"])
            self.follow_pools()
        except Refusal:
            self.__dict__ = {**before, "latest": latest}
            raise
        self.recorded.add(self.event_id)
        self.types[self.event_id] = (event["type"], self.customer)
        self.latest = (self.event_id, before)

    # --- undoing --------------------------------------------------------------------------------------------

    def event_reversed(self, moment: datetime, data: dict[str, Any]) -> None:  # noqa: ARG002 - one shape for all
        """Restores the state before the latest event. Only the id of its block stays taken."""
        name = data["event_id"]
        self.allow(name in self.types, "unknown_original")
        type, customer = self.types[name]
        self.allow(customer == self.customer, "not_reversible")
        self.allow(type not in WAYS_OF_THEIR_OWN, "not_reversible")
        self.allow(name not in self.undone, "already_reversed")
        assert self.latest is not None
        latest, before = self.latest
        assert latest == name
        made = {name: block for name, block in self.blocks.items() if name not in before["blocks"]}
        for block in made.values():
            block.gains, block.lost, block.segments = NOTHING, {}, []
            block.tax = block.taxed = block.owed = block.redeemed_tax = 0
            block.origin, block.undone = None, True
        stays = ("recorded", "types", "undone", "order", "event_id", "customer", "day", "moment")
        self.__dict__ |= {name: value for name, value in before.items() if name not in stays}
        self.blocks |= made
        self.undone = {*self.undone, name}

    # --- purchases and grants -------------------------------------------------------------------------------

    def _open(self, moment: datetime, data: dict[str, Any], kind: str, credits: Fraction, price: int) -> Block:
        starts = datetime.fromisoformat(data["starts_at"]) if data.get("starts_at") else moment
        expires = datetime.fromisoformat(data["expires_at"]) if data.get("expires_at") else None
        self.allow(expires is None or expires > starts, "invalid_value")
        self.allow(data["block_id"] not in self.blocks, "block_exists")
        currency, pool = data.get("currency", HOME), data.get("pool")
        if pool is not None:
            self.allow(self.pools.setdefault(pool, Pool(pool, currency)).currency == currency, "wrong_currency")
        block = Block(
            name=data["block_id"],
            customer=self.customer,
            kind=kind,
            currency=currency,
            gains=(credits, price, self.spot(price, currency)),
            starts=starts,
            expires=expires,
            order=self.order,
            unit=data.get("unit", "credit"),
            priority=data.get("priority", 50),
            scope=tuple(data["scope"]) if data.get("scope") else None,
            refundable=data.get("refundable", False),
            pool=pool,
            month=self.month(self.day),
            escheat_class=data.get("escheat_class"),
            invoice=data.get("invoice_id"),
        )
        self.blocks[block.name] = block
        return block

    def credits_purchased(self, moment: datetime, data: dict[str, Any]) -> None:
        credits = Fraction(data["credits"]) + Fraction(data.get("bonus_credits", 0))
        price, tax = self.amount(data, "price"), self.amount(data, "tax")
        block = self._open(moment, data, "paid", credits, price)
        receivable = "accounts_receivable"
        if price:
            self.book(receivable, None, price, block.currency, block=block, how="gain", functional=block.gains[2])
        if tax:
            self.book(receivable, "tax_payable", tax, block.currency, block=block)
            block.tax, block.taxed = tax, price
        block.owed = price + tax
        for usage in self.usage.values():
            self._backfill(usage, block)

    def _backfill(self, usage: Usage, block: Block) -> None:
        """Uses the credits of a purchase first for earlier overage, at the price of that usage."""
        fits = block.unit == usage.unit and (block.scope is None or usage.product in block.scope)
        mine = usage.customer == self.customer and usage.backfill and usage.currency == block.currency
        if not (mine and fits and usage.open > 0 and block.left > 0):
            return
        part = min(block.left, usage.open)
        assert usage.overage is not None
        if part == usage.open:
            owed = usage.open_money
        else:
            due = half_up(usage.overage.money * (usage.settled + part) / usage.overage.credits)
            owed = min(max(due - usage.settled_money, 0), usage.open_money)
        basis = block.cost(part)
        block.lose("consumed", part, basis, block.cost_functional(part, basis))
        if owed:
            self.book(None, "unbilled_receivable", owed, block.currency, how="both")
        usage.settled += part
        usage.settled_money += owed

    def credits_granted(self, moment: datetime, data: dict[str, Any]) -> None:
        value = self.amount(data, "value")
        self._open(moment, data, data["reason"], Fraction(data["credits"]), value)

    # --- usage ----------------------------------------------------------------------------------------------

    def credits_consumed(self, moment: datetime, data: dict[str, Any]) -> None:
        product, unit, need = data.get("product"), data.get("unit", "credit"), Fraction(data["credits"])
        if "block_id" in data:
            candidates = [self.own(data["block_id"])]
        else:
            candidates = [block for block in self.blocks.values() if block.customer == self.customer]
        late, named = self.late_usage == "reclassify", data.get("reservation_id")
        left = self.left_by_reservations(moment, named, late=late)
        if named is not None:
            self.settle(moment, data)
        usage = Usage(self.event_id, self.customer, product, [], moment, unit)
        for block in self.in_draw_order(candidates, unit, product, moment):
            part = min(left[block.name], need)
            if part:
                usage.draws.append(self._draw(block, part, moment))
                need -= part
        if need and not usage.draws:
            self._beyond(data)
        if "tax" in data:
            self._tax_at_redemption(usage.draws, data)
        if need:
            self._overage(usage, data, need)
        self.usage[usage.name] = usage

    def _tax_at_redemption(self, draws: list[Draw], data: dict[str, Any]) -> None:
        """Divides the tax over the draws, in proportion to the value of each draw."""
        taxed = [(draw, draw.block) for draw in draws if draw.money and draw.block is not None]
        currency = taxed[0][1].currency if taxed else data.get("currency", HOME)
        self.allow(all(block.currency == currency for _, block in taxed), "wrong_currency")
        self.allow(data.get("currency", currency) == currency, "wrong_currency")
        self.allow(not any(block.tax or block.sold_with_tax for _, block in taxed), "invalid_value")
        tax, drawn = minor(data["tax"], currency), sum(draw.money for draw, _ in taxed)
        self.allow(tax <= drawn, "exceeds_value")
        value = before = 0
        for draw, block in taxed:
            value += draw.money
            draw.tax = half_up(Fraction(tax * value, drawn)) - before
            before += draw.tax
            block.redeemed_tax += draw.tax
            if draw.tax:
                self.book(None, "tax_payable", draw.tax, currency)

    def _draw(self, block: Block, part: Fraction, moment: datetime) -> Draw:
        number = block.at(moment)
        if number + 1 < len(block.segments):
            return self._draw_late(block, part, number)
        if part > block.to_draw:
            block.unbreak(part - block.to_draw)
        money = block.cost(part)
        functional = block.lose("consumed", part, money, block.cost_functional(part, money))
        return Draw(block, part, money, self.on(), functional)

    def _draw_late(self, block: Block, part: Fraction, number: int) -> Draw:
        """Draws usage from before a repricing at the price of that time. Later usage is priced again with the rest."""
        lacking = part - block.to_draw
        _, money, functional = block.late_cost(number, part)
        if lacking > 0:  # frozen credits stay, and the rest of the expired credits keeps its share
            block.use(part, money, functional, number)
            block.price_again(number + 1, expired=True)
            block.unbreak_to(block.of("expired")[0] - lacking)
            return Draw(block, part, money, self.on(), functional)
        block.use(part, money, functional, number)
        block.price_again(number + 1)
        if block.refundable and block.currency != HOME:  # at its carrying amount on that day
            block.use(Fraction(0), -money, -functional, number)
            whole = money == block.carrying
            functional = block.carrying_functional if whole else block.share_functional(money, part)
            block.use(Fraction(0), money, functional, number)
        return Draw(block, part, money, self.on(), functional)

    def _beyond(self, data: dict[str, Any]) -> str:
        """Returns the treatment of usage beyond the credits."""
        setting: str = data.get("on_shortfall", self.shortfall)
        self.allow(setting != "reject", "insufficient_credits")
        self.allow("overage_price" in data, "overage_price_missing")
        return setting

    def _overage(self, usage: Usage, data: dict[str, Any], need: Fraction) -> None:
        usage.backfill, usage.price = self._beyond(data) == "backfill", Fraction(data["overage_price"])
        usage.currency = data["currency"]
        key = (self.customer, usage.currency)
        exact = self.carry.get(key, Fraction(0)) + need * usage.price * 10 ** self.places(usage.currency)
        money = max(half_up(exact), 0)
        self.carry[key] = exact - money
        if money:
            self.book("unbilled_receivable", None, money, usage.currency)
        usage.draws.append(Draw(None, need, money, self.on()))

    def consumption_reversed(self, moment: datetime, data: dict[str, Any]) -> None:
        usage = self.usage.get(data["event_id"])
        if usage is None:
            raise Refusal("not_reversible" if data["event_id"] in self.recorded else "unknown_original")
        self.allow(usage.customer == self.customer, "not_reversible")
        remaining = sum((draw.credits - draw.restored for draw in usage.draws), Fraction(0))
        wanted = Fraction(data["credits"]) if "credits" in data else remaining
        self.allow(0 < wanted <= remaining, "reversal_exceeds_original")
        overage = usage.overage
        if overage is not None:
            self.allow(min(overage.credits - overage.restored, wanted) <= usage.open, "overage_settled")
        left = wanted
        for draw in reversed(usage.draws):  # nothing is reversed if a part of it was conceded
            part = min(draw.credits - draw.restored, left)
            if part > 0 and draw.block is not None:
                money = draw.back(draw.restored + part)[0] - draw.restored_money
                tax = draw.back(draw.restored + part)[2] - draw.back(draw.restored)[2]
                self.not_conceded(draw.block, money, tax)
            left -= max(part, 0)
        for draw in reversed(usage.draws):
            part = min(draw.credits - draw.restored, wanted)
            if part > 0:
                wanted -= part
                self._restore(usage, draw, part, moment)

    def _restore(self, usage: Usage, draw: Draw, part: Fraction, moment: datetime) -> None:
        after = draw.restored + part
        money, functional, tax = draw.back(after)
        money, functional = money - draw.restored_money, functional - draw.restored_functional
        tax -= draw.back(draw.restored)[2]
        block = draw.block
        if block is None:
            money = usage.open_money if part == usage.open else min(money, usage.open_money)
            key = (self.customer, usage.currency)
            carried = self.carry.get(key, Fraction(0))
            self.carry[key] = carried - part * usage.price * 10 ** self.places(usage.currency) + money
            if money:
                self.book(None, "unbilled_receivable", money, usage.currency, how="both")
        else:
            fixed = self._back(block, usage, (part, money, functional), moment)
            block.redeemed_tax -= tax
            if tax:
                self.book("tax_payable", None, tax, block.currency)
            passed = block.expired or (block.expires is not None and block.expires <= moment)
            if passed and not block.disputes:
                self.expire(block, part, money - fixed[1], functional - fixed[2])
        draw.restored, draw.restored_money, draw.restored_functional = (
            after,
            draw.restored_money + money,
            draw.restored_functional + functional,
        )

    def _back(self, block: Block, usage: Usage, back: Figures, moment: datetime) -> Figures:
        """Returns usage to its segment, or begins a new one. Returns the corrections of other usage."""
        number, now = block.at(usage.moment), block.at(moment)
        if number == now:
            block.use(*minus(NOTHING, back), number)
            return block.price_again(number if block.segments[number].corrected else number + 1)
        block.lost["consumed"] = minus(block.of("consumed"), back)
        begun = block.begin(moment, back, usage.moment)
        return block.price_again(number if block.segments[number].corrected else begun)

    # --- the ledger itself ----------------------------------------------------------------------------------

    def exchange_rate_set(self, _moment: datetime, data: dict[str, Any]) -> None:
        self.allow(data["quote"] == HOME, "wrong_currency")
        self.rates.setdefault(data["base"], {})[self.day] = Fraction(data["rate"])

    def sweep(self, until: datetime) -> int:
        """Records the breakage of all credits that expired by a moment, on the last day on which they could be used."""
        due = [b for b in self.blocks.values() if b.expires_now and (b.expires or until) <= until]
        due = [b for b in due if b.expires is not None]
        for block in sorted(due, key=lambda block: (block.expires, block.name)):
            assert block.expires is not None
            self.customer, self.day = block.customer, self.effective(block.expires - timedelta(microseconds=1))
            lapsing = block.expires_now
            self.expire(block, lapsing, block.value(lapsing))
            self.follow_pools()
        return len(due)
