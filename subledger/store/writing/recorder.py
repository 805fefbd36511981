"""The recorder: the one way for events into a ledger.

A batch takes the ledger's row lock, decides each event in turn, writes the log and everything that follows from it, and
commits. The next writer waits for the lock until then. So positions are gapless and in commit order, ``recorded_at``
never runs backwards, and derived tables are never older than the log. A refused event never spoils its batch: it is
rejected with its reason.

The lock comes first, before anything is read that a decision depends on: another writer could change it in between. A
few events of usage are the exception (``_record_without_lock``): they are decided on what this writer remembers, and
the database writes them only if the ledger is still as this writer left it.

Owns: the lock, the transaction, and the trust in a memory. Does not own: what is written in between (batch), the expiry
sweep (expiry_sweep).
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
        self._guard = threading.Lock()  # over _turns: two threads must not make two locks for one ledger

    # --- what callers do ----------------------------------------------------------------------------------

    def record(
        self, ledger: str, inputs: Sequence[Input], *, by: str = NOBODY, meanwhile: Callable[[], None] | None = None
    ) -> list[Outcome]:
        """Records a batch. Returns one outcome an input, in order; what is recorded is durable then.

        ``by`` is the sender's name, for events that need a second person. ``meanwhile`` is called once, while the
        database writes and commits: to decode the next batch.
        Raises UnknownLedger, LedgerLocked, and then has recorded nothing; DatabaseUnavailable: if the answer to the
        commit was lost, the batch may be recorded all the same, and is a duplicate if it is sent again.
        """
        if not inputs:
            return []
        with collection_held_off():
            return self._transact(ledger, inputs, None, None, by, meanwhile)

    def create_ledger(self, ledger: str, founding: Callable[[datetime], Sequence[Event]]) -> bool:
        """Creates a ledger with the events that configure it. Returns False, and writes nothing, if it exists."""
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
        """Records a waiting event that a second person allows, with both names; or stores that the person refused it.

        ``made_by`` are the makers of the key that ``by`` calls with, if there is one; ``makers_for`` finds the makers
        of the keys of the person who made the request.
        Raises UnknownApproval, ApprovalDecided, PersonRequired, SamePerson. If the books do not allow the event any
        more, the outcome has the error, and the request goes on waiting. If the event is recorded already, the request
        is settled so, and ApprovalDecided raised.
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
        """Records a batch whose events are planned under the lock, and which is checked before the commit."""
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
        # The ledger's row lock lets one process write at a time. This lock lets one thread of this process wait for it:
        # others would each hold a connection while they wait, and two would use one memory at the same time.
        with self._turn(ledger):
            try:
                outcomes, refusals = self._attempt(ledger, inputs, wanted, plan, check, by, meanwhile)
            except LedgerLocked as error:
                # A writer that is stopped, or whose machine is lost, may hold the lock for ever: the waiting one ends
                # it and tries once more. That is safe: nothing was written, and no plan was made without the lock.
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
        """The outcomes, with details of refusals that take queries. No lock is held, so nobody waits for them."""
        try:
            with self._database.write(recording=True) as connection:
                found = refusals.explained(connection, ledger)
        except Unavailable:
            return outcomes  # the batch is committed, and the refusals stand: only their details are missing
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
            at_length = plan is not None or check is not None  # a close reads everything that the month moved
            with self._database.write(recording=True, at_length=at_length) as connection:
                # All of it is sent at once, and the server takes the lock before it looks for events under these keys.
                # The other way round another writer could record the same events in between; then the log's unique key
                # would fail the whole batch.
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
            # Also if the commit was sent and its answer lost: nobody knows which head the ledger has. The next batch
            # reads it under the lock, into a fresh memory.
            self._memories.pop(ledger, None)
            raise
        # Only now, after the commit: a memory that had taken in a batch which is then rolled back would be false.
        memory.apply(working.changes, head)
        self._memories[ledger] = memory
        return outcomes, refusals

    def _record_without_lock(
        self, ledger: str, inputs: Sequence[Input], wanted: References, by: str
    ) -> list[Outcome] | None:
        """Decides a few events on what this writer remembers, without the lock, and writes them in one call.

        The database locks the ledger and writes them only if its head is still the one that they were decided on.
        Returns None, with nothing written, if it is not, or if any event is not simply recorded: then the lock is
        taken, and everything is decided again.
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
            # It is no answer yet. The keys were not looked up, so a refused event may be the duplicate of one that was
            # recorded when there were credits; and another writer may have added credits since.
            return None
        try:
            [(now,)] = self._database.call(*writing.call(self._projectors, at_once=True))
        except (psycopg.errors.UniqueViolation, psycopg.errors.InternalError_):
            # The first is a duplicate, found by the log's unique key; a Citus cluster reports it as the second. Any
            # other internal error is met again under the lock.
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
                # The commit is sent together with what it commits: one round trip less while others wait for the lock.
                # If a statement fails, the server skips the commit with everything else that follows.
                connection.commit()
            if meanwhile is not None:
                pipeline.sync()  # reads the answers that have arrived: it does not wait for the others
                connection.send_all()
                meanwhile()
        if check is not None:
            check(connection, head.state)
        return outcomes, writing.refusals

    def _turn(self, ledger: str) -> threading.Lock:
        with self._guard:
            return self._turns.setdefault(ledger, threading.Lock())

    def _memory(self, head: Head) -> LedgerMemory:
        """The memory of a ledger whose lock is held: the one from the last batch if it is true, else a fresh one."""
        memory = self._memories.get(head.state.ledger)
        if memory is None or not memory.is_true_at(head):
            memory = LedgerMemory(head.state.ledger)
        return memory


def events_of(inputs: Sequence[Input]) -> list[Event]:
    """The events among some inputs, without those that could not be read."""
    events = [item.event if isinstance(item, Sent | Approved) else item for item in inputs]
    return [event for event in events if isinstance(event, Event)]


def raise_first(outcomes: Iterable[Outcome]) -> None:
    """Raises the error of the first event that was not recorded: of the ledger's own events none may be refused."""
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
