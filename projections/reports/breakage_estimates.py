"""Recorded breakage estimates, and the names of the pools' cohorts in a view.

Owns: the queries for both. Does not own: the formula (``breakage_formula``), the decision about an estimate (deciding).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta
from decimal import Decimal
from typing import Any, Final

import msgspec
from msgspec.structs import replace
from sqlalchemy import text

from subledger.accounting_dates import accounting_date, effective_date
from subledger.cohorts import WHOLE, Grouping, cohort_of
from subledger.events.data import BreakageEstimated
from subledger.money import to_minor
from subledger.periods import Period
from subledger.store.reading.views import View
from subledger.store.writing.rows import decode_decision

LOGGED: Final = """
-- Estimates, undone events, and the closing and reopening of periods, in order.
SELECT position, type, occurred_at, data, decision FROM events
WHERE ledger = :ledger AND position <= :position
  AND type IN ('breakage.estimated', 'event.reversed', 'period.closed', 'period.reopened')
ORDER BY position
"""
ISSUES: Final = """
-- The pools, with the months of issue and the cohorts that their entries name.
SELECT DISTINCT pool, cohort FROM dimension_sets WHERE ledger = :ledger AND pool <> '' ORDER BY pool, cohort
"""
NEW_RULES: Final = """
-- The position from which events are decided cohort by cohort. 0 means from the first event.
SELECT coalesce(min(position), 0) FROM events
WHERE ledger = :ledger AND type = 'ledger.configured' AND (data::jsonb ->> 'accounting_rules')::int >= 2
"""
WITHOUT_COHORTS: Final = """
-- The pools with entries that were recorded before cohorts existed. The dates of the entries do not matter.
SELECT DISTINCT d.pool FROM dimension_sets d
WHERE d.ledger = :ledger AND d.pool <> '' AND d.cohort = '' AND EXISTS (
    SELECT 1 FROM entries n
    WHERE n.ledger = :ledger AND n.dimension_set = d.dimension_set AND n.position <= :position
      AND n.position < :new_rules
)
"""
CohortKey = tuple[str, str]
"""The name of a pool, and the name of one of its cohorts. The cohort is empty if the whole pool is one cohort."""
SEPARATOR: Final = "\x1f"
"""The text between the pool and the month of issue in the key of totals by cohort (``report_inputs.KEYS``)."""


class EstimateVersion(msgspec.Struct, frozen=True, kw_only=True):
    """A recorded version of a pool's estimate.

    - ``cohort``: the cohort that the estimate names, or None.
    - ``grouping``: the grouping of the pool. None if the estimate was recorded before cohorts existed.
    - ``maker`` and ``checker``: the requester and the approver, if a second person approved the estimate.
    - ``kept``: the cohorts that this estimate does not fit. These cohorts keep their earlier estimate.
    - ``undone``: True if the estimate was undone. Then only its grouping applies.
    """

    pool: str
    cohort: str | None
    grouping: Grouping | None
    currency: str
    version: int
    position: int
    booked_on: date
    breakage_minor: int | None
    breakage_rate: Decimal | None
    escheat_minor: int | None
    escheat_rate: Decimal | None
    evidence: str
    maker: str | None
    checker: str | None
    kept: tuple[str, ...] = ()
    undone: bool = False

    @property
    def is_for_the_only_one(self) -> bool:
        """True for an amount without a cohort, if its grouping is not ``none``: the pool had only one cohort then."""
        return self.cohort is None and self.breakage_rate is None and self.grouping != "none"


def recorded_estimates(end: View) -> list[EstimateVersion]:
    """Returns every version of every pool's estimate, in order of recording.

    ``booked_on`` is the day of the estimate, or the first open day if the period of that day was closed.
    """
    found: list[EstimateVersion] = []
    versions: dict[str, int] = {}
    closed_through: date | None = None
    for row in end.connection.execute(text(LOGGED), {"ledger": end.ledger, "position": end.position}):
        if row.type == "event.reversed":
            undone = decode_decision(row.decision).restored_estimate
            if undone is not None:
                found = [
                    replace(each, undone=True) if (each.pool, each.version) == (undone.pool, undone.version) else each
                    for each in found
                ]
            continue
        if row.type != "breakage.estimated":
            period = Period.parse(msgspec.json.decode(row.data)["period"])
            closed = row.type == "period.closed"
            closed_through = period.last_day if closed else period.first_day - timedelta(days=1)
            continue
        data = BreakageEstimated.model_validate_json(row.data)
        decision = decode_decision(row.decision)
        approval = decision.approval
        versions[data.pool] = versions.get(data.pool, 0) + 1
        found.append(
            EstimateVersion(
                pool=data.pool,
                cohort=data.cohort,
                grouping=decision.grouping,
                currency=data.currency,
                version=versions[data.pool],
                position=row.position,
                booked_on=accounting_date(effective_date(row.occurred_at, end.zone), closed_through),
                breakage_minor=_minor(data.expected_breakage, data.currency),
                breakage_rate=data.expected_breakage_rate,
                escheat_minor=_minor(data.expected_escheat, data.currency),
                escheat_rate=data.expected_escheat_rate,
                evidence=data.evidence,
                maker=None if approval is None else approval.maker,
                checker=None if approval is None else approval.checker,
                kept=decision.kept_estimates,
            )
        )
    return found


def _minor(amount: Decimal | None, currency: str) -> int | None:
    return None if amount is None else to_minor(amount, currency, field="amount")


def position_of_new_rules(end: View) -> int:
    """Returns the position from which events are decided cohort by cohort. For earlier events, reports use the posted
    breakage.
    """
    return int(end.connection.execute(text(NEW_RULES), {"ledger": end.ledger}).scalar_one())


class CohortNames:
    """The names of the cohorts of every pool in a view.

    The first estimate of a pool in the view decides the grouping of the months of issue to cohorts. A pool with entries
    from before cohorts existed, and without an estimate, has one cohort. So a later estimate that groups the months
    does not change the answer of an earlier view. ``new_rules`` is the position from which events are decided cohort by
    cohort.
    """

    def __init__(self, view: View, estimates: Sequence[EstimateVersion]) -> None:
        self._grouping: dict[str, Grouping] = {}
        for estimate in estimates:
            self._grouping.setdefault(estimate.pool, estimate.grouping or "none")
        self.new_rules = position_of_new_rules(view)
        parameters = {"ledger": view.ledger, "position": view.position, "new_rules": self.new_rules}
        for row in view.connection.execute(text(WITHOUT_COHORTS), parameters) if self.new_rules else ():
            self._grouping.setdefault(row.pool, "none")
        issues = view.connection.execute(text(ISSUES), {"ledger": view.ledger})
        self._issues: list[tuple[str, str]] = [(row.pool, row.cohort) for row in issues]

    def key(self, pool: str, issued: str) -> CohortKey:
        """Returns the key of a cohort. ``issued`` is the text in the entry: a month of issue, or a cohort's name."""
        return pool, cohort_of(issued, self._grouping.get(pool))

    def of_estimate(self, estimate: EstimateVersion) -> list[str]:
        """Returns the names of the cohorts to which an estimate may apply."""
        if estimate.cohort is not None:
            return [estimate.cohort]
        if self._grouping[estimate.pool] == "none":
            return [WHOLE]
        return sorted({self.key(pool, issued)[1] for pool, issued in self._issues if pool == estimate.pool})

    @property
    def parameters(self) -> dict[str, Any]:
        """The cohorts as parameters of a query: pool, month of issue, cohort."""
        return {
            "of_pools": [pool for pool, _ in self._issues],
            "issued_in": [issued for _, issued in self._issues],
            "cohorts": [self.key(pool, issued)[1] for pool, issued in self._issues],
        }
