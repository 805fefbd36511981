"""Details of a refusal: blocks that are no longer in the wallet, and the event that recorded a document first.

Looked up only for what was refused, in one query of each kind a batch, after everything was decided.

Owns: these look-ups. Does not own: the words (shortfalls, context), the decision, which stays as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

import msgspec

from subledger.context import First, document_exists
from subledger.errors import DocumentExists, InsufficientCredits, SubledgerError
from subledger.events import Event
from subledger.references import OnceKey, once_key
from subledger.shortfalls import UNKNOWN_CUSTOMER, insufficient, shortfalls_of
from subledger.store.database import WriteConnection
from subledger.store.memory import find_first, find_lapsed
from subledger.wallet import Wallet


class Unexplained(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A refusal of which more can be said, with what it was decided on."""

    error: SubledgerError
    event: Event
    wallet: Wallet
    customer_known: bool

    @property
    def of_usage(self) -> bool:
        """True if it refuses usage for which any block of the customer could have been drawn."""
        return isinstance(self.error, InsufficientCredits) and self.event.data.block_id is None


def is_unexplained(error: SubledgerError) -> bool:
    """True if a refusal lacks details: of usage without credits, or of a document without its first event."""
    if isinstance(error, InsufficientCredits):
        return "reasons" in error.facts
    return isinstance(error, DocumentExists) and "first" not in error.facts


def explained(
    connection: WriteConnection, ledger: str, refusals: Sequence[Unexplained], *, late: bool
) -> dict[int, SubledgerError]:
    """Errors that say more, by the identity of those that they replace."""
    customers = {refusal.wallet.customer for refusal in refusals if refusal.of_usage}
    lapsed = find_lapsed(connection, ledger, customers) if customers else {}
    keys = {key for refusal in refusals if (key := _document(refusal)) is not None}
    first = find_first(connection, ledger, keys)
    found: dict[int, SubledgerError] = {}
    for refusal in refusals:
        error, key = refusal.error, _document(refusal)
        if refusal.of_usage:
            blocks = refusal.wallet.recall(tuple(lapsed.get(refusal.wallet.customer, ()))).blocks
            reasons = shortfalls_of(blocks, refusal.event, late=late)
            if not refusal.customer_known:
                reasons = (UNKNOWN_CUSTOMER,)
            found[id(error)] = insufficient(refusal.event, Decimal(error.facts["missing"]), reasons)
        elif key is not None:
            found[id(error)] = _named(key, first.get(key), error)
    return found


def _document(refusal: Unexplained) -> OnceKey | None:
    if not isinstance(refusal.error, DocumentExists):
        return None
    return once_key(refusal.event.type, refusal.event.data)


def _named(key: OnceKey, first: First | None, error: SubledgerError) -> SubledgerError:
    return error if first is None else document_exists(key, first)
