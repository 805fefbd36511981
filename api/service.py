"""The service: the database, the recorder and the projections, composed for HTTP, the command line and the library.

Owns: the composition, and the reading of events. Does not own: the rules of a ledger (subledger), commands and
questions (projections), requests and answers (http, cli).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from datetime import UTC, date, datetime

from api.bounded_json import Bound, read_json
from api.keys import makers_for
from api.metrics import BatchMetrics
from api.rejecting import RejectedEvents
from projections import monitors
from projections.close import expiry_sweeper
from projections.configuring import ledgers
from projections.configuring.policies import Adoption, adopt_policy
from projections.configuring.upgrade import Upgrading, upgrade
from projections.day_totals import DayTotalsProjector
from projections.delivery import outbox
from projections.delivery.channel_task import DELIVER, channel_subject, channel_task
from projections.delivery.channels import get_channel, list_channels
from projections.delivery.deliveries import Delivery
from projections.reads.balances import AccountBalance, CustomerBalances, OfCustomer, OfLedger
from projections.reads.snapshots import LEDGER, add_snapshots
from subledger.errors import DatabaseUnavailable, InvalidInput, TooLarge
from subledger.events.envelope import read_event
from subledger.events.rejections import MAX_SENT, as_first_sent, first_sent_as_text, text_of
from subledger.external.jobs import Jobs, MinuteTask
from subledger.ledger import check_day_has_come
from subledger.ledger_settings import LedgerSettings, SettingsChange
from subledger.periods import Period, end_of_day
from subledger.persons import NOBODY
from subledger.posting import Policy
from subledger.sandbox import check_delivers
from subledger.store.database import Database
from subledger.store.reading import views
from subledger.store.reading.ledgers import ledger_head
from subledger.store.rejected.keeper import AS_SHIPPED, Bounds
from subledger.store.timeouts import Timeouts
from subledger.store.writing.batch import Input, Outcome
from subledger.store.writing.collecting import collection_held_off
from subledger.store.writing.expiry_sweep import sweep
from subledger.store.writing.gathering import Gatherer
from subledger.store.writing.queue import Limits
from subledger.store.writing.recorder import Recorder
from subledger.store.writing.stuck_writers import end_stuck_writers
from subledger.text.json_text import loads

_EVENT = Bound(MAX_SENT, field="event")
"""The limit for an event that is a text in a line of FILE.rejected.jsonl."""


def recorder_of(database: Database) -> Recorder:
    """A recorder that updates, in the commit of each batch, every projection that must be up to date."""
    return Recorder(database, [DayTotalsProjector()])


def upgrade_database(url: str, timeouts: Timeouts = Timeouts(), progress: Upgrading | None = None) -> None:
    """Upgrades the schema and the ledgers of a database to this version; see ``projections.configuring.upgrade``."""
    upgrade(url, recorder_of, timeouts, progress)


class Subledger:
    """The commands and questions of one database."""

    def __init__(self, database: Database, *, limits: Limits | None = None, rejections: Bounds = AS_SHIPPED) -> None:
        self.database = database
        self.recorder = recorder_of(database)
        self.gatherer = Gatherer(self.recorder, limits, BatchMetrics())
        self.rejected = RejectedEvents(database, self.gatherer, read_text, rejections)
        self.jobs = Jobs(
            database,
            tasks=(channel_task(database),),
            each_minute=(MinuteTask(name="expiries", run=self.sweep_due),),
            of_every_ledger=(monitors.watch, end_stuck_writers),
        )

    # --- ledgers and events ---------------------------------------------------------------------------------

    def create_ledger(self, ledger: str, settings: LedgerSettings, *, by: str | None = None) -> bool:
        """Creates a ledger; see ``projections.configuring.ledgers``."""
        return ledgers.create_ledger(self.recorder, self.database, ledger, settings, by=by)

    def configure_ledger(self, ledger: str, change: SettingsChange, *, by: str = NOBODY) -> ledgers.Configuration:
        """Changes a ledger's settings; see ``projections.configuring.ledgers``."""
        return ledgers.configure_ledger(self.recorder, ledger, change, by=by)

    def adopt_policy(self, ledger: str, policy: Policy, *, by: str = NOBODY) -> Adoption:
        """Adopts a posting policy; see ``projections.configuring.policies``."""
        return adopt_policy(self.recorder, ledger, policy, by=by)

    def decide_approval(
        self,
        ledger: str,
        approval_id: str,
        *,
        by: str,
        allow: bool,
        note: str | None = None,
        made_by: Sequence[str] = (),
    ) -> Outcome:
        """Approves or refuses an event that waits for a second person.

        ``made_by`` are the creators of ``by``'s key. Raises the errors of ``Recorder.decide_approval``.
        """
        return self.recorder.decide_approval(
            ledger, approval_id, by=by, allow=allow, note=note, made_by=made_by, makers_for=makers_for
        )

    def record(self, ledger: str, events: Sequence[object], *, by: str = NOBODY, way: str = "library") -> list[Outcome]:
        """Records decoded JSON values as events. Returns one outcome for each, in order.

        ``by`` is the person, ``way`` the way in (``library``, ``http``, …). Events of other threads may be in the same
        commit; see ``store.writing.gathering``. Rejected events are stored before this returns.
        """
        outcomes = self.gatherer.record(ledger, read_inputs(events), by=by)
        return self.rejected.keep(ledger, outcomes, lambda number: text_of(events[number]), sender=by, way=way)

    def expire(self, ledger: str, through: date, *, by: str | None = None) -> int:
        """Records expiries through the end of a day in the ledger's time zone; for today, through now.

        Returns the number of blocks that expired. Raises InTheFuture for a later day, UnknownLedger.
        """
        with self.database.read() as connection:
            state = ledger_head(connection, ledger).state
        action = f"an expiry sweep through {through}"
        check_day_has_come(state, through, datetime.now(UTC), action, field="through", found=str(through))
        return sweep(self.recorder, ledger, end_of_day(through, state.zone), by=by)

    def sweep_due(self, stop: Callable[[], bool] = lambda: False) -> dict[str, int]:
        """Records due expiries in every ledger. Returns their number by ledger; see expiry_sweeper."""
        return expiry_sweeper.sweep_due(self.database, self.recorder, stop=stop)

    def deliver(self, ledger: str, period: Period, *, channel: str | None = None, by: str = NOBODY) -> list[Delivery]:
        """Puts a period's journals into the outbox of one channel or of all; a worker delivers them.

        Raises UnknownLedger, SandboxLedger, UnknownChannel (also if the ledger has no channel), and the errors of an
        export.
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
        finally:  # deliveries in the outbox are sent, even if another channel refuses
            for delivery in {delivery.channel: delivery for delivery in added}.values():
                self.wake(delivery)
        return added

    def wake(self, delivery: Delivery) -> None:
        """Wakes a worker for a delivery's channel. If that fails, its next sweep finds the delivery."""
        with suppress(DatabaseUnavailable):
            self.jobs.wake(DELIVER, channel_subject(delivery.ledger, delivery.channel))

    def view(
        self, ledger: str, *, as_of: date | None = None, known_at: datetime | None = None, customer: str | None = None
    ) -> AbstractContextManager[views.View]:
        """A point in time of a ledger; see ``store.reading.views.view``."""
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
            self._add_snapshots(ledger, customer)
        return at, found

    def trial_balance(
        self, ledger: str, *, as_of: date | None = None, known_at: datetime | None = None
    ) -> tuple[views.PointInTime, list[AccountBalance]]:
        """The trial balance at a point in time, in one round trip."""
        at, found = views.ask(self.database, ledger, OfLedger(), now=datetime.now(UTC), as_of=as_of, known_at=known_at)
        if found.snapshot_due:
            self._add_snapshots(ledger)
        return at, found.accounts

    def _add_snapshots(self, ledger: str, customer: str = LEDGER) -> None:
        # Snapshots only make the next answer faster. So the answer is returned even if they cannot be written.
        with suppress(DatabaseUnavailable):
            add_snapshots(self.database, ledger, customer)


