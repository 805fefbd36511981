"""Every error the ledger raises on purpose, as one tree.

    SubledgerError
    ├── InvalidInput            what was sent cannot be read as what it should be; nothing else was looked at
    │   ├── InvalidJson  InvalidEvent  MissingField  UnknownField  WrongType  InvalidValue  NaiveTime
    │   ├── TooManyDecimals  UnknownCurrency  UnknownEventType  ReservedEventType  NotSupportedYet
    │   ├── InvalidMapping  InvalidPolicy  InvalidCursor  UnsafeHome  NotACheckout
    │   ├── UnknownParameter  RepeatedParameter  TooLarge  RequestTimedOut
    │   └── InvalidRequest  UrlTooLong  HeadersTooLarge  UnsupportedMediaType  MethodNotAllowed
    ├── AccessDenied            whoever calls may not do this
    │   ├── NotAuthenticated
    │   │   └── KeyExpired  KeyRevoked
    │   └── NotAllowed  CrossSite
    ├── Refused                 well-formed, but the books do not allow it as they stand
    │   ├── WrongCurrency  ExchangeRateMissing  OveragePriceMissing
    │   ├── BlockExists  UnknownBlock  BlockOfAnotherCustomer  NoCreditsLeft  NotAPurchase  BlockDisputed
    │   ├── UnknownInvoice  UnknownPayment  UnknownDispute  DocumentExists  DisputeDecided
    │   ├── InsufficientCredits  NotYetExpired  ExceedsValue  ExceedsReceivable  ExceedsPayment  NothingOwed
    │   ├── ExceedsOverage  EstimateTooHigh
    │   ├── SamePerson  PersonRequired  ApprovalDecided  ApprovalRefused
    │   ├── RejectionSettled  RejectionCut  RejectionsChanged
    │   ├── UnknownOriginal  NotReversible  ReversalExceedsOriginal  OverageSettled
    │   ├── InTheFuture  PeriodNotOver  ClockBackwards  SandboxLedger
    │   ├── PeriodOutOfOrder  PeriodNotClosed  UnmappedRole  NotRepresentable  DeliveryInHand  ChannelFixed
    │   ├── CredentialNotGranted  KeyEnded
    │   ├── JournalNotReversible  NothingToCorrect
    │   └── KnownAtInFuture  SettingFixed  CitusMissing  DistributedOtherwise  SchemaOutOfDate
    ├── Conflict                the same name already stands for something else
    │   └── EventConflict  LedgerExists  PolicyExists  DeliveredOtherwise  CheckpointConflict
    ├── NotFound
    │   ├── UnknownLedger  UnknownCustomer  UnknownPosition  UnknownCheckpoint  UnknownExport  UnknownFormat
    │   ├── UnknownApproval  UnknownPolicy  UnknownEntity  UnknownTarget  UnknownChannel
    │   └── UnknownConnector  UnknownDelivery  UnknownRejection  UnknownReport  UnknownKey
    ├── Unavailable             nothing was done; the same call may succeed later (retryable)
    │   ├── DatabaseUnavailable  EmbeddedServerFailed  NotAnswered  FileUnavailable
    │   └── LedgerBusy  LedgerLocked  Overloaded  Stopping  TooManyConnections
    ├── IntegrityFault          an invariant does not hold: a defect or tampering, never bad input
    └── InternalError           a defect of the server, which its log describes

An error's ``code`` is stable: callers branch on it. ``field`` names the offending member, ``expected`` and
``found`` say what it should have been and what it was, ``facts`` carries the ids. Which HTTP status an error
becomes is decided in ``api``; which SQLSTATE becomes an error, in ``store``.

When several things are wrong with one event the first of this order is reported: JSON, envelope, type, fields in
the order of the contract, references (a block, document or original that is unknown, of somebody else or of the wrong
sort; a new id that is taken), currency, amounts and dates that the books do not allow, credits (none left, frozen, too
few). A missing exchange rate is reported last: only the finished entries show whether one is needed.
tests/laws/test_refusals_in_order.py has the class of each code. Fields that are missing or unknown are all named, in
the facts ``missing`` and ``unknown``.

``retryable`` is true if the same event, or call, may succeed later without a change to it: after another fact has
arrived (the purchase, the payment, the exchange rate that it refers to), or once the service answers again. It is false
for what would be refused however often it is sent, and for what waits for a person to set something up.
tests/laws/test_retryable.py says of every error why it is one or the other.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, TypeVar

from subledger.text.visible_text import visible_lines


class SubledgerError(Exception):
    """Something the ledger refuses or cannot do, with a stable code."""

    code: ClassVar[str] = "error"
    retryable: ClassVar[bool] = False

    def __init__(
        self,
        message: str,
        *,
        field: str | None = None,
        expected: str | None = None,
        found: str | None = None,
        **facts: Any,
    ) -> None:
        # Errors quote their input. An error that held half a surrogate pair could be neither sent nor kept, and one
        # with control characters would act on a terminal.
        self.message = visible_lines(message)
        super().__init__(self.message)
        self.field = None if field is None else visible_lines(field)
        self.expected = None if expected is None else visible_lines(expected)
        self.found = None if found is None else visible_lines(found)
        self.facts: Mapping[str, Any] = facts

    @property
    def title(self) -> str:
        """One sentence that is the same for every error of this code."""
        return (type(self).__doc__ or "").strip().splitlines()[0]

    def as_document(self) -> dict[str, Any]:
        """The error as the members of an RFC 9457 problem document, without the HTTP status."""
        document: dict[str, Any] = {
            "type": f"urn:subledger:error:{self.code}",
            "title": self.title,
            "code": self.code,
            "detail": self.message,
            "retryable": self.retryable,
        }
        for name in ("field", "expected", "found"):
            value = getattr(self, name)
            if value is not None:
                document[name] = value
        document.update(self.facts)
        return document


# --- what was sent cannot be read ---------------------------------------------------------------------------


class InvalidInput(SubledgerError):
    """The input is not what this call takes."""

    code = "invalid_input"


class InvalidJson(InvalidInput):
    """The text is not JSON."""

    code = "invalid_json"


class InvalidEvent(InvalidInput):
    """The JSON is not a CloudEvent 1.0."""

    code = "invalid_event"


class MissingField(InvalidInput):
    """A required field is missing."""

    code = "missing_field"


class UnknownField(InvalidInput):
    """A field is not part of this event type."""

    code = "unknown_field"


class WrongType(InvalidInput):
    """A field has the wrong JSON type; amounts and credits are strings."""

    code = "wrong_type"


class InvalidValue(InvalidInput):
    """A field's value is outside what is allowed."""

    code = "invalid_value"


