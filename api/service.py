"""The service: database, recorder, projections and settings put together, once, for every way in.

Owns: what a command does from end to end. Does not own: how it is asked (HTTP, command line) or answered.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from datetime import UTC, date, datetime
from typing import Any

import msgspec

from api.bounded_json import Bound, read_json
from api.keys import makers_for
from api.metrics import BatchMetrics
from api.rejecting import RejectedEvents
from projections import monitors
from projections.account_mapping.mapping import AccountMapping, default_mapping
from projections.close import sweeping
from projections.close.clock import clock_event
from projections.close.policies import Adoption, adopt_policy, adopted_policy, check_person, check_policy, policy_data
from projections.day_totals import DayTotalsProjector
from projections.delivery import outbox
from projections.delivery.channels import check_delivers, get_channel, list_channels
from projections.delivery.jobs import Jobs
from projections.delivery.outbox import Delivery
from projections.reads.balances import AccountBalance, CustomerBalances, OfCustomer, OfLedger
from projections.reads.snapshots import LEDGER, add_snapshots
from subledger.errors import (
    DatabaseUnavailable,
    InvalidInput,
    InvalidValue,
    LedgerExists,
    SettingFixed,
    TooLarge,
)
from subledger.events.envelope import Event, format_time, own_event, read_data, read_event
from subledger.events.own_data import FUTURE_TOLERANCE, Approvals
from subledger.events.rejections import MAX_SENT, as_first_sent, first_sent_as_text, text_of
from subledger.ledger import LedgerState, check_day_has_come
from subledger.money import exponent
from subledger.periods import Period, duration, end_of_day, time_zone
from subledger.persons import NOBODY
from subledger.posting import DEFAULT_POLICY, Policy, shipped_policy
from subledger.store.database import Database, WriteConnection
from subledger.store.reading import views
from subledger.store.reading.ledgers import ledger_head
from subledger.store.rejected.keeper import AS_SHIPPED, Bounds
from subledger.store.writing.batch import Input, Outcome
from subledger.store.writing.collecting import collection_held_off
from subledger.store.writing.gathering import Gatherer
from subledger.store.writing.queue import Limits
from subledger.store.writing.recorder import OWN_SOURCE, Recorder, ledger_now, raise_first
from subledger.store.writing.stuck_writers import end_stuck_writers
from subledger.text.json_text import loads

_EVENT = Bound(MAX_SENT, field="event")
"""Of an event that stands as a text in a line of FILE.rejected.jsonl; no event is longer."""


class LedgerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What a ledger is created with. ``policy`` is the name of one that ships, or a company's own."""

    currency: str
    policy: str | Policy = DEFAULT_POLICY
    entity: str | None = None
    timezone: str = "UTC"
    on_shortfall: str = "reject"
    late_usage: str = "new"
    approvals: Approvals = Approvals()
    future_tolerance: str = FUTURE_TOLERANCE
    sandbox: bool = False
    clock: datetime | None = None
    """First time of a sandbox's clock; None: the time of its creation. Not compared if the ledger exists already."""


class SettingsChange(msgspec.Struct, frozen=True, kw_only=True):
    """What of a ledger's settings is to be another; None where it stays.

    ``approvals`` holds the members of ``Approvals`` that change, as plain JSON: None takes a limit away.
    """

    currency: str | None = None
    timezone: str | None = None
    entity: str | None = None
    on_shortfall: str | None = None
    late_usage: str | None = None
    future_tolerance: str | None = None
    sandbox: bool | None = None
    approvals: Mapping[str, Any] = {}


