"""Verifying a ledger: the hash chain, a replay against everything derived, the invariants of the books.

Reads one snapshot, so it is right while writers go on. Owns: the checks, in the order in which they are reported:
the log (``log``, ``chain``, ``entries``), its head (``head``), every derived table (by its name), the invariants of
the books (``invariant``). Does not own: the fold (replay), mending (rebuild).

The events, their leaves and the chain are taken at their word only as far as they agree with each other: who can
rewrite all of them, to the head, is found by a signed checkpoint kept elsewhere, not here.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Final

import msgspec
import rfc8785
import sqlalchemy as sa

from projections.replay import DERIVED, STREAMED, Key, Logged, Replayer, read_batches, read_log, stored_entry
from subledger import merkle
from subledger.accounts import ROLE_BY_NAME
from subledger.blocks import ZERO, Block
from subledger.encoding import batch_hash, encode
from subledger.errors import UnknownLedger
from subledger.event_data import PolicyAdopted
from subledger.events import Event
from subledger.journal import GAINS, KIND_BY_NAME, KINDS, Dimensions, Entry, Rules, effect
from subledger.ledger import LedgerState
from subledger.posting import rules_from
from subledger.store.database import Database

MAX_A_CHECK: Final = 200
"""Differences of one check that are listed; the rest are counted. One wrong leaf makes every later root wrong."""

CONTROL: Final = ("prepaid_liability", "customer_deposits", "credits_clearing")
_SETTINGS: Final = tuple(name for name in LedgerState.__struct_fields__ if name != "ledger")
_SHOWN: Final = 300  # characters of a value

HEAD: Final = f"""
-- The ledger's row as it is: unlike a reader's head it is there even where the log behind it is not.
SELECT position, recorded_at, batch_hash, frontier, {", ".join(_SETTINGS)} FROM ledgers WHERE ledger = :ledger
"""
TRIAL_BALANCE: Final = """
-- The trial balance as the view of journal lines has it: stored entries through stored rules.
SELECT account, currency,
       coalesce(sum(amount_minor) FILTER (WHERE side = 'debit'), 0),
       coalesce(sum(amount_minor) FILTER (WHERE side = 'credit'), 0),
       coalesce(sum(functional_minor) FILTER (WHERE side = 'debit'), 0),
       coalesce(sum(functional_minor) FILTER (WHERE side = 'credit'), 0)
