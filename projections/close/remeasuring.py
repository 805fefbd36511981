"""The remeasurement of money in other currencies at the rates of a period's end.

Owns: the customers whose money must be remeasured, and the events for it. Does not own: the amounts
(deciding/currencies), recording the events (close).
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date

from subledger.billing_documents import NO_STANDING
from subledger.deciding.currencies import remeasure
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
    books = load_books(connection, ledger)
    standing = standing_at(connection, ledger, on, functional_currency)
    refundable = refundable_blocks(connection, ledger, standing)
    for customer, positions in sorted(standing.items(), key=lambda item: item[0] or ""):
        # Prepaid credits are money only if they can be refunded (IAS 21.16: a right to receive or to deliver money).
        monetary = {key: p for key, p in positions.items() if key[0] != "prepaid_liability" or key[2] in refundable}
        movements = remeasure(
            monetary, lambda _: NO_STANDING, books, on=on, following=on, functional_currency=functional_currency
        )
        if movements:
            yield customer, tuple(movements)


def remeasurements(connection: WriteConnection, state: LedgerState, position: int, period: Period) -> list[Event]:
    """Returns the events that remeasure money at the end of a period: one for each customer, and one for the ledger
    itself.

    These movements are not part of ``period.closed``. So each is in the history of its customer, and no event grows
    with the number of customers. Raises ExchangeRateMissing.
    """
    due = movements_due(connection, state.ledger, period.last_day, state.functional_currency)
    return [balances_remeasured(state, position, period, customer) for customer, _ in due]
