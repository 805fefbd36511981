"""The breakage pools of a ledger, and how decisions change them.

Owns: ``Pools``, the cohort of a movement, the moment at which a cohort's line gets a new anchor. Does not own: the
arithmetic of a cohort (pools), the days of its breakage (breakage_days), the names of cohorts (cohorts), the entries of
a decision (deciding/estimates). Pure: replaying a log gives the same pools.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from decimal import Decimal
from typing import Literal

import msgspec
from msgspec.structs import replace

from subledger import breakage_days
from subledger.breakage_days import (
    BreakageChange,
    after_estimate,
    after_movements_of,
    as_posted,
    due_from,
    remembered,
    together,
)
from subledger.breakage_line import Estimate
from subledger.cohort_days import Day
from subledger.cohorts import WHOLE, Grouping, cohort_of
from subledger.errors import present
from subledger.events.data import BreakageEstimated
from subledger.events.opened import BalanceOpened
from subledger.kinds import KIND_BY_NAME
from subledger.money import round_half_up, to_minor
from subledger.pools import Cohort, Pool
from subledger.restored import RestoredEstimate
from subledger.wallet import Movement

CohortKey = tuple[str, str]
"""Names of a pool and of its cohort."""


class Pools(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The pools of a ledger by name; the cohorts of each pool, by name."""

    by_name: Mapping[str, Pool] = {}
    cohorts: Mapping[str, Mapping[str, Cohort]] = {}

    def all_cohorts(self) -> Iterator[Cohort]:
        """Every cohort, by pool and name."""
        for _, cohorts in sorted(self.cohorts.items()):
            for _, cohort in sorted(cohorts.items()):
                yield cohort

    def cohort(self, key: CohortKey) -> Cohort:
        """A cohort that exists."""
        pool, name = key
        return present(self.cohorts.get(pool, {}).get(name), f"pool {pool} has no cohort {name or 'of its own'}")

    def key_of(self, movement: Movement) -> CohortKey:
        """The pool and the cohort that a pooled movement is on."""
        pool = present(movement.pool, f"{movement.kind} is a movement of no pool")
        known = self.by_name.get(pool)
        return pool, cohort_of(movement.cohort or WHOLE, None if known is None else known.grouping)

    def with_cohort(self, cohort: Cohort) -> Pools:
        """The pools with one cohort replaced or added."""
        cohorts = {**self.cohorts.get(cohort.pool, {}), cohort.cohort: cohort}
        return replace(self, cohorts={**self.cohorts, cohort.pool: cohorts})


# --- estimates --------------------------------------------------------------------------------------------------------


def with_estimate(pools: Pools, data: BreakageEstimated, grouping: Grouping | None, on: date) -> Pools:
    """The pools with the estimate of an event for every cohort that it concerns, from an accounting day on.

    ``grouping`` is None for an event that was recorded before there were cohorts. Its pool is one cohort by itself, and
    its line starts from the breakage that the event posted.
    """
    pools = with_grouping(pools, data.pool, data.currency, grouping or "none")
    pool = pools.by_name[data.pool]
    pool = replace(pool, versions=pool.versions + 1)
    estimate = estimate_of(data, pool.versions)
    if data.cohort is None and is_rate(data):
        pool = pool.with_estimate(on, estimate)
    cohorts = dict(pools.cohorts.get(data.pool, {}))
    for name in estimated_cohorts(pools, data):
        cohort = cohorts.get(name) or Cohort(pool=pool.pool, cohort=name, currency=pool.currency)
        own = replace(estimate, issued_minor=cohort.issued_minor)
        if grouping is None:
            cohorts[name] = as_posted(replace(cohort, estimate=own))
        elif not (is_rate(data) and data.cohort is None and misfit(cohort, own)):
            cohorts[name] = after_estimate(cohort, own, on)
    return replace(pools, by_name={**pools.by_name, pool.pool: pool}, cohorts={**pools.cohorts, pool.pool: cohorts})


def without_estimate(pools: Pools, undone: RestoredEstimate) -> Pools:
    """The pools after an estimate was undone: with the estimates that it had replaced. The grouping stays."""
    pool = pools.by_name[undone.pool].without_estimate(undone.version)
    cohorts = {
        name: breakage_days.without_estimate(cohort, undone.version)
        for name, cohort in pools.cohorts.get(undone.pool, {}).items()
    }
    return replace(pools, by_name={**pools.by_name, pool.pool: pool}, cohorts={**pools.cohorts, pool.pool: cohorts})


def is_rate(data: BreakageEstimated) -> bool:
    """True if an estimate states only a rate. An amount, of breakage or of escheat, is for one cohort."""
    return data.expected_breakage_rate is not None and data.expected_escheat is None


