"""``retryable`` of every error, with its reason: the same event, or call, may succeed later, or cannot.

``True``: it may succeed after another fact has arrived, a person has decided, or the service answers again. ``False``:
it fails however often it is sent. An error that needs a person to *set something up* (a ledger, a channel, a format) is
False, because no arriving fact changes the answer.
"""

from __future__ import annotations

import pytest

from subledger import errors
from subledger.errors import InvalidInput, SubledgerError
from tests.laws.test_errors import GROUPS, all_errors

NO_INPUT = "the text itself is at fault; it must be sent otherwise"
SET_UP = "a person sets it up or has misspelt it; no fact that arrives changes that"
LATER = "nothing was done, and the same call may succeed once the service answers"

# error · retryable · reason
DECIDED: dict[type[SubledgerError], tuple[bool, str]] = {
    errors.WrongCurrency: (False, "what it refers to keeps its currency"),
    errors.ExchangeRateMissing: (True, "exchange_rate.set may arrive"),
    errors.ExchangeRateStale: (True, "exchange_rate.set may arrive"),
    errors.OveragePriceMissing: (True, "a purchase may arrive that covers the usage"),
    errors.BlockExists: (False, "the id stays taken"),
    errors.UnknownBlock: (True, "its purchase may arrive"),
    errors.BlockOfAnotherCustomer: (False, "a block never changes hands; a transfer makes another"),
    errors.UnknownInvoice: (True, "the purchase or the overage.billed with this invoice may arrive"),
    errors.NoCreditsLeft: (True, "usage may be taken back, or an expiry moved"),
    errors.InsufficientCredits: (True, "a purchase may arrive, a dispute be won, or a reservation released"),
    errors.UnknownReservation: (True, "credits.reserved may arrive"),
    errors.ReservationEnded: (False, "a reservation ends once"),
    errors.ReservationDiffers: (False, "what it was made for stays"),
    errors.TooManyReservations: (True, "others may be settled, released or expire"),
    errors.NotYetExpired: (True, "block.expiry_changed may arrive"),
    errors.UnknownOriginal: (True, "the event may arrive"),
    errors.NotReversible: (False, "what is recorded under that id stays what it is"),
    errors.AlreadyReversed: (False, "an event is undone once"),
    errors.ChangedSince: (True, "what was built on it may be taken back"),
    errors.ReversalExceedsOriginal: (False, "what is left of the usage only becomes less"),
    errors.OverageSettled: (False, "what was paid for stays paid for; a credit memo is the way"),
    errors.Conceded: (True, "the memo, the write-off or the dispute may be taken back"),
    errors.NotAPurchase: (False, "a grant never becomes a purchase"),
    errors.BlockDisputed: (True, "the dispute may end"),
    errors.UnknownPayment: (True, "the payment may arrive"),
    errors.UnknownDispute: (True, "dispute.opened may arrive"),
    errors.DocumentExists: (False, "the id stays taken"),
    errors.DisputeDecided: (False, "a dispute is decided once"),
    errors.ExceedsValue: (True, "usage, its reversal or a repricing may arrive and raise the value"),
    errors.ExceedsReceivable: (True, "what raises the receivable may arrive"),
    errors.ExceedsPayment: (True, "the payment may be applied, or money come back from a dispute"),
    errors.NothingOwed: (True, "the refund, void or memo that is paid back may arrive"),
    errors.ExceedsOverage: (True, "the overage that is billed may arrive"),
    errors.UnknownCohort: (True, "the first block of the cohort may arrive"),
    errors.CannotBeOpened: (False, "what was recorded of the block or the cohort stays recorded"),
    errors.CohortsFixed: (False, "the first estimate of a pool groups its blocks for good"),
    errors.EstimateTooLow: (True, "more may be sold in the cohort, so that the rate expects as much as has expired"),
    errors.EstimateTooHigh: (True, "purchases may arrive that are more than the estimate"),
    errors.PersonRequired: (False, "somebody must be named"),
    errors.SamePerson: (False, "somebody else must decide"),
    errors.ApprovalDecided: (False, "a decision is made once"),
    errors.EffectChanged: (True, "what made the effect greater may be reversed"),
    errors.ApprovalRefused: (False, "a refusal is final; another event needs another id"),
    errors.InTheFuture: (True, "the moment may come"),
    errors.PeriodNotOver: (True, "the month may end"),
    errors.ClockBackwards: (False, "a clock never goes back"),
    errors.SandboxLedger: (False, "a ledger is a sandbox for its life"),
    errors.PeriodOutOfOrder: (True, "the month before may be closed"),
    errors.PeriodNotClosed: (True, "the month may be closed"),
    errors.UnmappedRole: (True, "a mapping that has the role may be adopted"),
    errors.JournalNotReversible: (False, "a journal is taken back once"),
    errors.NothingToCorrect: (True, "another mapping may be adopted"),
    errors.DeliveryInHand: (True, "the delivery may reach another state"),
    errors.ChannelFixed: (False, "a channel leads to one place for its life"),
    errors.NotRepresentable: (False, "the amount stays as large as it is"),
    errors.KnownAtInFuture: (True, "the moment may come"),
    errors.SettingFixed: (False, "a setting for life"),
    errors.CitusMissing: (False, SET_UP),
    errors.DistributedOtherwise: (False, SET_UP),
    errors.EventConflict: (False, "what is recorded stays recorded; a new id is needed"),
    errors.LedgerExists: (False, "the ledger stays"),
    errors.PolicyExists: (False, "a version keeps its rules"),
    errors.DeliveredOtherwise: (True, "the other deliveries may be abandoned"),
    errors.UnknownLedger: (False, SET_UP),
    errors.UnknownCustomer: (True, "the customer's first event may arrive"),
    errors.UnknownPosition: (True, "the log may grow to it"),
    errors.UnknownExport: (False, SET_UP),
    errors.UnknownFormat: (False, SET_UP),
    errors.UnknownApproval: (False, SET_UP),
    errors.UnknownPolicy: (False, SET_UP),
    errors.UnknownEntity: (False, SET_UP),
    errors.UnknownTarget: (False, SET_UP),
    errors.UnknownChannel: (False, SET_UP),
    errors.UnknownConnector: (False, SET_UP),
    errors.UnknownDelivery: (False, SET_UP),
    errors.RequestTimedOut: (True, "the same body may arrive in time"),
    errors.UnknownCheckpoint: (False, SET_UP),
    errors.UnknownRejection: (False, SET_UP),
    errors.RejectionsChanged: (False, "the caller has to see first how many there are now"),
    errors.RejectionCut: (False, "what was not kept does not come back; the sender has it"),
    errors.CredentialNotGranted: (False, SET_UP),
    errors.NotAuthenticated: (False, SET_UP),
    errors.KeyExpired: (False, "a key that has ended stays so"),
    errors.KeyRevoked: (False, "a key that has ended stays so"),
    errors.KeyEnded: (False, "a key that has ended stays so"),
    errors.NotAllowed: (False, SET_UP),
    errors.CrossSite: (False, "the site that sends it stays another one"),
    errors.UnknownReport: (False, SET_UP),
    errors.UnknownKey: (False, SET_UP),
    errors.InternalError: (False, "the same call meets the same defect: a person must look"),
    errors.RejectionSettled: (False, "it is settled once"),
    errors.CheckpointConflict: (False, "a person must look: what was signed stays signed"),
    errors.IntegrityFault: (False, "the books are wrong: a person must look"),
}


def decided(error: type[SubledgerError]) -> tuple[bool, str]:
    if error in DECIDED:
        return DECIDED[error]
    if issubclass(error, InvalidInput):
        return False, NO_INPUT
    return issubclass(error, errors.Unavailable), LATER


@pytest.mark.parametrize("error", all_errors(), ids=lambda error: error.code)
def test_whether_an_event_may_be_sent_again_is_decided_for_every_error(error: type[SubledgerError]) -> None:
    retryable, why = decided(error)
    assert error.retryable is retryable, f"{error.code}: {why}"


def test_every_error_that_is_not_the_texts_nor_the_services_has_a_reason_of_its_own() -> None:
    plain = (InvalidInput, errors.Unavailable)
    left = [error.__name__ for error in all_errors() if not issubclass(error, plain) and error not in GROUPS]
    assert sorted({*left, "RequestTimedOut"}) == sorted(error.__name__ for error in DECIDED)
