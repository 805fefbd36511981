"""What an event refers to, so that it can be brought to hand before the event is decided or replayed.

Owns: which fields of which event name blocks, documents and customers. Does not own: looking them up (store).
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Any, Final

from subledger.documents import Applied, Dispute, Document, Payment
from subledger.events import Event
from subledger.wallet import Decision

DocumentKey = tuple[str, str]
"""``payment``, ``invoice`` or ``dispute``, and its id."""

_OF_INVOICES: Final = frozenset({"payment.received", "payment.applied", "credit_memo.issued"})
_DOCUMENT_FIELDS: Final = (("payment", "payment_id"), ("invoice", "invoice_id"), ("dispute", "dispute_id"))


@cache
def _fields_of(data: Any, among: tuple[str, ...]) -> tuple[str, ...]:
    """Which of these fields a type of data has. Asking a value for one it has not costs more than deciding it."""
    return tuple(field for field in among if field in data.model_fields)


def _named(event: Event, among: tuple[str, ...]) -> tuple[str, ...]:
    """What an event says in these fields, in their order."""
    data = event.data
    values = [getattr(data, field) for field in _fields_of(data.__class__, among)]
    return tuple(value for value in values if value is not None)


def customers(event: Event) -> tuple[str, ...]:
    """Whose wallets an event may change."""
    others = _named(event, ("to_customer",))
    return others if event.customer is None else (event.customer, *others)


def customers_of(event: Event, decision: Decision) -> tuple[str, ...]:
    """Whose wallets a decision changes, the event's own first."""
    own = () if event.customer is None else (event.customer,)
    others = {movement.customer for movement in decision.movements}
    if others <= {None, event.customer}:
        return own
    return own + tuple(sorted(customer for customer in others - {None, event.customer} if customer is not None))


def blocks(event: Event) -> tuple[str, ...]:
    """The block ids an event names itself, the new one of a transfer among them."""
    return _named(event, ("block_id", "new_block_id"))


def invoice(event: Event) -> str | None:
    """The invoice whose blocks are meant, where the event pays or concedes something."""
    return event.data.invoice_id if event.type in _OF_INVOICES else None


def documents(event: Event) -> tuple[DocumentKey, ...]:
    """The payments, invoices and disputes an event names. The invoice of a purchase or of usage is only a label."""
    if event.type in ("credits.purchased", "credits.consumed"):
        return ()
    return tuple((kind, name) for kind, field in _DOCUMENT_FIELDS for name in _named(event, (field,)))


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
