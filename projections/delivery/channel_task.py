"""Task of a worker: delivering the due deliveries of a channel.

Owns: the subject of these jobs (a ledger's channel), and the list of channels with due deliveries. Does not own: the
queue (external/jobs), the steps of a delivery (sending), the time at which a delivery is due (outbox).
"""

from __future__ import annotations

from typing import Final

from projections.delivery import outbox
from projections.delivery.channels import get_channel, list_channels
from projections.delivery.sending import deliver_due
from subledger.errors import NotFound
from subledger.external.jobs import Again, Stop, Subject, Task
from subledger.store.database import Database

DELIVER: Final = "deliver"


def channel_subject(ledger: str, channel: str) -> Subject:
    """The subject of the jobs of a channel."""
    return {"ledger": ledger, "channel": channel}


def channel_task(database: Database) -> Task:
    """The task that delivers the due deliveries of a channel."""

    def run(subject: Subject, stop: Stop) -> Again | None:
        try:
            with database.read() as connection:
                channel = get_channel(connection, subject["ledger"], subject["channel"])
        except NotFound:
            return None  # the channel was removed after the job was queued
        deliver_due(database, channel, stop=stop)
        with database.read() as connection:
            due = outbox.next_due(connection, channel)
        if due is None:
            return None
        at, wait_s = due
        return Again(at=at if wait_s > 0 else None)

    def due(ledger: str) -> list[Subject]:
        with database.read() as connection:
            channels = list_channels(connection, ledger)
            found = [(channel.name, outbox.next_due(connection, channel)) for channel in channels]
        return [channel_subject(ledger, name) for name, due in found if due is not None and due[1] <= 0]

    def lock(subject: Subject) -> str:
        # Jobs that an earlier release queued have this lock too.
        return f"{subject['ledger']}/{subject['channel']}"

    return Task(name=DELIVER, run=run, lock=lock, due=due)
