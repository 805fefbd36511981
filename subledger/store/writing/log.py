"""Writing the log: events and entries, the Merkle tree, the batch chain.

Owns: writing rows into the log, their hashes and the numbers of dimensions. Does not own: the columns
(``subledger/store/columns.py``), decisions and entries (``deciding``, ``posting``), the transaction (recorder).
"""

from __future__ import annotations

from contextlib import ExitStack
from datetime import datetime
from typing import Final

import msgspec
import psycopg
from msgspec.structs import astuple

from subledger import merkle
from subledger.encoding import batch_hash, encode
from subledger.errors import present
from subledger.events.envelope import Event
from subledger.kinds import Dimensions, Entry
from subledger.ledger import LedgerState
from subledger.store.columns import ENTRIES, EVENTS, LogTable, Row, entry_row, event_row
from subledger.store.database import WriteConnection
from subledger.store.decision_text import decision_text, text_of_plain_draw
from subledger.store.writing.append_batch import Parameters, rows_as_parameters
from subledger.wallet import Decision


class RecordedEvent(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One event with its position in the log, its decision and its entries."""

    position: int
    event: Event
    decision: Decision
    entries: tuple[Entry, ...]


class Batch(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The events of one commit. ``dimension_sets`` has the numbers of its entries' dimensions."""

    ledger: str
    recorded_at: datetime
    events: tuple[RecordedEvent, ...]
    before: LedgerState
    after: LedgerState
    dimension_sets: dict[Dimensions, int]

    @property
    def first_position(self) -> int:
        return self.events[0].position

    @property
    def last_position(self) -> int:
        return self.events[-1].position


FEW: Final = 200
"""Up to this number of events, arrays in the call of the batch are faster, because a COPY costs some round trips."""


class Appending:
    """Writes a batch into the log: events go to the server while the next ones are decided.

    Few events, and events without a connection, are kept and sent with the rest of the batch. Until ``finish`` the
    connection may be in the middle of a COPY, so nothing else can be sent over it. ``dimension_sets`` has the numbers
    of the entries' dimensions. New ones are added, in the order of their first use.
    """

    def __init__(
        self, connection: WriteConnection | None, ledger: str, dimension_sets: dict[Dimensions, int], *, expected: int
    ) -> None:
        self._connection = connection
        self._ledger = ledger
        self._numbers = dimension_sets
        self._new_dimensions: list[Dimensions] = []
        self._copies = connection is not None and expected > FEW
        self._copy: psycopg.Copy | None = None
        self._stack = ExitStack()
        self._events: list[Row] = []
        self._entries: list[Row] = []
        self._leaves: list[bytes] = []

    def add(self, recorded: RecordedEvent) -> None:
        """Hashes one event and sends its row. Events come in order of position."""
        ledger, position, event, numbers = self._ledger, recorded.position, recorded.event, self._numbers
        text = decision_text(recorded.decision)
        leaf = merkle.leaf_hash(encode(ledger, position, event, text, recorded.entries))
        self._leaves.append(leaf)
        is_derivable = event.type == "credits.consumed" and text == text_of_plain_draw(
            recorded.decision.policy, recorded.entries
        )
        row = event_row(position, event, None if is_derivable else text, leaf)
        if not self._copies:
            self._events.append(row)
        else:
            if self._copy is None:
                self._copy = self._start(EVENTS)
            self._copy.write_row((ledger, *row))
        for n in recorded.entries:
            number = numbers.get(n.dimensions)
            if number is None:
                number = numbers[n.dimensions] = len(numbers) + 1
                self._new_dimensions.append(n.dimensions)
            self._entries.append(entry_row(position, n, number))

    def _start(self, table: LogTable) -> psycopg.Copy:
        connection = present(self._connection, "events cannot be copied without a connection")
        copy = self._stack.enter_context(self._stack.enter_context(connection.cursor()).copy(table.copy))
        copy.set_types(table.types)
        return copy

    def end_copy(self) -> None:
        """Ends the copy of a big batch with its entries. The connection is free again."""
        self._stack.close()
        if self._copy is not None and self._entries:
            copy = self._start(ENTRIES)
            for row in self._entries:
                copy.write_row((self._ledger, *row))
            self._stack.close()

    def abandon(self, error: BaseException) -> None:
        """Ends a copy whose batch is rolled back."""
        self._stack.__exit__(type(error), error, error.__traceback__)

    def finish(self, batch: Batch, frontier: merkle.Frontier, previous_hash: bytes) -> Parameters:
        """Returns the rows that are not written yet, and the tree with the new leaves, as parameters of the batch."""
        nodes = [node for leaf in self._leaves for node in frontier.append(leaf)]
        root = frontier.root()
        digest = batch_hash(
            batch.ledger, batch.first_position, batch.last_position, batch.recorded_at, root, previous_hash
        )
        new = [(self._numbers[d], *astuple(d)) for d in self._new_dimensions]
        return {
            "at_position": batch.first_position - 1,
            "at_hash": previous_hash,
            "moment": batch.recorded_at,
            "new_position": batch.last_position,
            "new_root": root,
            "new_hash": digest,
            "new_frontier": frontier.to_bytes(),
            **rows_as_parameters("event", self._events),
            **rows_as_parameters("entry", [] if self._copies else self._entries),
            **rows_as_parameters("node", nodes),
            **rows_as_parameters("set", new),
        }
