"""Writing the log: events and entries, the Merkle tree, the batch chain.

Owns: the rows of the log. Does not own: what goes into them (recorder).
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Final

import msgspec
import psycopg

from subledger import merkle
from subledger.encoding import batch_hash, encode
from subledger.errors import present
from subledger.events.envelope import Event
from subledger.kinds import Dimensions, Entry
from subledger.ledger import LedgerState
from subledger.money import format_credits
from subledger.store.database import WriteConnection
from subledger.store.writing.append import Parameters, rows_as_parameters
from subledger.wallet import Decision

_encoder = msgspec.json.Encoder(order="sorted")


def decision_text(decision: Decision) -> str:
    """A decision as it is stored and hashed: canonical JSON."""
    return _encoder.encode(decision).decode()


def said_by_entries(policy: int, entries: Iterable[tuple[int, str | None, Decimal, str, date]]) -> str:
    """The decision that these entries alone make: draws of one customer's blocks, under one policy.

    Each entry is (amount, block, credits, kind, accounting date). What a decision says beyond that it would not have:
    so a decision is left out of the log where, and only where, this is its text, letter by letter. ``decision_whole``
    says the same in SQL, and so does the view ``recorded_events``, which people ask.
    """
    movements = [
        f'{{{_amount(amount)}"block":"{block}","credits":"{format_credits(credits)}","kind":"{kind}","on":"{on}"}}'
        for amount, block, credits, kind, on in entries
    ]
    return f'{{"movements":[{",".join(movements)}],"policy":{policy}}}'


def _amount(amount_minor: int) -> str:
    return f'"amount":{amount_minor},' if amount_minor else ""


def decision_whole(ledger: str) -> str:
    """SQL: the whole decision of the event ``e``, stored or not. ``ledger`` is the parameter that names the ledger.

    The view says "the event's ledger" for it, and where that is, a Citus cluster cannot tell of every statement.
    """
    return f"""coalesce(e.decision, (
           SELECT '{{"movements":[' || string_agg(
                      '{{' || CASE WHEN n.amount_minor <> 0 THEN '"amount":' || n.amount_minor || ',' ELSE '' END
                      || '"block":"' || n.block_id || '","credits":"' || trim_scale(n.credits) || '","kind":"' || n.kind
                      || '","on":"' || to_char(n.accounting_date, 'YYYY-MM-DD') || '"}}', ',' ORDER BY n.number)
                  || '],"policy":' || min(n.policy) || '}}'
           FROM entries n WHERE n.ledger = {ledger} AND n.position = e.position
       ))"""


class RecordedEvent(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One event with its place in the log, what was decided, and its entries."""

    position: int
    event: Event
    decision: Decision
    entries: tuple[Entry, ...]


