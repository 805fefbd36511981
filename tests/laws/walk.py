"""A walk: random events through decide, evolve and post, without a database, for two customers and every event type.

The functions are combined as in the recorder. Most steps are allowed by the books. A refused step changes nothing.
Every step is stored with the ledger, the wallets and the books after it, so that a law can be tested after each step.
"""

from __future__ import annotations

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime
from typing import Any

from subledger.billing_documents import Standing, subaccount_of
from subledger.blocks import Block
from subledger.books import Books, evolve_books
from subledger.deciding.context import Around, Context, First, Original, OtherRate
from subledger.deciding.currencies import StandingKey
from subledger.deciding.decide import decide
from subledger.errors import InvalidInput, Refused
from subledger.events.envelope import OWN_SOURCE, Event, own_event, read_event
from subledger.events.references import customers_of, once_key
from subledger.evolving import evolve
from subledger.kinds import KIND_BY_NAME, LEDGER_ROLES, REMEASURED_ROLES, Entry
from subledger.ledger import ACCOUNTING_RULES, LedgerState, evolve_ledger
from subledger.periods import Period
from subledger.posting import post
from subledger.wallet import Decision, Movement, Wallet
from tests.building import cloud_event

HOME = "USD"
START = datetime(2026, 1, 1, 12, tzinfo=UTC)
PEOPLE = ("ann", "bob")
CURRENCIES = (HOME, "EUR", "JPY", HOME)
RATES = {"EUR": "1.20", "JPY": "0.0067"}
POLICIES = 3
DIMENSION_NAMES = ("department", "region")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Step:
    """One recorded event, the ledger before it, and the complete state after it."""

    position: int
    event: Event
    decision: Decision
    before: LedgerState
    entries: tuple[Entry, ...]
    wallets: Mapping[str, Wallet]
    books: Books

    @property
    def moves(self) -> Iterator[tuple[Movement, Entry]]:
        """Yields movements with their entries. ``post`` makes one entry of each movement."""
        return zip(self.decision.movements, self.entries, strict=True)


