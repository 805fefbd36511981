"""Looking at all monitors of a ledger at once, on one snapshot.

Owns: which monitors there are, and their order. Does not own: any of them.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import date, datetime
from typing import Final

import msgspec
from sqlalchemy import text

from projections.monitors import blocks, deliveries, latency, mismatch, payments, rejected, writers
from projections.monitors.monitor import Looking, Monitor, Report
from projections.monitors.settings import settings_of
from projections.reads.balances import OfLedger
from projections.reads.snapshots import LEDGER, add_snapshots
from subledger.errors import DatabaseUnavailable
from subledger.store.database import Database
from subledger.store.reading.views import view
from subledger.store.rejected import dismissals

MONITORS: Final[tuple[Callable[[Looking], Monitor], ...]] = (
    deliveries.delivery_success,
    deliveries.exports_not_accepted,
    payments.unapplied_payments,
    latency.event_to_general_ledger,
    deliveries.dead_letters,
    blocks.expiry_sweep,
    mismatch.mismatch,
    writers.stuck_writer,
)
_CLEARING_AT: Final = 5
_LOOKS: Final = 20
"""As many rejections of a code are noted at once as a look reads: so many looks pass 200,000 that were recorded
unnoticed."""
_EVER: Final = date(8999, 12, 31)


class Looked(msgspec.Struct, frozen=True, kw_only=True):
    """A report, how many deliveries there are by general ledger and state, how many rejections are open by code, and
    what is left for the next look.

    ``unsettled``: rejections that are recorded since, and not noted as such; not ``seen_all``: there are more than were
    read. ``snapshot_due``: more than need be was added up, for want of a snapshot.
    """

    report: Report
    deliveries: dict[tuple[str, str], int]
    rejections: dict[str, int]
    unsettled: int
    seen_all: bool
    blocks: blocks.Looked | None
    snapshot_due: bool


def check(database: Database, ledger: str, now: datetime) -> Report:
    """How every monitor of a ledger stands. Raises UnknownLedger, DatabaseUnavailable.

    It costs some twenty queries, none of which reads more than what is recent or waits. Only what makes the next look
    cheaper is written.
    """
    looked = look_at_open(database, ledger, now)
    # What could not be left for the next time is no reason to keep the report back.
    with suppress(DatabaseUnavailable):
        if looked.blocks is not None:
            blocks.keep(database, ledger, looked.blocks)
        if looked.snapshot_due:
            add_snapshots(database, ledger, LEDGER)
    return looked.report


def look_at_open(database: Database, ledger: str, now: datetime) -> Looked:
    """A look, after which it is noted which rejections are recorded since; and if not all were read, another look with
    those out of the way."""
    looked = look(database, ledger, now)
    with suppress(DatabaseUnavailable):
        for _ in range(_LOOKS):
            if not looked.unsettled:
                break
            dismissals.settle(database, ledger)
            if looked.seen_all:
                break
            looked = look(database, ledger, now)
    return looked


def look(database: Database, ledger: str, now: datetime) -> Looked:
    """The state of every monitor of a ledger; writes nothing."""
    with view(database, ledger, now=now, as_of=_EVER) as opened:
        # What a look may read at most is guessed, by far: to compile it would cost more than all of it.
        opened.connection.execute(text("SET LOCAL jit = off"))
        books = opened.ask(OfLedger())
        settings = settings_of(opened.connection, ledger)
        looking = Looking(view=opened, now=now, settings=settings, accounts=tuple(books.accounts))
        clearing, of_blocks = blocks.clearing(looking)
        monitors = [monitor(looking) for monitor in MONITORS]
        monitors.insert(_CLEARING_AT, clearing)
        refused = rejected.open_rejections(looking)
        monitors.append(rejected.rejected(looking, refused))
        return Looked(
            report=Report(ledger=ledger, looked_at=now, position=opened.position, monitors=tuple(monitors)),
            deliveries=deliveries.deliveries_by_state(looking),
            rejections={count.code: count.rejections for count in refused.by_code},
            unsettled=refused.found_recorded, seen_all=refused.complete, blocks=of_blocks,
            snapshot_due=books.snapshot_due,
        )  # fmt: skip