class Batch(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What one commit records. ``dimension_sets`` numbers the dimensions of its entries."""

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


_EVENT_TYPES: Final = (
    "text", "int8", "text", "text", "text", "text", "timestamptz", "text", "text", "text", "bytea",
)  # fmt: skip
_EVENT_COLUMNS: Final = (
    "ledger, position, source, event_id, type, customer, occurred_at, data, attributes, decision, leaf"
)
_ENTRY_TYPES: Final = (
    "text", "int8", "int2", "int2", "text", "text", "text", "text", "numeric", "int8", "text", "int8", "date", "date",
    "int4", "int4",
)  # fmt: skip
_ENTRY_COLUMNS: Final = (
    "ledger, position, number, policy, kind, customer, block_id, unit, credits, amount_minor, currency, "
    "functional_minor, accounting_date, effective_date, cut, dimension_set"
)
COPY_EVENTS: Final = f"COPY events ({_EVENT_COLUMNS}) FROM STDIN (FORMAT BINARY)"
COPY_ENTRIES: Final = f"COPY entries ({_ENTRY_COLUMNS}) FROM STDIN (FORMAT BINARY)"

FEW: Final = 200
"""A COPY costs some round trips; as many events or fewer are quicker as arrays, sent with the rest."""


class Appending:
    """A batch on its way into the log: events go to the server while the next ones are decided.

    Few events wait for the rest of the batch, and all of them do without a connection. Until ``finish`` nothing else
    may be asked of it, for it may be in the midst of a COPY.
    ``dimension_sets`` numbers the dimensions of entries; new ones are added, in the order of their first use.
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
        self._events: list[tuple[Any, ...]] = []
        self._entries: list[tuple[Any, ...]] = []
        self._leaves: list[bytes] = []

    def add(self, recorded: RecordedEvent) -> None:
        """Hashes one event and sends its row. Events come in order of position."""
        ledger, position, event, numbers = self._ledger, recorded.position, recorded.event, self._numbers
        text = decision_text(recorded.decision)
        leaf = merkle.leaf_hash(encode(ledger, position, event, text, recorded.entries))
        self._leaves.append(leaf)
        said = event.type == "credits.consumed" and text == said_by_entries(
            recorded.decision.policy,
            [(n.amount_minor, n.block_id, n.credits, n.kind, n.accounting_date) for n in recorded.entries],
        )
        row = (
            ledger, position, event.source, event.event_id, event.type, event.customer, event.occurred_at,
            event.data_text, event.attributes_text, None if said else text, leaf,
        )  # fmt: skip
        if not self._copies:
            self._events.append(row)
        elif self._copy is None:
            self._copy = self._start(COPY_EVENTS, _EVENT_TYPES)
            self._copy.write_row(row)
        else:
            self._copy.write_row(row)
        for n in recorded.entries:
            number = numbers.get(n.dimensions)
            if number is None:
                number = numbers[n.dimensions] = len(numbers) + 1
                self._new_dimensions.append(n.dimensions)
            self._entries.append(
                (
                    ledger, position, n.number, n.policy, n.kind, n.customer, n.block_id, n.unit, n.credits,
                    n.amount_minor, n.currency, n.functional_minor, n.accounting_date, n.effective_date, n.cut, number,
                )
            )  # fmt: skip

    def _start(self, query: str, types: tuple[str, ...]) -> psycopg.Copy:
        connection = present(self._connection, "events cannot be copied without a connection")
        copy = self._stack.enter_context(self._stack.enter_context(connection.cursor()).copy(query))
        copy.set_types(types)
        return copy

    def end_copy(self) -> None:
        """Ends the copy of a big batch with its entries; the connection is free again."""
        self._stack.close()
        if self._copy is not None and self._entries:
            copy = self._start(COPY_ENTRIES, _ENTRY_TYPES)
            for row in self._entries:
                copy.write_row(row)
            self._stack.close()

    def abandon(self, error: BaseException) -> None:
        """Ends a copy that came to nothing."""
        self._stack.__exit__(type(error), error, error.__traceback__)

    def finish(self, batch: Batch, frontier: merkle.Frontier, previous_hash: bytes) -> Parameters:
        """What is left to write, and the tree as it has grown, as parameters of the batch."""
        nodes = [node for leaf in self._leaves for node in frontier.append(leaf)]
        root = frontier.root()
        digest = batch_hash(
            batch.ledger, batch.first_position, batch.last_position, batch.recorded_at, root, previous_hash
        )
        new = [(self._numbers[d], d.product, d.credit_kind, d.pool, d.processor) for d in self._new_dimensions]
        entries = [] if self._copies else [row[1:] for row in self._entries]
        return {
            "at_position": batch.first_position - 1, "at_hash": previous_hash, "moment": batch.recorded_at,
            "new_position": batch.last_position, "new_root": root, "new_hash": digest,
            "new_frontier": frontier.to_bytes(),
            **rows_as_parameters("event", [row[1:] for row in self._events]),
            **rows_as_parameters("entry", entries),
            **rows_as_parameters("node", nodes),
            **rows_as_parameters("set", new),
        }  # fmt: skip

    def take_back(self) -> None:
        """Forgets the numbers given to dimensions by a batch that was not written."""
        for dimensions in self._new_dimensions:
            del self._numbers[dimensions]
