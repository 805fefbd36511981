"""There is no such thing: an id or a name that is unknown."""

from __future__ import annotations

from subledger.errors.root import SubledgerError


class NotFound(SubledgerError):
    """There is nothing with this id or name."""

    code = "not_found"


class UnknownLedger(NotFound):
    """There is no ledger with this id."""

    code = "unknown_ledger"


class UnknownCustomer(NotFound):
    """The ledger has no event of this customer."""

    code = "unknown_customer"
    retryable = True


class UnknownCheckpoint(NotFound):
    """The ledger has no checkpoint of this size."""

    code = "unknown_checkpoint"


class UnknownPosition(NotFound):
    """The ledger has no event at this position."""

    code = "unknown_position"
    retryable = True


class UnknownExport(NotFound):
    """The ledger has no such journal export, or the export no such line."""

    code = "unknown_export"


class UnknownApproval(NotFound):
    """No request with this id waits, or has waited, for a second person."""

    code = "unknown_approval"


class UnknownRejection(NotFound):
    """No rejected event has this id."""

    code = "unknown_rejection"


class UnknownEntity(NotFound):
    """No ledger belongs to this entity."""

    code = "unknown_entity"


class UnknownPolicy(NotFound):
    """The ledger has adopted no posting policy under this number."""

    code = "unknown_policy"


class UnknownTarget(NotFound):
    """There is no general ledger of this name that has a format."""

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
