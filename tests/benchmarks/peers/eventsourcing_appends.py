"""eventsourcing: aggregates in PostgreSQL. ``eventsourcing_appends.py URL CUSTOMERS EVENTS``

It does: one aggregate for each customer, held in memory; usage as a JSON event of the aggregate, with a version against
concurrent writes; one save, which is one durable commit, for all events of a batch.

It does not: look up if an event was recorded before, decide, post entries, hash, store a balance that can be read
without a replay.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from urllib.parse import urlsplit

from in_turns import answer


def main(url: str, customers: int, events: int) -> None:
    parts = urlsplit(url)
    os.environ |= {
        "PERSISTENCE_MODULE": "eventsourcing.postgres",
        "POSTGRES_DBNAME": parts.path.lstrip("/"),
        "POSTGRES_HOST": parts.hostname or "",
        "POSTGRES_PORT": str(parts.port or 5432),
        "POSTGRES_USER": parts.username or "",
        "POSTGRES_PASSWORD": parts.password or "",
    }
    from eventsourcing.application import Application
    from eventsourcing.domain import Aggregate, event

    # The attributes of an event are the arguments of the method that makes it.
    class Customer(Aggregate):
        @event("Opened")
        def __init__(self, name: str) -> None:  # noqa: ARG002 - kept in the event
            self.used = 0

        @event("Consumed")
        def consume(self, event_id: str, tenths: int, product: str) -> None:  # noqa: ARG002 - likewise
            self.used += tenths

    application = Application()
    wallets = [Customer(f"customer-{n}") for n in range(customers)]
    for first in range(0, customers, 1_000):
        application.save(*wallets[first : first + 1_000])
    done = 0

    def work() -> Callable[[], object]:
        nonlocal done
        numbers = range(done, done + events)
        done += events

        def do() -> None:
            # Making the events is part of its work, as the decision is part of ours.
            touched = {}
            for n in numbers:
                customer = wallets[n * 7919 % customers]
                customer.consume(f"use-{n}", 125, "api")
                touched[customer.id] = customer
            application.save(*touched.values())

        return do

    answer(work)


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
