"""Delivering a channel until nothing is due, and reading a delivery."""

from __future__ import annotations

from typing import Final

from api.service import Subledger
from projections.delivery import outbox
from projections.delivery.channels import Channel
from projections.delivery.deliveries import Delivery, Step, steps_of
from projections.delivery.sending import deliver_due
from tests.general_ledgers.conftest import deliveries
from tests.waiting import HANGS_S, until

SENT_LONG_AGO: Final = """
-- What is looked for was sent an hour earlier than it was.
UPDATE deliveries SET submitted_at = submitted_at - interval '1 hour'
WHERE ledger = %(ledger)s AND channel = %(channel)s AND state IN ('unknown', 'accepted')
"""


def work(service: Subledger, channel: Channel) -> None:
    """Delivers until nothing is due, now or later.

    Between rounds the time is moved on, so that a submission that was not found can no longer arrive; unless the
    channel waits for it (``pace.meeting``).
    """
    waits = channel.settings.settle_s >= HANGS_S

    def nothing_is_due() -> bool:
        deliver_due(service.database, channel)
        if not waits:
            let_time_pass(service, channel)
        with service.database.read() as connection:
            return outbox.next_due(connection, channel) is None

    until(nothing_is_due, "a delivery that is still due")


def let_time_pass(service: Subledger, channel: Channel) -> None:
    """Moves the time on, so that a submission can no longer arrive."""
    with service.database.write() as connection:
        connection.execute(SENT_LONG_AGO, {"ledger": channel.ledger, "channel": channel.name})


def steps(service: Subledger, delivery: Delivery) -> list[Step]:
    with service.database.read() as connection:
        return steps_of(connection, delivery)


def states(service: Subledger, delivery: Delivery) -> list[str]:
    found = [step.state for step in steps(service, delivery)]
    return [state for place, state in enumerate(found) if not place or found[place - 1] is not state]


def the_one(service: Subledger, channel: Channel) -> Delivery:
    """The only delivery of the channel's ledger."""
    [delivery] = deliveries(service, channel.ledger)
    return delivery
