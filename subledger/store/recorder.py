"""The recorder: the one way anything gets into a ledger.

A batch takes the ledger's row lock, decides each event in turn, writes the log and everything that follows from it,
and commits. Who waits for the lock follows; so positions are gapless and in commit order, ``recorded_at`` never runs
backwards, and nothing derived is ever behind. One bad event never spoils its batch: it is rejected with its reason.

Long, because the way of a batch is one story, in one file, from the lock to the commit.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any, Final, Protocol

import msgspec

from subledger import merkle, references
from subledger.approvals import needs_second_person
from subledger.books import evolve_books
from subledger.deciding import decide
from subledger.errors import ApprovalRefused, EventConflict, InvalidInput, Refused, SubledgerError, UnknownLedger
from subledger.events import OWN_SOURCE as OWN_SOURCE
from subledger.events import Event, canonical, differences, own_event
from subledger.evolving import evolve
from subledger.ledger import LedgerState, check_may_reopen, evolve_ledger
from subledger.own_event_data import Approvals, MappingAdopted, PeriodReopened, PolicyAdopted
from subledger.periods import Period, effective_date
from subledger.posting import post
from subledger.store import approvals, log
from subledger.store.collecting import collection_held_off
from subledger.store.database import Database, WriteConnection
from subledger.store.log import Batch, RecordedEvent
from subledger.store.memory import LedgerMemory, Recorded
from subledger.wallet import Approval

NO_HASH: Final = bytes(32)
NOBODY: Final = "nobody"

RECORDED, DUPLICATE, REJECTED, WAITING = "recorded", "duplicate", "rejected", "waiting"


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one event: recorded or a duplicate, at a position, or rejected with its error.

    Or it waits for a second person, under an approval's id.
    """

    event_id: str | None
    status: str
    position: int | None = None
    error: SubledgerError | None = None
    approval_id: str | None = None


class Approved(msgspec.Struct, frozen=True):
    """An event that a second person has allowed."""

    event: Event
    approval: Approval


class Sent(msgspec.Struct, frozen=True):
    """An event with who asks for it, where those who ask differ within a batch."""

    event: Event
    by: str


class Projector(Protocol):
    """Something that is derived from each batch and commits with it."""

    def project(self, connection: WriteConnection, batch: Batch) -> None: ...


Input = Event | Sent | Approved | SubledgerError
"""An event, or why what was sent is none: it keeps its place among the results."""

Plan = Callable[[WriteConnection, LedgerState, int], Sequence[Input]]
"""What to record, given the locked ledger and its position: expiries that are due, a period that may close."""

Check = Callable[[WriteConnection, LedgerState], None]
"""What must hold before the commit; raises otherwise."""

LOCK_LEDGER = """
-- The right to write: one writer a ledger. recorded_at is taken after the lock, so it never runs backwards.
SELECT entity, functional_currency, timezone, on_shortfall, late_usage, policy, mapping, closed_through, open_cut,
       approvals, position, batch_hash, frontier, rebuilds,
       greatest(clock_timestamp(), recorded_at + interval '1 microsecond',
                answered_through + interval '1 microsecond')
FROM ledgers WHERE ledger = %s FOR UPDATE
"""
SAVE_HEAD = """
UPDATE ledgers SET entity = %s, functional_currency = %s, timezone = %s, on_shortfall = %s, late_usage = %s,
       policy = %s, mapping = %s, closed_through = %s, open_cut = %s, approvals = %s, position = %s, recorded_at = %s,
       batch_hash = %s, frontier = %s
WHERE ledger = %s
"""
NEW_LEDGER = """
INSERT INTO ledgers (ledger, entity, functional_currency, timezone, on_shortfall, late_usage, policy, mapping,
                     open_cut, approvals, position, recorded_at, batch_hash, frontier, rebuilds)
VALUES (%s, '', '', 'UTC', 'reject', 'new', 0, 0, 1, '{}', 0, NULL, %s, '', 0)
ON CONFLICT (ledger) DO NOTHING RETURNING ledger
"""
DUE_BLOCKS = """
-- Open blocks whose expiry has passed, soonest first.
SELECT block_id, customer, expires_at FROM blocks
WHERE ledger = %s AND is_open AND expires_at < %s ORDER BY expires_at, block_id LIMIT %s
"""


class _Head(msgspec.Struct, kw_only=True):
    """The locked ledger, advancing through a batch."""

    state: LedgerState
    position: int
    batch_hash: bytes
    rebuilds: int
    frontier: merkle.Frontier
    recorded_at: datetime


