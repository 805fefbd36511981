"""The way of a batch, from the decisions to the last row before the commit.

Owns: what becomes of each event, and everything that is written with it. Does not own: the lock, the commit, the
memory's trust (recorder); what an event means (deciding, evolving, posting).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol

import msgspec
import psycopg

from subledger.books import changes_books, evolve_books
from subledger.deciding.context import Original
from subledger.deciding.decide import decide
from subledger.deciding.new_bounds import check_new_bounds
from subledger.deciding.new_ids import check_new_ids
from subledger.deciding.second_person import given_by, may_ask, needs_second_person
from subledger.errors import ApprovalRefused, EventConflict, InvalidInput, Refused, SubledgerError, present
from subledger.events import references
from subledger.events.envelope import OWN_SOURCE, Event, canonical, differences
from subledger.events.own_data import RESERVED_TYPES, MappingAdopted, PolicyAdopted
from subledger.evolving import evolve
from subledger.ledger import check_not_in_future, evolve_ledger
from subledger.periods import effective_date
from subledger.posting import post, rules_from
from subledger.store.database import WriteConnection
from subledger.store.writing import approvals
from subledger.store.writing import head as heads
from subledger.store.writing.append import Parameters, call_of
from subledger.store.writing.explaining import Refusals
from subledger.store.writing.head import Head
from subledger.store.writing.log import Appending, Batch, RecordedEvent
from subledger.store.writing.memory import LedgerMemory, Recorded
from subledger.store.writing.policy_rules import save_rules
from subledger.wallet import Approval

RECORDED, DUPLICATE, REJECTED, WAITING = "recorded", "duplicate", "rejected", "waiting"


class Outcome(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What became of one event: recorded or a duplicate, at a position, or rejected with its error.

    Or it waits for a second person, under an approval's id. ``decided_at_position`` is of a rejected event: where the
    ledger was then. ``rejection_id`` is what it is kept as (store/rejections).
    """

    event_id: str | None
    status: str
    position: int | None = None
    error: SubledgerError | None = None
    approval_id: str | None = None
    decided_at_position: int | None = None
    rejection_id: str | None = None


class Approved(msgspec.Struct, frozen=True, gc=False):
    """An event that a second person has allowed."""

    event: Event
    approval: Approval


class Sent(msgspec.Struct, frozen=True, gc=False):
    """An event with who asks for it, where those who ask differ within a batch."""

    event: Event
    by: str


Input = Event | Sent | Approved | SubledgerError
"""An event, or why what was sent is none: it keeps its place among the results."""


class Projector(Protocol):
    """Something that is derived from each batch and commits with it."""

    def project(self, batch: Batch) -> Parameters:
        """Its rows, as parameters of the batch."""