class NaiveTime(InvalidInput):
    """A time has no UTC offset."""

    code = "naive_time"


class TooManyDecimals(InvalidInput):
    """An amount has more decimals than its currency, or a quantity more than nine."""

    code = "too_many_decimals"


class UnknownCurrency(InvalidInput):
    """The currency is not an ISO 4217 code."""

    code = "unknown_currency"


class UnknownEventType(InvalidInput):
    """The event type is not one of the contract's."""

    code = "unknown_event_type"


class ReservedEventType(InvalidInput):
    """Events of this type are written only by their own command."""

    code = "reserved_event_type"


class NotSupportedYet(InvalidInput):
    """The contract has this, but it is not built yet."""

    code = "not_supported_yet"


class InvalidMapping(InvalidInput):
    """The account mapping cannot be read or contradicts itself."""

    code = "invalid_mapping"


class InvalidPolicy(InvalidInput):
    """The posting policy cannot be read or is incomplete."""

    code = "invalid_policy"


class UnknownParameter(InvalidInput):
    """The call has no query parameter of this name."""

    code = "unknown_parameter"


class RepeatedParameter(InvalidInput):
    """A query parameter of one value stands more than once."""

    code = "repeated_parameter"


class TooLarge(InvalidInput):
    """More was sent than a call may have: bytes, values, levels or events."""

    code = "too_large"


class RequestTimedOut(InvalidInput):
    """The request did not arrive in time; nothing was done."""

    code = "request_timed_out"
    retryable = True


class InvalidCursor(InvalidInput):
    """The cursor was not made by this list."""

    code = "invalid_cursor"


class UnsafeHome(InvalidInput):
    """Other users of this machine can reach the home directory."""

    code = "unsafe_home"


class NotACheckout(InvalidInput):
    """The benchmarks are not part of the installed package."""

    code = "not_a_checkout"


class InvalidRequest(InvalidInput):
    """The bytes are not an HTTP request, or not a whole one."""

    code = "invalid_request"


