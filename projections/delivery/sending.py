"""The way of a delivery: the step that follows when it is due, and its new state.

Every delivery is looked up before it is sent: the target may already have it, for example after a restore of our
database. Then the state ``submitted`` is committed, and only then is the delivery sent. So if a worker dies, the state
shows that the target may have it. A delivery without a clear answer is looked up until the target has it or it can no
longer arrive there. Only in the second case is it sent again.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

import httpx
import msgspec

from projections.delivery import deliveries, outbox
from projections.delivery.channels import Channel, check_allowed, hold_off, turn_of
from projections.delivery.connectors.connector import Accepted, Accounts, Connector, Found, Rejected, Shipment, Total
from projections.delivery.deliveries import Delivery
from projections.delivery.outbox import Claimed, ClaimLost
from projections.delivery.states import State
from projections.exports.documents import Document
from projections.exports.exports import content_of, document_set_of, get_export, journal_behind, render_document
from subledger.errors import IntegrityFault, InvalidInput, Refused, SubledgerError
from subledger.external import bounded_http
from subledger.external.calls import Calls, NotSent, Throttled, Unclear
from subledger.money import format_minor
from subledger.store.database import Database
from subledger.store.writing.recorder import now_of

_REASON_LENGTH: Final = 4_000
_CALLS_AT_MOST: Final = 20
"""The most calls in one attempt. A claim lasts as long as the time-outs of all of them."""
_LEASE_MORE_S: Final = 60.0
_ONCE_A_DAY_S: Final = 86_400.0

OnMoved = Callable[[Delivery], None]
Answer = TypeVar("Answer")


def deliver_due(
    database: Database, channel: Channel, on_moved: OnMoved | None = None, stop: Callable[[], bool] = bool
) -> int:
    """Processes every delivery that is due on a channel, each once. Returns the number of deliveries.

    Ends early if the target takes no more calls for now, or if ``stop`` returns True between two deliveries.
    ``outbox.next_due`` says when to come back.
    """
    # A claim must outlive the longest attempt. If it ended earlier, a second worker would take up the same delivery
    # while the first one's submission is still on its way.
    lease_s = channel.settings.timeout_s * _CALLS_AT_MOST + _LEASE_MORE_S
    steps, session = 0, dict[str, Any]()
    # The time is read once. A delivery that becomes due again during this round waits for the next one, so that a round
    # ends.
    with database.write() as connection:
        due_by = now_of(connection)
    with bounded_http.client() as client:
        while not stop() and (claimed := outbox.claim(database, channel, due_by=due_by, lease_s=lease_s)) is not None:
            try:
                moved, wait_s = _Attempt(database, channel, client, session, claimed).run()
            except ClaimLost:
                continue
            steps += 1
            if on_moved is not None:
                on_moved(moved)
            if wait_s:
                hold_off(database, channel, wait_s)
                break
    return steps


class _Attempt:
    """One attempt at one delivery."""

    def __init__(
        self, database: Database, channel: Channel, client: httpx.Client, session: dict[str, Any], claimed: Claimed
    ) -> None:
        self._database = database
        self._channel = channel
        self._settings = channel.settings
        self._delivery = claimed.delivery
        self._claim_token = claimed.claim
        self._clock_difference = claimed.now - datetime.now(UTC)
        # A call that began at the end of ``settle_s`` may arrive later by the duration of a call.
        self._settle_s = max(channel.settings.settle_s, channel.settings.timeout_s)
        self._calls = Calls(client, timeout_s=channel.settings.timeout_s, turn=turn_of(database, channel))
        self._connector: Connector = channel.connector(channel.settings, self._calls, session)
        self._hold_s: float | None = None

    def run(self) -> tuple[Delivery, float | None]:
        """Returns the new state of the delivery, and the seconds without calls that the target requested, if any."""
        try:
            check_allowed(self._database, self._channel)
            if self._delivery.state is State.BUILT:
                self._render()
            # A claimed delivery that is still ``submitted`` belongs to a worker that died during its call, or whose
            # claim has ended. The target may have it. So it is looked up like any delivery without an answer, and never
            # sent at once.
            if self._delivery.state is State.SUBMITTED:
                self._move(State.UNKNOWN, reason="the worker that sent it has ended", keep=True)
            shipment = self._shipment()
            if self._delivery.state is State.RENDERED:
                self._send(shipment)
            else:
                self._look(shipment)
        except (NotSent, Unclear) as error:
            self._put_off(error)
        except (Refused, InvalidInput, IntegrityFault) as error:
            self._cannot(error)
        return self._delivery, self._hold_s

    def _now(self) -> datetime:
        """The time by the database's clock, like the stored moments; the clock of this machine may differ."""
        return datetime.now(UTC) + self._clock_difference

    # --- rendering ------------------------------------------------------------------------------------------------

    def _render(self) -> None:
        """Renders a document once and stores it. Every later attempt sends the same bytes."""
        delivery = self._delivery
        with self._database.read() as connection:
            export = get_export(connection, delivery.ledger, delivery.export_id)
            payload = render_document(connection, export, delivery.part) if delivery.part else None
        content_hash = deliveries.payload_hash(payload) if payload is not None else export.content_hash
        self._move(State.RENDERED, payload=payload, payload_hash=content_hash, keep=True)

    def _shipment(self) -> Shipment:
        delivery = self._delivery
        with self._database.read() as connection:
            export = get_export(connection, delivery.ledger, delivery.export_id)
            journal = journal_behind(connection, export)
            posted = document_set_of(connection, export)
            payload = deliveries.payload_of(connection, delivery)
            rejections = deliveries.rejections_of(connection, delivery)
        documents: tuple[Document, ...] = posted.documents if posted is not None else ()
        return Shipment(
            journal=journal,
            export_id=export.export_id,
            reference=delivery.reference,
            payload=payload if payload is not None else b"".join(content_of(self._database, export)),
            content_type=export.media_type,
            documents=documents[delivery.part - 1 : delivery.part] if delivery.part else documents,
            settings=(
                None if posted is None else posted.settings_as(self._channel.format.target, sandbox=export.is_marked)
            ),
            # The id of an earlier, failed attempt is not passed on: under it the target would still report that
            # failure.
            erp_id=delivery.erp_id if delivery.state is State.ACCEPTED else None,
            unknown=delivery.state is State.UNKNOWN,
            rejections=rejections,
        )

    # --- sending --------------------------------------------------------------------------------------------------

    def _send(self, shipment: Shipment) -> None:
        found = _understood(self._connector.look_up, shipment)
        if found is not None:
            self._found(shipment, found)
            return
        _understood(self._connector.prepare, shipment)
        started = time.monotonic()
        # This is committed before the first byte is sent. If the worker dies from here on, the row says that the target
        # may have the document. In the other order it would be sent a second time.
        self._move(State.SUBMITTED, keep=True)
        # A worker that was stopped here for a long time must not send any more. Another worker may have looked the
        # delivery up, found nothing, and sent it. So a call must begin well before the moment from which a look-up is
        # proof.
        self._calls.begin_by = started + self._settle_s / 2
        try:
            answer = _understood(self._connector.submit, shipment)
        except NotSent as error:
            self._count(error)
        except Unclear as error:
            self._move(State.UNKNOWN, wait_s=self._until(error, 0), reason=str(error))
        except (Refused, InvalidInput) as error:  # no call was made: the content cannot be sent
            self._move(State.REJECTED, reason=_error_text(error))
        else:
            self._calls.begin_by = None
            self._answered(answer)

    def _answered(self, answer: Accepted | Rejected) -> None:
        if isinstance(answer, Rejected):
            self._move(State.REJECTED, reason=answer.reason)
        elif answer.posted:
            # The answer does not prove the amounts. So the posted document is looked up.
            self._move(State.ACCEPTED, erp_id=answer.erp_id, keep=True)
            self._look_at_once()
        else:
            self._move(State.ACCEPTED, wait_s=self._wait(0), erp_id=answer.erp_id)

    def _look_at_once(self) -> None:
        """Looks an accepted document up in the same attempt, because it is probably in the books already."""
        try:
            self._look(self._shipment())
        except (NotSent, Unclear) as error:
            self._put_off(error)

    def _count(self, error: Exception) -> None:
        """Counts an attempt that certainly failed. A request of the target to wait is not an attempt."""
        # This method is only for errors after which certainly nothing was sent. After an unclear error the delivery is
        # ``unknown``, and waits for the time in which it could still arrive. This method would send it again without
        # that wait.
        attempts = self._delivery.attempts + (_requested_wait(error) is None)
        if attempts >= self._settings.attempts:
            self._move(State.FAILED, reason=f"{attempts} attempts came to nothing, the last: {error}")
        else:
            self._move(State.RENDERED, wait_s=self._until(error, attempts), reason=str(error), attempts=attempts)

    # --- looking up -----------------------------------------------------------------------------------------------

    def _look(self, shipment: Shipment) -> None:
        delivery = self._delivery
        found = _understood(self._connector.look_up, shipment)
        if found is not None:
            self._found(shipment, found)
        elif delivery.state is State.ACCEPTED:
            self._not_found()
        elif self._now() < deliveries.settled_at(delivery, self._settle_s):
            # "Not found" proves nothing yet: the submission may still be on its way to the target, or in its queue.
            self._move(State.UNKNOWN, wait_s=self._wait(delivery.looks), reason="looked up: not there yet")
        else:
            attempts = delivery.attempts + 1
            reason = "looked up: it is not there, and can no longer arrive"
            if attempts >= self._settings.attempts:
                self._move(State.RENDERED, reason=reason, attempts=attempts, keep=True)
                self._move(State.FAILED, reason=f"{attempts} attempts came to nothing, the last had no answer")
            else:
                self._move(State.RENDERED, wait_s=0.0, reason=reason, attempts=attempts)

    def _not_found(self) -> None:
        """Handles an accepted document that is not found. Shortly after its answer, the target's own look-ups may not
        know of it yet. Later it means that the document was deleted there.
        """
        delivery = self._delivery
        if self._now() < deliveries.settled_at(delivery, self._settle_s):
            self._move(State.ACCEPTED, wait_s=self._wait(delivery.looks), reason="looked up: not there yet")
        else:
            self._move(State.REJECTED, reason="it was accepted, and is not there: somebody has deleted it there")

    def _found(self, shipment: Shipment, found: Found) -> None:
        difference = found.reason if found.state == "discarded" else _difference(shipment, found)
        if found.state == "discarded" or difference is not None:
            self._move(State.REJECTED, reason=difference or "the target has thrown it away", erp_id=found.erp_id)
        elif found.state == "posted":
            self._move(State.POSTED, erp_id=found.erp_id)
        else:
            self._wait_for_posting(found)

    def _wait_for_posting(self, found: Found) -> None:
        delivery = self._delivery
        since = (self._now() - delivery.changed_at).total_seconds()
        late = delivery.state is State.ACCEPTED and since > self._settings.posts_within_s
        self._move(
            State.ACCEPTED,
            erp_id=found.erp_id,
            wait_s=_ONCE_A_DAY_S if late else self._wait(delivery.looks if delivery.state is State.ACCEPTED else 0),
            reason="accepted, and not posted for too long: post it there" if late else found.reason,
        )

    # --- failed attempts ------------------------------------------------------------------------------------------

    def _put_off(self, error: Exception) -> None:
        """Puts off an attempt that ended before anything was sent. The delivery keeps its state."""
        delivery = self._delivery
        if delivery.state is State.RENDERED:
            self._count(error)
        else:
            self._move(delivery.state, wait_s=self._until(error, delivery.looks), reason=str(error))

    def _cannot(self, error: SubledgerError) -> None:
        """Handles a delivery that cannot be rendered or looked up with the current settings."""
        if self._delivery.state in (State.BUILT, State.RENDERED):
            self._move(State.FAILED, reason=_error_text(error))
        else:
            self._put_off(Unclear(_error_text(error)))

    def _until(self, error: Exception, times: int) -> float:
        """Returns the seconds until the next attempt: those that the target requested, else longer each time."""
        requested = _requested_wait(error)
        if requested is not None:
            self._hold_s = max(requested, self._settings.first_wait_s)
            return self._hold_s
        return self._wait(times)

    def _wait(self, times: int) -> float:
        return min(self._settings.first_wait_s * 2.0 ** min(times, 40), self._settings.longest_wait_s)

    def _move(
        self,
        state: State,
        *,
        wait_s: float | None = None,
        reason: str | None = None,
        erp_id: str | None = None,
        payload: bytes | None = None,
        payload_hash: str | None = None,
        attempts: int | None = None,
        keep: bool = False,
    ) -> None:
        self._delivery = outbox.move(
            self._database,
            self._delivery,
            self._claim_token,
            state,
            wait_s=wait_s,
            reason=None if reason is None else self._calls.clean(reason)[:_REASON_LENGTH],
            erp_id=None if erp_id is None else self._calls.clean(erp_id)[:_REASON_LENGTH],
            payload=payload,
            payload_hash=payload_hash,
            attempts=attempts,
            keep=keep,
            exchanges=self._calls.take_exchanges(),
        )


