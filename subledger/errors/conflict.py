"""The name is already in use for something else."""

from __future__ import annotations

from subledger.errors.root import SubledgerError


class Conflict(SubledgerError):
    """The name is already in use for something else."""

    code = "conflict"


class EventConflict(Conflict):
    """An event with this source and id was recorded with other content."""

    code = "event_conflict"


class CheckpointConflict(Conflict):
    """A different log of this ledger was signed before, so this one is not signed."""

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
