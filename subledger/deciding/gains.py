"""Gains: the credits and value that each customer gains by an event, and what the customer pays for them.

Owns: these sums, and which price is none in substance. Does not own: the other measures of an effect (event_effects).
Pure.
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
"""Roles of what a customer owes, or is owed. Taxes, money at banks and processors, and a state's property are not."""
_NOMINAL_MINOR: Final = 100
"""A price below this is none in substance: 1.00 USD, 100 JPY. In the functional currency: a hundred minor units of a
weak currency are less than a cent."""
_PRECISE: Final = Context(prec=60, rounding=ROUND_DOWN)


class Gains(msgspec.Struct):
    """The gains of one customer by an event: credits by unit, their value, and what the customer pays for them.

    Amounts are in minor units of the functional currency. ``repaid`` are credits of a new block that paid for earlier
    usage at once: they were gained too; ``repaid_minor`` is the price of that usage, and ``relief_minor`` the part of
    it that the block's own price does not cover. ``lowered`` is price taken off a block that its removed credits did
    not have.
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
        if kind.debit_role is None or kind.credit_role is None:  # else money only changes its place
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
            # The price that credits which are taken off had themselves is no gift.
            off = _PRECISE.multiply(Decimal(carrying(old, state)), max(-movement.credits, ZERO))
            self.lowered += -functional - (_PRECISE.divide(off, old.remaining) if old.remaining else off)

    def free_credits(self, event: Event, state: LedgerState) -> Decimal:
        """Credits that nothing is paid for: all of them at a nominal price, else the bonus of a purchase."""
        if self._is_nominal(event, state):
            return max(sum(self.credits.values(), self.repaid), ZERO)
        return _bonus(event)

    def free_value(self, event: Event, state: LedgerState) -> Decimal:
        """Value that is not paid for: by the prices of credits (``credit_prices``), or by the books if that is more."""
        scale = exponent(state.functional_currency)
        paid = major(self.paid_minor + self._covered_minor(event, state), scale)
        prices = state.approvals.credit_prices
        values = [ZERO, major(self.value_minor, scale) - paid, self.lowered.scaleb(-scale)]
        gained = [(prices[unit], credits) for unit, credits in self.credits.items() if credits > 0 and unit in prices]
        if gained:
            values.append(sum((price * credits for price, credits in gained), ZERO) - paid)
        return max(values)

    def _is_nominal(self, event: Event, state: LedgerState) -> bool:
        """True for a price that is none in substance.

        It is below ``_NOMINAL_MINOR``, or below half of the ledger's ``credit_prices``. Without these it is below one
        minor unit a credit, as nothing says what a credit is worth. Bonus credits count by themselves.
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
        """The part of the relief of earlier usage that is no gift: the price of credits that the customer bought.

        Usage that was to be paid at a dearer price is paid by a purchase at the purchase's own price, as the customer
        was promised. Only what bonus credits pay for is given; and everything at a nominal price, or at one below half
        of that of the usage.
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
        """The credits of a sale that its price is for: all but the bonus."""
        return sum(self.credits.values(), self.repaid) - _bonus(event)


def _bonus(event: Event) -> Decimal:
    return (event.data.bonus_credits if isinstance(event.data, CreditsPurchased) else None) or ZERO


def gives_service_away(data: CreditsConsumed, state: LedgerState) -> bool:
    """True for usage whose price beyond the credits is zero, or below half of the ledger's ``credit_prices``.

    Prices below a minor unit are ordinary here, so without ``credit_prices`` only zero is none in substance; a price in
    another currency is compared with zero alone.
    """
    price = data.overage_price
    if not price:
        return price is not None
    at_home = data.currency == state.functional_currency
    return at_home and 2 * price < state.approvals.credit_prices.get(data.unit, ZERO)


def effect_of_usage(data: CreditsConsumed, movements: tuple[Movement, ...], state: LedgerState) -> EventEffect:
    """The effect of usage beyond the credits that gives the service away: as of credits for the same price."""
    beyond = sum((movement.credits for movement in movements if movement.kind == "overage"), ZERO)
    if not beyond or not gives_service_away(data, state):
        return EventEffect()
    price = state.approvals.credit_prices.get(data.unit, ZERO) - (data.overage_price or ZERO)
    value = price * beyond
    return EventEffect(credits_given=plain(beyond), value_given=plain(value) if value else ZERO)


def functional_amount(movement: Movement) -> int:
    """The functional amount. One that is too small for a minor unit counts as one: many of them are no way round."""
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