class Recorder:
    """Records events into ledgers of one database. Safe to share between threads and to run in many processes."""

    def __init__(self, database: Database, projectors: Sequence[Projector]) -> None:
        self._database = database
        self._projectors = tuple(projectors)
        self._memories: dict[str, LedgerMemory] = {}
        self._turns: dict[str, threading.Lock] = {}
        self._guard = threading.Lock()

    # --- what callers do ----------------------------------------------------------------------------------

    def record(self, ledger: str, inputs: Sequence[Input], *, by: str = NOBODY) -> list[Outcome]:
        """Records a batch; one outcome an input, in order. What is recorded is durable on return.

        ``by`` is who asks, for what needs a second person.
        Raises UnknownLedger, DatabaseUnavailable; then nothing was recorded.
        """
        if not inputs:
            return []
        with collection_held_off():
            return self.transact(ledger, lambda _connection, _state, _position: inputs, by=by)

    def create_ledger(self, ledger: str, founding: Callable[[datetime], Sequence[Event]]) -> bool:
        """A new ledger with the events that configure it. False where it existed: then nothing is written."""
        with self._database.write() as connection:
            created = connection.execute(NEW_LEDGER, (ledger, NO_HASH)).fetchone()
            if created is None:
                return False
            head = self._lock(connection, ledger)
            outcomes = self._write(connection, head, LedgerMemory(ledger), founding(head.recorded_at))
            raise_first(outcomes)
        return True

    def sweep(self, ledger: str, until: datetime, *, batch_size: int = 2_000) -> int:
        """Records the expiry of every block that expired before ``until`` (exclusive). Returns how many.

        Safe to repeat and to run twice at once: what is due is looked up under the lock.
        """
        swept = 0
        while True:
            outcomes = self.transact(
                ledger,
                lambda connection, state, position: due_expiries(connection, state, position, until, batch_size),
            )
            swept += sum(outcome.status == RECORDED for outcome in outcomes)
            raise_first(outcomes)
            if len(outcomes) < batch_size:
                return swept

    def decide_approval(
        self, ledger: str, approval_id: str, *, by: str, allow: bool, note: str | None = None
    ) -> Outcome:
        """A second person allows what waits, and it is recorded with both names, or refuses it.

        Raises UnknownApproval, ApprovalDecided, SamePerson. What the books do not allow any more is told as the
        outcome's error, and goes on waiting.
        """
        found: list[tuple[Event, Approval]] = []

        def plan(connection: WriteConnection, state: LedgerState, _position: int) -> Sequence[Input]:
            found.append(approvals.allowed(connection, ledger, approval_id, by))
            event, approval = found[-1]
            if not allow:
                approvals.settle(connection, ledger, approval, approvals.REFUSED, now_of(connection), note)
                return []
            if isinstance(event.data, PeriodReopened):
                check_may_reopen(state, Period.parse(event.data.period))
            return [Approved(event, approval)]

        outcomes = self.transact(ledger, plan, by=by)
        event = found[-1][0]
        return outcomes[0] if outcomes else Outcome(event_id=event.event_id, status=approvals.REFUSED)

    def transact(self, ledger: str, plan: Plan, check: Check | None = None, *, by: str = NOBODY) -> list[Outcome]:
        """One batch whose events are planned under the lock, and checked before the commit."""
        with self._turn(ledger):
            try:
                with self._database.write() as connection:
                    head = self._lock(connection, ledger)
                    memory = self._memory(head)
                    inputs = plan(connection, head.state, head.position)
                    outcomes = self._write(connection, head, memory, inputs, by)
                    if check is not None:
                        check(connection, head.state)
            except BaseException:
                self._memories.pop(ledger, None)  # a memory that outlives a rollback would lie
                raise
            memory.settle((head.position, head.batch_hash, head.rebuilds))
            self._memories[ledger] = memory
            return outcomes

    # --- the way of a batch -------------------------------------------------------------------------------

    def _turn(self, ledger: str) -> threading.Lock:
        with self._guard:
            return self._turns.setdefault(ledger, threading.Lock())

    def _lock(self, connection: WriteConnection, ledger: str) -> _Head:
        row = connection.execute(LOCK_LEDGER, (ledger,)).fetchone()
        if row is None:
            raise UnknownLedger(f"there is no ledger {ledger}", field="ledger", found=ledger)
        names = (
            "entity", "functional_currency", "timezone", "on_shortfall", "late_usage", "policy", "mapping",
            "closed_through", "open_cut",
        )  # fmt: skip
        approvals = Approvals.model_validate_json(row[9])
        state = LedgerState(ledger=ledger, approvals=approvals, **dict(zip(names, row[:9], strict=True)))
        position, batch_hash, frontier, rebuilds, recorded_at = row[10:]
        return _Head(
            state=state,
            position=position,
            batch_hash=bytes(batch_hash),
            frontier=merkle.Frontier.from_bytes(position, bytes(frontier)),
            recorded_at=recorded_at,
            rebuilds=rebuilds,
        )

    def _memory(self, head: _Head) -> LedgerMemory:
        memory = self._memories.get(head.state.ledger)
        if memory is None or memory.true_at != (head.position, head.batch_hash, head.rebuilds):
            memory = LedgerMemory(head.state.ledger)
        return memory

    def _write(
        self, connection: WriteConnection, head: _Head, memory: LedgerMemory, inputs: Sequence[Input], by: str = NOBODY
    ) -> list[Outcome]:
        before = head.state
        events = [item.event if isinstance(item, Sent | Approved) else item for item in inputs]
        memory.load(connection, before, [event for event in events if isinstance(event, Event)])
        recorded: list[RecordedEvent] = []
        outcomes = [self._take(connection, head, memory, item, recorded, by) for item in inputs]
        if not recorded:
            return outcomes
        known = memory.load_dimension_sets(connection)
        log.number_dimensions(connection, before.ledger, known, recorded)
        batch = Batch(
            ledger=before.ledger,
            recorded_at=head.recorded_at,
            events=tuple(recorded),
            before=before,
            after=head.state,
            dimension_sets=known,
        )
        head.batch_hash = log.append(connection, batch, head.frontier, head.batch_hash)
        memory.save(connection)
        _save_settings(connection, batch)
        for projector in self._projectors:
            projector.project(connection, batch)
        _save_head(connection, head)
        return outcomes

    def _take(
        self, connection: WriteConnection, head: _Head, memory: LedgerMemory, item: Input,
        recorded: list[RecordedEvent], by: str,
    ) -> Outcome:  # fmt: skip
        """Decides one event and takes it into memory, or says why not."""
        approval = None
        if isinstance(item, Approved):
            approval = item.approval
            item = item.event
        elif isinstance(item, Sent):
            by = item.by
            item = item.event
        if isinstance(item, SubledgerError):
            return Outcome(event_id=item.facts.get("event_id"), status=REJECTED, error=item)
        known = memory.recorded.get(item.key)
        if known is not None:
            return _repeated(item, known)
        try:
            decision = decide(memory.wallet(item.customer), item, memory.context(head.state, item))
        except (Refused, InvalidInput) as error:
            return Outcome(event_id=item.event_id, status=REJECTED, error=error)
        if approval is not None:
            decision = msgspec.structs.replace(decision, approval=approval)
            approvals.settle(connection, head.state.ledger, approval, approvals.APPROVED, head.recorded_at)
        elif (reason := needs_second_person(item, head.state)) is not None or item.key in memory.asked:
            return _asked(connection, head, memory, item, reason or "", by)
        position, home = head.position + 1, head.state.functional_currency
        wallets = {
            customer: evolve(memory.wallet(customer), item, decision, position=position, functional_currency=home)
            for customer in references.customers_of(item, decision)
        }
        effective = effective_date(item.occurred_at, head.state.zone)
        books = evolve_books(memory.books, item, decision, effective=effective, functional_currency=home)
        entries = post(item, decision, before=head.state, wallets=wallets)
        head.position = position
        head.state = evolve_ledger(head.state, item)
        memory.remember(item, decision, position, wallets, books)
        recorded.append(RecordedEvent(position=position, event=item, decision=decision, entries=entries))
        return Outcome(event_id=item.event_id, status=RECORDED, position=position)


