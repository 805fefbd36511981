"""The data of the events that the ledger itself records. Only their own commands write them.

A decision may depend on a setting, a period or a policy, so these events record them in the log. Owns: their data. Does
not own: the commands (projections/close, projections/configuring), the changes of the ledger (ledger).
"""

from __future__ import annotations

from typing import Any, Final, Literal

from pydantic import Field

from subledger.events.data import CreditsExpired
from subledger.events.fields import (
    MAX_DIMENSIONS,
    Amount,
    Credits,
    Currency,
    EventData,
    Identifier,
    Name,
    Reason,
    Shortfall,
    Time,
    UnitPrice,
)
from subledger.periods import duration


class Approvals(EventData):
    """Approval settings. Effects above the limits need a second person: credits given; in the functional currency value
    given, money owed back and revenue recognised before its time.

    With ``grants_within``, such as ``1d``, the limits apply to the sum of one customer's events within that time.
    ``credit_prices`` are the prices of one credit by unit. They give gifts a value.
    """

    breakage_estimates: bool = False
    write_offs: bool = False
    voids: bool = False
    reopening: bool = False
    expiry_changes: bool = False
    grant_credits_above: Credits | None = None
    grant_value_above: Amount | None = None
    money_back_above: Amount | None = None
    revenue_advanced_above: Amount | None = None
    grants_within: str | None = None
    credit_prices: dict[Name, UnitPrice] = Field(default={}, max_length=100)

    @property
    def document(self) -> dict[str, Any]:
        """The settings that differ from the default, which requires nothing, as plain JSON."""
        return self.model_dump(mode="json", exclude_defaults=True)

    @property
    def limits_within_time(self) -> bool:
        """True if there is a limit for the sum of a customer's events."""
        limits = (self.grant_credits_above, self.grant_value_above, self.money_back_above, self.revenue_advanced_above)
        return self.grants_within is not None and any(limit is not None for limit in limits)

    def check(self) -> None:
        if self.grants_within is not None:
            duration(self.grants_within, field="approvals.grants_within")


FUTURE_TOLERANCE: Final = "1d"
"""Default tolerance: the time of an event from outside may be at most this long after now."""
RATE_MAX_AGE_DAYS: Final = 7
"""Default maximum age, in days, of the exchange rate of a month's last day."""


class LedgerConfigured(EventData):
    """The ledger's entity and settings from now on. ``by`` is the person who changed them.

    ``future_tolerance``, ``rate_max_age_days``, ``sandbox``, ``accounting_rules`` and ``dimensions`` are absent if they
    are the default, so that older events keep their bytes. ``accounting_rules`` is the version of the rules for
    decisions from now on (``ledger.ACCOUNTING_RULES``). Recorded decisions do not change. ``dimensions`` are the names
    of the company's own dimensions. They are never removed.
    """

    entity: Identifier
    functional_currency: Currency
    timezone: Identifier
    on_shortfall: Shortfall
    late_usage: Literal["reclassify", "new"]
    approvals: Approvals = Approvals()
    future_tolerance: str = FUTURE_TOLERANCE
    rate_max_age_days: int = RATE_MAX_AGE_DAYS
    sandbox: bool = False
    accounting_rules: int = 1
    dimensions: list[Identifier] = Field(default=[], max_length=MAX_DIMENSIONS)
    by: Identifier | None = None

    def check(self) -> None:
        duration(self.future_tolerance, field="data.future_tolerance")


class ClockSet(EventData):
    """The now of a sandbox ledger from this event on. It never goes back."""

    clock: Time
    by: Identifier | None = None


class PolicyAdopted(EventData):
    """The whole posting policy from now on, with the hash of its content, and the person who adopted it."""

    policy: int
    name: Identifier
    version: int
    description: str | None = None
    content_hash: Identifier
    rules: dict[str, list[list[str]]]
    by: Identifier | None = None


class MappingAdopted(EventData):
    """The whole account mapping of journals from now on, with the hash of its content.

    ``valid_from``: the first month to whose journals it applies. ``by``: the person who adopted it.
    """

    mapping: int
    content_hash: Identifier
    rows: list[dict[str, str]]
    valid_from: Identifier | None = None
    by: Identifier | None = None


class BalancesRemeasured(EventData):
    """The remeasurement of money owed and owned in other currencies at the rates of a period's end."""

    period: Identifier


class PeriodClosed(EventData):
    """A month is closed: nothing is posted into it any more. ``by`` is the person who closed it."""

    period: Identifier
    by: Identifier | None = None


class PeriodReopened(EventData):
    """A closed month, and every later one, is open again. ``by`` is the person who reopened it."""

    period: Identifier
    reason: Reason
    by: Identifier | None = None


class PeriodCut(EventData):
    """An open period was exported: later entries belong to its next journal. ``by`` is the person who exported it."""

    period: Identifier
    by: Identifier | None = None


class CreditsSwept(CreditsExpired):
    """An expiry that the ledger recorded itself; ``by`` is the person who ran the sweep, if any."""

    by: Identifier | None = None


RESERVED_TYPES: Final[dict[str, type[EventData]]] = {
    "ledger.configured": LedgerConfigured,
    "clock.set": ClockSet,
    "policy.adopted": PolicyAdopted,
    "mapping.adopted": MappingAdopted,
    "balances.remeasured": BalancesRemeasured,
    "period.closed": PeriodClosed,
    "period.reopened": PeriodReopened,
    "period.cut": PeriodCut,
}
OWN_FORMS: Final[dict[str, type[EventData]]] = {"credits.expired": CreditsSwept}
"""Types that others may send too, with the data that they have if the ledger itself records them."""
