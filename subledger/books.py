"""The facts of a ledger that belong to no customer: exchange rates, breakage pools, its money in other currencies.

Owns: ``Books`` and how a decision changes them. Pure, like the wallet: replaying a log gives the same books.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Mapping
from datetime import date
from decimal import Decimal

import msgspec
from msgspec.structs import replace

from subledger.accounting_dates import accounting_date
from subledger.billing_documents import NO_STANDING, Standing, Standings, standing_name
from subledger.events.data import BreakageEstimated, ExchangeRateSet
from subledger.events.envelope import Event
from subledger.events.opened import BalanceOpened
from subledger.kinds import KIND_BY_NAME, LEDGER_ROLES
from subledger.pooling import Pools, after_movements, after_opening, with_estimate, without_estimate
from subledger.wallet import Decision, Movement


class Rates(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The rates of a currency in the functional currency, each from a day on; days ascending."""

    days: tuple[date, ...] = ()
    rates: tuple[Decimal, ...] = ()

    def on(self, day: date) -> Decimal | None:
        """The rate of a day: the latest that was set for it or for a day before."""
        index = bisect_right(self.days, day)
        return self.rates[index - 1] if index else None

    def day_of(self, day: date) -> date | None:
        """The day for which the rate of a day was set."""
        index = bisect_right(self.days, day)
        return self.days[index - 1] if index else None

    def set(self, day: date, rate: Decimal | None) -> Rates:
        """Sets the rate of a day, and replaces an earlier one. None: the day has no rate of its own any more."""
        index = bisect_left(self.days, day)
        after = index + (index < len(self.days) and self.days[index] == day)
        days, rates = self.days[:index], self.rates[:index]
        if rate is not None:
            days, rates = (*days, day), (*rates, rate)
        return Rates(days=(*days, *self.days[after:]), rates=(*rates, *self.rates[after:]))


class Books(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A ledger's own books after some position. ``standings`` are cash, processors and tax in other currencies."""

    rates: Mapping[str, Rates] = {}
    pools: Pools = Pools()
    standings: Standings = {}

    def rate(self, currency: str, day: date) -> Decimal | None:
        return self.rates.get(currency, Rates()).on(day)

    def standing(self, role: str, currency: str, processor: str | None = None) -> Standing:
        """The standing of a role of the ledger in a currency, debits positive."""
        return self.standings.get(standing_name(role, currency, processor), NO_STANDING)


def changes_books(event: Event, decision: Decision) -> bool:
    """True if ``evolve_books`` may change the books. Most events are usage in the functional currency, which does
    not.
    """
    if event.type in ("exchange_rate.set", "breakage.estimated"):
        return True
    if decision.restored_rate is not None or decision.restored_estimate is not None:
        return True
    return any(movement.currency is not None or movement.pool is not None for movement in decision.movements)


def evolve_books(
    books: Books,
    event: Event,
    decision: Decision,
    *,
    effective: date,
    functional_currency: str,
    closed_through: date | None,
) -> Books:
    """The books after a decision; ``effective``: the event's effective date, ``closed_through``: its value before the
    event.
    """
    data = event.data
    if isinstance(data, ExchangeRateSet):
        rates = books.rates.get(data.base, Rates()).set(effective, data.rate)
        return replace(books, rates={**books.rates, data.base: rates})
    if decision.restored_rate is not None:
        currency, day, rate = decision.restored_rate.currency, decision.restored_rate.day, decision.restored_rate.rate
        return replace(books, rates={**books.rates, currency: books.rates[currency].set(day, rate)})
    if decision.restored_estimate is not None:
        books = replace(books, pools=without_estimate(books.pools, decision.restored_estimate))
    if isinstance(data, BreakageEstimated):
        on = accounting_date(effective, closed_through)
        books = replace(books, pools=with_estimate(books.pools, data, decision.grouping, on))
    if isinstance(data, BalanceOpened):
        books = replace(books, pools=after_opening(books.pools, data, decision.movements, functional_currency))
    elif decision.restored_cohort is not None:
        books = replace(books, pools=books.pools.with_cohort(decision.restored_cohort))
    elif any(movement.pool is not None for movement in decision.movements):
        pools = after_movements(books.pools, decision.movements, functional_currency, closed_through)
        books = replace(books, pools=pools)
    for movement in decision.movements:
        books = apply_to_standings(books, movement)
    return books


def apply_to_standings(books: Books, movement: Movement) -> Books:
    """The books after a movement of money of the ledger itself in another currency."""
    if movement.currency is None:
        return books
    kind, standings = KIND_BY_NAME[movement.kind], books.standings
    functional = movement.amount_minor if movement.functional_minor is None else movement.functional_minor
    for role, sign in ((kind.debit_role, 1), (kind.credit_role, -1)):
        if role in LEDGER_ROLES:
            key = standing_name(role, movement.currency, movement.processor)
            amount, carried = standings.get(key, NO_STANDING)
            # A standing of zero stays. So its row stays, independent of the batches.
            after = Standing(amount + sign * movement.amount_minor, carried + sign * functional)
            standings = {**standings, key: after}
    return books if standings is books.standings else replace(books, standings=standings)