class UrlTooLong(InvalidInput):
    """The address of a call has more bytes than it may have."""

    code = "url_too_long"


class HeadersTooLarge(InvalidInput):
    """The line and the headers of a call have more bytes than they may have, or there are too many headers."""

    code = "headers_too_large"


class UnsupportedMediaType(InvalidInput):
    """The body's type, character set or encoding is not one that this call takes."""

    code = "unsupported_media_type"


class MethodNotAllowed(InvalidInput):
    """There is no call of this method at this address."""

    code = "method_not_allowed"


# --- the caller may not -------------------------------------------------------------------------------------


class AccessDenied(SubledgerError):
    """Whoever calls may not do this."""

    code = "access_denied"


class NotAuthenticated(AccessDenied):
    """The call needs a key."""

    code = "not_authenticated"


class KeyExpired(NotAuthenticated):
    """The key has expired."""

    code = "key_expired"


class KeyRevoked(NotAuthenticated):
    """The key was revoked, or another one has taken its place."""

    code = "key_revoked"


class NotAllowed(AccessDenied):
    """The key does not allow this."""

    code = "not_allowed"


class CrossSite(AccessDenied):
    """Another web site had a browser send this request."""

    code = "cross_site"


# --- the books do not allow it ------------------------------------------------------------------------------


class Refused(SubledgerError):
    """The books do not allow this as they stand."""

    code = "refused"


class WrongCurrency(Refused):
    """The amount's currency is not that of what it refers to."""

    code = "wrong_currency"


class ExchangeRateMissing(Refused):
    """No exchange rate to the ledger's functional currency is known."""

    code = "exchange_rate_missing"
    retryable = True


class OveragePriceMissing(Refused):
    """The usage exceeds the credits, and the event names no overage price."""

    code = "overage_price_missing"
    retryable = True


class BlockExists(Refused):
    """A credit block with this id is already in the ledger."""

    code = "block_exists"


class UnknownBlock(Refused):
    """No credit block with this id is in the ledger."""

    code = "unknown_block"
    retryable = True


class BlockOfAnotherCustomer(Refused):
    """The credit block belongs to another customer."""

    code = "block_of_another_customer"


class UnknownInvoice(Refused):
    """No credit block was bought on this invoice."""

    code = "unknown_invoice"
    retryable = True


class NoCreditsLeft(Refused):
    """The credit block has no credits left."""

    code = "no_credits_left"
    retryable = True


class InsufficientCredits(Refused):
    """The customer has fewer credits than the usage, and the shortfall setting is to reject."""

    code = "insufficient_credits"
    retryable = True


class NotYetExpired(Refused):
    """The expiry does not match the credit block's expires_at."""

    code = "not_yet_expired"
    retryable = True


class UnknownOriginal(Refused):
    """The event to be reversed is not in the ledger."""

    code = "unknown_original"
    retryable = True


class NotReversible(Refused):
    """The event to be reversed is not usage of this customer."""

    code = "not_reversible"


class ReversalExceedsOriginal(Refused):
    """More would be reversed than is left of the original."""

    code = "reversal_exceeds_original"


class OverageSettled(Refused):
    """The overage has been paid for meanwhile; a credit memo is the way."""

    code = "overage_settled"


class NotAPurchase(Refused):
    """The credit block was granted, not bought."""

    code = "not_a_purchase"


class BlockDisputed(Refused):
    """The credit block is disputed, and frozen until the dispute ends."""

    code = "block_disputed"
    retryable = True


class UnknownPayment(Refused):
    """No payment with this id is recorded for the customer."""

    code = "unknown_payment"
    retryable = True


class UnknownDispute(Refused):
    """No dispute with this id is recorded for the customer."""

    code = "unknown_dispute"
    retryable = True


class DocumentExists(Refused):
    """A payment, invoice, dispute, payout or refund with this id is already in the ledger."""

    code = "document_exists"


class DisputeDecided(Refused):
    """The dispute has been decided."""

    code = "dispute_decided"


class ExceedsValue(Refused):
    """The amount is more than the value it is taken from."""

    code = "exceeds_value"
    retryable = True


class ExceedsReceivable(Refused):
    """The amount is more than what is still to be paid."""

    code = "exceeds_receivable"
    retryable = True


class ExceedsPayment(Refused):
    """The amount is more than what the payment has left."""

    code = "exceeds_payment"
    retryable = True