class Subledger:
    """Every command and question, on one database."""

    def __init__(self, database: Database, *, limits: Limits | None = None, rejections: Bounds = AS_SHIPPED) -> None:
        self.database = database
        self.recorder = Recorder(database, [DayTotalsProjector()])
        self.gatherer = Gatherer(self.recorder, limits, BatchMetrics())
        self.rejected = RejectedEvents(database, self.gatherer, read_text, rejections)
        self.jobs = Jobs(database, (monitors.watch, end_stuck_writers), self.sweep_due)

    # --- ledgers and events ---------------------------------------------------------------------------------

    def create_ledger(self, ledger: str, settings: LedgerSettings, *, by: str | None = None) -> bool:
        """A new ledger. False where it exists with these very settings; LedgerExists where with others.

        ``by`` is who creates it: it is in each of the events that found the ledger.
        """
        check_settings(ledger, settings)
        policy = shipped_policy(settings.policy) if isinstance(settings.policy, str) else settings.policy
        check_policy(policy)
        mapping = default_mapping()

        def founding(at: datetime) -> Sequence[Event]:
            return founding_events(ledger, settings, policy, mapping, at, by=by)

        if self.recorder.create_ledger(ledger, founding):
            return True
        self._same_or_refuse(ledger, settings)
        return False

    def _same_or_refuse(self, ledger: str, settings: LedgerSettings) -> None:
        with self.database.read() as connection:
            state = ledger_head(connection, ledger).state
            held = adopted_policy(connection, ledger, state.policy)
        found = LedgerSettings(
            currency=state.functional_currency,
            policy=held.name,
            entity=state.entity,
            timezone=state.timezone,
            on_shortfall=state.on_shortfall,
            late_usage=state.late_usage,
            approvals=state.approvals,
            future_tolerance=state.future_tolerance,
            sandbox=state.sandbox,
        )
        wanted = msgspec.structs.replace(settings, entity=settings.entity or ledger, clock=None)
        if isinstance(settings.policy, Policy):
            of_ours = (settings.policy.name, settings.policy.version, settings.policy.complete_rules)
            same = of_ours == (held.name, held.version, held.rules)
            wanted = msgspec.structs.replace(wanted, policy=held.name if same else "a file with other rules")
        differs = [name for name in wanted.__struct_fields__ if getattr(wanted, name) != getattr(found, name)]
        if differs:
            raise LedgerExists(
                f"ledger {ledger} exists with another {', '.join(differs)}",
                field=differs[0],
                expected=str(getattr(found, differs[0])),
                found=str(getattr(wanted, differs[0])),
                differs=differs,
            )

    def configure_ledger(self, ledger: str, change: SettingsChange, *, by: str = NOBODY) -> bool:
        """Other settings for what is recorded from now on. False where they are in force: nothing is recorded.

        Raises SettingFixed for the currency, the time zone and what a sandbox is, InvalidInput, UnknownLedger.
        """
        check_person(by)

        def plan(connection: WriteConnection, state: LedgerState, position: int) -> list[Event]:
            after = changed_settings(state, change)
            if after == state:
                return []
            return [
                own_event(
                    source=OWN_SOURCE,
                    event_id=f"ledger.configured/{position + 1}",
                    type="ledger.configured",
                    customer=None,
                    occurred_at=ledger_now(connection, state),
                    data={**configured(after), "by": by},
                )
            ]

        outcomes = self.recorder.transact(ledger, plan)
        raise_first(outcomes)
        return bool(outcomes)

    def adopt_policy(self, ledger: str, policy: Policy, *, by: str = NOBODY) -> Adoption:
        """Another posting policy for what is recorded from now on; see ``projections.close.policies``."""
        return adopt_policy(self.recorder, ledger, policy, by=by)

    def decide_approval(
        self, ledger: str, approval_id: str, *, by: str, allow: bool, note: str | None = None,
        made_by: Sequence[str] = (),
    ) -> Outcome:  # fmt: skip
        """A second person allows or refuses what waits. ``made_by``: who made the key that ``by`` calls with, if any.

        Raises what ``Recorder.decide_approval`` does.
        """
        return self.recorder.decide_approval(
            ledger, approval_id, by=by, allow=allow, note=note, made_by=made_by, makers_for=makers_for
        )

    def record(
        self, ledger: str, documents: Sequence[object], *, by: str = NOBODY, way: str = "library"
    ) -> list[Outcome]:
        """Records decoded JSON values as events; one outcome each, in order. ``by`` is who asks, ``way`` how.

        What other threads record meanwhile is committed together with it; see ``store.gathering``. What is rejected is
        kept before this returns.
        """
        outcomes = self.gatherer.record(ledger, read_inputs(documents), by=by)
        return self.rejected.keep(ledger, outcomes, lambda number: text_of(documents[number]), sender=by, way=way)

    def expire(self, ledger: str, through: date, *, by: str | None = None) -> int:
        """The expiry sweep through the end of a day, where the ledger lives; of today, through now.

        Returns how many blocks expired. Raises InTheFuture for a later day, UnknownLedger.
        """
        with self.database.read() as connection:
            state = ledger_head(connection, ledger).state
        what = f"an expiry sweep through {through}"
        check_day_has_come(state, through, datetime.now(UTC), what, field="through", found=str(through))
        return self.recorder.sweep(ledger, end_of_day(through, state.zone), by=by)

    def sweep_due(self, stop: Callable[[], bool] = lambda: False) -> dict[str, int]:
        """Records what is due in every ledger; returns how many expiries in which (``projections.close.sweeping``)."""
        return sweeping.sweep_due(self.database, self.recorder, stop=stop)

    def deliver(self, ledger: str, period: Period, *, channel: str | None = None, by: str = NOBODY) -> list[Delivery]:
        """Puts a period's journals on their way, through one channel or all; a worker delivers them.

        Raises UnknownLedger, SandboxLedger, UnknownChannel, also where there is none, and what an export raises.
        """
        with self.database.read() as connection:
            check_delivers(ledger_head(connection, ledger).state)
            found = [each for each in list_channels(connection, ledger) if not (channel or each.settings.retired)]
            if not found:
                found = [get_channel(connection, ledger, channel or "")]
        added: list[Delivery] = []
        try:
            for each in found:
                added += outbox.add_period(self.recorder, self.database, each, period, by=by)
        finally:  # what is in the outbox is on its way, also where another channel refuses
            for delivery in {delivery.channel: delivery for delivery in added}.values():
                self.wake(delivery)
        return added

    def wake(self, delivery: Delivery) -> None:
        """Has a worker look at a delivery's channel now. Without one, or where it cannot be told, nothing is lost."""
        with suppress(DatabaseUnavailable):
            self.jobs.wake(delivery.ledger, delivery.channel)

    def view(
        self, ledger: str, *, as_of: date | None = None, known_at: datetime | None = None, customer: str | None = None
    ) -> AbstractContextManager[views.View]:
        """A point in time of a ledger; see ``store.views.view``."""
        return views.view(
            self.database, ledger, now=datetime.now(UTC), as_of=as_of, known_at=known_at, customer=customer
        )

    def customer_balances(
        self, ledger: str, customer: str, *, as_of: date | None = None, known_at: datetime | None = None
    ) -> tuple[views.PointInTime, CustomerBalances]:
        """A customer's balances at a point in time, in one round trip; see ``projections.reads.balances``."""
        question = OfCustomer(customer=customer)
        at, found = views.ask(
            self.database, ledger, question, now=datetime.now(UTC), as_of=as_of, known_at=known_at, customer=customer
        )
        if found.snapshot_due:
            self._keep_more(ledger, customer)
        return at, found

    def trial_balance(
        self, ledger: str, *, as_of: date | None = None, known_at: datetime | None = None
    ) -> tuple[views.PointInTime, list[AccountBalance]]:
        """The trial balance at a point in time, in one round trip."""
        at, found = views.ask(
            self.database, ledger, OfLedger(), now=datetime.now(UTC), as_of=as_of, known_at=known_at
        )  # fmt: skip
        if found.snapshot_due:
            self._keep_more(ledger)
        return at, found.accounts

    def _keep_more(self, ledger: str, customer: str = LEDGER) -> None:
        # The answer is there: that nothing could be left for the next reader is no reason to keep it back.
        with suppress(DatabaseUnavailable):
            add_snapshots(self.database, ledger, customer)


