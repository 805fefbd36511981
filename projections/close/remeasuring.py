"""The remeasurement of money in other currencies at the rates of a period's end.

Owns: the customers whose money must be remeasured, and the events for it. Does not own: the amounts
(deciding/currencies), recording the events (close).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import date, timedelta

from subledger.billing_documents import NO_STANDING, Standing
from subledger.books import Books, Rates
from subledger.deciding.currencies import StandingKey, remeasure
from subledger.errors import ExchangeRateStale
from subledger.events.envelope import Event
from subledger.ledger import LedgerState
from subledger.own_events import balances_remeasured
from subledger.periods import Period
from subledger.store.database import WriteConnection
from subledger.store.writing.rows import load_books
from subledger.store.writing.standing import refundable_blocks, standing_at
from subledger.wallet import Movement


def movements_due(
    connection: WriteConnection, ledger: str, on: date, functional_currency: str
) -> Iterator[tuple[str | None, tuple[Movement, ...]]]:
    """Yields the movements that bring money in other currencies to the rate of a day, by customer in order of id.

    Only customers with movements are included; None is the ledger itself. Raises ExchangeRateMissing.
    """
    books, standing = load_books(connection, ledger), _monetary(connection, ledger, on, functional_currency)
    yield from _movements(standing, books, on, functional_currency)


def _monetary(
    connection: WriteConnection, ledger: str, on: date, functional_currency: str
) -> dict[str | None, dict[StandingKey, Standing]]:
    """Money in other currencies at the end of a day, by customer in order of id; None is the ledger itself."""
    standing = standing_at(connection, ledger, on, functional_currency)
    refundable = refundable_blocks(connection, ledger, standing)
    # Prepaid credits are money only if they can be refunded (IAS 21.16: a right to receive or to deliver money).
    return {
        customer: {key: p for key, p in positions.items() if key[0] != "prepaid_liability" or key[2] in refundable}
        for customer, positions in sorted(standing.items(), key=lambda item: item[0] or "")
    }


def _movements(
    standing: Mapping[str | None, Mapping[StandingKey, Standing]], books: Books, on: date, functional_currency: str
) -> Iterator[tuple[str | None, tuple[Movement, ...]]]:
    for customer, monetary in standing.items():
        movements = remeasure(
            monetary, lambda _: NO_STANDING, books, on=on, following=on, functional_currency=functional_currency
        )
        if movements:
            yield customer, tuple(movements)


def remeasurements(connection: WriteConnection, state: LedgerState, position: int, period: Period) -> list[Event]:
    """Returns the events that remeasure money at the end of a period: one for each customer, and one for the ledger
    itself.

    These movements are not part of ``period.closed``. So each is in the history of its customer, and no event grows
    with the number of customers. Raises ExchangeRateMissing, ExchangeRateStale.
    """
    on, functional_currency = period.last_day, state.functional_currency
    books, standing = load_books(connection, state.ledger), _monetary(connection, state.ledger, on, functional_currency)
    due = list(_movements(standing, books, on, functional_currency))
    held = {key[1] for positions in standing.values() for key, amounts in positions.items() if amounts[0]}
    for currency in sorted(held):
        _check_age(books, currency, on, state)
    return [balances_remeasured(state, position, period, customer) for customer, _ in due]


def _check_age(books: Books, currency: str, on: date, state: LedgerState) -> None:
    """Raises ExchangeRateStale if the last rate is too old to be the rate of the day."""
    set_on = books.rates.get(currency, Rates()).day_of(on)
    if set_on is None or (on - set_on).days <= state.rate_max_age_days:
        return  # a missing rate is another refusal
    first, days = on - timedelta(days=state.rate_max_age_days), (on - set_on).days
    raise ExchangeRateStale(
        f"the exchange rate from {currency} to {state.functional_currency} on {on} is that of {set_on}, {days} days "
        f"before; ledger {state.ledger} closes a month with rates of at most {state.rate_max_age_days} days",
        field="data.currency",
        expected=f"an exchange_rate.set of base {currency} from {first} to {on}",
        found=str(set_on),
    )
