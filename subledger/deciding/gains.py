"""Gains: the credits and value that each customer gains by an event, and what the customer pays for them.

Owns: these sums, and the rule for nominal prices. Does not own: the other measures of an effect (event_effects). Pure.
"""

from __future__ import annotations

from decimal import ROUND_DOWN, Context, Decimal
from typing import Final

import msgspec

from subledger.blocks import ZERO, Block
from subledger.event_effect import EventEffect
from subledger.events.data import CreditsConsumed, CreditsPurchased
from subledger.events.envelope import Event
from subledger.kinds import Kind
from subledger.ledger import LedgerState
from subledger.money import exponent, plain
from subledger.wallet import Movement, Wallet

_OWED: Final = frozenset({"accounts_receivable", "unbilled_receivable", "refunds_payable", "customer_balance"})
"""Roles of amounts that a customer owes or is owed; not tax, money at banks and processors, and unclaimed property.
"""
_NOMINAL_MINOR: Final = 100
"""A price below this is nominal: 1.00 USD, 100 JPY. It is compared in the functional currency, because a hundred minor
units of a weak currency may be less than a cent.
"""
_PRECISE: Final = Context(prec=60, rounding=ROUND_DOWN)


class Gains(msgspec.Struct):
    """The gains of one customer by an event: credits by unit, their value, and what the customer pays for them.

    Amounts are in minor units of the functional currency.
    - ``repaid``: credits of a new block that paid for earlier usage at once. They are gained too.
    - ``repaid_minor``: the price of that usage.
    - ``relief_minor``: the part of it that the block's own price does not cover.
    - ``lowered``: the reduction of a block's price beyond the price of its removed credits.
    """

    credits: dict[str, Decimal] = {}
    repaid: Decimal = ZERO
    repaid_minor: int = 0
    relief_minor: int = 0
    value_minor: int = 0
    price_minor: int = 0
    paid_minor: int = 0
    lowered: Decimal = ZERO

    def add(self, movement: Movement, kind: Kind, before: Wallet, after: Wallet, state: LedgerState) -> None:
        """Adds a movement of this customer."""
        functional = functional_amount(movement)
        owed = 0
        if kind.debit_role is None or kind.credit_role is None:  # with two roles, money only moves
            owed = functional * ((kind.debit_role in _OWED) - (kind.credit_role in _OWED))
        self.paid_minor += owed
        if kind.column is None or movement.block_id is None:
            return
        block = after.block(movement.block_id) or before.state_of_block(movement.block_id)
        self.credits[block.unit] = self.credits.get(block.unit, ZERO) + kind.sign * movement.credits
        self.value_minor += kind.sign * functional
        if kind.column != "consumed":
            self.price_minor += owed
        elif kind.name == "backfill_difference":
            self.relief_minor -= functional
        else:
            self.repaid += max(movement.credits, ZERO)
            self.repaid_minor -= owed
        if kind.column == "repriced" and movement.amount_minor < 0 and (old := before.block(movement.block_id)):
            # The price of the removed credits themselves is no gift.
            off = _PRECISE.multiply(Decimal(carrying(old, state)), max(-movement.credits, ZERO))
            self.lowered += -functional - (_PRECISE.divide(off, old.remaining) if old.remaining else off)

    def free_credits(self, event: Event, state: LedgerState) -> Decimal:
        """Credits that are not paid for: all credits at a nominal price, else the bonus of a purchase."""
        if self._is_nominal(event, state):
            return max(sum(self.credits.values(), self.repaid), ZERO)
        return _bonus(event)

    def free_value(self, event: Event, state: LedgerState) -> Decimal:
        """Value that is not paid for: by ``credit_prices``, or by the books if that is more."""
        scale = exponent(state.functional_currency)
        paid = major(self.paid_minor + self._covered_minor(event, state), scale)
        prices = state.approvals.credit_prices
        values = [ZERO, major(self.value_minor, scale) - paid, self.lowered.scaleb(-scale)]
        gained = [(prices[unit], credits) for unit, credits in self.credits.items() if credits > 0 and unit in prices]
        if gained:
            values.append(sum((price * credits for price, credits in gained), ZERO) - paid)
        return max(values)

    def _is_nominal(self, event: Event, state: LedgerState) -> bool:
        """True for a nominal price.

        It is below ``_NOMINAL_MINOR``, or below half of the ledger's ``credit_prices``. Without ``credit_prices`` the
        value of a credit is unknown, and a price below one minor unit per credit is nominal. Bonus credits are measured
        separately.
        """
        if self.price_minor < _NOMINAL_MINOR:
            return True
        scale = exponent(state.functional_currency)
        sold = self._sold(event)
        prices = state.approvals.credit_prices
        if not all(unit in prices for unit in self.credits):
            return self.price_minor < sold
        unit = next(iter(self.credits), "")  # an event sells credits of one unit
        return 2 * major(self.price_minor, scale) < prices.get(unit, ZERO) * sold

    def _covered_minor(self, event: Event, state: LedgerState) -> int:
        """The part of the relief of earlier usage that is no gift, because it was paid with bought credits.

        A purchase pays for earlier usage at the purchase's own price, as agreed with the customer, even if the usage
        was dearer. So only the part that bonus credits pay for is a gift. All of it is a gift if the price of the
        purchase is nominal, or below half of the price of the usage.
        """
        if self.relief_minor <= 0:
            return self.relief_minor
        if self._is_nominal(event, state):
            return 0
        sold, bonus = self._sold(event), _bonus(event)
        own = _PRECISE.divide(self.price_minor * self.repaid, sold)  # at the price without the bonus
        if 2 * own < self.repaid_minor:
            return 0
        return min(self.relief_minor, max(self.repaid_minor - int(own), 0)) if bonus else self.relief_minor

    def _sold(self, event: Event) -> Decimal:
        """The paid credits of a sale: all except the bonus."""
        return sum(self.credits.values(), self.repaid) - _bonus(event)


