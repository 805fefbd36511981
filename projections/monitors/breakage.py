"""Monitor: cohorts of breakage pools that break otherwise than their estimates expect.

Of a cohort, what has expired breaks at least, and what is neither redeemed nor escheated breaks at most. If the
expected breakage is below the one or above the other by more than a share of what was issued, the estimate is wrong
whatever happens to the credits that are left. Once a cohort has ended, both are what really broke. Blocks that are
finished say less while others are not: credits that are used up come before those that expire, so fewer would seem to
break.

A cohort that has ended counts until it is estimated anew: that says that somebody has looked.

Owns: this monitor. Does not own: the figures of cohorts (subledger/pools), the report of pools.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any, Final

from projections.monitors.monitor import SHOWN, Monitor, MonitorContext
from subledger.money import format_minor
from subledger.pools import Cohort
from subledger.store.writing.rows import decode_cohort

COHORTS: Final = """
-- The cohorts of the ledger's pools.
SELECT state FROM documents WHERE ledger = %(ledger)s AND kind = 'cohort' ORDER BY document_id
"""


def breakage_estimates(context: MonitorContext) -> Monitor:
    """Cohorts whose expected breakage differs from what can break of them by more than a share of what was issued."""
    states = context.rows(COHORTS)
    cohorts = [decode_cohort(state) for (state,) in states]
    found = [(difference_of(cohort), cohort) for cohort in cohorts if is_judged(cohort)]
    found.sort(key=lambda each: (-each[0], each[1].pool, each[1].cohort))
    greatest = found[0][0] if found else Fraction(0)
    threshold = context.settings.breakage_difference_percent
    return context.counted(
        "breakage_estimates",
        "Do the cohorts of breakage pools break as estimated?",
        float(round(100 * greatest, 2)),
        "percent",
        allowed=threshold,
        evidence={"cohorts": [_shown(cohort, difference) for difference, cohort in found[:SHOWN] if difference]},
        next="report pools",
    )


def is_judged(cohort: Cohort) -> bool:
    """Returns True for a cohort with an estimate; once it has ended, only until its next estimate."""
    if cohort.estimate is None or cohort.issued_minor <= 0:
        return False
    return not (cohort.has_ended and cohort.was_estimated_last)


def difference_of(cohort: Cohort) -> Fraction:
    """Returns how far the expected breakage is from what can break, as a share of what was issued."""
    expected, least, most = _range(cohort)
    return max(least - expected, expected - most, Fraction(0)) / cohort.issued_minor


def _range(cohort: Cohort) -> tuple[Fraction, int, int]:
    """Returns the expected breakage, what has broken, and the most that can break."""
    most = cohort.expired_minor
    if cohort.credits:
        most = cohort.issued_minor - cohort.redeemed_minor - cohort.escheated_minor
    breakage, _, per = cohort.expected()
    return Fraction(breakage, per), cohort.expired_minor, most


def _shown(cohort: Cohort, difference: Fraction) -> dict[str, Any]:
    _, least, most = _range(cohort)
    return {
        "pool": cohort.pool,
        "cohort": cohort.cohort or None,
        "currency": cohort.currency,
        "expected": format_minor(cohort.expected_breakage_minor, cohort.currency),
        "at_least": format_minor(least, cohort.currency),
        "at_most": format_minor(most, cohort.currency),
        "difference_percent": float(round(100 * difference, 2)),
        "has_ended": cohort.has_ended,
    }
