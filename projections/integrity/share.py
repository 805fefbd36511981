"""Check of one share of the customers: events with their hashes, entries with their decisions, rows with a replay.

Follows the log with the entries of the share's events, and checks the invariants of blocks and positions after each.
Owns: the checks of single events, and the share's part of sums over all shares. Does not own: the data of the ledger as
a whole (ledger), the chain.

The memory holds the replay of a share, and the balances of each of its blocks by accounting date.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from typing import Any, Final

import msgspec
import sqlalchemy as sa

from projections.integrity.blocks import BlockLaws
from projections.integrity.policies import Policies
from projections.integrity.pools import Carried
from projections.integrity.positions import PositionKey, PositionLaws
from projections.replay.comparing import compare_customers
from projections.replay.customers import Replayer
from projections.replay.findings import Breach, Findings
from projections.replay.log_stream import OF_SEVERAL, Members, RecordedDays, Share, read_log, recorded_at, stream
from projections.replay.resumable import SAVED_EVERY, Part, load
from projections.replay.totals import Totals
from projections.replay.workers import Advance
from subledger import merkle
from subledger.billing_documents import Standing
from subledger.blocks import NO_PORTION
from subledger.encoding import encode
from subledger.errors import present
from subledger.events.envelope import Event
from subledger.events.own_data import PolicyAdopted
from subledger.kinds import Dimensions, Entry
from subledger.ledger import LedgerState
from subledger.store.columns import EntryRow, EventRow, stored_entry

UNKNOWN: Final = Dimensions("?", "?", "?", "?")


class ShareFindings(msgspec.Struct, frozen=True, kw_only=True):
    """The findings of a share, and its part of sums over the ledger.

    ``log``: findings with a position. ``derived`` and ``laws`` are valid only if the whole log could be replayed.
    ``carried`` (by currency) and ``in_pools`` (by pool): the carrying amounts of the share's blocks.
    """

    events: int
    entries: int
    replayable: bool
    log: Findings
    derived: Findings
    laws: Findings
    totals: Totals
    state: LedgerState
    carried: dict[str, Carried]
    in_pools: dict[str, Carried]
    standing: dict[PositionKey, Standing]
    allowed: dict[str, tuple[Any, ...]]


class ShareVerification:
    """The checks of one share, from the first event on. ``numbering``: number of a dimension set → dimensions."""

    def __init__(self, ledger: str, share: Share, numbering: dict[int, Dimensions], lagging_after: int | None) -> None:
        self._ledger = ledger
        self._share = share
        self._numbering = numbering
        self._lagging_after = lagging_after
        self._log = Findings()
        self._replayable = True
        self._policies = Policies()
        self._blocks = BlockLaws(self._policies)
        self._positions = PositionLaws(self._policies)
        self._events = 0
        self._entries = 0
        self._position = 0
        self._replay: Replayer | None = None
        self._connection: sa.Connection | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_connection": None}

    @property
    def _folded(self) -> Replayer:
        return present(self._replay, "a share is verified before its replay has begun")

    def go_on(self, numbering: dict[int, Dimensions], lagging_after: int | None) -> None:
        """Continues a saved run in another database snapshot."""
        self._numbering, self._lagging_after = numbering, lagging_after

    def run(
        self, connection: sa.Connection, days: RecordedDays, through: int, advance: Advance, part: Part | None
    ) -> ShareFindings:
        """Follows the log through a position, from the current one, and compares the result with the tables."""
        self._connection = connection
        if self._replay is None:
            members = Members(connection, self._share)
            self._replay = Replayer(self._ledger, members, lagging_after=self._lagging_after)
        self._replay.go_on(connection, self._lagging_after, self._rows_at(connection))
        advance(self._events)
        if self._lagging_after is not None:
            # The progress is saved only up to a position at which every row is up to date, because rows may have been
            # written again when the run continues.
            self._follow(connection, days, min(self._lagging_after, through), advance, part)
            part = None
        self._follow(connection, days, through, advance, part)
        return self._found(connection)

    def _rows_at(self, connection: sa.Connection) -> dict[str, int]:
        """Returns the position of each customer's wallet row, if rows are written behind."""
        if self._lagging_after is None:
            return {}
        query = f"SELECT customer, position FROM wallets WHERE ledger = %s AND {self._share.rows('customer')}"
        return {
            customer: position for rows in stream(connection, query, (self._ledger,)) for customer, position in rows
        }

    def _follow(
        self, connection: sa.Connection, days: RecordedDays, through: int, advance: Advance, part: Part | None
    ) -> None:
        unsaved = 0
        for chunk in read_log(connection, self._ledger, self._share.events, self._position, through):
            before = self._events
            for logged, rows in chunk:
                self._event(logged, rows, days.of(logged.position))
            self._position = chunk[-1][0].position
            unsaved += len(chunk)
            if part is not None and unsaved >= SAVED_EVERY:
                part.save(self)
                unsaved = 0
            advance(self._events - before)
        self._folded.settle_all()
        if part is not None:
            part.save(self)

    def _found(self, connection: sa.Connection) -> ShareFindings:
        derived, laws = Findings(), Findings()
        carried: dict[str, Carried] = {}
        in_pools: dict[str, Carried] = {}
        replay = self._folded
        functional_currency = replay.state.functional_currency
        if self._replayable:
            compare_customers(connection, replay, derived)
            for breach in self._blocks.at_head(replay.blocks, functional_currency):
                laws.breach(breach)
            for _, block in replay.blocks.values():
                amount = block.carrying_minor
                portion = (
                    block.remaining,
                    amount,
                    amount if block.currency == functional_currency else block.carrying_functional,
                )
                carried[block.currency] = _sum(carried.get(block.currency, NO_PORTION), portion)
                if block.pool is not None:
                    in_pools[block.pool] = _sum(in_pools.get(block.pool, NO_PORTION), portion)
            for breach in self._positions.at_head(replay):
                laws.breach(breach)
        return ShareFindings(
            events=self._events,
            entries=self._entries,
            replayable=self._replayable,
            log=self._log,
            derived=derived,
            laws=laws,
            totals=replay.totals,
            state=replay.state,
            carried=carried,
            in_pools=in_pools,
            standing=self._positions.of_the_ledger(),
            allowed=replay.allowed,
        )

    # --- one event --------------------------------------------------------------------------------------------

    def _event(self, logged: EventRow, rows: list[EntryRow], recorded_on: date | None) -> None:
        """Checks an event: its hash, its entries, and the invariants of the books after it."""
        state = self._folded.state
        position = logged.position
        event, posted, failure = self._replayed(logged, recorded_on)
        mine = self._folded.is_mine(logged.customer)
        if failure is not None:
            self._log.differ(
                "log",
                f"position {position} and later ones cannot be replayed: derived tables were not compared",
                position=position,
                found=repr(failure),
            )
        if not mine:
            if logged.type in OF_SEVERAL and self._replayable:
                self._other_side(logged, rows)
            return
        entries = tuple(stored_entry(row, self._numbering.get(row.dimension_set, UNKNOWN)) for row in rows)
        hashed = event if event is not None else logged.event()
        leaf = merkle.leaf_hash(encode(self._ledger, position, hashed, logged.decision_text, entries))
        if leaf != logged.leaf:
            self._log.differ(
                "log",
                f"position {position} has been changed: its hash differs",
                position=position,
                expected=logged.leaf,
                found=leaf,
            )
        self._events += 1
        self._entries += len(entries)
        if event is None:
            return
        if entries != posted:
            self._wrong_entries(position, posted, entries)
        self._dates(position, entries, state)
        for breach in self._laws(event, entries, logged.decision_text):
            self._log.breach(breach, position)

    def _replayed(
        self, logged: EventRow, recorded_on: date | None
    ) -> tuple[Event | None, tuple[Entry, ...], Exception | None]:
        """Returns the event and the entries that follow from it. The event is None for another share, or if it cannot
        be read.
        """
        self._replayable = self._replayable and recorded_on is not None  # the chain reports a missing batch
        if not self._replayable or recorded_on is None:
            return None, (), None
        try:
            taken = self._folded.take(logged, recorded_on, self._moment)
        except Exception as error:  # a changed log may fail in any way; the rest of it is still hashed
            self._replayable = False
            return None, (), error
        if taken is None:
            self._settings(logged)
            return None, (), None
        return *taken, None

    def _moment(self, position: int) -> Any:
        connection = present(self._connection, "a share is verified without a connection")
        return recorded_at(connection, self._ledger, position)

    def _settings(self, logged: EventRow) -> None:
        """Takes the rules of a policy, which every share needs; only the first share reports their faults."""
        if logged.type == "policy.adopted":
            own = self._folded.last_own
            if own is not None and isinstance(own.data, PolicyAdopted):
                list(self._policies.adopt(own.data))

    def _other_side(self, logged: EventRow, rows: list[EntryRow]) -> None:
        """Takes a transfer from another share into this one. The other share checks its entries."""
        entries = tuple(stored_entry(row, self._numbering.get(row.dimension_set, UNKNOWN)) for row in rows)
        own = [entry for entry in entries if self._folded.is_mine(entry.customer)]
        event = logged.event()
        for breach in self._blocks.take(own):
            self._log.breach(breach, logged.position)
        self._positions.take(event, own, logged.decision_text)

    def _laws(self, event: Event, entries: tuple[Entry, ...], decision_text: str) -> Iterator[Breach]:
        """Yields the invariants of the books that fail after an event."""
        if isinstance(event.data, PolicyAdopted):
            yield from self._policies.adopt(event.data)
        functional_currency = self._folded.state.functional_currency
        for entry in entries:
            yield from self._policies.entry_faults(entry, functional_currency)
        if event.type in OF_SEVERAL:
            entries = tuple(entry for entry in entries if self._folded.is_mine(entry.customer))
        yield from self._blocks.take(entries)
        self._positions.take(event, entries, decision_text)

    def _dates(self, position: int, entries: tuple[Entry, ...], before: LedgerState) -> None:
        for entry in entries:
            if before.closed_through is not None and entry.accounting_date <= before.closed_through:
                self._log.differ(
                    "closed_period",
                    f"position {position} posts into a closed period",
                    position=position,
                    expected=f"after {before.closed_through}",
                    found=entry.accounting_date,
                )
            if entry.cut != before.open_cut:
                self._log.differ(
                    "cut",
                    f"position {position} is in a cut that was not the open one",
                    position=position,
                    expected=before.open_cut,
                    found=entry.cut,
                )

    def _wrong_entries(self, position: int, posted: tuple[Entry, ...], entries: tuple[Entry, ...]) -> None:
        if len(posted) != len(entries):
            self._log.differ(
                "entries",
                f"the entries of position {position} do not follow from its decision",
                position=position,
                expected=f"{len(posted)} entries",
                found=f"{len(entries)} entries",
            )
        for expected, found in zip(posted, entries, strict=False):
            for name in Entry.__struct_fields__:
                if getattr(expected, name) != getattr(found, name):
                    self._log.differ(
                        "entries",
                        f"{name} of entry {expected.number} of position {position} does not follow from its decision",
                        position=position,
                        subject=f"{expected.number}.{name}",
                        expected=getattr(expected, name),
                        found=getattr(found, name),
                    )


def _sum(one: Carried, other: Carried) -> Carried:
    return one[0] + other[0], one[1] + other[1], one[2] + other[2]


def verify_share(
    connection: sa.Connection,
    advance: Advance,
    ledger: str,
    share: Share,
    numbering: dict[int, Dimensions],
    days: RecordedDays,
    through: int,
    lagging_after: int | None,
    part: Part | None,
) -> ShareFindings:
    """Runs one share: the job of one worker. ``part`` stores its progress, from which it continues."""
    verification = load(part, ShareVerification) or ShareVerification(ledger, share, numbering, lagging_after)
    verification.go_on(numbering, lagging_after)
    return verification.run(connection, days, through, advance, part)