def _bonus(event: Event) -> Decimal:
    return (event.data.bonus_credits if isinstance(event.data, CreditsPurchased) else None) or ZERO


def gives_service_away(data: CreditsConsumed, state: LedgerState) -> bool:
    """True for usage whose price beyond the credits is zero, or below half of the ledger's ``credit_prices``.

    Prices below a minor unit are ordinary here. So without ``credit_prices``, and in another currency, only a price of
    zero counts.
    """
    price = data.overage_price
    if not price:
        return price is not None
    at_home = data.currency == state.functional_currency
    return at_home and 2 * price < state.approvals.credit_prices.get(data.unit, ZERO)


def effect_of_usage(data: CreditsConsumed, movements: tuple[Movement, ...], state: LedgerState) -> EventEffect:
    """The effect of usage beyond the credits that gives the service away, measured like credits at the same price."""
    beyond = sum((movement.credits for movement in movements if movement.kind == "overage"), ZERO)
    if not beyond or not gives_service_away(data, state):
        return EventEffect()
    price = state.approvals.credit_prices.get(data.unit, ZERO) - (data.overage_price or ZERO)
    value = price * beyond
    return EventEffect(credits_given=plain(beyond), value_given=plain(value) if value else ZERO)


def functional_amount(movement: Movement) -> int:
    """The functional amount. An amount below one minor unit counts as one, so that many small amounts are measured."""
    amount, functional = movement.amount_minor, movement.functional_minor
    if functional is None:
        return amount
    return functional or (amount > 0) - (amount < 0)


def major(minor: int, scale: int) -> Decimal:
    """Minor units as an amount of money."""
    return Decimal(minor).scaleb(-scale)


def carrying(block: Block, state: LedgerState) -> int:
    """The carrying amount of a block in minor units of the functional currency."""
    return block.carrying_minor if block.currency == state.functional_currency else block.carrying_functional
