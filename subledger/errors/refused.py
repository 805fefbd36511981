"""The input is readable, but the current books do not allow it.

In the order of subjects: currency, blocks, credits, reversals, payments and disputes, second person, time, rejected
events, periods, journals, delivery, keys, and settings that are fixed for the life of a ledger or a database.
"""

from __future__ import annotations

from subledger.errors.root import SubledgerError


class Refused(SubledgerError):
    """The current books do not allow this."""

    code = "refused"


class WrongCurrency(Refused):
    """The currency of the amount differs from that of the block or document it refers to."""

    code = "wrong_currency"


class ExchangeRateMissing(Refused):
    """No exchange rate to the ledger's functional currency is known."""

    code = "exchange_rate_missing"
    retryable = True


class ExchangeRateStale(Refused):
    """The exchange rate of a month's last day is older than the ledger's `rate_max_age_days` allow."""

    code = "exchange_rate_stale"
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
    """The customer can spend fewer credits than are requested, and the shortfall setting is to reject."""

    code = "insufficient_credits"
    retryable = True


class UnknownReservation(Refused):
    """The customer has no reservation with this id."""

    code = "unknown_reservation"
    retryable = True


class ReservationEnded(Refused):
    """The reservation was settled or released before."""

    code = "reservation_ended"


class ReservationDiffers(Refused):
    """The reservation is for another unit or product than the usage that names it."""

    code = "reservation_differs"


class TooManyReservations(Refused):
    """The customer has as many open reservations as a customer may have."""

    code = "too_many_reservations"
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
    """The event to be reversed is of another customer or of a type that is reversed in another way."""

    code = "not_reversible"


class AlreadyReversed(Refused):
    """The event was undone before."""

    code = "already_reversed"


class ChangedSince(Refused):
    """A later event built on what the event to be undone had changed."""

    code = "changed_since"
    retryable = True


class ReversalExceedsOriginal(Refused):
    """The reversal exceeds the part of the original that is not reversed yet."""

    code = "reversal_exceeds_original"


class OverageSettled(Refused):
    """The overage has been paid for since; issue a credit memo instead."""

    code = "overage_settled"


class Conceded(Refused):
    """The value was conceded by a credit memo, written off, or lost in a dispute."""

    code = "conceded"
    retryable = True


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
    """The amount exceeds the value from which it is taken."""

    code = "exceeds_value"
    retryable = True


class ExceedsReceivable(Refused):
    """The amount exceeds the open receivable."""

    code = "exceeds_receivable"
    retryable = True


class ExceedsPayment(Refused):
    """The amount exceeds the unapplied part of the payment."""

    code = "exceeds_payment"
    retryable = True


class NothingOwed(Refused):
    """The amount exceeds the amount owed to the customer."""

    code = "nothing_owed"
    retryable = True


class ExceedsOverage(Refused):
    """The amount exceeds the unbilled overage."""

    code = "exceeds_overage"
    retryable = True


class CohortsFixed(Refused):
    """The cohorts of a breakage pool were set by its first estimate."""

    code = "cohorts_fixed"


class UnknownCohort(Refused):
    """The breakage pool has no such cohort, or has several and the estimate names none."""

    code = "unknown_cohort"
    retryable = True


class EstimateTooLow(Refused):
    """More has expired than the estimate expects to break."""

    code = "estimate_too_low"
    retryable = True


class EstimateTooHigh(Refused):
    """The expected breakage and escheat leave nothing of the pool to be redeemed."""

    code = "estimate_too_high"
    retryable = True


class CannotBeOpened(Refused):
    """A balance cannot be opened as the ledger stands, or was opened already."""

    code = "cannot_be_opened"


class SamePerson(Refused):
    """The requester cannot also be the second person."""

    code = "same_person"


class PersonRequired(Refused):
    """A second person is required, so the requester and the second person both need a name."""

    code = "person_required"


class ApprovalDecided(Refused):
    """A second person has already decided about the request."""

    code = "approval_decided"


class EffectChanged(Refused):
    """The effect of a waiting event has grown, or changed, since the request."""

    code = "effect_changed"
    retryable = True


class ApprovalRefused(Refused):
    """A second person has refused the request."""

    code = "approval_refused"


class InTheFuture(Refused):
    """The time of the event is further in the future than the ledger accepts."""

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
    """The rejected event is not stored completely, so it cannot be recorded from here."""

    code = "rejection_cut"


class RejectionsChanged(Refused):
    """The number of chosen rejected events differs from the number that the caller has seen."""

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
    """The journal has no lines to reverse, is itself a reversal, or is already reversed."""

    code = "journal_not_reversible"


class NothingToCorrect(Refused):
    """The account mapping in force gives the journal the same lines that it has."""

    code = "nothing_to_correct"
    retryable = True


class DeliveryInHand(Refused):
    """The state of the delivery does not allow this now."""

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
    """A general ledger cannot accept an amount, because the amount has too many digits or decimals."""

    code = "not_representable"


class KnownAtInFuture(Refused):
    """`known_at` is in the future, so the question has no answer yet."""

    code = "known_at_in_future"
    retryable = True


class SettingFixed(Refused):
    """The setting cannot change during the life of the ledger."""

    code = "setting_fixed"


class CitusMissing(Refused):
    """The database has no Citus, which distributes ledgers over servers."""

    code = "citus_missing"


class DistributedOtherwise(Refused):
    """A table of the product is not distributed by ledger."""

    code = "distributed_otherwise"