def misfit(cohort: Cohort, estimate: Estimate) -> Literal["too_high", "too_low"] | None:
    """The way in which an estimate does not fit a cohort that has credits; None if it fits.

    A rate always fits a cohort without credits, because it concerns only later issues. Until then the cohort's breakage
    is the expired amount.
    """
    if estimate.breakage_minor is None and estimate.escheat_minor is None and not cohort.credits:
        return None
    return replace(cohort, estimate=estimate).misfit()


def cohorts_without(pools: Pools, data: BreakageEstimated) -> tuple[str, ...]:
    """The names of the cohorts that the latest estimate does not fit. They keep their older estimate, if any."""
    latest = pools.by_name[data.pool].versions
    cohorts = (pools.cohort((data.pool, name)) for name in estimated_cohorts(pools, data))
    return tuple(each.cohort for each in cohorts if not _has_version(each, latest))


def _has_version(cohort: Cohort, version: int) -> bool:
    estimates = (cohort.start_estimate, *(day.estimate for day in cohort.days))
    return any(estimate is not None and estimate.version == version for estimate in estimates)


def estimated_cohorts(pools: Pools, data: BreakageEstimated) -> tuple[str, ...]:
    """The names of the cohorts that an estimate concerns, in order: the one that it names, or all cohorts of the pool.

    A rate includes cohorts without credits, because they may begin again: by new blocks of the month, or by a
    reinstatement. An amount concerns only cohorts that have begun. A pool that is one cohort by itself has this cohort
    even before its first block.
    """
    if data.cohort is not None:
        return (data.cohort,)
    grouping = pools.by_name[data.pool].grouping
    if grouping == "none":
        return (WHOLE,)
    cohorts = pools.cohorts.get(data.pool, {})
    names = (name for name in sorted(cohorts) if cohort_of(name, grouping) == name)
    return tuple(name for name in names if is_rate(data) or cohorts[name].has_begun)


def with_grouping(pools: Pools, name: str, currency: str, grouping: Grouping) -> Pools:
    """The pools after the months of issue of one pool are grouped, if they were not yet.

    Until then nothing was estimated, so the figures of months can be added up. A month whose figures moved to another
    cohort stays without figures, because rows of the books are never deleted.
    """
    pool = pools.by_name.get(name) or Pool(pool=name, currency=currency)
    if pool.grouping is not None:
        return pools
    grouped: dict[str, Cohort] = {}
    for month, cohort in sorted(pools.cohorts.get(name, {}).items()):
        whole = cohort_of(month, grouping)
        if whole == month:
            grouped[month] = cohort
            continue
        grouped[month] = Cohort(pool=name, cohort=month, currency=pool.currency)
        into = grouped.get(whole) or Cohort(pool=name, cohort=whole, currency=pool.currency)
        grouped[whole] = together(into, cohort)
    return replace(
        pools,
        by_name={**pools.by_name, name: replace(pool, grouping=grouping)},
        cohorts={**pools.cohorts, name: grouped},
    )


def estimate_of(data: BreakageEstimated, version: int) -> Estimate:
    """The estimate of an event, before the issued amount of a cohort is set."""

    def minor(amount: Decimal | None, field: str) -> int | None:
        return None if amount is None else to_minor(amount, data.currency, field=f"data.{field}")

    return Estimate(
        version=version,
        breakage_minor=minor(data.expected_breakage, "expected_breakage"),
        breakage_rate=data.expected_breakage_rate,
        escheat_minor=minor(data.expected_escheat, "expected_escheat"),
        escheat_rate=data.expected_escheat_rate,
    )


# --- movements --------------------------------------------------------------------------------------------------------


def after_movements(
    pools: Pools, movements: Sequence[Movement], functional_currency: str, closed_through: date | None
) -> Pools:
    """The pools after the movements of one decision. Days of closed months need not be stored separately any more."""
    for of_cohort in _by_cohort(pools, movements).values():
        pools = _with_pool_of(pools, of_cohort[0], functional_currency)
        cohort, _ = after_movements_of(pools.cohort(pools.key_of(of_cohort[0])), of_cohort)
        pools = pools.with_cohort(remembered(cohort, closed_through))
    return pools


def cohort_found(pools: Pools, movement: Movement, functional_currency: str) -> Cohort:
    """The cohort of a movement, before the movement; a new cohort if there is none yet."""
    pools = _with_pool_of(pools, movement, functional_currency)
    return pools.cohort(pools.key_of(movement))


def is_of_a_cohort(movement: Movement) -> bool:
    """True for the opening of a pooled block, or of a cohort's breakage; False for the other balances of a block."""
    kind = KIND_BY_NAME[movement.kind]
    return movement.pool is not None and (kind.opens_block or kind.opens_ahead) and kind.opens_balance