class Writing:
    """One batch: its events decided one by one, then everything that follows from them."""

    def __init__(
        self, connection: WriteConnection | None, head: Head, memory: LedgerMemory, by: str, *, expected: int
    ) -> None:
        self._head = head
        self._before = head.state
        self._memory = memory
        self._by = by
        self._log = Appending(connection, head.state.ledger, memory.dimension_sets, expected=expected)
        self._recorded: list[RecordedEvent] = []
        self._own: list[RecordedEvent] = []  # of the ledger itself
        self._batch: Batch | None = None
        self.refusals = Refusals()
        self._waiting: list[Callable[[WriteConnection], object]] = []  # the connection may be busy with a copy

    def decide(self, inputs: Sequence[Input]) -> list[Outcome]:
        """Decides each input in turn, and sends what is recorded to the log."""
        try:
            outcomes = [self._take(item) for item in inputs]
            if self._recorded:
                self._batch = Batch(
                    ledger=self._before.ledger,
                    recorded_at=self._head.recorded_at,
                    events=tuple(self._recorded),
                    before=self._before,
                    after=self._head.state,
                    dimension_sets=self._memory.dimension_sets,
                )
                self._log.end_copy()
            return outcomes
        except BaseException as error:
            self._log.abandon(error)
            raise

    def finish(self, connection: WriteConnection, projectors: Sequence[Projector]) -> None:
        """Writes everything else. Asks nothing, so that all of it is sent at once, in a pipeline."""
        for write in self._waiting:
            write(connection)
        if self._batch is None:
            return
        psycopg.RawCursor(connection).execute(*self.call(projectors, at_once=False))
        for recorded in self._own:
            _save_settings(connection, self._before.ledger, recorded)
        if self._own:
            heads.save_settings(connection, self._head.state)

    def call(self, projectors: Sequence[Projector], *, at_once: bool) -> tuple[str, list[Any]]:
        """The one statement that writes what has not been copied. The head is then what it makes it."""
        head, batch = self._head, present(self._batch, "a batch without events has nothing to write")
        parameters = {
            "of_ledger": batch.ledger,
            "at_once": at_once,
            "at_rebuilds": head.rebuilds,
            **self._log.finish(batch, head.frontier, head.batch_hash),
            **self._memory.save(head.position, len(batch.events)),
        }
        for projector in projectors:
            parameters |= projector.project(batch)
        head.batch_hash, head.wallets_through = parameters["new_hash"], parameters["new_wallets_through"]
        return call_of(parameters)

    def take_back(self) -> None:
        """Leaves the memory as it was before: nothing of this has been written."""
        self._log.take_back()
        self._memory.take_back()

    def _take(self, item: Input) -> Outcome:
        """Decides one event and takes it into memory, or says why not."""
        head, memory, by, approval = self._head, self._memory, self._by, None
        if isinstance(item, Approved):
            approval = item.approval
            item = item.event
        elif isinstance(item, Sent):
            by = item.by
            item = item.event
        if isinstance(item, SubledgerError):
            return _rejected(item.facts.get("event_id"), item, head)
        key = (item.source, item.event_id)
        known = memory.recorded.get(key)
        if known is not None:
            return _repeated(item, known, head)
        wallet, state = memory.wallet(item.customer), head.state
        try:
            if approval is None and key not in memory.asked:  # a request may be from before these rules
                check_new_bounds(item)
                check_new_ids(item, memory.knows_id)
            check_not_in_future(state, item, head.recorded_at)
            decision = decide(wallet, item, memory.context(state, item))
        except (Refused, InvalidInput) as error:
            self.refusals.add(
                error, item, wallet, customer_known=item.customer is None or memory.knows(item.customer),
                late=state.late_usage == "reclassify", position=head.position,
            )  # fmt: skip
            return _rejected(item.event_id, error, head)
        given = given_by(item, decision, wallet, state)
        if approval is not None:
            decision = msgspec.structs.replace(decision, approval=approval)
            self._waiting.append(
                partial(
                    approvals.settle, ledger=state.ledger, approval=approval, state=approvals.APPROVED,
                    at=head.recorded_at,
                )
            )  # fmt: skip
        else:
            reason = needs_second_person(item, state, given=given, before=memory.gifts.of(item.customer))
            if reason is not None or (key in memory.asked and may_ask(state)):
                return self._asked(item, reason or "", by)
            if given is not None:
                memory.gifts.add(item.customer, head.position + 1, given)
            if key in memory.asked:
                self._waiting.append(
                    partial(
                        approvals.settle_recorded, ledger=state.ledger, event=item, position=head.position + 1,
                        at=head.recorded_at,
                    )
                )  # fmt: skip
        position, home = head.position + 1, state.functional_currency
        wallets = {
            customer: evolve(memory.wallet(customer), item, decision, position=position, functional_currency=home)
            for customer in references.customers_of(item, decision)
        }
        books = memory.books
        if changes_books(item, decision):
            effective = effective_date(item.occurred_at, state.zone)
            books = evolve_books(books, item, decision, effective=effective, functional_currency=home)
        entries = post(item, decision, before=state, wallets=wallets)
        recorded = RecordedEvent(position=position, event=item, decision=decision, entries=entries)
        head.position = position
        if item.type in RESERVED_TYPES:
            head.state = evolve_ledger(state, item)
            self._own.append(recorded)
        memory.remember(recorded, wallets, books)
        self._recorded.append(recorded)
        self._log.add(recorded)
        return Outcome(event_id=item.event_id, status=RECORDED, position=position)

    def _asked(self, event: Event, reason: str, by: str) -> Outcome:
        """An event that waits for a second person; asked for again, it goes on waiting, or stays refused."""
        approval_id = approvals.approval_id_of(event)
        known = self._memory.asked.get(event.key)
        if known is None:
            try:
                approvals.require_name(by)
            except Refused as refused:
                return _rejected(event.event_id, refused, self._head)
            ledger, at = self._head.state.ledger, self._head.recorded_at
            self._waiting.append(partial(approvals.ask, ledger=ledger, event=event, reason=reason, maker=by, at=at))
            self._memory.asked[event.key] = event
            return Outcome(event_id=event.event_id, status=WAITING, approval_id=approval_id)
        stored = known if isinstance(known, Event) else known.event
        different = differences(
            event,
            type=stored.type,
            customer=stored.customer,
            occurred_at=stored.occurred_at,
            data_text=stored.data_text,
        )
        error: SubledgerError | None = None
        if different and event.source != OWN_SOURCE:  # a month that is asked for again is asked for at another time
            error = EventConflict(
                f"{event.event_id} from {event.source} waits as {approval_id} with other content: "
                f"{', '.join(different)}",
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
            return msgspec.structs.replace(_rejected(event.event_id, error, self._head), approval_id=approval_id)
        return Outcome(event_id=event.event_id, status=WAITING, approval_id=approval_id)


def _rejected(event_id: str | None, error: SubledgerError, head: Head) -> Outcome:
    return Outcome(event_id=event_id, status=REJECTED, error=error, decided_at_position=head.position)


def _repeated(event: Event, known: Recorded | Original | RecordedEvent, head: Head) -> Outcome:
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
    return msgspec.structs.replace(_rejected(event.event_id, error, head), position=known.position)


def _save_settings(connection: WriteConnection, ledger: str, recorded: RecordedEvent) -> None:
    """A policy or a mapping that an event adopts, as rows that journal lines are read with."""
    data = recorded.event.data
    if isinstance(data, PolicyAdopted):
        connection.execute(
            "INSERT INTO posting_policies (ledger, policy, name, version, content_hash, position) "
            "VALUES (%s, %s, %s, %s, %s, %s)",
            (ledger, data.policy, data.name, data.version, data.content_hash, recorded.position),
        )
        save_rules(connection, ledger, data.policy, rules_from(data.rules))
    elif isinstance(data, MappingAdopted):
        connection.execute(
            "INSERT INTO account_mappings (ledger, mapping, content_hash, rows, position, valid_from) "
            "VALUES (%s, %s, %s, %s, %s, %s)",
            (ledger, data.mapping, data.content_hash, canonical(data.rows), recorded.position, data.valid_from),
        )