FROM journal_lines WHERE ledger = :ledger GROUP BY account, currency
"""


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """Something that is not as it must be: which check, where, what was expected and found.

    ``subject`` names what it is about: the key of a row, a column of the head, a block, an account.
    """

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
        self._differences: list[Difference] = []
        self._found: Counter[str] = Counter()
        self._replay = Replayer(ledger)
        self._replayable = True
        self._frontier = merkle.Frontier()
        self._books = _Books()
        self._entries = 0
        self._stored_dimensions: dict[int, Dimensions] = {}
        # The chain as far as it has been followed.
        self._last = 0
        self._chained = 0
        self._hash = bytes(32)
        self._moment: datetime | None = None

    def run(self) -> Report:
        head = self._connection.execute(sa.text(HEAD), {"ledger": self._ledger}).one_or_none()
        if head is None:
            raise UnknownLedger(f"there is no ledger {self._ledger}", field="ledger", found=self._ledger)
        self._load_dimensions()
        self._log(head.position)
        self._head(head)
        if self._replayable:
            self._tables()
            self._totals()
        self._progress(self._last, self._last)
        for check, found in self._found.items():
            if found > MAX_A_CHECK:
                message = f"{found - MAX_A_CHECK} more differences of this check are not listed"
                self._differences.append(Difference(check=check, message=message))
        return Report(ledger=self._ledger, events=self._last, entries=self._entries, differences=self._differences)

    def _differ(
        self, check: str, message: str, *, position: int | None = None, subject: str | None = None,
        expected: object = None, found: object = None,
    ) -> None:  # fmt: skip
        self._found[check] += 1
        if self._found[check] <= MAX_A_CHECK:
            self._differences.append(
                Difference(
                    check=check, message=message, position=position, subject=subject,
                    expected=_shown(expected), found=_shown(found),
                )
            )  # fmt: skip

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
                self._differ(
                    "log", f"the events from position {self._last + 1} to {position - 1} are missing",
                    position=self._last + 1, expected=self._last + 1, found=position,
                )  # fmt: skip
            while batch is not None and batch.last_position < position:
                self._batch(batch)
                batch = next(batches, None)
            held = batch is not None and batch.first_position <= position
            if not held:
                self._replayable = False
                self._differ("chain", f"no batch holds position {position}", position=position)
            self._event(logged, batch.recorded_at if batch is not None else None)
            self._last = position
            if batch is not None and position == batch.last_position:
                self._batch(batch)
                batch = next(batches, None)
            if position % 1000 == 0:
                self._progress(position, max(position, total))
        while batch is not None:
            self._replayable = False
            self._differ(
                "log", f"the events from position {max(self._last + 1, batch.first_position)} to {batch.last_position}"
                " are missing: their batch is there",
                position=max(self._last + 1, batch.first_position),
            )  # fmt: skip
            self._batch(batch)
            batch = next(batches, None)

    def _stray_entries(self, position: int) -> None:
        self._differ("log", f"position {position} has entries and no event", position=position)

    def _event(self, logged: Logged, recorded_at: datetime | None) -> None:
        """One event: that it is what was hashed, that its entries follow from it, what it does to the books."""
        closed_through, open_cut = self._replay.state.closed_through, self._replay.state.open_cut
        event, posted, failure = self._replayed(logged, recorded_at)
        entries = tuple(stored_entry(row, self._dimensions(row.dimension_set)) for row in logged.entries)
        position = logged.position
        leaf = merkle.leaf_hash(encode(self._ledger, position, logged.event, logged.decision_text, entries))
        if leaf != logged.leaf:
            self._differ(
                "log", f"position {position} has been changed: its hash is another", position=position,
                expected=logged.leaf, found=leaf,
            )  # fmt: skip
        # The stored leaf, so that one changed event is one difference and not every root after it.
        self._frontier.append(logged.leaf)
        self._entries += len(entries)
        if failure is not None:
            self._differ(
                "log", f"position {position} cannot be replayed, nor what follows: what is derived was not compared",
                position=position, found=repr(failure),
            )  # fmt: skip
        if event is None:
            return
        if entries != posted:
            self._wrong_entries(position, posted, entries)
        if isinstance(event.data, PolicyAdopted):
            for message in self._books.adopt(event.data):
                self._differ("invariant", message, position=position, subject=f"policy {event.data.policy}")
        for entry in entries:
            if closed_through is not None and entry.accounting_date <= closed_through:
                self._differ(
                    "invariant", f"position {position} posts into a closed period", position=position,
                    expected=f"after {closed_through}", found=entry.accounting_date,
                )  # fmt: skip
            if entry.cut > open_cut:
                self._differ(
                    "invariant", f"position {position} is in a cut that was not open yet", position=position,
                    expected=open_cut, found=entry.cut,
                )  # fmt: skip
        for message, subject in self._books.add(entries):
            self._differ("invariant", f"{message}, from position {position} on", position=position, subject=subject)

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
            self._differ(
                "entries", f"position {position} has other entries than follow from its decision", position=position,
                expected=f"{len(posted)} entries", found=f"{len(entries)} entries",
            )  # fmt: skip
        for expected, found in zip(posted, entries, strict=False):
            for name in Entry.__struct_fields__:
                if getattr(expected, name) != getattr(found, name):
                    self._differ(
                        "entries", f"{name} of entry {expected.number} of position {position} does not follow from"
                        " its decision", position=position, subject=f"{expected.number}.{name}",
                        expected=getattr(expected, name), found=getattr(found, name),
                    )  # fmt: skip

    def _batch(self, batch: Any) -> None:
        """One link of the chain, when the events it holds have gone by."""
        last = batch.last_position

        def wrong(message: str, expected: object = None, found: object = None) -> None:
            self._differ("chain", message, position=last, expected=expected, found=found)

        if batch.first_position != self._chained + 1:
            wrong("a batch does not follow the one before it", self._chained + 1, batch.first_position)
        if self._moment is not None and batch.recorded_at <= self._moment:
            wrong("recorded_at does not increase", f"after {self._moment}", batch.recorded_at)
        root, stored_root = self._frontier.root(), bytes(batch.root)
        whole = self._frontier.size == last
        if whole and root != stored_root:
            wrong(f"the root of the batch that ends at position {last} is another", root, stored_root)
        if self._hash != bytes(batch.previous_hash):
            wrong(
                f"the previous_hash of the batch that ends at position {last} is another",
                self._hash, batch.previous_hash,
            )  # fmt: skip
        # With either root: a changed root is one difference, not two, and so is a changed leaf.
        digests = [
            batch_hash(self._ledger, batch.first_position, last, batch.recorded_at, r, bytes(batch.previous_hash))
            for r in (root, stored_root)
        ]
        digests.append(batch_hash(self._ledger, batch.first_position, last, batch.recorded_at, root, self._hash))
        if bytes(batch.hash) not in digests:
            wrong(f"the hash of the batch that ends at position {last} is another", digests[0], batch.hash)
        self._chained, self._hash, self._moment = last, bytes(batch.hash), batch.recorded_at

    # --- the head and what is derived ------------------------------------------------------------------------

    def _head(self, head: Any) -> None:
        expected = {
            "position": self._last, "recorded_at": self._moment, "batch_hash": self._hash,
            "frontier": self._frontier.to_bytes(),
        }  # fmt: skip
        if self._replayable:
            expected |= {name: self._replay.state.stored(name) for name in _SETTINGS}
        for name, value in expected.items():
            found = _plain(getattr(head, name))
            if found != value:
                self._differ(
                    "head" if name not in _SETTINGS else "ledgers",
                    f"{name} of the ledger is not what its log makes it",
                    position=head.position, subject=name, expected=value, found=found,
                )  # fmt: skip

    def _tables(self) -> None:
        for derived, expected in zip(DERIVED, self._replay.changed_rows().values(), strict=True):
            rows = self._connection.execute(
                sa.text(derived.query), {"ledger": self._ledger}, execution_options=STREAMED
            )
            size = len(derived.key)
            found = ((tuple(row[:size]), tuple(_plain(value) for value in row[size:])) for row in rows)
            self._compare(derived.name, expected, found)

    def _compare(self, name: str, expected: dict[Key, Any], rows: Iterator[tuple[Key, Any]]) -> None:
        for key, found in rows:
            values = expected.pop(key, None)
            subject = ", ".join(str(part) for part in key)
            if values is None:
                self._differ(name, f"{name} has a row that no event made: {subject}", subject=subject, found=found)
            elif values != found:
                self._differ(
                    name, f"{name} {subject} is not what the events make it", subject=subject,
                    expected=_first_other(values, found), found=_first_other(found, values),
                )  # fmt: skip
        for key, values in expected.items():
            subject = ", ".join(str(part) for part in key)
            self._differ(name, f"{name} lacks the row {subject}", subject=subject, expected=values)

    def _totals(self) -> None:
        """The books as a whole: block by block against the wallets, in sum against the control account."""
        for message, subject in self._books.disagreements(self._replay.blocks):
            self._differ("invariant", message, subject=subject)
        expected = self._books.trial_balance(self._replay)
        rows = self._connection.execute(sa.text(TRIAL_BALANCE), {"ledger": self._ledger})
        found = {(row[0], row[1]): tuple(int(value) for value in row[2:]) for row in rows}
        for key in sorted(expected.keys() | found.keys()):
            if expected.get(key) != found.get(key):
                self._differ(
                    "invariant", f"the trial balance of {key[0]} is not that of the journal lines", subject=key[0],
                    expected=expected.get(key), found=found.get(key),
                )  # fmt: skip
        sides = Counter[str]()
        for (_, currency), (debit, credit, *_functional) in found.items():
            sides[currency] += debit - credit
        for currency, rest in sides.items():
            if rest:
                self._differ("invariant", f"the trial balance in {currency} is out by {rest}", subject=currency)


def _plain(value: Any) -> Any:
    return bytes(value) if isinstance(value, memoryview) else value


def _shown(value: object) -> str | None:
    if value is None:
        return None
    return value.hex() if isinstance(value, bytes | memoryview) else str(value)[:_SHOWN]


def _first_other(values: tuple[Any, ...], others: tuple[Any, ...]) -> str:
    """The first of the values that differs; of a long text the part from just before it differs on."""
    value, other = next((a, b) for a, b in zip(values, others, strict=True) if a != b)
    if isinstance(value, str) and isinstance(other, str):
        start = next((i for i, (a, b) in enumerate(zip(value, other, strict=False)) if a != b), 0)
        return value[max(start - 40, 0) :]
    return str(value)


# --- the invariants of the books ------------------------------------------------------------------------------


class _BlockBooks(msgspec.Struct):
    """One block in the books: after each accounting date the credits left and the three balances, net debit.

    ``paired`` says that all of its entries were posted under policies that keep the deposit pair.
    """

    currency: str
    days: list[date] = []
    balances: list[tuple[Decimal, int, int, int]] = []
    columns: dict[str, tuple[Decimal, int]] = {}
    paired: bool = True


class _Books:
    """The invariants, held against every (as-of, known-at) while the log goes by.

    After each event only the blocks it touched can have changed, and only from its accounting date on: so every
    view of every block is looked at, mostly by looking at one day. Each breach is told once a block.
    """

    def __init__(self) -> None:
        self._rules: dict[int, Rules] = {}
        self._effects: dict[tuple[int, str], tuple[int, int, int]] = {}
        self._blocks: dict[str, _BlockBooks] = {}
        self._control: Counter[str] = Counter()
        self._told: set[tuple[str, str]] = set()

    def adopt(self, adopted: PolicyAdopted) -> Iterator[str]:
        """Takes a policy's rules, and says what of them could unbalance the books."""
        rules = self._rules[adopted.policy] = rules_from(adopted.rules)
        if hashlib.sha256(rfc8785.dumps(adopted.rules)).hexdigest() != adopted.content_hash:
            yield f"the rules of policy {adopted.policy} are not those of its content hash"
        for kind in KINDS:
            if kind.name not in rules:
                yield f"policy {adopted.policy} has no rule for {kind.name}"
        for name, pairs in rules.items():
            for pair in pairs:
                if pair.debit not in ROLE_BY_NAME or pair.credit not in ROLE_BY_NAME:
                    yield f"{name} under policy {adopted.policy} names an account that is not in the chart"
            liability, deposits, clearing = (effect(account, name, rules) for account in CONTROL)
            if _keeps_the_pair(rules) and not liability == deposits == -clearing:
                yield f"{name} under policy {adopted.policy} moves prepaid_liability without its companion"

    def add(self, entries: tuple[Entry, ...]) -> list[tuple[str, str]]:
        """Takes the entries of one event. Returns what no longer holds, as (message, block)."""
        touched: dict[str, int] = {}
        for entry in entries:
            effects = self._effect(entry)
            self._control[entry.currency] -= effects[0] * entry.amount_minor
            if entry.block_id is not None:
                index = self._move(entry, effects)
                touched[entry.block_id] = min(index, touched.get(entry.block_id, index))
        faults = []
        for block_id, index in touched.items():
            for message in self._breaches(block_id, index):
                if (block_id, message) not in self._told:
                    self._told.add((block_id, message))
                    faults.append((f"block {block_id} {message}", block_id))
        return faults

    def _effect(self, entry: Entry) -> tuple[int, int, int]:
        key = (entry.policy, entry.kind)
        held = self._effects.get(key)
        if held is None:
            rules = self._rules.get(entry.policy, {})
            known = entry.kind in rules
            first, second, third = (effect(a, entry.kind, rules) if known else 0 for a in CONTROL)
            held = self._effects[key] = (first, second, third)
        return held

    def _move(self, entry: Entry, effects: tuple[int, int, int]) -> int:
        """Books an entry on its block; the index of the first day that it changed."""
        assert entry.block_id is not None
        block = self._blocks.get(entry.block_id)
        if block is None:
            block = self._blocks[entry.block_id] = _BlockBooks(currency=entry.currency)
        block.paired &= _keeps_the_pair(self._rules.get(entry.policy, {}))
        kind = KIND_BY_NAME.get(entry.kind)
        sign = kind.sign if kind is not None else 0
        if kind is not None and kind.column is not None:
            credits, amount = block.columns.get(kind.column, (ZERO, 0))
            block.columns[kind.column] = (credits + sign * entry.credits, amount + sign * entry.amount_minor)
        index = bisect_left(block.days, entry.accounting_date)
        if index == len(block.days) or block.days[index] != entry.accounting_date:
            block.days.insert(index, entry.accounting_date)
            block.balances.insert(index, block.balances[index - 1] if index else (ZERO, 0, 0, 0))
        for later in range(index, len(block.days)):
            left, liability, deposits, clearing = block.balances[later]
            block.balances[later] = (
                left + sign * entry.credits,
                liability + effects[0] * entry.amount_minor,
                deposits + effects[1] * entry.amount_minor,
                clearing + effects[2] * entry.amount_minor,
            )
        return index

    def _breaches(self, block_id: str, index: int) -> Iterator[str]:
        block = self._blocks[block_id]
        for day, (left, liability, deposits, clearing) in zip(block.days[index:], block.balances[index:], strict=True):
            if left < 0 or liability > 0:
                yield f"is overdrawn as of {day}"
            if left == 0 and (liability or deposits or clearing):
                yield f"has no credits and a balance as of {day}"
            if block.paired and not liability == deposits == -clearing:
                yield f"has three balances that differ as of {day}"

    def disagreements(self, blocks: Mapping[str, tuple[str, Block]]) -> Iterator[tuple[str, str]]:
        """Where the entries and the wallets tell different stories, at the head."""
        carrying: Counter[str] = Counter()
        for block_id, (_, block) in blocks.items():
            carrying[block.currency] += block.carrying_minor
            books = self._blocks.get(block_id, _BlockBooks(currency=block.currency))
            for name, expected in _roll_forward(block).items():
                columns = GAINS if name == "gained" else (name,)
                credits = sum((books.columns.get(column, (ZERO, 0))[0] for column in columns), ZERO)
                amount = sum(books.columns.get(column, (ZERO, 0))[1] for column in columns)
                if (credits, amount) != expected:
                    yield (
                        f"block {block_id} is not what its entries say: {name} {expected}, {(credits, amount)}",
                        block_id,
                    )
            left, liability = books.balances[-1][:2] if books.balances else (ZERO, 0)
            if (left, -liability) != (block.left, block.carrying_minor):
                found = f"{block.left} for {block.carrying_minor}, its entries leave {left} for {-liability}"
                yield f"block {block_id} has {found}", block_id
        for block_id in self._blocks.keys() - blocks.keys():
            yield f"block {block_id} has entries and no wallet", block_id
        for currency in self._control.keys() | carrying.keys():
            if self._control[currency] != carrying[currency]:
                yield (
                    f"prepaid_liability in {currency} is {self._control[currency]}, the blocks carry"
                    f" {carrying[currency]}", "prepaid_liability",
                )  # fmt: skip

    def trial_balance(self, replay: Replayer) -> dict[tuple[str, str], tuple[int, ...]]:
        """Account and currency → debits, credits, and both in the functional currency, from the day totals."""
        balances: dict[tuple[str, str], list[int]] = {}
        for (_, _, _, currency, policy, kind, _, _), total in replay.days.items():
            written, mirrored, f_written, f_mirrored = (int(value) for value in total[:4])
            for pair in (
                self._rules.get(policy, {}).get(kind, ()) if written or mirrored or f_written or f_mirrored else ()
            ):
                for account, amounts in (
                    (pair.debit, (written, mirrored, f_written, f_mirrored)),
                    (pair.credit, (mirrored, written, f_mirrored, f_written)),
                ):
                    balance = balances.setdefault((account, currency), [0, 0, 0, 0])
                    for place, amount in enumerate(amounts):
                        balance[place] += amount
        return {key: tuple(balance) for key, balance in balances.items()}


def _keeps_the_pair(rules: Rules) -> bool:
    """Whether a policy keeps customer_deposits and credits_clearing beside prepaid_liability."""
    return "purchase" in rules and effect("customer_deposits", "purchase", rules) != 0


def _roll_forward(block: Block) -> dict[str, tuple[Decimal, int]]:
    """A block's figures as the columns of its roll-forward, signed: what it gained and where it went."""
    return {
        "gained": (block.credits, block.price_minor),
        "consumed": (-block.used, -block.drawn_minor),
        **{column: (-gone[0], -gone[1]) for column, gone in block.gone.items()},
    }