def read_input(value: object) -> Input:
    """Reads a decoded JSON value as an event. If it is not an event, returns the error, with the event's id if it has
    one.

    A line of FILE.rejected.jsonl is read as the event in it, so that the file can be sent again. If the event is a text
    in that line, its size is checked before it is decoded. If it is JSON, it was decoded and checked with the line.
    """
    if isinstance(value, InvalidInput):  # the text of the value is not JSON
        return value
    try:
        again = as_first_sent(value)
        if again is not None and first_sent_as_text(value):
            value = _first_sent(again)
        elif again is not None and isinstance(value, dict):
            value = value["event"]
        return read_event(value)
    except InvalidInput as error:
        event_id = value.get("id") if isinstance(value, dict) else None
        error.facts = {**error.facts, "event_id": event_id if isinstance(event_id, str) else None}
        return error


def _first_sent(text: bytes) -> object:
    if len(text) > _EVENT.most:
        raise TooLarge(
            "the event in a line of rejected events is longer than any event can be; send what it was made from",
            field=_EVENT.field,
            expected=f"at most {_EVENT.most} bytes",
            found=f"{len(text)} bytes",
        )
    return read_json(text, _EVENT)


def read_text(text: bytes) -> Input:
    """Reads a JSON text as an event. Returns the error if it is not an event."""
    try:
        return read_input(loads(text))
    except InvalidInput as error:
        return error


def read_inputs(values: Sequence[object]) -> list[Input]:
    """Reads decoded JSON values as events, in order. The result has an error for each value that is not an event."""
    with collection_held_off():
        return [read_input(value) for value in values]
