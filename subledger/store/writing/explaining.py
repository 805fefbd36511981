"""Details of refusals: the reasons for too few credits, the first event of a document, the later event that blocks an
undo.

They are found only for refused events, and after the commit. The reason: other writers wait while a ledger is locked,
and a customer may have thousands of open blocks. A wallet is an immutable value, so the wallet of the decision can
still be read. Each case of a batch is examined once. All cases together examine a limited number of open blocks. A
refusal beyond the limit has only the numbers of requested, available and missing credits.

Owns: these queries, and their limit. Does not own: the words (shortfalls, context), the decision. The decision does not
change.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Final

import msgspec

from subledger.blocks import Block
from subledger.deciding.context import document_exists
from subledger.deciding.shortfalls import UNKNOWN_CUSTOMER, Asking, Shortfall, insufficient, reserved_of, shortfalls_of
from subledger.deciding.undo import changed_since
from subledger.errors import ChangedSince, DocumentExists, InsufficientCredits, SubledgerError
from subledger.events.data import CreditsConsumed, CreditsReserved, EventReversed
from subledger.events.envelope import Event, is_of
from subledger.events.references import OnceKey, once_key
from subledger.store.database import WriteConnection
from subledger.store.writing.referenced_rows import find_first, find_lapsed
from subledger.store.writing.undoing import find_later
from subledger.wallet import Wallet

MOST_LOOKS: Final = 100_000
"""The most open blocks that are examined for the refusals of one batch: some tenths of a second. The largest call needs
as many if all of it is refused and each customer has ten open blocks.
"""


class _Case(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Refusals with the same reasons: the wallet, unit, product, moment, block and reservation are the same."""

    wallet: Wallet
    customer_known: bool
    late: bool
    position: int
    refused: list[tuple[SubledgerError, Asking]]

    @property
    def block_id(self) -> str | None:
        _, event = self.refused[0]
        return event.data.block_id if isinstance(event.data, CreditsConsumed) else None

    @property
    def lapses(self) -> bool:
        """True if blocks that have left the wallet may be among the reasons."""
        return self.customer_known and self.block_id is None

    def reasons(self, lapsed: list[Block]) -> tuple[Shortfall, ...]:
        """Returns the reasons. They include blocks that had left the wallet when the event was decided."""
        if not self.customer_known:
            return (UNKNOWN_CUSTOMER,)
        _, event = self.refused[0]
        reserved = reserved_of(self.wallet.blocks, self.wallet.reservations, event, late=self.late)
        if self.block_id is not None:
            block = self.wallet.block(self.block_id)
            return reserved + shortfalls_of(() if block is None else (block,), event, late=self.late)
        before = tuple(block for block in lapsed if block.opened_at_position <= self.position)
        blocks = self.wallet.recall(before).blocks if before else self.wallet.blocks
        return reserved + shortfalls_of(blocks, event, late=self.late)


class Refusals:
    """Refusals of one batch for which there are details."""

    def __init__(self, *, most_looks: int = MOST_LOOKS) -> None:
        self._most_looks = most_looks
        self._cases: dict[tuple[object, ...], _Case] = {}
        self._documents: list[tuple[SubledgerError, OnceKey]] = []
        self._changed: list[tuple[ChangedSince, Event[EventReversed]]] = []
        self.looks = 0

    def __bool__(self) -> bool:
        return bool(self._cases or self._documents or self._changed)

    def add(
        self, error: SubledgerError, event: Event, wallet: Wallet, *, customer_known: bool, late: bool, position: int
    ) -> None:
        """Adds a refusal that may have details, with the wallet and the position at which it was decided."""
        if isinstance(error, InsufficientCredits) and (is_of(event, CreditsConsumed) or is_of(event, CreditsReserved)):
            data = event.data
            late = late and isinstance(data, CreditsConsumed)  # a reservation cannot use expired credits
            named = (data.block_id, data.reservation_id) if isinstance(data, CreditsConsumed) else None
            key = id(wallet), data.unit, data.product, named, event.occurred_at, late
            case = self._cases.get(key)
            if case is None:
                if self.looks and self.looks + len(wallet.blocks) > self._most_looks:
                    return  # without the wallet, which would stay in memory; the first case is always examined
                self.looks += len(wallet.blocks)
                case = self._cases[key] = _Case(
                    wallet=wallet, customer_known=customer_known, late=late, position=position, refused=[]
                )
            case.refused.append((error, event))
        elif isinstance(error, ChangedSince) and "changed_by" not in error.facts and is_of(event, EventReversed):
            self._changed.append((error, event))
        elif isinstance(error, DocumentExists) and "first" not in error.facts:
            document = once_key(event.type, event.data)
            if document is not None:
                self._documents.append((error, document))

    def explained(self, connection: WriteConnection, ledger: str) -> dict[int, SubledgerError]:
        """Returns errors with details, by the identity of the errors that they replace, with one query of each kind."""
        customers = {case.wallet.customer for case in self._cases.values() if case.lapses}
        lapsed = find_lapsed(connection, ledger, customers) if customers else {}
        found: dict[int, SubledgerError] = {}
        for case in self._cases.values():
            reasons = case.reasons(lapsed.get(case.wallet.customer, []))
            for error, event in case.refused:
                found[id(error)] = insufficient(event, Decimal(error.facts["missing"]), reasons)
        first = find_first(connection, ledger, {document for _, document in self._documents})
        for error, document in self._documents:
            if document in first:
                found[id(error)] = document_exists(document, first[document])
        for changed, undoing in self._changed:
            later = find_later(connection, ledger, undoing, changed.facts)
            if later is not None:
                found[id(changed)] = changed_since(changed.found or "", *later)
        return found
