"""The recorder: the only way to write events into a ledger.

A batch takes the ledger's row lock, decides each event in turn, writes the log and all derived rows, and commits. Until
then the next writer waits for the lock. So positions are gapless and in commit order, ``recorded_at`` never runs
backwards, and derived tables are never older than the log. A refused event does not affect the other events of its
batch.

The lock is taken before any read on which a decision depends, because another writer could change the data in between.
A small batch of usage is the exception (``_record_without_lock``). It is decided on the writer's memory, and the
database writes it only if the ledger has not changed since.

Owns: the lock, the transaction, and the trust in a memory. Does not own: the rows of a batch (batch), the expiry sweep
(expiry_sweep).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime

import msgspec
import psycopg

from subledger.closing import check_may_reopen
from subledger.errors import LedgerLocked, Unavailable
from subledger.events.envelope import Event
from subledger.events.own_data import PeriodReopened
from subledger.events.references import References, references_of
from subledger.ledger import LedgerState, check_accounting_rules
from subledger.periods import Period
from subledger.persons import NOBODY
from subledger.store.database import Database, WriteConnection
from subledger.store.writing import approvals
from subledger.store.writing.batch import RECORDED, Approved, Input, Outcome, Projector, Sent, Writing
from subledger.store.writing.collecting import collection_held_off
from subledger.store.writing.explaining import Refusals
from subledger.store.writing.head import LOCK_LEDGER, Head, create, head_of
from subledger.store.writing.loading import load
from subledger.store.writing.log import FEW
from subledger.store.writing.memory import LedgerMemory
from subledger.store.writing.policy_rules import save_inherited_rules
from subledger.store.writing.referenced_rows import find_recorded, read_recorded
from subledger.store.writing.stuck_writers import end_stuck_writers
from subledger.store.writing.working_set import WorkingSet
from subledger.wallet import Approval

Plan = Callable[[WriteConnection, LedgerState, int], Sequence[Input]]
"""Makes the events of a batch from the locked ledger and its position: due expiries, the close of a period."""

Check = Callable[[WriteConnection, LedgerState], None]
"""Raises if the batch must not be committed."""


class Recorder:
    """Records events into ledgers of one database. Safe to share between threads and to run in many processes."""

    def __init__(self, database: Database, projectors: Sequence[Projector]) -> None:
        self._database = database
        self._projectors = tuple(projectors)
        self._memories: dict[str, LedgerMemory] = {}
        self._turns: dict[str, threading.Lock] = {}
        self._guard = threading.Lock()  # guards _turns, so that two threads do not make two locks for one ledger

    # --- what callers do ----------------------------------------------------------------------------------

    def record(
        self, ledger: str, inputs: Sequence[Input], *, by: str = NOBODY, meanwhile: Callable[[], None] | None = None
    ) -> list[Outcome]:
        """Records a batch. Returns one outcome for each input, in order. Recorded events are then durable.

        ``by`` is the sender's name, for events that need a second person. ``meanwhile`` is called once, while the
        database writes and commits, for example to decode the next batch. Raises UnknownLedger or LedgerLocked if
        nothing was recorded. Raises DatabaseUnavailable: if the answer to the commit was lost, the batch may be
        recorded, and is a duplicate if it is sent again.
        """
        if not inputs:
            return []
        with collection_held_off():
            return self._transact(ledger, inputs, None, None, by, meanwhile)

    def create_ledger(self, ledger: str, founding: Callable[[datetime], Sequence[Event]]) -> bool:
        """Creates a ledger with the events that configure it. Returns False, without a change, if the ledger exists."""
        with self._database.write(recording=True) as connection:
            if not create(connection, ledger):
                return False
            head = head_of(ledger, connection.execute(LOCK_LEDGER, (ledger,)).fetchone())
            events = founding(head.recorded_at)
            working = load(connection, head, LedgerMemory(ledger), events, references_of(events), {})
            outcomes, _ = self._write(connection, head, working, events, None, NOBODY)
            raise_first(outcomes)
        return True

    def decide_approval(
        self,
        ledger: str,
        approval_id: str,
        *,
        by: str,
        allow: bool,
        note: str | None = None,
        made_by: Sequence[str] = (),
        makers_for: approvals.MakersFor = approvals.no_makers,
    ) -> Outcome:
        """Records a waiting event that a second person approves, with both names; or stores the person's refusal.

        ``made_by``: the makers of the key with which ``by`` calls, if any. ``makers_for`` finds the makers of the
        requester's keys. Raises UnknownApproval, ApprovalDecided, PersonRequired, SamePerson. If the books do not allow
        the event any more, the outcome has the error, and the request still waits. If the event is recorded already,
        the request is settled as recorded, and ApprovalDecided is raised.
        """
        found: list[tuple[approvals.ApprovalRequest, Approval]] = []
        recorded: list[str] = []

        def plan(connection: WriteConnection, state: LedgerState, _position: int) -> Sequence[Input]:
            found.append(
                approvals.decidable(
                    connection, ledger, approval_id, by, allow=allow, made_by=made_by, makers_for=makers_for
                )
            )
            request, approval = found[-1]
            event = request.event
            known = read_recorded(find_recorded(connection, ledger, References(keys={event.key}))).get(event.key)
            if known is not None:
                now = now_of(connection)
                recorded.append(approvals.settle_recorded(connection, ledger, event, known.position, now))
                return []
            if not allow:
                approvals.settle(connection, ledger, approval, approvals.REFUSED, now_of(connection), note)
                return []
            if isinstance(event.data, PeriodReopened):
                check_may_reopen(state, Period.parse(event.data.period))
            return [Approved(event, approval, request.effect)]

        outcomes = self.transact(ledger, plan, by=by)
        request, approval = found[-1]
        if recorded:
            raise approvals.decided(approval.approval_id, approvals.RECORDED, recorded[-1])
        return outcomes[0] if outcomes else Outcome(event_id=request.event_id, status=approvals.REFUSED)

    def transact(self, ledger: str, plan: Plan, check: Check | None = None, *, by: str = NOBODY) -> list[Outcome]:
        """Records a batch. Its events are planned under the lock, and it is checked before the commit."""
        return self._transact(ledger, (), plan, check, by)

    # --- from the lock to the commit ------------------------------------------------------------------------

    def _transact(
        self,
        ledger: str,
        inputs: Sequence[Input],
        plan: Plan | None,
        check: Check | None,
        by: str,
        meanwhile: Callable[[], None] | None = None,
    ) -> list[Outcome]:
        wanted = references_of(events_of(inputs))
        # The ledger's row lock lets one process write at a time. This lock lets only one thread of this process wait
        # for it. Otherwise each waiting thread would hold a connection, and two threads would use one memory at the
        # same time.
        with self._turn(ledger):
            try:
                outcomes, refusals = self._attempt(ledger, inputs, wanted, plan, check, by, meanwhile)
            except LedgerLocked as error:
                # A writer that is stopped, or whose machine is lost, may hold the lock for ever. So the waiting writer
                # ends its session and tries once more. A second attempt is safe, because nothing was written, and no
                # plan was made without the lock.
                if not end_stuck_writers(self._database, ledger):
                    limit_s = self._database.timeouts.lock_timeout_s
                    raise LedgerLocked(
                        f"recording into ledger {ledger} waited more than {limit_s:g} s for a lock that another "
                        "transaction held: the ledger's own, or that of a table or row; nothing was recorded. Send the "
                        "same again: what has been recorded by then is a duplicate",
                        expected="the same call, later",
                        ledger=ledger,
                    ) from error
                outcomes, refusals = self._attempt(ledger, inputs, wanted, plan, check, by, meanwhile)
        return self._explained(ledger, outcomes, refusals) if refusals else outcomes

    def _explained(self, ledger: str, outcomes: list[Outcome], refusals: Refusals) -> list[Outcome]:
        """The outcomes, with details of refusals that need queries. No lock is held, so no other writer waits."""
        try:
            with self._database.write(recording=True) as connection:
                found = refusals.explained(connection, ledger)
        except Unavailable:
            return outcomes  # the batch is committed, and only the details of refusals are missing
        return [
            msgspec.structs.replace(outcome, error=found[id(outcome.error)]) if id(outcome.error) in found else outcome
            for outcome in outcomes
        ]

    def _attempt(
        self,
        ledger: str,
        inputs: Sequence[Input],
        wanted: References,
        plan: Plan | None,
        check: Check | None,
        by: str,
        meanwhile: Callable[[], None] | None,
    ) -> tuple[list[Outcome], Refusals]:
        try:
            if plan is None and check is None and meanwhile is None:
                outcomes = self._record_without_lock(ledger, inputs, wanted, by)
                if outcomes is not None:
                    return outcomes, Refusals()
            at_length = plan is not None or check is not None  # a close reads all changes of the month
            with self._database.write(recording=True, at_length=at_length) as connection:
                # All queries are sent at once. The server must take the lock before it looks for events under these
                # keys. In the other order another writer could record the same events in between, and the log's unique
                # key would fail the whole batch.
                with connection.pipeline():
                    locking = connection.execute(LOCK_LEDGER, (ledger,))
                    finding = find_recorded(connection, ledger, wanted)
                    head = head_of(ledger, locking.fetchone())
                    recorded = read_recorded(finding)
                if plan is not None:
                    inputs = plan(connection, head.state, head.position)
                    wanted = references_of(events_of(inputs))
                    recorded = read_recorded(find_recorded(connection, ledger, wanted))
                check_accounting_rules(head.state, events_of(inputs))
                memory = self._memory(head)
                if memory is not self._memories.get(ledger):  # another writer may have been of an older release
                    save_inherited_rules(connection, ledger)
                working = load(connection, head, memory, events_of(inputs), wanted, recorded)
                outcomes, refusals = self._write(connection, head, working, inputs, check, by, meanwhile)
        except BaseException:
            # This includes a commit whose answer was lost: then the ledger's head is unknown. The next batch reads it
            # under the lock, into a fresh memory.
            self._memories.pop(ledger, None)
            raise
        # The memory is changed only after the commit, because a batch that is rolled back would make it false.
        memory.apply(working.changes, head)
        self._memories[ledger] = memory
        return outcomes, refusals

    def _record_without_lock(
        self, ledger: str, inputs: Sequence[Input], wanted: References, by: str
    ) -> list[Outcome] | None:
        """Decides a few events on the writer's memory, without the lock, and writes them in one call.

        The database locks the ledger, and writes them only if the ledger's head is still the one of the decisions.
        Otherwise, or if an event is not simply recorded, nothing is written and None is returned. Then the lock is
        taken, and all events are decided again.
        """
        memory, events = self._memories.get(ledger), events_of(inputs)
        if memory is None or memory.head is None or len(events) < len(inputs) or len(inputs) > FEW:
            return None
        if not memory.can_decide_without_lock(events, wanted):
            return None
        memory.mark_used(wanted.customers)
        head, working = memory.head.for_next_batch(), WorkingSet(memory, {})
        writing = Writing(None, head, working, by, expected=len(inputs))
        outcomes = writing.decide(inputs)
        if any(outcome.status != RECORDED for outcome in outcomes):
            # This is not the final answer. The keys were not looked up, so a refused event may be the duplicate of a
            # recorded one. Also, another writer may have added credits.
            return None
        try:
            [(now,)] = self._database.call(*writing.call(self._projectors, at_once=True))
        except (psycopg.errors.UniqueViolation, psycopg.errors.InternalError_):
            # A UniqueViolation is a duplicate, found by the log's unique key. A Citus cluster reports it as an
            # InternalError. Any other internal error occurs again under the lock.
            return None
        if now is None:
            del self._memories[ledger]
            return None
        memory.apply(working.changes, head.with_clock(now))
        return outcomes

    def _write(
        self,
        connection: WriteConnection,
        head: Head,
        working: WorkingSet,
        inputs: Sequence[Input],
        check: Check | None,
        by: str,
        meanwhile: Callable[[], None] | None = None,
    ) -> tuple[list[Outcome], Refusals]:
        writing = Writing(connection, head, working, by, expected=len(inputs))
        outcomes = writing.decide(inputs)
        with connection.pipeline() as pipeline:
            writing.finish(connection, self._projectors)
            if check is None:
                # The commit is sent together with the statements, which saves a round trip while others wait for the
                # lock. If a statement fails, the server skips all later ones, including the commit.
                connection.commit()
            if meanwhile is not None:
                pipeline.sync()  # reads only the answers that have arrived
                connection.send_all()
                meanwhile()
        if check is not None:
            check(connection, head.state)
        return outcomes, writing.refusals

    def _turn(self, ledger: str) -> threading.Lock:
        with self._guard:
            return self._turns.setdefault(ledger, threading.Lock())

    def _memory(self, head: Head) -> LedgerMemory:
        """The memory of a ledger whose lock is held: that of the last batch if it is true, else a fresh one."""
        memory = self._memories.get(head.state.ledger)
        if memory is None or not memory.is_true_at(head):
            memory = LedgerMemory(head.state.ledger)
        return memory


def events_of(inputs: Sequence[Input]) -> list[Event]:
    """The events among some inputs, without those that could not be read."""
    events = [item.event if isinstance(item, Sent | Approved) else item for item in inputs]
    return [event for event in events if isinstance(event, Event)]


def raise_first(outcomes: Iterable[Outcome]) -> None:
    """Raises the error of the first event that was not recorded: the ledger's own events must not be refused."""
    for outcome in outcomes:
        if outcome.error is not None:
            raise outcome.error


def ledger_now(connection: WriteConnection, state: LedgerState) -> datetime:
    """The current time of the locked ledger: the database's clock, or that of a sandbox."""
    return state.now(now_of(connection))


def now_of(connection: WriteConnection) -> datetime:
    """The database's clock."""
    moment: datetime
    [(moment,)] = connection.execute("SELECT clock_timestamp()").fetchall()
    return moment
