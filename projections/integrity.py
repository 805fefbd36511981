"""Verifying a ledger: the hash chain, a replay against everything derived, the invariants of the books.

Reads one snapshot, so it is right while writers go on. Owns: the checks. Does not own: the fold (replay).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Final

import msgspec
import sqlalchemy as sa

from projections.replay import STREAMED, Logged, Replayer, read_log
from subledger import merkle
from subledger.blocks import ZERO
from subledger.encoding import batch_hash, encode
from subledger.journal import KIND_BY_NAME, Entry, Rules, effect
from subledger.posting import rules_from
from subledger.store.database import Database
from subledger.store.reader import ledger_head

MAX_DIFFERENCES: Final = 1_000
CONTROL: Final = ("prepaid_liability", "customer_deposits", "credits_clearing")


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """Something that is not as it must be: which check, where, what was expected and found."""

    check: str
    message: str
    position: int | None = None
    subject: str | None = None
    expected: str | None = None
    found: str | None = None


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What was looked at and what differs; no differences is a clean ledger."""

    ledger: str
    events: int
    entries: int
    differences: list[Difference]


Progress = Callable[[int, int], None]

# What the tables hold, with the key first, so that a row can be compared with the replay's.
TABLES: Final[dict[str, tuple[int, str]]] = {
    "wallets": (1, "SELECT customer, position, state FROM wallets WHERE ledger = :ledger"),
    "blocks": (
        1,
        "SELECT block_id, customer, invoice_id, opened_at_position, expires_at, is_open, state FROM blocks"
        " WHERE ledger = :ledger",
    ),
    "documents": (2, "SELECT kind, document_id, customer, state FROM documents WHERE ledger = :ledger"),
    "dimension_sets": (
        1,
        "SELECT dimension_set, product, credit_kind, pool, processor FROM dimension_sets WHERE ledger = :ledger",
    ),
    "ledger_days": (
        8,
        "SELECT accounting_date, recorded_date, cut, currency, policy, kind, dimension_set, unit, written_minor,"
        " mirrored_minor, functional_written_minor, functional_mirrored_minor, credits, entries FROM ledger_days"
        " WHERE ledger = :ledger",
    ),
    "merkle_nodes": (2, "SELECT level, index, hash FROM merkle_nodes WHERE ledger = :ledger"),
}


def verify(database: Database, ledger: str, progress: Progress | None = None) -> Report:
    """Every check on one ledger. Raises UnknownLedger; what does not hold is in the report, not raised."""
    with database.read() as connection:
        return _Verification(connection, ledger, progress or (lambda _done, _total: None)).run()


