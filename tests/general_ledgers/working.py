"""Working a channel until nothing is due, and what became of a delivery."""

from __future__ import annotations

from api.service import Subledger
from projections.delivery import outbox
from projections.delivery.channels import Channel
from projections.delivery.outbox import Delivery, Step
from projections.delivery.sending import deliver_due
from tests.general_ledgers.conftest import deliveries
from tests.waiting import until


def work(service: Subledger, channel: Channel) -> None:
    """Until nothing is due any more, now or later."""

    def nothing_is_due() -> bool:
        deliver_due(service.database, channel)
        with service.database.read() as connection:
            return outbox.next_due(connection, channel) is None

    until(nothing_is_due, "a delivery that is still due")


def steps(service: Subledger, delivery: Delivery) -> list[Step]:
    with service.database.read() as connection:
        return outbox.steps_of(connection, delivery)


def states(service: Subledger, delivery: Delivery) -> list[str]:
    found = [step.state for step in steps(service, delivery)]
    return [state for place, state in enumerate(found) if not place or found[place - 1] is not state]


def the_one(service: Subledger, channel: Channel) -> Delivery:
    """The only delivery of the channel's ledger."""
    [delivery] = deliveries(service, channel.ledger)
    return delivery
