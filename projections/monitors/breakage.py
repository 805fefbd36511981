"""Monitor: cohorts of breakage pools whose actual breakage differs from their estimates.

The estimate of a cohort is compared with two figures, each as a share of the issued amount:

- the actual breakage of its finished blocks whose expiry has passed. Blocks that finished before their expiry do not
  count: most of them were used up, so breakage would seem too low.
- the range of breakage that is possible for the whole cohort. At least the expired amount breaks, and at most the
  amount that is neither redeemed nor escheated.

A cohort that has ended is checked until its next estimate, which shows that a person has reviewed it.

Owns: this monitor. Does not own: the figures of cohorts (subledger/pools), the report of pools.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any, Final, NamedTuple

from projections.monitors.monitor import SHOWN, Monitor, MonitorContext
from subledger.blocks import NO_PORTION
from subledger.cohorts import WHOLE, cohort_of
from subledger.money import format_minor
from subledger.pools import Cohort, Pool
from subledger.store.tables import POOLED
from subledger.store.writing.rows import decode_block, decode_cohort, decode_pool

COHORTS: Final = """
-- The pools of the ledger and their cohorts.
SELECT kind, state FROM documents WHERE ledger = %(ledger)s AND kind IN ('pool', 'cohort') ORDER BY kind, document_id
"""
FINISHED: Final = f"""
-- The finished blocks of pools whose expiry passed last.
SELECT state FROM blocks WHERE ledger = %(ledger)s AND {POOLED.replace("%", "%%")} AND expires_at <= %(now)s
ORDER BY expires_at DESC LIMIT %(at_most)s
"""
_AT_MOST: Final = 10_000
"""Maximum number of blocks that are read, because monitors read only recent rows."""


class Finished(NamedTuple):
    """Finished blocks of a cohort whose expiry has passed: their value without cancellations, and the expired part of
    it, in minor units.
    """

    issued_minor: int = 0
    expired_minor: int = 0


def breakage_estimates(context: MonitorContext) -> Monitor:
    """Cohorts whose actual or possible breakage differs from the estimate by more than a share of the issued amount."""
    states = context.rows(COHORTS)
    pools = {pool.pool: pool for pool in (decode_pool(state) for kind, state in states if kind == "pool")}
    cohorts = [decode_cohort(state) for kind, state in states if kind == "cohort"]
    judged = [cohort for cohort in cohorts if is_judged(cohort)]
    of_blocks = _finished(context, pools) if judged else {}
    compared = [(cohort, of_blocks.get((cohort.pool, cohort.cohort), Finished())) for cohort in judged]
    found = [(difference_of(cohort, finished), cohort, finished) for cohort, finished in compared]
    found.sort(key=lambda each: (-each[0], each[1].pool, each[1].cohort))
    greatest = found[0][0] if found else Fraction(0)
    threshold = context.settings.breakage_difference_percent
    return context.counted(
        "breakage_estimates",
        "Do the cohorts of breakage pools break as estimated?",
        float(round(100 * greatest, 2)),
        "percent",
        allowed=threshold,
        evidence={"cohorts": [_shown(*each) for each in found[:SHOWN] if each[0]]},
        next="report pools",
    )


def _finished(context: MonitorContext, pools: Mapping[str, Pool]) -> dict[tuple[str, str], Finished]:
    """Returns the finished blocks whose expiry has passed, by pool and cohort."""
    found: dict[tuple[str, str], Finished] = {}
    for (state,) in context.rows(FINISHED, now=context.view.now, at_most=_AT_MOST):
        block = decode_block(state)
        pool = pools.get(block.pool or "")
        if pool is not None:
            key = (pool.pool, cohort_of(block.cohort or WHOLE, pool.grouping))
            expired = block.disposed.get("expired", NO_PORTION)[1]
            issued = block.drawn_minor + expired + block.disposed.get("escheated", NO_PORTION)[1]
            before = found.get(key, Finished())
            found[key] = Finished(before.issued_minor + issued, before.expired_minor + expired)
    return found


def is_judged(cohort: Cohort) -> bool:
    """Returns True for a cohort with an estimate. A cohort that has ended is judged only until its next estimate."""
    if cohort.estimate is None or cohort.issued_minor <= 0:
        return False
    return not (cohort.has_ended and cohort.was_estimated_last)


def difference_of(cohort: Cohort, finished: Finished) -> Fraction:
    """Returns the difference between expected breakage and actual or possible breakage, as a share of the issued
    amount.
    """
    expected, least, most = _range(cohort)
    of_finished = expected * finished.issued_minor / cohort.issued_minor
    return max(least - expected, expected - most, abs(finished.expired_minor - of_finished)) / cohort.issued_minor


def _range(cohort: Cohort) -> tuple[Fraction, int, int]:
    """Returns the expected breakage, the breakage so far, and the highest breakage that is possible."""
    most = cohort.expired_minor
    if cohort.credits:
        most = cohort.issued_minor - cohort.redeemed_minor - cohort.escheated_minor
    breakage, _, per = cohort.expected()
    return Fraction(breakage, per), cohort.expired_minor, most


def _shown(difference: Fraction, cohort: Cohort, finished: Finished) -> dict[str, Any]:
    _, least, most = _range(cohort)
    return {
        "pool": cohort.pool,
        "cohort": cohort.cohort or None,
        "currency": cohort.currency,
        "expected": format_minor(cohort.expected_breakage_minor, cohort.currency),
        "at_least": format_minor(least, cohort.currency),
        "at_most": format_minor(most, cohort.currency),
        "finished": format_minor(finished.issued_minor, cohort.currency),
        "finished_expired": format_minor(finished.expired_minor, cohort.currency),
        "difference_percent": float(round(100 * difference, 2)),
        "has_ended": cohort.has_ended,
    }