def _requested_wait(error: Exception) -> float | None:
    """Returns the seconds for which the target asked for no further call; None if it did not."""
    return error.wait_s if isinstance(error, Throttled | Unclear) else None


def _understood(ask: Callable[[Shipment], Answer], shipment: Shipment) -> Answer:
    """Returns the connector's answer. Raises Unclear if the connector could not read the target's answer."""
    try:
        return ask(shipment)
    except (NotSent, Unclear, SubledgerError):
        raise
    except Exception as error:  # reading another system's answer may raise anything, and the delivery must not stop
        raise Unclear(f"the answer cannot be understood: {type(error).__name__}: {error}") from error


def _difference(shipment: Shipment, found: Found) -> str | None:
    """Returns the difference between the target's document and the one sent; None if there is none, or the target shows
    no amounts.
    """
    for document in shipment.documents:
        total = found.totals.get(document.reference)
        if total is None:
            continue
        expected = document.total_minor
        if (total.debit_minor, total.credit_minor) != (expected, expected):
            found_debit = f"{format_minor(total.debit_minor, document.currency)} debit"
            return (
                f"the target has {document.reference} with {found_debit}, "
                f"{format_minor(total.credit_minor, document.currency)} credit; it should be "
                f"{format_minor(expected, document.currency)} {document.currency} each"
            )
        accounts = found.accounts.get(document.reference)
        if accounts is not None and accounts.sent != accounts.found:
            return _difference_of_accounts(document, accounts)
    return None


def _difference_of_accounts(document: Document, accounts: Accounts) -> str:
    """Returns the differences of a document by account. Its sums may agree, because somebody moved an amount."""
    nothing = Total(debit_minor=0, credit_minor=0)

    def text(total: Total) -> str:
        debit, credit = (format_minor(each, document.currency) for each in (total.debit_minor, total.credit_minor))
        return f"{debit} debit, {credit} credit"

    differing = [
        f"account {name} with {text(accounts.found.get(name, nothing))}; "
        f"it should be {text(accounts.sent.get(name, nothing))}"
        for name in sorted(accounts.sent.keys() | accounts.found.keys())
        if accounts.sent.get(name) != accounts.found.get(name)
    ]
    return f"the target has {document.reference} on other accounts: {'; '.join(differing)} {document.currency}"


def _error_text(error: SubledgerError) -> str:
    document = msgspec.to_builtins(error.as_document())
    field = f" ({document['field']})" if document.get("field") else ""
    return f"{error.code}: {error.message}{field}"
