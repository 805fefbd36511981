"""A batch from its first decision to its last row before the commit.

Owns: the outcome of each event, and all rows that are written with it. Does not own: the lock, the commit, the trust in
the memory (recorder); the meaning of an event (deciding, evolving, posting).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol

import msgspec
import psycopg

from subledger.books import changes_books, evolve_books
from subledger.deciding.decide import decide
from subledger.deciding.event_effects import effect_of
from subledger.deciding.new_bounds import check_new_bounds
from subledger.deciding.new_ids import check_new_ids
from subledger.deciding.second_person import check_as_shown, may_ask, may_have_effect, needs_second_person
from subledger.errors import ApprovalRefused, EventConflict, InvalidInput, Refused, SubledgerError, present
from subledger.event_effect import NO_EFFECT, EventEffect
from subledger.events import references
from subledger.events.envelope import OWN_SOURCE, Event, canonical, differences
from subledger.events.own_data import RESERVED_TYPES, MappingAdopted, PolicyAdopted
from subledger.evolving import evolve
from subledger.ledger import check_not_in_future, evolve_ledger
from subledger.posting import post, rules_from
from subledger.store.database import WriteConnection
from subledger.store.writing import approvals
from subledger.store.writing import head as heads
from subledger.store.writing.append_batch import Parameters, call_of
from subledger.store.writing.explaining import Refusals
from subledger.store.writing.head import Head
from subledger.store.writing.log import Appending, Batch, RecordedEvent
from subledger.store.writing.policy_rules import save_rules
from subledger.store.writing.referenced_rows import FoundEvent
from subledger.store.writing.working_set import WorkingSet
from subledger.wallet import Approval, Decision, Wallet

RECORDED, DUPLICATE, REJECTED, WAITING = "recorded", "duplicate", "rejected", "waiting"


class Outcome(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The outcome of one event: recorded or a duplicate, at a position, or rejected with its error.

    Or it waits for a second person, under ``approval_id``.
    - ``decided_at_position``: for a rejected event, the ledger's position when it was decided.
    - ``rejection_id``: the id under which a rejected event is stored (store/rejected).
    - ``kept_estimates``: the cohorts that a recorded breakage estimate does not fit.
    """

    event_id: str | None
    status: str
    position: int | None = None
    error: SubledgerError | None = None
    approval_id: str | None = None
    decided_at_position: int | None = None
    rejection_id: str | None = None
    kept_estimates: tuple[str, ...] = ()


class Approved(msgspec.Struct, frozen=True, gc=False):
    """An event that a second person has approved, with the effect that this person saw (None: no effect was shown)."""

    event: Event
    approval: Approval
    shown: EventEffect | None = None


class Sent(msgspec.Struct, frozen=True, gc=False):
    """An event with the person or program that sent it, because the events of a batch may have different senders."""

    event: Event
    by: str


Input = Event | Sent | Approved | SubledgerError
"""An event, or the error of an input that could not be read, at the same place."""


class Projector(Protocol):
    """A table that is derived from each batch and commits with it."""

    def project(self, batch: Batch) -> Parameters:
        """Returns the rows for a batch, as parameters of the batch."""


