"""The references of an event: blocks, billing documents, customers and events that are loaded before it is decided.

Owns: the fields that refer to them, by event type. Does not own: reading them from the database (store).
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from functools import cache
from typing import Final

import msgspec

from subledger.billing_documents import BillingDocument, Dispute, DocumentPart, Payment
from subledger.events.data import ConsumptionReversed, EventReversed
from subledger.events.envelope import Event
from subledger.events.fields import EventData
from subledger.events.opened import BalanceOpened
from subledger.wallet import Decision

DocumentKey = tuple[str, str]
"""``payment``, ``invoice``, ``dispute`` or ``reservation``, and its id."""

DOCUMENTS: Final = {
    "payment.received": ("payment", "payment_id"), "dispute.opened": ("dispute", "dispute_id"),
    "overage.billed": ("invoice", "invoice_id"), "payout.settled": ("payout", "payout_id"),
    "payment.refunded": ("refund", "refund_id"), "processor.adjusted": ("adjustment", "adjustment_id"),
    "credits.reserved": ("reservation", "reservation_id"),
}  # fmt: skip
"""Documents that are recorded once by their own id, under any event id: by event type, the kind and the field.
"""

_OF_PROCESSORS: Final = frozenset({"payout", "adjustment"})

OnceKey = tuple[str, str, str]
"""The kind of a document; the processor that gave the id, for payouts and adjustments (else empty); the id.

Ids are compared exactly, because case matters in a processor's ids. The name of a processor is free text of the sender.
So ``stripe`` and ``Stripe`` count as one; otherwise the same payout under both names would be booked into cash twice.
"""


def once_key(type: str, data: EventData) -> OnceKey | None:
    """The key of the document that an event records; None for events without their own document."""
    if isinstance(data, BalanceOpened):
        return None if data.document is None else once_key_of(data.document[0], None, data.document[1])
    kind, field = DOCUMENTS.get(type, (None, ""))
    document_id: str | None = getattr(data, field) if kind is not None else None
    if kind is None or document_id is None:
        return None
    return once_key_of(kind, getattr(data, "processor", None), document_id)


def once_key_of(kind: str, processor: str | None, document_id: str) -> OnceKey:
    """The key of a document from its parts. Case, width and blanks of the processor's name do not matter."""
    if kind not in _OF_PROCESSORS or processor is None:
        return (kind, "", document_id)
    return (kind, " ".join(unicodedata.normalize("NFKC", processor).casefold().split()), document_id)


_OF_INVOICES: Final = frozenset({"payment.received", "payment.applied", "credit_memo.issued", "receivable.written_off"})


class References(msgspec.Struct, frozen=True, kw_only=True):
    """The references of some events. ``reversed``: the keys of usage that they reverse. ``undone``: the keys of events
    that they undo.
    """

    keys: set[tuple[str, str]] = set()
    customers: set[str] = set()
    blocks: set[str] = set()
    documents: set[DocumentKey] = set()
    invoices: set[str] = set()
    reversed: set[tuple[str, str]] = set()
    undone: set[tuple[str, str]] = set()


def references_of(events: Iterable[Event]) -> References:
    """The references of some events, and their own keys."""
    found = References()
    for event in events:
        found.keys.add((event.source, event.event_id))
        if event.customer is not None:
            found.customers.add(event.customer)
        data = event.data
        if isinstance(data, EventReversed):
            found.undone.add((data.event_source or event.source, data.event_id))
        for kind, field in _reference_fields(data.__class__, event.type):
            value: str | None = getattr(data, field)
            if value is None:
                continue
            if kind == "customer":
                found.customers.add(value)
            elif kind == "block":
                found.blocks.add(value)
            elif kind == "invoiced":
                found.invoices.add(value)
            elif isinstance(data, ConsumptionReversed) and kind == "original":
                found.reversed.add((data.event_source or event.source, value))
            else:
                found.documents.add((kind, value))
    return found


@cache
def _reference_fields(data: type[EventData], type: str) -> tuple[tuple[str, str], ...]:
    """The fields of an event type that refer to something. The invoice of a purchase or of usage is only a label."""
    fields = [("customer", "to_customer"), ("block", "block_id"), ("block", "new_block_id")]
    fields.append(("reservation", "reservation_id"))
    if type == "consumption.reversed":
        fields.append(("original", "event_id"))
    if type not in ("credits.purchased", "credits.consumed"):
        fields += [("payment", "payment_id"), ("invoice", "invoice_id"), ("dispute", "dispute_id")]
    if type in _OF_INVOICES:
        fields.append(("invoiced", "invoice_id"))
    return tuple((kind, field) for kind, field in fields if field in data.model_fields)


def customers_of(event: Event, decision: Decision) -> tuple[str, ...]:
    """The customers whose wallets a decision changes, the event's own first."""
    own = () if event.customer is None else (event.customer,)
    if len(decision.movements) == 1 and decision.movements[0].customer is None:
        return own
    others = {movement.customer for movement in decision.movements}
    if others <= {None, event.customer}:
        return own
    return own + tuple(sorted(customer for customer in others - {None, event.customer} if customer is not None))


def documents_referenced_by(found: Iterable[BillingDocument]) -> tuple[set[str], set[DocumentKey]]:
    """The blocks and documents to which payments were applied, or which are disputed."""
    parts: list[DocumentPart] = []
    more: set[DocumentKey] = set()
    for document in found:
        if isinstance(document, Payment):
            parts += document.applied
        elif isinstance(document, Dispute):
            parts += document.parts
            more |= {("payment", document.payment_id)} if document.payment_id is not None else set()
    return (
        {part.block_id for part in parts if part.block_id is not None},
        more | {("invoice", part.invoice_id) for part in parts if part.invoice_id is not None},
    )