def read_input(document: object) -> Input:
    """An event, or the reason why the document is none, with the id it gave itself.

    A line of FILE.rejected.jsonl is the event in it, so that the file can be sent again. An event that stands there as
    a text is bounded before it is decoded; one that stands there as JSON was decoded, and bounded, with the line.
    """
    if isinstance(document, InvalidInput):  # its text was none
        return document
    try:
        again = as_first_sent(document)
        if again is not None and first_sent_as_text(document):
            document = _first_sent(again)
        elif again is not None and isinstance(document, dict):
            document = document["event"]
        return read_event(document)
    except InvalidInput as error:
        event_id = document.get("id") if isinstance(document, dict) else None
        error.facts = {**error.facts, "event_id": event_id if isinstance(event_id, str) else None}
        return error


def _first_sent(text: bytes) -> object:
    if len(text) > _EVENT.most:
        raise TooLarge(
            "the event in a line of rejected events is longer than any event can be; send what it was made from",
            field=_EVENT.field, expected=f"at most {_EVENT.most} bytes", found=f"{len(text)} bytes",
        )  # fmt: skip
    return read_json(text, _EVENT)


def read_text(text: bytes) -> Input:
    """One event's text as an event, or the reason why it is none."""
    try:
        return read_input(loads(text))
    except InvalidInput as error:
        return error


def read_inputs(documents: Sequence[object]) -> list[Input]:
    """Decoded JSON values as events, or as what is wrong with them, in order."""
    with collection_held_off():
        return [read_input(document) for document in documents]


def check_settings(ledger: str, settings: LedgerSettings) -> None:
    """Raises InvalidInput naming the first setting that is not allowed."""
    allowed = set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")
    if not (1 <= len(ledger) <= 64 and set(ledger) <= allowed and ledger[0].isalnum()):
        raise InvalidValue(
            "a ledger id is 1 to 64 letters, digits, dots, dashes and underscores, and starts with a letter or digit",
            field="ledger",
            expected="such as acme-us",
            found=ledger[:80],
        )
    exponent(settings.currency)
    time_zone(settings.timezone)
    check_behaviour(
        settings.entity or ledger, settings.on_shortfall, settings.late_usage, settings.future_tolerance
    )  # fmt: skip
    settings.approvals.check()
    if settings.clock is not None and not settings.sandbox:
        raise InvalidValue(
            "only a sandbox ledger has its own clock; leave `clock` out, or create a sandbox", field="clock",
            expected="no clock, or `sandbox`",
            found=format_time(settings.clock),
        )  # fmt: skip