@dataclasses.dataclass
class Walk:
    """A ledger of two customers, made only by the pure functions. No part leaves a wallet."""

    state: LedgerState = LedgerState(  # noqa: RUF009 - frozen
        ledger="L",
        functional_currency=HOME,
        on_shortfall="backfill",
        policy=1,
        accounting_rules=ACCOUNTING_RULES,
        dimensions=DIMENSION_NAMES,
    )
    wallets: dict[str, Wallet] = dataclasses.field(default_factory=lambda: {p: Wallet(customer=p) for p in PEOPLE})
    books: Books = Books()  # noqa: RUF009 - frozen
    owners: dict[str, str] = dataclasses.field(default_factory=dict)
    steps: list[Step] = dataclasses.field(default_factory=list)
    refused: list[Refused | InvalidInput] = dataclasses.field(default_factory=list)
    refusals: list[tuple[str, str]] = dataclasses.field(default_factory=list)
    """The type and the code of each event that the books refused."""

    def send(self, event_id: str, type: str, customer: str | None, at: datetime, /, **data: Any) -> Step | None:
        """Sends an event from outside. Returns None if it is not an event, or is refused."""
        data = {name: value for name, value in data.items() if value is not ...}
        try:
            event = read_event(cloud_event(event_id, type, customer, at.isoformat(), **data))
        except InvalidInput as error:
            self.refused.append(error)
            return None
        return self.take(event)

    def own(self, event_id: str, type: str, customer: str | None, at: datetime, /, **data: Any) -> Step | None:
        """Adds an event that the ledger itself records."""
        return self.take(
            own_event(source=OWN_SOURCE, event_id=event_id, type=type, customer=customer, occurred_at=at, data=data)
        )

    def take(self, event: Event) -> Step | None:
        """Takes an event like the recorder: decide, evolve each wallet and the books, post."""
        try:
            decision = decide(self.wallet(event.customer), event, self.context(event))
        except (Refused, InvalidInput) as error:
            self.refused.append(error)
            self.refusals.append((event.type, error.code))
            return None
        position, before = len(self.steps) + 1, self.state
        for customer in customers_of(event, decision):
            self.wallets[customer] = evolve(
                self.wallet(customer),
                event,
                decision,
                position=position,
                functional_currency=HOME,
                closed_through=before.closed_through,
            )
        effective = before.effective_date_of(event)
        self.books = evolve_books(
            self.books,
            event,
            decision,
            effective=effective,
            functional_currency=HOME,
            closed_through=before.closed_through,
        )
        self.state = evolve_ledger(before, event)
        if event.type in ("credits.purchased", "credits.granted") or (
            event.type == "balance.opened" and event.data.role == "prepaid_liability"
        ):
            self.owners[event.data.block_id] = event.customer or ""
        elif event.type == "credits.transferred":
            self.owners[event.data.new_block_id] = event.data.to_customer
        step = Step(
            position=position,
            event=event,
            decision=decision,
            before=before,
            entries=post(event, decision, before=before, wallets=self.wallets),
            wallets=dict(self.wallets),
            books=self.books,
        )
        self.steps.append(step)
        return step

    # --- the input of decide ---------------------------------------------------------------------------------

    def wallet(self, customer: str | None) -> Wallet:
        return Wallet(customer="") if customer is None else self.wallets[customer]

    def context(self, event: Event) -> Context:
        original = None
        if event.type in ("consumption.reversed", "event.reversed"):
            for step in self.steps:
                if step.event.event_id == event.data.event_id:
                    original = self.original(step)
        standing: dict[StandingKey, Standing] = {}
        if event.type == "balances.remeasured":
            standing = self.standing(Period.parse(event.data.period).last_day).get(event.customer, {})
        return Context(
            state=self.state,
            owners=self.owners,
            document_owners={
                (d.document_kind, d.document_id): w.customer
                for w in self.wallets.values()
                for d in w.documents
                if not d.undone
            },
            first={
                key: First(step.position, step.event.source, step.event.event_id)
                for step in reversed(self.steps)
                if step.position not in self.undone
                if (key := once_key(step.event.type, step.event.data)) is not None
            },
            original=original,
            books=self.books,
            standings=standing,
            wallet_of=self.wallet,
        )

    @property
    def undone(self) -> dict[int, First]:
        """Returns the positions of undone events, with the events that undid them."""
        return {
            step.decision.original_position: First(step.position, step.event.source, step.event.event_id)
            for step in self.steps
            if step.event.type == "event.reversed" and step.decision.original_position is not None
        }

    def undone_by(self, step: Step) -> Step | None:
        """Returns the step that a step undoes; None if it undoes none."""
        position = step.decision.original_position
        return None if step.event.type != "event.reversed" or position is None else self.steps[position - 1]

    def original(self, step: Step) -> Original:
        """Returns a recorded event with the data that undoing needs."""
        before = self.steps[step.position - 2].wallets if step.position > 1 else {}
        rates: list[OtherRate] = []
        estimates: list[Step] = []
        undone = self.undone
        for other in self.steps:
            by = First(other.position, other.event.source, other.event.event_id)
            if other.event.type != step.event.type:
                continue
            if step.event.type == "exchange_rate.set" and other is not step and other.position not in undone:
                days = {each.before.effective_date_of(each.event) for each in (step, other)}
                if other.event.data.base == step.event.data.base and len(days) == 1:
                    rates.append(OtherRate(by, other.event.data.rate))
            if step.event.type == "breakage.estimated" and other.event.data.pool == step.event.data.pool:
                estimates.append(other)
        return Original(
            position=step.position,
            event=step.event,
            decision=step.decision,
            around={
                customer: Around(before.get(customer) or Wallet(customer=customer), step.wallets[customer])
                for customer in customers_of(step.event, step.decision)
            },
            undone_by=undone.get(step.position),
            rates=tuple(rates),
            version=sum(other.position <= step.position for other in estimates),
            estimates_after=tuple(
                First(other.position, other.event.source, other.event.event_id)
                for other in estimates
                if other.position > step.position and other.position not in undone
            ),
        )

    def standing(self, on: date) -> dict[str | None, dict[StandingKey, Standing]]:
        """Returns the balances in other currencies through a day, from the entries, by customer; None is the ledger."""
        found: dict[str | None, Counter[StandingKey]] = defaultdict(Counter)
        functional: dict[str | None, Counter[StandingKey]] = defaultdict(Counter)
        for entry in self.entries:
            if entry.currency == HOME or entry.accounting_date > on:
                continue
            for role, sign in monetary_sides(entry):
                of_ledger = role in LEDGER_ROLES
                place = entry.dimensions.processor if of_ledger else entry.block_id
                kept = (place or "") if role == "prepaid_liability" else subaccount_of(role, place)
                whose, key = None if of_ledger else entry.customer, (role, entry.currency, kept)
                found[whose][key] += sign * entry.amount_minor
                functional[whose][key] += sign * entry.functional_minor
        return {
            whose: {
                key: (amount, functional[whose][key])
                for key, amount in positions.items()
                if amount or functional[whose][key]
            }
            for whose, positions in found.items()
        }

    def __repr__(self) -> str:
        """Returns the history as text, to show why a law failed."""
        lines = (
            f"  {step.position:3} {step.event.occurred_at:%m-%d} {step.event.customer or '-'} {step.event.type} "
            f"{step.event.data_text} → "
            + ", ".join(
                f"{m.kind} {m.block_id or ''} {m.credits} {m.amount_minor} {m.currency or ''} "
                f"{m.functional_minor} {m.accounting_date:%m-%d}"
                for m in step.decision.movements
            )
            for step in self.steps
        )
        return "Walk:\n" + "\n".join(lines)

    @property
    def entries(self) -> Iterator[Entry]:
        for step in self.steps:
            yield from step.entries

    @property
    def blocks(self) -> list[Block]:
        return sorted((b for w in self.wallets.values() for b in w.blocks), key=lambda block: block.opened_at_position)


def monetary_sides(entry: Entry) -> Iterator[tuple[str, int]]:
    """Yields the remeasured roles that an entry moves, debits +1; the liability by the block's column."""
    kind = KIND_BY_NAME[entry.kind]
    for role, sign in ((kind.debit_role, 1), (kind.credit_role, -1)):
        if role in REMEASURED_ROLES:
            yield role, sign
    if kind.column is not None:
        yield "prepaid_liability", -kind.sign