def _asked(
    connection: WriteConnection, head: _Head, memory: LedgerMemory, event: Event, reason: str, by: str
) -> Outcome:
    """An event that waits for a second person; asked for again, it goes on waiting, or stays refused."""
    approval_id = approvals.approval_id_of(event)
    known = memory.asked.get(event.key)
    if known is None:
        approvals.ask(connection, head.state.ledger, event, reason, by, head.recorded_at)
        memory.asked[event.key] = event
        return Outcome(event_id=event.event_id, status=WAITING, approval_id=approval_id)
    stored = known if isinstance(known, Event) else known.event
    different = differences(
        event, type=stored.type, customer=stored.customer, occurred_at=stored.occurred_at, data_text=stored.data_text
    )
    error: SubledgerError | None = None
    if different and event.source != OWN_SOURCE:  # a month that is asked for again is asked for at another time
        error = EventConflict(
            f"{event.event_id} from {event.source} waits as {approval_id} with other content: {', '.join(different)}",
            field=different[0],
            expected="the content first sent, or a new id",
            differs=different,
        )
    elif not isinstance(known, Event) and known.state == approvals.REFUSED:
        error = ApprovalRefused(
            f"{known.checker} has refused it: {known.note or 'no reason given'}",
            expected="another event, under a new id",
            found=approval_id,
        )
    if error is not None:
        return Outcome(event_id=event.event_id, status=REJECTED, error=error, approval_id=approval_id)
    return Outcome(event_id=event.event_id, status=WAITING, approval_id=approval_id)