class _Verification:
    def __init__(self, connection: sa.Connection, ledger: str, progress: Progress) -> None:
        self._connection = connection
        self._ledger = ledger
        self._progress = progress
        self._differences: list[Difference] = []
        self._replay = Replayer(ledger)
        self._books = _Books()
        self._entries = 0
        self._replayable = True

    def run(self) -> Report:
        head = ledger_head(self._connection, self._ledger)
        done = self._log(head.position)
        if done != head.position:
            self._differ(
                "head", "the ledger's head is not its last event", expected=str(done), found=str(head.position)
            )
        if self._replayable and self._replay.state != head.state:
            self._differ("settings", "the ledger's settings are not those of its events", subject=self._ledger)
        if not any(difference.check in ("log", "chain") for difference in self._differences):
            self._tables()
            for message, subject in self._books.faults():
                self._differ("invariant", message, subject=subject)
        return Report(ledger=self._ledger, events=done, entries=self._entries, differences=self._differences)

    def _differ(self, check: str, message: str, **facts: Any) -> None:
        if len(self._differences) < MAX_DIFFERENCES:
            self._differences.append(Difference(check=check, message=message, **facts))

    # --- the log ---------------------------------------------------------------------------------------------

    def _log(self, head_position: int) -> int:
        batches = self._batches()
        batch, previous, last_moment, expected = next(batches, None), bytes(32), None, 1
        for logged in read_log(self._connection, self._ledger):
            if logged.position != expected:
                self._differ(
                    "log", f"position {expected} is missing", position=expected, expected=str(expected),
                    found=str(logged.position),
                )  # fmt: skip
                return expected - 1
            if batch is None:
                self._differ("chain", f"no batch holds position {expected}", position=expected)
                return expected
            self._event(logged, batch.recorded_at)
            if logged.position == batch.last_position:
                previous, last_moment = self._batch(batch, previous, last_moment), batch.recorded_at
                following = next(batches, None)
                if following is not None and following.first_position != batch.last_position + 1:
                    self._differ(
                        "chain", f"the batch after position {batch.last_position} does not follow it",
                        position=batch.last_position + 1, found=str(following.first_position),
                    )  # fmt: skip
                batch = following
            expected += 1
            if logged.position % 1000 == 0:
                self._progress(logged.position, head_position)
        if batch is not None:
            self._differ("log", f"the events of a batch are missing from {expected} on", position=expected)
        return expected - 1

    def _batches(self) -> Iterator[Any]:
        yield from self._connection.execute(
            sa.text(
                "SELECT first_position, last_position, recorded_at, root, previous_hash, hash FROM batches"
                " WHERE ledger = :ledger ORDER BY last_position"
            ),
            {"ledger": self._ledger},
            execution_options=STREAMED,
        )

    def _event(self, logged: Logged, recorded_at: datetime) -> None:
        leaf = merkle.leaf_hash(
            encode(self._ledger, logged.position, logged.event, logged.decision_text, logged.entries)
        )
        if leaf != logged.leaf:
            self._differ(
                "log", f"position {logged.position} has been changed: its hash is another", position=logged.position,
                expected=logged.leaf.hex(), found=leaf.hex(),
            )  # fmt: skip
        self._replay.nodes += self._replay.frontier.append(leaf)
        self._entries += len(logged.entries)
        if self._replayable:
            try:
                self._follow(logged, recorded_at)
            except Exception as error:  # a changed log may fail in any way; the rest of it is still hashed
                self._replayable = False
                self._differ(
                    "log", f"position {logged.position} cannot be replayed: {error!r}"[:500], position=logged.position
                )  # fmt: skip

    def _follow(self, logged: Logged, recorded_at: datetime) -> None:
        closed_through = self._replay.state.closed_through
        event, entries = self._replay.take(logged, recorded_at)
        if entries != logged.entries:
            self._differ(
                "entries", f"the entries of position {logged.position} do not follow from its decision",
                position=logged.position, expected=str(entries)[:500], found=str(logged.entries)[:500],
            )  # fmt: skip
        if event.type == "policy.adopted":
            self._books.adopt(event.data.policy, rules_from(event.data.rules))
        for entry in logged.entries:
            if closed_through is not None and entry.accounting_date <= closed_through:
                self._differ(
                    "invariant", f"position {logged.position} posts into a closed period", position=logged.position
                )
            self._books.add(entry)

    def _batch(self, batch: Any, previous: bytes, last_moment: datetime | None) -> bytes:
        root = self._replay.frontier.root()
        digest = batch_hash(self._ledger, batch.first_position, batch.last_position, batch.recorded_at, root, previous)
        for name, expected, found in (
            ("previous_hash", previous, bytes(batch.previous_hash)),
            ("root", root, bytes(batch.root)),
            ("hash", digest, bytes(batch.hash)),
        ):
            if expected != found:
                self._differ(
                    "chain", f"the {name} of the batch that ends at position {batch.last_position} is another",
                    position=batch.last_position, expected=expected.hex(), found=found.hex(),
                )  # fmt: skip
        if last_moment is not None and batch.recorded_at <= last_moment:
            self._differ("chain", "recorded_at runs backwards", position=batch.last_position)
        return bytes(batch.hash)

    # --- what is derived -------------------------------------------------------------------------------------

    def _tables(self) -> None:
        for name, expected in self._replay.tables().items():
            key_size, query = TABLES[name]
            rows = self._connection.execute(sa.text(query), {"ledger": self._ledger}, execution_options=STREAMED)
            self._compare(name, expected, ((_plain(row[:key_size]), _plain(row[key_size:])) for row in rows))

    def _compare(self, name: str, expected: Mapping[Any, Any], found: Iterator[tuple[Any, Any]]) -> None:
        seen = set()
        for key, values in found:
            seen.add(key)
            if key not in expected:
                self._differ(name, f"{name} has a row that no event made: {key}", subject=str(key))
            elif values != _plain(expected[key]):
                self._differ(
                    name, f"{name} {key} is not what the events make it", subject=str(key),
                    expected=str(expected[key])[:500], found=str(values)[:500],
                )  # fmt: skip
        for key in expected:
            if key not in seen:
                self._differ(name, f"{name} lacks the row {key}", subject=str(key))


def _plain(row: Any) -> tuple[Any, ...]:
    return tuple(bytes(value) if isinstance(value, memoryview) else value for value in row)


class _Books:
    """The invariants, summed while the log goes by: per block at every accounting date, and over the ledger."""

    def __init__(self) -> None:
        self._rules: dict[int, Rules] = {}
        self._effects: dict[tuple[int, str], tuple[int, int, int]] = {}
        # block → accounting date → (credits, prepaid_liability, customer_deposits, credits_clearing), net debit
        self._blocks: dict[str, dict[date, list[Any]]] = {}

    def adopt(self, policy: int, rules: Rules) -> None:
        self._rules[policy] = rules

    def add(self, entry: Entry) -> None:
        if entry.block_id is None or entry.policy not in self._rules or entry.kind not in KIND_BY_NAME:
            return
        key = (entry.policy, entry.kind)
        effects = self._effects.get(key)
        if effects is None:
            rules = self._rules[entry.policy]
            first, second, third = (effect(account, entry.kind, rules) for account in CONTROL)
            effects = self._effects[key] = (first, second, third)
        day = self._blocks.setdefault(entry.block_id, {}).setdefault(entry.accounting_date, [ZERO, 0, 0, 0])
        day[0] += KIND_BY_NAME[entry.kind].sign * entry.credits
        for place, times in enumerate(effects, start=1):
            day[place] += times * entry.amount_minor

    def faults(self) -> Iterator[tuple[str, str]]:
        """What does not hold in some view of a block, as (message, block)."""
        for block_id, days in self._blocks.items():
            left: Decimal = ZERO
            liability = deposits = clearing = 0
            for day in sorted(days):
                credits, d_liability, d_deposits, d_clearing = days[day]
                left, liability = left + credits, liability + d_liability
                deposits, clearing = deposits + d_deposits, clearing + d_clearing
                if left < 0 or -liability < 0:
                    yield f"block {block_id} is overdrawn as of {day}: {left} credits, {-liability}", block_id
                if left == 0 and (liability or deposits or clearing):
                    yield f"block {block_id} has no credits and a balance as of {day}: {-liability}", block_id
                if (deposits or clearing) and not (liability == deposits == -clearing):
                    yield f"the three balances of block {block_id} differ as of {day}", block_id
