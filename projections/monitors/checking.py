"""All monitors of a ledger, on one snapshot.

Owns: the list of monitors, and their order. Does not own: any of them.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import date, datetime
from typing import Final

import msgspec
from sqlalchemy import text

from projections.monitors import blocks, breakage, deliveries, latency, mismatch, payments, rejected, writers
from projections.monitors.monitor import Monitor, MonitorContext, Report
from projections.monitors.settings import settings_of
from projections.reads.balances import OfLedger
from projections.reads.snapshots import LEDGER, add_snapshots
from subledger.errors import DatabaseUnavailable
from subledger.store.database import Database
from subledger.store.reading.views import view
from subledger.store.rejected import dismissals

MONITORS: Final[tuple[Callable[[MonitorContext], Monitor], ...]] = (
    deliveries.delivery_success,
    deliveries.exports_not_accepted,
    payments.unapplied_payments,
    latency.event_to_general_ledger,
    deliveries.dead_letters,
    blocks.expiry_sweep,
    breakage.breakage_estimates,
    mismatch.mismatch,
    writers.stuck_writer,
)
_CLEARING_AT: Final = 5
_LOOKS: Final = 20
"""Maximum number of looks in a row. Each look reads at most 10,000 rejections of a code, and marks those whose event
was recorded since. So up to 200,000 unmarked rejections are processed.
"""
_EVER: Final = date(8999, 12, 31)


class LookResult(msgspec.Struct, frozen=True, kw_only=True):
    """The result of a look: the report, the deliveries by destination and state, the open rejections by code, and work
    that makes the next look cheaper.

    ``unsettled`` counts rejections whose event was recorded since, and that are not marked yet. ``seen_all`` is False
    if there are more rejections than a look reads. ``snapshot_due`` is True if a snapshot of the balances is missing.
    """

    report: Report
    deliveries: dict[tuple[str, str], int]
    rejections: dict[str, int]
    unsettled: int
    seen_all: bool
    blocks: blocks.CheckedBlocks | None
    snapshot_due: bool


def check(database: Database, ledger: str, now: datetime) -> Report:
    """Runs every monitor of a ledger. Raises UnknownLedger, DatabaseUnavailable.

    It takes about twenty queries. They read recent rows and rows that wait. It writes only data that make the next look
    cheaper.
    """
    looked = look_at_open(database, ledger, now)
    # These writes only make the next look cheaper. So the report is returned, even if they fail.
    with suppress(DatabaseUnavailable):
        if looked.blocks is not None:
            blocks.keep(database, ledger, looked.blocks)
        if looked.snapshot_due:
            add_snapshots(database, ledger, LEDGER)
    return looked.report


def look_at_open(database: Database, ledger: str, now: datetime) -> LookResult:
    """Runs every monitor, then marks the rejections whose event was recorded since. If not all rejections were read,
    it runs them again without the marked ones."""
    result = look(database, ledger, now)
    with suppress(DatabaseUnavailable):
        for _ in range(_LOOKS):
            if not result.unsettled:
                break
            dismissals.settle(database, ledger)
            if result.seen_all:
                break
            result = look(database, ledger, now)
    return result


def look(database: Database, ledger: str, now: datetime) -> LookResult:
    """Runs every monitor of a ledger. Writes nothing."""
    with view(database, ledger, now=now, as_of=_EVER) as opened:
        # PostgreSQL overestimates the rows of a look, and would compile its queries. That takes longer than the look.
        opened.connection.execute(text("SET LOCAL jit = off"))
        books = opened.ask(OfLedger())
        settings = settings_of(opened.connection, ledger)
        context = MonitorContext(view=opened, now=now, settings=settings, accounts=tuple(books.accounts))
        clearing, of_blocks = blocks.clearing(context)
        monitors = [monitor(context) for monitor in MONITORS]
        monitors.insert(_CLEARING_AT, clearing)
        refused = rejected.open_rejections(context)
        monitors.append(rejected.rejected(context, refused))
        return LookResult(
            report=Report(ledger=ledger, looked_at=now, position=opened.position, monitors=tuple(monitors)),
            deliveries=deliveries.deliveries_by_state(context),
            rejections={count.code: count.rejections for count in refused.by_code},
            unsettled=refused.found_recorded,
            seen_all=refused.complete,
            blocks=of_blocks,
            snapshot_due=books.snapshot_due,
        )