class Writing:
    """One batch: its events decided one by one, then everything that follows from them.

    The order of calls is fixed: ``decide`` once, then ``finish`` or ``call`` once. ``decide`` advances the head and the
    working set event by event.
    """

    def __init__(
        self, connection: WriteConnection | None, head: Head, working: WorkingSet, by: str, *, expected: int
    ) -> None:
        self.refusals = Refusals()
        self._head = head
        self._before = head.state
        self._working = working
        self._by = by
        self._log = Appending(connection, head.state.ledger, working.dimension_sets, expected=expected)
        self._recorded: list[RecordedEvent] = []
        self._ledgers_own: list[RecordedEvent] = []
        self._batch: Batch | None = None
        # Writes to other tables wait until every event is decided, because the connection may be in the middle of the
        # COPY of a big batch, and nothing else can be sent then.
        self._deferred: list[Callable[[WriteConnection], object]] = []

    def decide(self, inputs: Sequence[Input]) -> list[Outcome]:
        """Decides each input in turn, and sends recorded events to the log."""
        try:
            outcomes = [self._take(item) for item in inputs]
            if self._recorded:
                self._batch = Batch(
                    ledger=self._before.ledger,
                    recorded_at=self._head.recorded_at,
                    events=tuple(self._recorded),
                    before=self._before,
                    after=self._head.state,
                    dimension_sets=self._working.dimension_sets,
                )
                self._log.end_copy()
            return outcomes
        except BaseException as error:
            # A connection with an open COPY cannot roll back and cannot be used again, so the COPY is ended first.
            self._log.abandon(error)
            raise

    def finish(self, connection: WriteConnection, projectors: Sequence[Projector]) -> None:
        """Writes all other rows. It reads nothing, so that all statements are sent at once, in a pipeline."""
        for write in self._deferred:
            write(connection)
        if self._batch is None:
            return
        psycopg.RawCursor(connection).execute(*self.call(projectors, at_once=False))
        for recorded in self._ledgers_own:
            _save_adopted(connection, self._before.ledger, recorded)
        if self._ledgers_own:
            heads.save_settings(connection, self._head.state)

    def call(self, projectors: Sequence[Projector], *, at_once: bool) -> tuple[str, list[Any]]:
        """Returns the one statement that writes all rows that were not copied, and the new head.

        ``at_once``: it runs in its own transaction, and writes only if the ledger's head is still that of the
        decisions.
        """
        head, batch = self._head, present(self._batch, "a batch without events has nothing to write")
        parameters = {
            "of_ledger": batch.ledger,
            "at_once": at_once,
            "at_replacements": head.replacements,
            **self._log.finish(batch, head.frontier, head.batch_hash),
            **self._working.rows(head.position, len(batch.events)),
        }
        for projector in projectors:
            parameters |= projector.project(batch)
        head.batch_hash, head.wallets_through = parameters["new_hash"], parameters["new_wallets_through"]
        return call_of(parameters)

    # --- one event ------------------------------------------------------------------------------------------

    def _take(self, item: Input) -> Outcome:
        """Decides one input, and adds a recorded event to the batch."""
        by, approved = self._by, None
        if isinstance(item, Approved):
            approved = item
            item = item.event
        elif isinstance(item, Sent):
            by = item.by
            item = item.event
        if isinstance(item, SubledgerError):
            return _rejected(item.facts.get("event_id"), item, self._head)
        known = self._working.recorded.get((item.source, item.event_id))
        if known is not None:
            return _repeated(item, known, self._head)
        return self._take_new(item, by, approved)

    def _take_new(self, event: Event, by: str, approved: Approved | None) -> Outcome:
        """Decides an event that is not in the log: it is recorded or refused, or waits for a second person."""
        head, working, key = self._head, self._working, (event.source, event.event_id)
        wallet, state, position = working.wallet(event.customer), head.state, head.position + 1
        try:
            if approved is None and key not in working.requests:  # a request may be older than these bounds
                check_new_bounds(event, state)
                check_new_ids(event, working.knows_id)
            check_not_in_future(state, event, head.recorded_at)
            decision = decide(wallet, event, working.context(state, event))
            wallets = self._evolved(event, decision, position)
            effect = self._effect(event, decision, wallets)
            if approved is not None:
                check_as_shown(event, effect, approved.shown)
        except (Refused, InvalidInput) as error:
            self.refusals.add(
                error,
                event,
                wallet,
                customer_known=event.customer is None or working.knows(event.customer),
                late=state.late_usage == "reclassify",
                position=head.position,
            )
            return _rejected(event.event_id, error, head)
        if effect is not NO_EFFECT:
            decision = msgspec.structs.replace(decision, effect=effect)
        if approved is not None:
            decision = msgspec.structs.replace(decision, approval=approved.approval)
            self._deferred.append(
                partial(
                    approvals.settle,
                    ledger=state.ledger,
                    approval=approved.approval,
                    state=approvals.APPROVED,
                    at=head.recorded_at,
                )
            )
        else:
            requested = key in working.requests
            reason = needs_second_person(event, state, effect, *map(working.effect_before, wallets))
            if reason is not None or (requested and may_ask(state)):
                return self._wait_for_second_person(event, reason or "", effect, by)
            if effect is not NO_EFFECT:
                for customer in wallets:
                    working.add_effect(customer, position, effect)
            if requested:
                self._deferred.append(
                    partial(
                        approvals.settle_recorded,
                        ledger=state.ledger,
                        event=event,
                        position=position,
                        at=head.recorded_at,
                    )
                )
        self._record(event, decision, position, wallets)
        return Outcome(
            event_id=event.event_id, status=RECORDED, position=position, kept_estimates=decision.kept_estimates
        )

    def _evolved(self, event: Event, decision: Decision, position: int) -> dict[str, Wallet]:
        """The wallets of an event's customers after it."""
        working, state = self._working, self._head.state
        return {
            customer: evolve(
                working.wallet(customer),
                event,
                decision,
                position=position,
                functional_currency=state.functional_currency,
                closed_through=state.closed_through,
            )
            for customer in references.customers_of(event, decision)
        }

    def _effect(self, event: Event, decision: Decision, wallets: Mapping[str, Wallet]) -> EventEffect:
        """The effect of a decided event. It is measured only if the ledger may require a second person."""
        head = self._head
        if not may_ask(head.state) or not may_have_effect(event, head.state):
            return NO_EFFECT
        before = {customer: self._working.wallet(customer) for customer in wallets}
        now = head.state.now(head.recorded_at)
        books = self._working.books
        effect = effect_of(event, decision, before=before, after=wallets, books=books, state=head.state, now=now)
        return effect if effect != NO_EFFECT else NO_EFFECT

    def _record(self, event: Event, decision: Decision, position: int, wallets: Mapping[str, Wallet]) -> None:
        """Adds a decided event to the batch: wallets and books after it, its entries, its place in the log."""
        head, working, state = self._head, self._working, self._head.state
        functional_currency, books = state.functional_currency, working.books
        if changes_books(event, decision):
            effective = state.effective_date_of(event)
            books = evolve_books(
                books,
                event,
                decision,
                effective=effective,
                functional_currency=functional_currency,
                closed_through=state.closed_through,
            )
        entries = post(event, decision, before=state, wallets=wallets)
        recorded = RecordedEvent(position=position, event=event, decision=decision, entries=entries)
        # Head, working set and log change together. An event that cannot be evolved or posted raises above, before any
        # of them has changed.
        head.position = position
        if event.type in RESERVED_TYPES:
            head.state = evolve_ledger(state, event)
            self._ledgers_own.append(recorded)
        working.add(recorded, wallets, books)
        self._recorded.append(recorded)
        self._log.add(recorded)

    def _wait_for_second_person(self, event: Event, reason: str, effect: EventEffect, by: str) -> Outcome:
        """Requests a second person for an event. After a repeated request the event still waits, or stays refused."""
        approval_id = approvals.approval_id_of(event)
        known = self._working.requests.get(event.key)
        if known is None:
            try:
                approvals.require_name(by)
            except Refused as refused:
                return _rejected(event.event_id, refused, self._head)
            request = partial(approvals.ask, event=event, reason=reason, effect=effect, maker=by)
            self._deferred.append(partial(request, ledger=self._head.state.ledger, at=self._head.recorded_at))
            self._working.requests[event.key] = event
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
        if different and event.source != OWN_SOURCE:  # a repeated request for a month may have another time
            error = EventConflict(
                f"{event.event_id} from {event.source} waits as {approval_id} with other content: "
                f"{', '.join(different)}",
                field=different[0],
                expected="the content first sent, or a new id",
                differs=different,
            )
        elif not isinstance(known, Event) and known.state == approvals.REFUSED:
            error = ApprovalRefused(
                f"{known.checker} refused the request: {known.note or 'no reason given'}",
                expected="another event, under a new id",
                found=approval_id,
            )
        if error is not None:
            return msgspec.structs.replace(_rejected(event.event_id, error, self._head), approval_id=approval_id)
        return Outcome(event_id=event.event_id, status=WAITING, approval_id=approval_id)


def _rejected(event_id: str | None, error: SubledgerError, head: Head) -> Outcome:
    return Outcome(event_id=event_id, status=REJECTED, error=error, decided_at_position=head.position)


def _repeated(event: Event, known: FoundEvent | RecordedEvent, head: Head) -> Outcome:
    """The outcome of a repeated key: a duplicate if the content is the same, else a conflict with the differences."""
    stored = known if isinstance(known, FoundEvent) else known.event
    different = differences(
        event, type=stored.type, customer=stored.customer, occurred_at=stored.occurred_at, data_text=stored.data_text
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


def _save_adopted(connection: WriteConnection, ledger: str, recorded: RecordedEvent) -> None:
    """Writes an adopted policy or account mapping as rows, with which queries read journal lines."""
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