class NothingOwed(Refused):
    """The amount is more than what is owed to the customer."""

    code = "nothing_owed"
    retryable = True


class ExceedsOverage(Refused):
    """The amount is more than the overage that has not been billed."""

    code = "exceeds_overage"
    retryable = True


class EstimateTooHigh(Refused):
    """The expected breakage and escheat leave nothing of the pool to be redeemed."""

    code = "estimate_too_high"
    retryable = True


class SamePerson(Refused):
    """The person who requested something cannot be the second person who decides about it."""

    code = "same_person"


class PersonRequired(Refused):
    """This needs a second person, so that both of them need a name."""

    code = "person_required"


class ApprovalDecided(Refused):
    """A second person has decided about this."""

    code = "approval_decided"


class ApprovalRefused(Refused):
    """A second person has refused this."""

    code = "approval_refused"


class InTheFuture(Refused):
    """It lies further in the future than the ledger takes; the same may be sent again when its time has come."""

    code = "in_the_future"
    retryable = True


class PeriodNotOver(Refused):
    """The period is not over."""

    code = "period_not_over"
    retryable = True


class ClockBackwards(Refused):
    """The clock of a sandbox ledger never goes back."""

    code = "clock_backwards"


class SandboxLedger(Refused):
    """A sandbox ledger delivers nothing to a general ledger, sends no notices and is in no report of real ones."""

    code = "sandbox_ledger"


class RejectionSettled(Refused):
    """The rejected event was recorded or dismissed since."""

    code = "rejection_settled"


class RejectionCut(Refused):
    """The rejected event is not kept whole, so it cannot be recorded from here."""

    code = "rejection_cut"


class RejectionsChanged(Refused):
    """Another number of rejected events is chosen than the caller has seen."""

    code = "rejections_changed"


class PeriodOutOfOrder(Refused):
    """Periods close in order."""

    code = "period_out_of_order"
    retryable = True


class PeriodNotClosed(Refused):
    """The period is not closed."""

    code = "period_not_closed"
    retryable = True


class UnmappedRole(Refused):
    """The account mapping has no GL account for a role that has a balance."""

    code = "unmapped_role"
    retryable = True


class JournalNotReversible(Refused):
    """The journal has nothing to take back, takes back another one, or is taken back already."""

    code = "journal_not_reversible"


class NothingToCorrect(Refused):
    """The account mapping that holds now gives the journal the lines that it has."""

    code = "nothing_to_correct"
    retryable = True


class DeliveryInHand(Refused):
    """The delivery is not one that a person could do this to now."""

    code = "delivery_in_hand"
    retryable = True


class CredentialNotGranted(Refused):
    """The ledger may not use this credential."""

    code = "credential_not_granted"


class KeyEnded(Refused):
    """The key has ended, and cannot be rotated."""

    code = "key_ended"


class ChannelFixed(Refused):
    """The destination of a channel does not change once it has deliveries."""

    code = "channel_fixed"


class NotRepresentable(Refused):
    """A general ledger cannot take an amount as it is: it has too many digits, or decimals."""

    code = "not_representable"


class KnownAtInFuture(Refused):
    """A question about what will be known in the future has no answer yet."""

    code = "known_at_in_future"
    retryable = True


class SettingFixed(Refused):
    """This setting is for the life of the ledger."""

    code = "setting_fixed"


class CitusMissing(Refused):
    """Ledgers are spread over servers by Citus, which the database does not have."""

    code = "citus_missing"


class DistributedOtherwise(Refused):
    """A table of ours is distributed in another way than by ledger."""

    code = "distributed_otherwise"


class SchemaOutOfDate(Refused):
    """The database does not have this version's schema."""

    code = "schema_out_of_date"


# --- the name is taken --------------------------------------------------------------------------------------


class Conflict(SubledgerError):
    """The same name already stands for something else."""

    code = "conflict"


class EventConflict(Conflict):
    """An event with this source and id was recorded with other content."""

    code = "event_conflict"


class CheckpointConflict(Conflict):
    """Another log than this one was signed before, so this one is not signed."""

    code = "checkpoint_conflict"


class LedgerExists(Conflict):
    """A ledger with this id exists with other settings."""

    code = "ledger_exists"