def raise_first(outcomes: Iterable[Outcome]) -> None:
    """Raises the error of the first event that was not recorded: of the ledger's own, none may be refused."""
    for outcome in outcomes:
        if outcome.error is not None:
            raise outcome.error


def now_of(connection: WriteConnection) -> datetime:
    """The database's clock."""
    row = connection.execute("SELECT clock_timestamp()").fetchone()
    assert row is not None
    moment: datetime = row[0]
    return moment


def _repeated(event: Event, known: Any) -> Outcome:
    """The same key again: a duplicate where the content is the same, else a conflict that names what differs."""
    stored = known if isinstance(known, Recorded) else known.event
    different = differences(
        event,
        type=stored.type,
        customer=stored.customer,
        occurred_at=stored.occurred_at,
        data_text=stored.data_text,
    )
    if not different:
        return Outcome(event_id=event.event_id, status=DUPLICATE, position=known.position)
    error = EventConflict(
        f"{event.event_id} from {event.source} was recorded at position {known.position} with other content: "
        f"{', '.join(different)}",
        field=different[0],
        expected="the content first recorded, or a new id",
        position=known.position,
        differs=different,
    )
    return Outcome(event_id=event.event_id, status=REJECTED, position=known.position, error=error)


def due_expiries(
    connection: WriteConnection, state: LedgerState, position: int, until: datetime, limit: int
) -> list[Event]:
    """The expiries to record of blocks that expired before ``until``, soonest first.

    Under the lock a block is due once; the ledger's position makes the id unique when it expires a second time.
    """
    return [
        own_event(
            source=OWN_SOURCE,
            event_id=f"expiry/{block_id}/{position}",
            type="credits.expired",
            customer=customer,
            occurred_at=expires_at,
            data={"block_id": block_id},
        )
        for block_id, customer, expires_at in connection.execute(DUE_BLOCKS, (state.ledger, until, limit))
    ]


def _save_settings(connection: WriteConnection, batch: Batch) -> None:
    """Policies and mappings that the batch adopts, as rows that journal lines are read with."""
    for recorded in batch.events:
        data = recorded.event.data
        if isinstance(data, PolicyAdopted):
            connection.execute(
                "INSERT INTO posting_policies (ledger, policy, name, version, content_hash, position) "
                "VALUES (%s, %s, %s, %s, %s, %s)",
                (batch.ledger, data.policy, data.name, data.version, data.content_hash, recorded.position),
            )
            pairs = [
                (batch.ledger, data.policy, kind, number, debit, credit)
                for kind, rule in data.rules.items()
                for number, (debit, credit) in enumerate(rule, start=1)
            ]
            with connection.cursor() as cursor:
                cursor.executemany(
                    "INSERT INTO posting_rules (ledger, policy, kind, pair, debit, credit) "
                    "VALUES (%s, %s, %s, %s, %s, %s)",
                    pairs,
                )
        elif isinstance(data, MappingAdopted):
            connection.execute(
                "INSERT INTO account_mappings (ledger, mapping, content_hash, rows, position) "
                "VALUES (%s, %s, %s, %s, %s)",
                (batch.ledger, data.mapping, data.content_hash, canonical(data.rows), recorded.position),
            )


def _save_head(connection: WriteConnection, head: _Head) -> None:
    state = head.state
    connection.execute(
        SAVE_HEAD,
        (
            state.entity, state.functional_currency, state.timezone, state.on_shortfall, state.late_usage,
            state.policy, state.mapping, state.closed_through, state.open_cut,
            state.stored("approvals"), head.position, head.recorded_at,
            head.batch_hash, head.frontier.to_bytes(), state.ledger,
        ),
    )  # fmt: skip
