"""State of a month's journals in a general ledger: in its books, on their way, taken out, or not sent.

The state is read from the deliveries, journal by journal. An export in a channel's format proves nothing: its file may
have gone nowhere.

Owns: which deliveries count for a journal, and which journals have something to deliver. Does not own: the outbox.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec

from projections.delivery.channels import Channel, list_channels
from projections.delivery.deliveries import Delivery, list_deliveries
from projections.delivery.states import IN_THE_BOOKS, State
from projections.journals.journal import Journal
from subledger.periods import Period
from subledger.store.reading.queries import AnyConnection, rows

WITHOUT_DOCUMENTS: Final = """
-- Journals of a period that have no document in a general ledger's format.
SELECT number FROM journal_exports
WHERE ledger = %(ledger)s AND period = %(period)s AND format = %(format)s AND NOT detail
  AND postings IS NOT NULL AND postings::json -> 'documents' -> 0 IS NULL
"""
_SHOWN: Final = 20


class Arrival(msgspec.Struct, frozen=True, kw_only=True):
    """The month's deliveries that count in one general ledger, and the numbers of the journals without a delivery.

    ``channel`` is None if no channel leads to this general ledger any more. Then ``not_sent`` is empty.
    """

    destination: str
    channel: Channel | None
    deliveries: tuple[Delivery, ...]
    not_sent: tuple[int, ...] = ()

    @property
    def in_the_books(self) -> bool:
        """True if every journal that has something to deliver is in the books. Deliveries that a person took out do not
        count.
        """
        return not self.not_sent and all(
            each.state in IN_THE_BOOKS or each.state is State.ABANDONED for each in self.deliveries
        )

    @property
    def dead(self) -> list[str]:
        return self._in(State.REJECTED, State.FAILED)

    @property
    def taken_out(self) -> list[str]:
        return self._in(State.ABANDONED)

    @property
    def reconciled(self) -> bool:
        """True if every journal that has something to deliver was tied out."""
        return not self.not_sent and len(self._in(State.RECONCILED)) == len(self.deliveries)

    @property
    def evidence(self) -> dict[str, Any]:
        return {
            "deliveries": dict(sorted(Counter(each.state.value for each in self.deliveries).items())),
            "not_sent": list(self.not_sent),
            "dead": self.dead[:_SHOWN],
            "abandoned": self.taken_out[:_SHOWN],
        }

    def _in(self, *states: State) -> list[str]:
        return [each.delivery_id for each in self.deliveries if each.state in states]


def arrivals_of(connection: AnyConnection, ledger: str, period: Period, journals: Sequence[Journal]) -> list[Arrival]:
    """Reads the arrivals of a month: one for each channel of the ledger, by name; then one for each destination without
    a channel.
    """
    found: dict[str, list[Delivery]] = {}
    for delivery in list_deliveries(connection, ledger, period=period):
        found.setdefault(delivery.destination, []).append(delivery)
    arrivals = []
    channels = list_channels(connection, ledger)
    for channel in channels:
        counting = _counting(found.get(channel.destination, ()))
        sent = {each.number for each in counting}
        parameters = {"ledger": ledger, "period": str(period), "format": channel.format.name}
        empty = {number for (number,) in rows(connection, WITHOUT_DOCUMENTS, parameters)}
        wanted = [journal.number for journal in journals if journal.lines and journal.number not in empty]
        arrivals.append(
            Arrival(
                destination=channel.destination,
                channel=channel,
                deliveries=counting,
                not_sent=tuple(number for number in wanted if number not in sent),
            )
        )
    led_to = {channel.destination for channel in channels}
    former = [
        Arrival(destination=destination, channel=None, deliveries=_counting(deliveries))
        for destination, deliveries in sorted(found.items())
        if destination not in led_to
    ]
    return arrivals + former


def _counting(found: Iterable[Delivery]) -> tuple[Delivery, ...]:
    """Leaves out the deliveries that were taken out if their journal goes to the same general ledger another way."""
    found = tuple(found)
    ways = {each.number: (each.channel, each.export_id) for each in found if each.state is not State.ABANDONED}
    return tuple(each for each in found if ways.get(each.number) in (None, (each.channel, each.export_id)))
