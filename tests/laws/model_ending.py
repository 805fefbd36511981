"""The plain model: the events that end or change a block, other than usage."""

from __future__ import annotations

from datetime import datetime
from fractions import Fraction
from typing import Any

from tests.laws.model_blocks import PLACES, Block, half_up, minor, plus
from tests.laws.model_positions import Positions

RECEIVABLE, REFUNDS, TAX = "accounts_receivable", "refunds_payable", "tax_payable"


class Ending(Positions):
    """Expiry, void, refund, repricing, transfer, escheat."""

    @staticmethod
    def places(currency: str) -> int:
        return PLACES[currency]

    def expire(self, block: Block, credits: Fraction, money: int, functional: int | None = None) -> None:
        """Records an expiry, or credits returned to an expired block: breakage, or an amount owed to a state."""
        if block.escheat_class is not None or block.of("escheated")[0]:
            self._escheat(block, credits, money, functional)
        else:
            block.lose("expired", credits, money, functional)
        block.expired = True

    def _escheat(self, block: Block, credits: Fraction, money: int, functional: int | None = None) -> None:
        """Cancels the unpaid part of the receivable, with its tax. The value of the rest is owed to the state."""
        if block.origin is not None:
            back = self.hand_back(block, credits, money, functional)
            with self.of_payer(block) as bought:
                self._escheat(bought, credits, money, None if functional is None else back)
            return
        tax = block.tax_in(money)
        unpaid = min(block.owed, money + tax)
        value = half_up(Fraction(money * unpaid, money + tax)) if unpaid else 0
        parts: tuple[int | None, int | None] = (None, None)
        if functional is not None:
            first = half_up(Fraction(functional * value, money)) if money else 0
            parts = (first, functional - first)
        if value:
            block.lose("voided", Fraction(0), value, parts[0])
            block.cancelled += value
            self.book(None, RECEIVABLE, value, block.currency, block=block, how="both")
        if unpaid - value:
            self.book(TAX, RECEIVABLE, unpaid - value, block.currency, block=block, how="both")
        block.tax_back += unpaid - value
        block.owed -= unpaid
        block.lose("escheated", credits, money - value, parts[1])
        if money - value:
            self.book(None, "unclaimed_property", money - value, block.currency, block=block, how="both")

    def purchase_voided(self, _moment: datetime, data: dict[str, Any]) -> None:
        """Cancels credits with their tax: first the unpaid part; the rest is owed back. Of a grant only the value is
        cancelled.
        """
        block = self.own(data["block_id"])
        self.must_be_live(block)
        credits = self.free_of(block, data)
        value = block.value(credits)
        if block.kind in ("goodwill", "allocation"):
            block.lose("voided", credits, value)
            return
        self.hand_back(block, credits, value)
        with self.of_payer(block) as bought:
            whole = credits == bought.left and not bought.taxed
            tax = bought.tax_left if whole else bought.tax_of(value)
            self.not_of_a_dispute(bought, value + tax)
            self._lose_both("voided", bought, credits, value)
            self.give_back(bought, value, tax)
            bought.cancelled += value
            bought.tax_back += tax

    @staticmethod
    def _lose_both(column: str, block: Block, credits: Fraction, value: int) -> None:
        """Removes the unpaid part first, with the credits."""
        unpaid = min(value, block.owed)
        if unpaid or not value:
            block.lose(column, credits, unpaid)
            credits = Fraction(0)
        if value - unpaid:
            block.lose(column, credits, value - unpaid)

    def credits_refunded(self, _moment: datetime, data: dict[str, Any]) -> None:
        block = self.own(data["block_id"])
        self.allow(block.kind in ("paid", "promotional"), "not_a_purchase")
        self.allow(data.get("currency", block.currency) == block.currency, "wrong_currency")
        self.allow("amount" not in data or minor(data["amount"], block.currency) <= block.carrying, "exceeds_value")
        self.must_be_live(block)
        credits = self.free_of(block, data)
        value = block.value(credits)
        amount = minor(data["amount"], block.currency) if "amount" in data else value
        self.allow(amount <= value, "exceeds_value")
        self.not_of_a_dispute(block.bought, amount + block.bought.tax_of(amount))
        if block.origin is not None and value - amount:  # the retained value is that of the held credits
            block.lose("refunded", Fraction(0) if amount else credits, value - amount)
            if not amount:
                return
            value = amount
        self.hand_back(block, credits, amount)
        with self.of_payer(block) as bought:
            if amount or not value:
                self._lose_both("refunded", bought, credits, amount)
                credits = Fraction(0)
            if value - amount:
                bought.lose("refunded", credits, value - amount)
            tax = bought.tax_of(amount)
            self.give_back(bought, amount, tax)
            bought.cancelled += amount
            bought.tax_back += tax

    def block_expiry_changed(self, moment: datetime, data: dict[str, Any]) -> None:
        block = self.own(data["block_id"])
        expires = datetime.fromisoformat(data["expires_at"]) if data["expires_at"] else None
        self.allow(expires is None or expires > block.starts, "invalid_value")
        if block.of("expired")[0] and (expires is None or expires > moment):
            self.not_conceded(block, block.of("expired")[1])
        block.expires = expires
        if expires is None or expires > moment:
            block.expired = False
            if block.of("expired")[0]:
                block.unbreak(block.of("expired")[0])

    def block_repriced(self, moment: datetime, data: dict[str, Any]) -> None:
        """Begins a new segment. The price can be reduced only by value that is neither recognised nor paid."""
        block = self.own(data["block_id"])
        self.allow(block.origin is None, "not_a_purchase")
        credits = Fraction(data.get("add_credits", 0))
        amount = minor(data["add_price"], block.currency) if "add_price" in data else 0
        self.allow(not amount or block.kind != "promotional", "not_a_purchase")
        self.allow(not Fraction(data.get("add_tax", 0)) or block.kind == "paid", "not_a_purchase")
        self.allow(-amount <= min(block.carrying, block.owed), "exceeds_receivable")
        if "add_tax" in data:
            tax = minor(data["add_tax"], block.currency)
        else:
            tax = half_up(Fraction(block.tax * amount, block.taxed)) if block.taxed else 0
            tax = max(tax, -block.tax_left)
        self.allow(-tax <= max(block.tax_left, 0), "exceeds_value")
        self.allow(-amount - tax <= max(block.owed, 0), "exceeds_receivable")
        self.must_be_live(block)
        self.must_not_be_disputed(block)
        self.allow(block.left + credits > 0, "insufficient_credits")
        functional = self.spot(amount, block.currency) if amount > 0 else -block.share_functional(-amount, Fraction(0))
        if amount:
            self.book(RECEIVABLE, None, amount, block.currency, block=block, how="gain", functional=functional)
        if credits or amount:
            block.gains = plus(block.gains, (credits, amount, functional))
            block.price_again(block.begin(moment, (credits, amount, functional)))
        if tax:
            self.book(RECEIVABLE, TAX, tax, block.currency, block=block)
        block.owed += amount + tax
        block.tax += tax
        if tax:
            block.taxed = block.gains[1]
        elif block.tax:
            block.taxed += amount

    def credits_transferred(self, _moment: datetime, data: dict[str, Any]) -> None:
        """Transfers credits to another customer at the same basis. The new block has the same terms; the purchase stays
        with the payer.
        """
        block = self.own(data["block_id"])
        self.allow(data["new_block_id"] not in self.blocks, "block_exists")
        self.must_be_live(block)
        credits = self.free_of(block, data)
        self.allow(not block.bought.wholly_frozen, "block_disputed")
        money = block.value(credits)
        bought = block.bought
        functional = bought.lose("transferred", credits, money, self.hand_back(block, credits, money))
        new = self.blocks[data["new_block_id"]] = Block(
            name=data["new_block_id"],
            customer=data["to_customer"],
            kind=block.kind,
            currency=block.currency,
            gains=(credits, money, functional),
            starts=block.starts,
            expires=block.expires,
            order=self.order,
            unit=block.unit,
            priority=block.priority,
            scope=block.scope,
            refundable=block.refundable,
            pool=block.pool,
            month=block.month,
            escheat_class=block.escheat_class,
            origin=bought if block.kind == "paid" else None,
            sold_with_tax=bool(bought.tax),
        )
        if block.kind == "paid":
            bought.handed.append(new)

    # --- unclaimed property ---------------------------------------------------------------------------------

    def credits_escheated(self, _moment: datetime, data: dict[str, Any]) -> None:
        self.allow(self.own(data["block_id"]).kind in ("paid", "promotional"), "not_a_purchase")
        block = self.live(data["block_id"])
        self.must_not_be_disputed(block)
        self._escheat(block, block.left, block.carrying)

    def _from_the_state(self, data: dict[str, Any]) -> tuple[Block, int]:
        block = self.paid(data["block_id"])
        self.allow(data["currency"] == block.currency, "wrong_currency")
        amount = self.amount(data)
        self.allow(amount <= block.unclaimed, "exceeds_value")
        self.allow(not block.disputes, "block_disputed")
        block.claimed += amount
        return block, amount

    def escheat_reclaimed(self, _moment: datetime, data: dict[str, Any]) -> None:
        block, amount = self._from_the_state(data)
        self.book("unclaimed_property", REFUNDS, amount, block.currency, block=block, how="from_debit")
        self.owe(amount, block.currency, block)

    def escheat_remitted(self, _moment: datetime, data: dict[str, Any]) -> None:
        block, amount = self._from_the_state(data)
        self.book("unclaimed_property", "cash", amount, block.currency, block=block, how="both")
