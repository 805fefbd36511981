"""Write-behind: wallets whose rows are older than the log, and the time at which their rows are written.

Usage changes only the figures of a wallet, and updating its row is the largest part of the cost of usage. So large
batches do not write the rows of wallets on which only usage drew; these rows are written later. Two facts in the
database make this safe, even if the writer fails:

- A wallet's row has every event of its customer through the row's own ``position``.
- Every row has every event through the ledger's ``wallets_through``.

So a row can lack only usage after ``wallets_through``. A writer that takes over adds this usage (``catch_up``) before
it decides anything. Events other than usage write their wallets at once. So do batches of few events, and a writer that
was not the last one. So rows are behind only while much usage arrives.

Owns: the limits, and bringing wallets up to date. Does not own: the choice of rows in a batch (working_set). Usage
never changes a block's terms, so projections that read only terms do not need this.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from subledger.evolving import evolve
from subledger.ledger import LedgerState
from subledger.store.columns import EVENTS, EventRow
from subledger.store.database import WriteConnection
from subledger.store.decision_text import decision_sql
from subledger.store.writing.rows import decode_decision
from subledger.wallet import Wallet

MAX_WRITE_THROUGH: Final = 500
"""A batch of at most so many events writes every row."""
MAX_UNWRITTEN: Final = 50_000
"""After so many events every row is written. This limits the work of a writer that takes over."""
MAX_UNWRITTEN_OF_CUSTOMER: Final = 256
"""The limit for one customer, so that the row of a customer in constant use never falls far behind."""

USAGE_BEHIND: Final = f"""
-- Usage that the row of some wallet may lack.
SELECT {EVENTS.selected("e", decision=decision_sql("%(ledger)s"))}
FROM events e JOIN ledgers l ON l.ledger = e.ledger AND e.position > l.wallets_through
WHERE e.ledger = %(ledger)s AND e.type = 'credits.consumed'
ORDER BY e.position
"""


class Unwritten(msgspec.Struct, frozen=True, gc=False):
    """The number of events that a wallet's rows lack, the position of the last one, the wallet as its rows have it."""

    events: int
    last_position: int
    row: Wallet


def writes_every_row(*, events: int, behind: int) -> bool:
    """Returns True if a batch writes every row: it has few ``events``, or rows would be too far ``behind`` its last
    one.
    """
    return events <= MAX_WRITE_THROUGH or behind > MAX_UNWRITTEN


def is_far_behind(unwritten: Unwritten) -> bool:
    """Returns True if the row of one customer lacks so many events that every batch must write it."""
    return unwritten.events > MAX_UNWRITTEN_OF_CUSTOMER


class CaughtUp(msgspec.Struct, kw_only=True):
    """A wallet as in its rows (``row``); ``wallet`` has, after ``catch_up``, the usage that the rows lack."""

    row: Wallet
    wallet: Wallet
    position: int
    """The position of the wallet's last event."""
    unwritten_events: int = 0


def catch_up(wallets: Mapping[str, CaughtUp], usage: Iterable[EventRow], state: LedgerState) -> None:
    """Adds usage, in order of position, to wallets that were read before it. Usage that a row already has
    changes nothing.

    ``state`` is the ledger's head: no month was closed or opened again since the rows of all wallets were written.
    """
    for row in usage:
        stale = wallets.get(row.customer or "")
        if stale is None or row.position <= stale.position:
            continue
        decision = decode_decision(row.decision_text)
        wallet = evolve(
            stale.wallet,
            row.read(),
            decision,
            position=row.position,
            functional_currency=state.functional_currency,
            closed_through=state.closed_through,
        )
        stale.wallet, stale.position = wallet.without_finished(stale.wallet), row.position
        stale.unwritten_events += 1


def usage_behind(connection: WriteConnection, ledger: str) -> list[EventRow]:
    """Returns the usage for ``catch_up``; none if every row is up to date."""
    return [EventRow(*row) for row in connection.execute(USAGE_BEHIND, {"ledger": ledger})]
