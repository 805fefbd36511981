"""Ids that come into a ledger for the first time: none has a character that acts where it is printed.

With U+202E in it an id is shown backwards, and U+009B starts a sequence of a terminal. We print them as numbers
(visible_text); other programs, which our exports and answers go to, may not.

Owns: which characters a new id may not have, and which fields make an id in the ledger. Does not own: names of
products, units, pools and processors, orders, the invoice of usage, and an event's source, of which no one use is the
first. Recorded events are never checked again, and an id that the ledger has from before this rule goes on working.
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
"""The ids that the data of an event can make, by its type: of what, and the field. Other fields refer to what exists,
or the event is refused for that."""


def check_new_ids(event: Event, is_known: Callable[[str, str], bool]) -> None:
    """Raises InvalidValue naming the first new id that acts.

    ``is_known`` returns True if the ledger has an id that acts. It takes the id's kind (``customer``, ``block`` or the
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
    """The invoices of purchases whose ids act, to be looked up: a block or a bill may have them already."""
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
    yield "id", "event", event.event_id  # one that is recorded is a duplicate before it is checked
    if event.customer is not None:
        yield "subject", "customer", event.customer
    for kind, name in _MADE.get(event.type, ()):
        text = getattr(event.data, name)
        if text is not None:
            yield f"data.{name}", kind, text
