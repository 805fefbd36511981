"""What an event refers to, so that it can be brought to hand before the event is decided or replayed.

Owns: which fields of which event name blocks, documents and customers. Does not own: looking them up (store).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from subledger.documents import Applied, Dispute, Document, Payment
from subledger.events import Event
from subledger.wallet import Decision

DocumentKey = tuple[str, str]
"""``payment``, ``invoice`` or ``dispute``, and its id."""

_OF_INVOICES: Final = frozenset({"payment.received", "payment.applied", "credit_memo.issued"})
_DOCUMENT_FIELDS: Final = (("payment", "payment_id"), ("invoice", "invoice_id"), ("dispute", "dispute_id"))


def customers(event: Event) -> tuple[str, ...]:
    """Whose wallets an event may change."""
    to_customer = getattr(event.data, "to_customer", None)
    return tuple(customer for customer in (event.customer, to_customer) if customer is not None)


def customers_of(event: Event, decision: Decision) -> tuple[str, ...]:
    """Whose wallets a decision changes, the event's own first."""
    others = {movement.customer for movement in decision.movements} - {None, event.customer}
    own = () if event.customer is None else (event.customer,)
    return own + tuple(sorted(customer for customer in others if customer is not None))


def blocks(event: Event) -> tuple[str, ...]:
    """The block ids an event names itself, the new one of a transfer among them."""
    data: Any = event.data
    return tuple(
        block_id
        for block_id in (getattr(data, "block_id", None), getattr(data, "new_block_id", None))
        if block_id is not None
    )


def invoice(event: Event) -> str | None:
    """The invoice whose blocks are meant, where the event pays or concedes something."""
    return getattr(event.data, "invoice_id", None) if event.type in _OF_INVOICES else None


def documents(event: Event) -> tuple[DocumentKey, ...]:
    """The payments, invoices and disputes an event names. The invoice of a purchase or of usage is only a label."""
    if event.type in ("credits.purchased", "credits.consumed"):
        return ()
    named = ((kind, getattr(event.data, field, None)) for kind, field in _DOCUMENT_FIELDS)
    return tuple((kind, document_id) for kind, document_id in named if document_id is not None)


def behind(found: Iterable[Document]) -> tuple[set[str], set[DocumentKey]]:
    """The blocks, invoices and payments that payments were applied to and disputes are about."""
    parts: list[Applied] = []
    more: set[DocumentKey] = set()
    for document in found:
        if isinstance(document, Payment):
            parts += document.applied
        elif isinstance(document, Dispute):
            parts += document.parts
            more |= {("payment", document.payment_id)} if document.payment_id is not None else set()
    return (
        {part.block for part in parts if part.block is not None},
        more | {("invoice", part.invoice) for part in parts if part.invoice is not None},
    )