def check_behaviour(entity: str, on_shortfall: str, late_usage: str, future_tolerance: str) -> None:
    """The settings that may change during the life of a ledger. Raises InvalidValue naming the first at fault."""
    if not (1 <= len(entity) <= 200 and entity.isprintable()):
        raise InvalidValue(
            "the entity is not a valid name; give a name of 1 to 200 characters",
            field="entity",
            expected="1 to 200 characters that can be printed",
            found=entity[:60],
        )
    if on_shortfall not in ("reject", "overage", "backfill"):
        raise InvalidValue(
            "no such shortfall setting",
            field="on_shortfall",
            expected="reject, overage or backfill",
            found=on_shortfall,
        )
    if late_usage not in ("new", "reclassify"):
        raise InvalidValue(
            "no such late-usage setting", field="late_usage", expected="new or reclassify", found=late_usage
        )
    duration(future_tolerance, field="future_tolerance")


def configured(state: LedgerState) -> dict[str, Any]:
    """The settings in force as the data of a ``ledger.configured`` event."""
    return {
        "entity": state.entity,
        "functional_currency": state.functional_currency,
        "timezone": state.timezone,
        "on_shortfall": state.on_shortfall,
        "late_usage": state.late_usage,
        **({"approvals": state.approvals.document} if state.approvals != Approvals() else {}),
        **({"future_tolerance": state.future_tolerance} if state.future_tolerance != FUTURE_TOLERANCE else {}),
        **({"sandbox": True} if state.sandbox else {}),
    }


def changed_settings(state: LedgerState, change: SettingsChange) -> LedgerState:
    """The ledger with what is to be another. Raises SettingFixed, InvalidInput."""
    fixed = (("currency", state.functional_currency, change.currency), ("timezone", state.timezone, change.timezone))
    for name, held, wanted in fixed:
        if wanted is not None and wanted != held:
            raise SettingFixed(
                f"the {name} of ledger {state.ledger} is {held} for its life: another one needs another ledger",
                field=name, expected=held, found=wanted[:60],
            )  # fmt: skip
    if change.sandbox is not None and change.sandbox != state.sandbox:
        raise SettingFixed(
            f"ledger {state.ledger} is {'a sandbox' if state.sandbox else 'not a sandbox'}, and this "
            "never changes; create another ledger",
            field="sandbox", expected=str(state.sandbox).lower(), found=str(change.sandbox).lower(),
        )  # fmt: skip
    approvals = state.approvals
    if change.approvals:
        members = {**approvals.model_dump(mode="json"), **change.approvals}
        given = {name: value for name, value in members.items() if value is not None}
        approvals = read_data(Approvals, given, prefix="approvals.")
    after = msgspec.structs.replace(
        state,
        entity=state.entity if change.entity is None else change.entity,
        on_shortfall=change.on_shortfall or state.on_shortfall,
        late_usage=change.late_usage or state.late_usage,
        approvals=approvals,
        future_tolerance=state.future_tolerance if change.future_tolerance is None else change.future_tolerance,
    )
    check_behaviour(after.entity, after.on_shortfall, after.late_usage, after.future_tolerance)
    return after


def founding_events(
    ledger: str, settings: LedgerSettings, policy: Policy, mapping: AccountMapping, at: datetime,
    *, by: str | None = None,
) -> list[Event]:  # fmt: skip
    """The events that make a ledger what it is: its settings, its posting policy, its account mapping.

    A sandbox begins with its clock at ``at``, or where its settings say.
    """
    at = settings.clock or at

    def event(type: str, data: dict[str, Any]) -> Event:
        return own_event(source=OWN_SOURCE, event_id=f"{type}/1", type=type, customer=None, occurred_at=at, data=data)

    founded = LedgerState(
        ledger=ledger,
        entity=settings.entity or ledger,
        functional_currency=settings.currency,
        timezone=settings.timezone,
        on_shortfall=settings.on_shortfall,
        late_usage=settings.late_usage,
        approvals=settings.approvals,
        future_tolerance=settings.future_tolerance,
        sandbox=settings.sandbox,
    )
    clock = [clock_event(1, at, by)] if settings.sandbox else []
    who = {} if by is None else {"by": by}
    mapped = {"mapping": 1, "content_hash": mapping.content_hash, "rows": list(mapping.rows)}
    return [
        event("ledger.configured", configured(founded) | who),
        event("policy.adopted", policy_data(policy, number=1, by=by)),
        event("mapping.adopted", mapped | who),
        *clock,
    ]
