"""Ids that come into a ledger for the first time: none has a character that acts where it is printed.

With U+202E in it an id is shown backwards, and U+009B starts a sequence of a terminal. We print them as numbers
(visible_text); other programs, which our exports and answers go to, may not.

Owns: which characters a new id may not have. Does not own: names of products, units, pools and processors, and an
event's source, of which no one use is the first. Recorded events are never checked again, and an id that the ledger
knows from before this rule goes on working.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Final

from subledger.errors import InvalidValue
from subledger.events import OWN_SOURCE, Event

_ACTING: Final = re.compile("[\x80-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
"""C1 controls, the line and paragraph separators, and the bidirectional controls of Unicode (UAX 9)."""


def check_new_ids(event: Event, is_known: Callable[[str], bool]) -> None:
    """Raises InvalidValue naming the first id that acts and that ``is_known`` does not know."""
    if (event.data_text.isascii() and event.event_id.isascii()) and (event.customer or "").isascii():
        return
    if event.source == OWN_SOURCE:
        return
    for field, text in _ids(event):
        found = _ACTING.search(text)
        if found is not None and not is_known(text):
            raise InvalidValue(
                f"{field} has the character U+{ord(found[0]):04X}, which acts where it is printed; send the id without "
                "it",
                field=field, expected="an id without control characters, also C1 and bidirectional ones", found=text,
            )  # fmt: skip


def _ids(event: Event) -> Iterator[tuple[str, str]]:
    yield "id", event.event_id
    if event.customer is not None:
        yield "subject", event.customer
    for name in type(event.data).model_fields:
        value = getattr(event.data, name)
        if (name.endswith("_id") or name == "to_customer") and isinstance(value, str):
            yield f"data.{name}", value
