"""The way of a verification: once through the log, then everything that follows from it.

Owns: the order of the checks, and those of single events: that each is what was hashed, that its entries follow from
its decision, that nothing is posted into a closed period.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import date, datetime

import sqlalchemy as sa

from projections.integrity.blocks import BlockLaws
from projections.integrity.chain import Chain, read_head
from projections.integrity.derived import compare_tables
from projections.integrity.findings import Breach, Findings, Report
from projections.integrity.handed_over import approval_faults, journal_faults
from projections.integrity.other_currencies import compare_other_currencies
from projections.integrity.policies import Policies
from projections.integrity.pools import PoolLaws
from projections.integrity.positions import PositionLaws
from projections.integrity.reversals import reversal_faults
from projections.integrity.snapshots import compare_snapshots
from projections.integrity.totals import total_faults
from projections.replay import Logged, Replayer, read_batches, read_log, stored_entry
from subledger import merkle
from subledger.encoding import encode
from subledger.errors import UnknownLedger
from subledger.events import Event
from subledger.journal import Dimensions, Entry
from subledger.own_event_data import PolicyAdopted
from subledger.store.database import Database

Progress = Callable[[int, int], None]
"""Events done, events in all."""


def verify(database: Database, ledger: str, progress: Progress | None = None) -> Report:
    """Every check on one ledger. Raises UnknownLedger; what does not hold is in the report, not raised."""
    with database.read() as connection:
        return _Verification(connection, ledger, progress or (lambda _done, _total: None)).run()


class _Verification:
    def __init__(self, connection: sa.Connection, ledger: str, progress: Progress) -> None:
        self._connection = connection
        self._ledger = ledger
        self._progress = progress
        self._findings = Findings()
        self._replay = Replayer(ledger)
        self._replayable = True
        self._chain = Chain(ledger, self._findings)
        self._policies = Policies()
        self._blocks = BlockLaws(self._policies)
        self._pools = PoolLaws(self._policies)
        self._positions = PositionLaws(self._policies)
        self._entries = 0
        self._stored_dimensions: dict[int, Dimensions] = {}
        self._last = 0

    def run(self) -> Report:
        head = read_head(self._connection, self._ledger)
        if head is None:
            raise UnknownLedger(f"there is no ledger {self._ledger}", field="ledger", found=self._ledger)
        self._load_dimensions()
        self._log(head.position)
        self._chain.head(head, self._last, self._replay if self._replayable else None)
        if self._replayable:
            compare_tables(self._connection, self._ledger, self._replay, self._findings)
            home = self._replay.state.functional_currency
            compare_other_currencies(self._connection, self._ledger, home, self._findings)
            compare_snapshots(self._connection, self._ledger, self._findings)
            for breach in self._at_head():
                self._findings.breach(breach)
            for position, breach in reversal_faults(self._connection, self._ledger):
                self._findings.breach(breach, position)
        self._progress(self._last, self._last)
        return Report(ledger=self._ledger, events=self._last, entries=self._entries, differences=self._findings.all())

    def _at_head(self) -> Iterator[Breach]:
        """The books as a whole: against what the writer remembers, in sum, and against what was handed over."""
        replay, rules = self._replay, self._policies.rules
        yield from self._blocks.at_head(replay.blocks, replay.state.functional_currency)
        yield from self._pools.at_head(replay.books.pools, replay.blocks)
        yield from self._positions.at_head(replay)
        yield from total_faults(self._connection, replay, rules)
        yield from journal_faults(self._connection, replay, rules)
        yield from approval_faults(self._connection, replay)

    def _load_dimensions(self) -> None:
        """What the table says the numbers stand for: needed only where the log cannot be replayed."""
        query = "SELECT dimension_set, product, credit_kind, pool, processor FROM dimension_sets WHERE ledger = :ledger"
        for number, *values in self._connection.execute(sa.text(query), {"ledger": self._ledger}):
            self._stored_dimensions[number] = Dimensions(*values)

    # --- the log ---------------------------------------------------------------------------------------------

    def _log(self, total: int) -> None:
        batches = read_batches(self._connection, self._ledger)
        batch = next(batches, None)
        for logged in read_log(self._connection, self._ledger, self._stray_entries):
            position = logged.position
            if position != self._last + 1:
                self._replayable = False
                self._findings.differ(
                    "log", f"the events from position {self._last + 1} to {position - 1} are missing",
                    position=self._last + 1, expected=self._last + 1, found=position,
                )  # fmt: skip
            while batch is not None and batch.last_position < position:
                self._chain.batch(batch)
                batch = next(batches, None)
            held = batch is not None and batch.first_position <= position
            if not held:
                self._replayable = False
                self._findings.differ("chain", f"no batch holds position {position}", position=position)
            self._event(logged, batch.recorded_at if batch is not None else None)
            self._last = position
            if batch is not None and position == batch.last_position:
                self._chain.batch(batch)
                batch = next(batches, None)
            if position % 1000 == 0:
                self._progress(position, max(position, total))
        while batch is not None:
            self._replayable = False
            self._findings.differ(
                "log", f"the events from position {max(self._last + 1, batch.first_position)} to {batch.last_position}"
                " are missing: their batch is there",
                position=max(self._last + 1, batch.first_position),
            )  # fmt: skip
            self._chain.batch(batch)
            batch = next(batches, None)

    def _stray_entries(self, position: int) -> None:
        self._findings.differ("log", f"position {position} has entries and no event", position=position)

    def _event(self, logged: Logged, recorded_at: datetime | None) -> None:
        """One event: that it is what was hashed, that its entries follow from it, what it does to the books."""
        closed_through, open_cut = self._replay.state.closed_through, self._replay.state.open_cut
        event, posted, failure = self._replayed(logged, recorded_at)
        entries = tuple(stored_entry(row, self._dimensions(row.dimension_set)) for row in logged.entries)
        position = logged.position
        leaf = merkle.leaf_hash(encode(self._ledger, position, logged.event, logged.decision_text, entries))
        if leaf != logged.leaf:
            self._findings.differ(
                "log", f"position {position} has been changed: its hash is another", position=position,
                expected=logged.leaf, found=leaf,
            )  # fmt: skip
        self._chain.leaf(logged.leaf)
        self._entries += len(entries)
        if failure is not None:
            self._findings.differ(
                "log", f"position {position} cannot be replayed, nor what follows: what is derived was not compared",
                position=position, found=repr(failure),
            )  # fmt: skip
        if event is None:
            return
        if entries != posted:
            self._wrong_entries(position, posted, entries)
        self._dates(position, entries, closed_through, open_cut)
        for breach in self._laws(event, entries):
            self._findings.breach(breach, position)

    def _laws(self, event: Event, entries: tuple[Entry, ...]) -> Iterator[Breach]:
        """What no longer holds of the books after an event."""
        if isinstance(event.data, PolicyAdopted):
            yield from self._policies.adopt(event.data)
        for entry in entries:
            yield from self._policies.entry_faults(entry, self._replay.state.functional_currency)
        yield from self._blocks.take(entries)
        yield from self._pools.take(entries, self._replay.books.pools)
        self._positions.take(event, entries)

    def _dates(self, position: int, entries: tuple[Entry, ...], closed_through: date | None, open_cut: int) -> None:
        for entry in entries:
            if closed_through is not None and entry.accounting_date <= closed_through:
                self._findings.differ(
                    "closed_period", f"position {position} posts into a closed period", position=position,
                    expected=f"after {closed_through}", found=entry.accounting_date,
                )  # fmt: skip
            if entry.cut != open_cut:
                self._findings.differ(
                    "cut", f"position {position} is in another cut than was open", position=position,
                    expected=open_cut, found=entry.cut,
                )  # fmt: skip

    def _replayed(
        self, logged: Logged, recorded_at: datetime | None
    ) -> tuple[Event | None, tuple[Entry, ...], Exception | None]:
        if not self._replayable or recorded_at is None:
            return None, (), None
        try:
            event, entries = self._replay.take(logged, recorded_at)
        except Exception as error:  # a changed log may fail in any way; the rest of it is still hashed
            self._replayable = False
            return None, (), error
        return event, entries, None

    def _dimensions(self, number: int) -> Dimensions:
        """What a dimension set's number stands for: the log says so by its order, the table only repeats it.

        So a changed row of ``dimension_sets`` is a difference of that table, and not of every event that used it.
        """
        numbered = self._replay.dimensions
        if self._replayable and 1 <= number <= len(numbered):
            return numbered[number - 1]
        return self._stored_dimensions.get(number, Dimensions("?", "?", "?", "?"))

    def _wrong_entries(self, position: int, posted: tuple[Entry, ...], entries: tuple[Entry, ...]) -> None:
        if len(posted) != len(entries):
            self._findings.differ(
                "entries", f"position {position} has other entries than follow from its decision", position=position,
                expected=f"{len(posted)} entries", found=f"{len(entries)} entries",
            )  # fmt: skip
        for expected, found in zip(posted, entries, strict=False):
            for name in Entry.__struct_fields__:
                if getattr(expected, name) != getattr(found, name):
                    self._findings.differ(
                        "entries", f"{name} of entry {expected.number} of position {position} does not follow from"
                        " its decision", position=position, subject=f"{expected.number}.{name}",
                        expected=getattr(expected, name), found=getattr(found, name),
                    )  # fmt: skip
