"""Wallets whose rows are behind: the usage that came after a row, and the wallet with it.

Owns: bringing what was read up to date. Does not own: which rows are left behind (memory). Usage changes what is left
of a block, never its terms; who reads only terms (projections do) has no need of this.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from subledger.events.envelope import stored_event
from subledger.evolving import evolve
from subledger.store.database import WriteConnection
from subledger.store.decision_text import decision_whole
from subledger.store.writing.rows import decode_decision
from subledger.wallet import Wallet

USAGE_BEHIND: Final = f"""
-- Usage that some wallet's row may not know of yet.
SELECT e.position, e.source, e.event_id, e.customer, e.occurred_at, e.data, e.attributes,
       {decision_whole("%(ledger)s")}
FROM events e JOIN ledgers l ON l.ledger = e.ledger AND e.position > l.wallets_through
WHERE e.ledger = %(ledger)s AND e.type = 'credits.consumed'
ORDER BY e.position
"""


class Held(msgspec.Struct, kw_only=True):
    """A wallet as its row has it, and after the usage that was recorded since. ``position``: its last event's."""

    wallet: Wallet
    position: int
    later: int = 0
    """How many events its row does not know of."""


def follow(held: Mapping[str, Held], usage: Iterable[tuple[Any, ...]], functional_currency: str) -> None:
    """Adds usage, in order, to wallets read before it; what a row knows already changes nothing."""
    for position, source, event_id, customer, occurred_at, data, attributes, decision in usage:
        of = held.get(customer)
        if of is None or position <= of.position:
            continue
        event = stored_event(
            source=source, event_id=event_id, type="credits.consumed", customer=customer, occurred_at=occurred_at,
            data_text=data, attributes_text=attributes,
        )  # fmt: skip
        wallet = evolve(
            of.wallet, event, decode_decision(decision), position=position, functional_currency=functional_currency
        )
        of.wallet, of.position, of.later = wallet.without_finished(), position, of.later + 1


def usage_behind(connection: WriteConnection, ledger: str) -> list[tuple[Any, ...]]:
    """Rows for ``follow``: none where no row is behind."""
    return list(connection.execute(USAGE_BEHIND, {"ledger": ledger}))
