"""Every error the ledger raises on purpose, as one tree.

    SubledgerError
    ├── InvalidInput            the input cannot be read; nothing else was checked
    │   ├── InvalidJson  InvalidEvent  MissingField  UnknownField  WrongType  InvalidValue  NaiveTime
    │   ├── TooManyDecimals  UnknownCurrency  UnknownEventType  ReservedEventType  NotSupportedYet
    │   ├── InvalidMapping  InvalidPolicy  InvalidCursor  UnsafeHome  NotACheckout
    │   ├── UnknownParameter  RepeatedParameter  TooLarge  RequestTimedOut
    │   └── InvalidRequest  UrlTooLong  HeadersTooLarge  UnsupportedMediaType  MethodNotAllowed
    ├── AccessDenied            the caller may not do this
    │   ├── NotAuthenticated
    │   │   └── KeyExpired  KeyRevoked
    │   └── NotAllowed  CrossSite
    ├── Refused                 well-formed, but the current books do not allow it
    │   ├── WrongCurrency  ExchangeRateMissing  ExchangeRateStale  OveragePriceMissing
    │   ├── BlockExists  UnknownBlock  BlockOfAnotherCustomer  NoCreditsLeft  NotAPurchase  BlockDisputed
    │   ├── UnknownInvoice  UnknownPayment  UnknownDispute  DocumentExists  DisputeDecided
    │   ├── UnknownReservation  ReservationEnded  ReservationDiffers  TooManyReservations
    │   ├── InsufficientCredits  NotYetExpired  ExceedsValue  ExceedsReceivable  ExceedsPayment  NothingOwed
    │   ├── ExceedsOverage  UnknownCohort  CohortsFixed  EstimateTooHigh  EstimateTooLow
    │   ├── CannotBeOpened
    │   ├── SamePerson  PersonRequired  ApprovalDecided  ApprovalRefused  EffectChanged
    │   ├── RejectionSettled  RejectionCut  RejectionsChanged
    │   ├── UnknownOriginal  NotReversible  AlreadyReversed  ChangedSince
    │   ├── ReversalExceedsOriginal  OverageSettled  Conceded
    │   ├── InTheFuture  PeriodNotOver  ClockBackwards  SandboxLedger
    │   ├── PeriodOutOfOrder  PeriodNotClosed  UnmappedRole  NotRepresentable  DeliveryInHand  ChannelFixed
    │   ├── CredentialNotGranted  KeyEnded
    │   ├── JournalNotReversible  NothingToCorrect
    │   └── KnownAtInFuture  SettingFixed  CitusMissing  DistributedOtherwise
    ├── Conflict                the name is already in use for something else
    │   └── EventConflict  LedgerExists  PolicyExists  DeliveredOtherwise  CheckpointConflict
    ├── NotFound
    │   ├── UnknownLedger  UnknownCustomer  UnknownPosition  UnknownCheckpoint  UnknownExport  UnknownFormat
    │   ├── UnknownApproval  UnknownPolicy  UnknownEntity  UnknownTarget  UnknownChannel
    │   └── UnknownConnector  UnknownDelivery  UnknownRejection  UnknownReport  UnknownKey
    ├── Unavailable             nothing was done; the same call may succeed later (retryable)
    │   ├── DatabaseUnavailable  EmbeddedServerFailed  NotAnswered  FileUnavailable
    │   └── LedgerBusy  LedgerLocked  Overloaded  Stopping  TooManyConnections  SchemaOutOfDate
    ├── IntegrityFault          an invariant does not hold: a defect or tampering, never bad input
    └── InternalError           a defect of the server, which its log describes

Each branch is a module of its name: ``refused`` has Refused and everything below it. SubledgerError is in ``root``, the
last two are in ``fault``. Everybody imports from the package: ``from subledger.errors import Refused``.

An error's ``code`` is stable: callers branch on it. ``field`` names the wrong member. ``expected`` and ``found`` state
its expected and its actual value. ``facts`` has the ids. ``api`` decides the HTTP status of an error, ``store`` the
SQLSTATEs that become errors.

If an event has several faults, the first one in this order is reported:
- JSON, envelope, type, fields in the order of the contract;
- references: a block, document or original that is unknown, of another customer or of the wrong sort; a new id that is
  taken;
- currency;
- amounts and dates that the books do not allow;
- credits: none remaining, frozen, too few;
- a missing exchange rate, because only the finished entries show if one is needed.

tests/laws/test_refusals_in_order.py has the class of each code. The facts ``missing`` and ``unknown`` name all missing
and all unknown fields.

``retryable`` is true if the same event or call may succeed later without a change: after another fact has arrived (the
purchase, the payment or the exchange rate that it refers to), or when the service answers again. It is false if every
repetition would be refused, or if a person must first set something up. tests/laws/test_retryable.py has the reason for
every error.
"""

# A star imports every error of a branch, so that a new error needs no further import. The order of the imports is that
# of the tree, because subledger/ERRORS.md lists the errors in the order in which their classes are made.
# isort: off
from subledger.errors.root import *
from subledger.errors.invalid_input import *
from subledger.errors.access_denied import *
from subledger.errors.refused import *
from subledger.errors.conflict import *
from subledger.errors.not_found import *
from subledger.errors.unavailable import *
from subledger.errors.fault import *
