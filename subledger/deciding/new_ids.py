"""Ids that are new in a ledger: none may contain a control character that acts when it is printed.

U+202E shows an id backwards, and U+009B starts a control sequence of a terminal. This program prints such characters as
numbers (visible_text). Other programs that read exports and answers may not.

Owns: the characters that a new id may not have, and the fields that make an id in the ledger. Does not own: names of
products, units, pools and processors, orders, the invoice of usage, and an event's source, because these have no first
use. Recorded events are never checked again, and older ids continue to work.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from subledger.errors import InvalidValue
from subledger.events.envelope import OWN_SOURCE, Event
from subledger.events.references import DOCUMENTS

_ACTING: Final = re.compile("[\x80-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
"""C1 controls, the line and paragraph separators, and the bidirectional controls of Unicode (UAX 9)."""

_MADE: Final = {
    "credits.purchased": (("block", "block_id"), ("invoice", "invoice_id")),
    "credits.granted": (("block", "block_id"),),
    "credits.transferred": (("customer", "to_customer"), ("block", "new_block_id")),
    "balance.opened": (("block", "block_id"), ("invoice", "invoice_id"), ("payment", "payment_id")),
    **{type: (document,) for type, document in DOCUMENTS.items()},
}  # fmt: skip
"""The ids that the data of an event can make, by its type: the kind of the id, and the field. Other fields refer to
existing ids; otherwise the event is refused for this reason.
"""


def check_new_ids(event: Event, is_known: Callable[[str, str], bool]) -> None:
    """Raises InvalidValue naming the first new id with such a character.

    ``is_known`` returns True if the ledger already has the id. It takes the id's kind (``customer``, ``block`` or the
    kind of a billing document) and the id.
    """
    if _is_plain(event) or event.source == OWN_SOURCE:
        return
    for field, kind, text in _ids(event):
        found = _ACTING.search(text)
        if found is not None and not is_known(kind, text):
            raise InvalidValue(
                f"{field} has the character U+{ord(found[0]):04X}, which acts where it is printed; send the id without "
                "it",
                field=field,
                expected="an id without control characters, also C1 and bidirectional ones",
                found=text,
            )


def acting_invoices(events: Iterable[Event]) -> set[str]:
    """The invoice ids of purchases with such a character, to be looked up: a block or a bill may have them already."""
    return {
        text
        for event in events
        if event.type in ("credits.purchased", "balance.opened") and not _is_plain(event)
        for _, kind, text in _ids(event)
        if kind == "invoice" and _ACTING.search(text)
    }


def _is_plain(event: Event) -> bool:
    return event.data_text.isascii() and event.event_id.isascii() and (event.customer or "").isascii()


def _ids(event: Event) -> Iterator[tuple[str, str, str]]:
    """The ids that an event can make: the field, the kind, and the id."""
    yield "id", "event", event.event_id  # a recorded event is found as a duplicate before this check
    if event.customer is not None:
        yield "subject", "customer", event.customer
    for kind, name in _MADE.get(event.type, ()):
        text = getattr(event.data, name)
        if text is not None:
            yield f"data.{name}", kind, text
