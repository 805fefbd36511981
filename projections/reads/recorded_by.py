"""The person behind an event: the user of one of the ledger's own events, or the two people of an approved event.

Owns: the words, which answers and reports share. Does not own: the sender of other events, which is their ``source``.
"""

from __future__ import annotations

from subledger.events.envelope import OWN_SOURCE


def person_of(source: str, by: str | None, maker: str | None, checker: str | None) -> str | None:
    """Returns the person behind an event, None if unknown.

    ``by`` is in the data of the ledger's own events. ``maker`` and ``checker`` are those of the approval, if the event
    needed a second person.
    """
    if maker is not None and checker is not None:
        return f"requested by {maker}, approved by {checker}"
    return f"by {by}" if source == OWN_SOURCE and by else None