class PolicyExists(Conflict):
    """A posting policy of this name and version has other rules; a change is a new version."""

    code = "policy_exists"


class DeliveredOtherwise(Conflict):
    """The journal is on its way to this general ledger in another form; abandon those deliveries first."""

    code = "delivered_otherwise"
    retryable = True


# --- there is no such thing ---------------------------------------------------------------------------------


class NotFound(SubledgerError):
    """There is no such thing."""

    code = "not_found"


class UnknownLedger(NotFound):
    """There is no ledger with this id."""

    code = "unknown_ledger"


class UnknownCustomer(NotFound):
    """The ledger has no event of this customer."""

    code = "unknown_customer"
    retryable = True


class UnknownCheckpoint(NotFound):
    """The ledger was not signed at this size, or is not as long."""

    code = "unknown_checkpoint"


class UnknownPosition(NotFound):
    """The ledger has no event at this position."""

    code = "unknown_position"
    retryable = True


class UnknownExport(NotFound):
    """The ledger has no such journal export, or the export no such line."""

    code = "unknown_export"


class UnknownApproval(NotFound):
    """Nothing of this id waits, or has waited, for a second person."""

    code = "unknown_approval"


class UnknownRejection(NotFound):
    """No rejected event has this id."""

    code = "unknown_rejection"


class UnknownEntity(NotFound):
    """No ledger is of this entity."""

    code = "unknown_entity"


class UnknownPolicy(NotFound):
    """The ledger has adopted no posting policy under this number."""

    code = "unknown_policy"


class UnknownTarget(NotFound):
    """There is no general ledger of this name that journals could go to."""

    code = "unknown_target"


class UnknownChannel(NotFound):
    """The ledger has no channel of this name."""

    code = "unknown_channel"


class UnknownConnector(NotFound):
    """There is no connector of this name."""

    code = "unknown_connector"


class UnknownDelivery(NotFound):
    """The ledger has no delivery of this id."""

    code = "unknown_delivery"


class UnknownReport(NotFound):
    """There is no report of this name."""

    code = "unknown_report"


class UnknownKey(NotFound):
    """There is no key of this id."""

    code = "unknown_key"


class UnknownFormat(NotFound):
    """There is no journal format of this name."""

    code = "unknown_format"


# --- not now ------------------------------------------------------------------------------------------------


class Unavailable(SubledgerError):
    """The service cannot answer now; nothing was done."""

    code = "unavailable"
    retryable = True


class DatabaseUnavailable(Unavailable):
    """The database does not answer.

    Nothing is half-written. Where the connection was lost in the midst of the commit, all of the batch may be
    recorded: the same event sent again is then a duplicate. So it is where events are recorded, and the refused ones of
    the same call could not be stored; the message says so.
    """

    code = "database_unavailable"


class NotAnswered(Unavailable):
    """Another system did not say what it was asked."""

    code = "not_answered"


class FileUnavailable(Unavailable):
    """A file, a directory or an address of this machine cannot be used; the operating system says why."""

    code = "file_unavailable"


class LedgerBusy(Unavailable):
    """More events wait for this ledger than it takes in; nothing of this call was recorded."""

    code = "ledger_busy"


class LedgerLocked(Unavailable):
    """Another transaction holds a lock that a call needs for longer than it waits; nothing was recorded."""

    code = "ledger_locked"


class Overloaded(Unavailable):
    """More events wait than can be recorded in time; nothing of this call was recorded."""

    code = "overloaded"


class Stopping(Unavailable):
    """The service is stopping: it finishes what it has accepted and takes no more."""

    code = "stopping"


class TooManyConnections(Unavailable):
    """The server has as many connections as it takes; nothing of this call was read."""

    code = "too_many_connections"


class EmbeddedServerFailed(Unavailable):
    """The embedded PostgreSQL server did not start; its log says why."""

    code = "embedded_server_failed"


# --- the books are wrong ------------------------------------------------------------------------------------


class IntegrityFault(SubledgerError):
    """An invariant of the books does not hold."""

    code = "integrity_fault"


class InternalError(SubledgerError):
    """The server failed by a defect of its own."""

    code = "internal_error"


_Value = TypeVar("_Value")


def present(value: _Value | None, message: str) -> _Value:
    """Returns a value that an invariant promises. Raises IntegrityFault with ``message`` if there is none."""
    if value is None:
        raise IntegrityFault(message)
    return value