def after_opening(pools: Pools, data: BalanceOpened, movements: Sequence[Movement], functional_currency: str) -> Pools:
    """The pools after the opening of a block or of a cohort's breakage. No breakage becomes due."""
    for movement in filter(is_of_a_cohort, movements):
        pools = _with_pool_of(pools, movement, functional_currency)
        cohort = pools.cohort(pools.key_of(movement))
        pools = pools.with_cohort(cohort.opened(_opened_figures(cohort, data, movement)))
    return pools


def before_opening(pools: Pools, data: BalanceOpened, opening: Movement, found: Cohort | None) -> Cohort:
    """The cohort without one of its openings; ``found`` is the cohort before that opening.

    ``opening`` is the movement of the event that is undone. If nothing else was opened in the cohort later, the result
    is ``found``.
    """
    cohort = pools.cohort(pools.key_of(opening))
    cohort = cohort.opened(_opened_figures(found or cohort, data, opening), -1)
    if found is not None and found.cohort == cohort.cohort and cohort.has_sums_of(found):
        return found
    return cohort


def _opened_figures(found: Cohort, data: BalanceOpened, opening: Movement) -> Day:
    """The figures of an opened block, or of a cohort's opened breakage. They belong to no day."""
    amount, functional = opening.amount_minor, opening.functional_minor
    functional = amount if functional is None else functional
    if KIND_BY_NAME[opening.kind].opens_ahead:
        return figures_before(found, data, opening.accounting_date, amount, functional)
    return Day(opening.accounting_date, amount, functional, credits=opening.credits)


def figures_before(cohort: Cohort, data: BalanceOpened, on: date, balance: int, functional: int) -> Day:
    """The figures of a cohort before a cut-over, besides the value of its open blocks.

    The redeemed, expired and escheated amounts count as issued, at the rate of the open blocks.
    """

    def at_its_rate(amount: int) -> int:
        issued = cohort.issued_minor
        return round_half_up(amount * cohort.issued_functional, issued) if issued else amount

    redeemed, expired, escheated = (data.minor(name) for name in ("redeemed", "expired", "escheated"))
    return Day(
        on,
        issued_minor=redeemed + expired + escheated,
        issued_functional=at_its_rate(redeemed + expired + escheated),
        redeemed_minor=redeemed,
        expired_minor=expired,
        expired_functional=at_its_rate(expired),
        escheated_minor=escheated,
        recognised_minor=balance + expired,
        recognised_functional=functional + at_its_rate(expired),
    )


def with_breakage_due(
    pools: Pools, movements: Sequence[Movement], functional_currency: str
) -> tuple[Pools, dict[CohortKey, tuple[BreakageChange, ...]]]:
    """The pools after the movements of one decision, and the breakage that they make due, by cohort and day."""
    due: dict[CohortKey, tuple[BreakageChange, ...]] = {}
    for of_cohort in _by_cohort(pools, movements).values():
        pools = _with_pool_of(pools, of_cohort[0], functional_currency)
        key = pools.key_of(of_cohort[0])
        cohort, first = after_movements_of(pools.cohort(key), of_cohort)
        due[key] = () if first is None else due_from(cohort, first)
        pools = pools.with_cohort(cohort)
    return pools, due


def _by_cohort(pools: Pools, movements: Sequence[Movement]) -> dict[CohortKey, list[Movement]]:
    of_cohorts: dict[CohortKey, list[Movement]] = {}
    for movement in movements:
        if movement.pool is not None:
            of_cohorts.setdefault(pools.key_of(movement), []).append(movement)
    return of_cohorts


def _with_pool_of(pools: Pools, movement: Movement, functional_currency: str) -> Pools:
    """The pools with the pool and the cohort that a movement is on."""
    name = present(movement.pool, f"{movement.kind} is a movement of no pool")
    currency = movement.currency or functional_currency
    if movement.cohort is None:
        # The movement is older than cohorts, so its pool stays one cohort by itself.
        pools = with_grouping(pools, name, currency, "none")
    elif name not in pools.by_name:
        pools = replace(pools, by_name={**pools.by_name, name: Pool(pool=name, currency=currency)})
    pool, cohort = pools.key_of(movement)
    if cohort in pools.cohorts.get(pool, {}):
        return pools
    of_pool = pools.by_name[pool]
    begun = Cohort(pool=pool, cohort=cohort, currency=of_pool.currency)
    for on, estimate in of_pool.estimates:
        begun = after_estimate(begun, estimate, on)
    return pools.with_cohort(begun)
