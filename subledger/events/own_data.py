"""The data of the events that the ledger itself records. Only their own commands write them.

A decision may depend on a setting, a period or a policy; these events put them into the log. Owns: their data. Does not
own: the commands (projections/close, projections/configuring), the changes of the ledger (ledger).
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
    """Settings of the second person. Effects above the limits need one: credits given, and in the functional currency
    value given, money owed back, revenue recognised ahead of its time.

    With ``grants_within``, such as ``1d``, the limits hold for all events of one customer within that time.
    ``credit_prices`` are the prices of one credit by unit, by which gifts have a value.
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
        """The settings that differ from asking for nothing, as plain JSON."""
        return self.model_dump(mode="json", exclude_defaults=True)

    @property
    def limits_within_time(self) -> bool:
        """True if there is a limit that holds for a customer's events together."""
        limits = (self.grant_credits_above, self.grant_value_above, self.money_back_above, self.revenue_advanced_above)
        return self.grants_within is not None and any(limit is not None for limit in limits)

    def check(self) -> None:
        if self.grants_within is not None:
            duration(self.grants_within, field="approvals.grants_within")


FUTURE_TOLERANCE: Final = "1d"
"""Default tolerance: the time of an event from outside may be this long after now."""
RATE_MAX_AGE_DAYS: Final = 7
"""Default age in days that the exchange rate of a month's last day may have."""


class LedgerConfigured(EventData):
    """The ledger's entity and settings from here on. ``by`` is the person who changed them.

    ``future_tolerance``, ``rate_max_age_days``, ``sandbox``, ``accounting_rules`` and ``dimensions`` are absent where
    they are the default, so that older events keep their bytes. ``accounting_rules`` is the version of the rules that
    decisions are made by from here on (``ledger.ACCOUNTING_RULES``); recorded decisions stay as they are.
    ``dimensions`` are the names of the company's own dimensions; none of them is ever removed.
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
    """The now of a sandbox ledger from here on. It never goes back."""

    clock: Time
    by: Identifier | None = None


class PolicyAdopted(EventData):
    """The posting policy from here on, whole, with the hash of its content, and who adopted it."""

    policy: int
    name: Identifier
    version: int
    description: str | None = None
    content_hash: Identifier
    rules: dict[str, list[list[str]]]
    by: Identifier | None = None


class MappingAdopted(EventData):
    """The account mapping of journals made from here on, whole, with the hash of its content.

    ``valid_from``: of the journals of that month and later ones alone. ``by``: who adopted it.
    """

    mapping: int
    content_hash: Identifier
    rows: list[dict[str, str]]
    valid_from: Identifier | None = None
    by: Identifier | None = None


class BalancesRemeasured(EventData):
    """Money owed and owned in other currencies, at the rates of a period's end."""

    period: Identifier


class PeriodClosed(EventData):
    """A month is closed, and by whom: nothing is posted into it any more."""

    period: Identifier
    by: Identifier | None = None


class PeriodReopened(EventData):
    """A closed month, and every later one, is open again. ``by`` is the person who reopened it."""

    period: Identifier
    reason: Reason
    by: Identifier | None = None


class PeriodCut(EventData):
    """An open period was exported, and by whom: what is recorded from here on belongs to its next journal."""

    period: Identifier
    by: Identifier | None = None


class CreditsSwept(CreditsExpired):
    """An expiry that the ledger recorded itself; ``by`` is the person who ran the sweep, if one did."""

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
"""Types that others may send too: what they hold if the ledger itself records them."""
