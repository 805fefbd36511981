"""Breakage estimates: the breakage of a pool's cohorts that becomes due with a decision.

Owns: the breakage entries that follow a decision's movements, the division of a pool into cohorts by its first
estimate, and the refusal of an estimate that does not fit. Does not own: the formula (pools), the days (breakage_days),
expiry (expiry). Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date

import msgspec

from subledger import errors
from subledger.breakage_days import BreakageChange, due_from
from subledger.cohorts import Grouping, grouping_of
from subledger.deciding.context import Context, Dates, same_currency
from subledger.errors import present
from subledger.events.data import BreakageEstimated
from subledger.events.envelope import Event
from subledger.events.opened import BalanceOpened
from subledger.money import format_minor
from subledger.pooling import (
    Pools,
    cohorts_without,
    estimate_of,
    estimated_cohorts,
    is_rate,
    misfit,
    with_breakage_due,
    with_estimate,
    with_grouping,
    without_estimate,
)
from subledger.pools import Cohort
from subledger.wallet import Decision, Movement


def with_due_breakage(draft: Decision, event: Event, context: Context, dates: Dates) -> Decision:
    """A decision with the breakage that its movements make due, cohort by cohort and day by day.

    Raises WrongCurrency, CohortsFixed, UnknownCohort, EstimateTooHigh, EstimateTooLow.
    """
    pools, functional_currency = context.books.pools, context.state.functional_currency
    data = event.data
    if isinstance(data, BalanceOpened) or draft.restored_cohort is not None:
        return draft  # neither an opening nor its undoing is revenue
    if isinstance(data, BreakageEstimated):
        grouping = _grouping(pools, data)
        before = with_grouping(pools, data.pool, data.currency, grouping)
        pools = _estimated(pools, before, data, grouping, dates.on())
        kept = cohorts_without(pools, data)
        due = {
            (data.pool, name): due_from(pools.cohort((data.pool, name)), dates.on())
            for name in estimated_cohorts(pools, data)
            if name not in kept
        }
        draft = msgspec.structs.replace(draft, grouping=grouping, kept_estimates=kept)
    else:
        if draft.restored_estimate is not None:
            pools = without_estimate(pools, draft.restored_estimate)
        pools, due = with_breakage_due(pools, draft.movements, functional_currency)
    estimates = [
        movement
        for key, changes in due.items()
        for movement in _entries(pools.cohort(key), changes, functional_currency)
    ]
    return msgspec.structs.replace(draft, movements=draft.movements + tuple(estimates))


def _entries(cohort: Cohort, changes: Sequence[BreakageChange], functional_currency: str) -> Iterator[Movement]:
    """The entries that bring the recognised breakage of a cohort to the due amount, day by day."""
    foreign = cohort.currency != functional_currency
    for day, amount, of_day in changes:
        functional = of_day if foreign else None
        # A changed average rate may give the functional amount the other sign. An entry has one direction, so two are
        # made.
        turned = functional is not None and amount * functional < 0
        for part, part_functional in ((amount, 0), (0, functional)) if turned else ((amount, functional),):
            if part or part_functional:
                yield Movement(
                    kind="breakage_estimate",
                    accounting_date=day,
                    amount_minor=part,
                    pool=cohort.pool,
                    cohort=cohort.cohort,
                    functional_minor=part_functional,
                    currency=cohort.currency if foreign else None,
                )


def _grouping(pools: Pools, data: BreakageEstimated) -> Grouping:
    """The grouping of a pool's blocks into cohorts. The first estimate sets it, and it never changes.

    An estimate without ``cohorts`` groups as the cohort that it names. If it names none either, a rate groups by
    months. An amount is for one cohort, so it makes the pool one cohort by itself. Raises CohortsFixed, UnknownCohort.
    """
    pool = pools.by_name.get(data.pool)
    fixed = None if pool is None else pool.grouping
    if fixed is not None and data.cohorts not in (None, fixed):
        raise errors.CohortsFixed(
            f"the cohorts of pool {data.pool} were set by its first estimate, or it is older than cohorts: {fixed}",
            field="data.cohorts",
            expected=f"{fixed}, or absent",
            found=data.cohorts,
        )
    grouping = fixed or data.cohorts
    if grouping is None and data.cohort is None:
        return "month" if is_rate(data) else "none"
    if data.cohort is None:
        return present(grouping, f"pool {data.pool} has no grouping")
    named = grouping_of(data.cohort)
    if grouping not in (None, named):
        raise errors.UnknownCohort(
            f"pool {data.pool} has no cohort {data.cohort}: its cohorts are by {grouping}"
            if grouping != "none"
            else f"pool {data.pool} is one cohort by itself",
            field="data.cohort",
            expected="absent" if grouping == "none" else f"the name of a {grouping}",
            found=data.cohort,
        )
    return named


def _estimated(pools: Pools, grouped: Pools, data: BreakageEstimated, grouping: Grouping, on: date) -> Pools:
    """The pools with a new estimate; ``grouped``: the pools before it, divided into cohorts.

    Raises UnknownCohort, WrongCurrency, EstimateTooHigh, EstimateTooLow.
    """
    names = estimated_cohorts(grouped, data)
    cohorts = {name: each for name, each in grouped.cohorts.get(data.pool, {}).items() if each.has_begun}
    if not is_rate(data) and len(names) > 1:
        raise errors.UnknownCohort(
            f"pool {data.pool} has {len(names)} cohorts, and an amount is of one",
            field="data.cohort",
            expected=f"one of {', '.join(names[:12])}",
            found="none",
        )
    same_currency(data.currency, grouped.by_name[data.pool].currency, f"pool {data.pool}")
    if data.cohort is not None and data.cohort not in cohorts:
        raise errors.UnknownCohort(
            f"nothing of pool {data.pool} is issued in {data.cohort}: an estimate of a cohort needs a block",
            field="data.cohort",
            expected=f"one of {', '.join(sorted(cohorts)[:12])}" if cohorts else "absent",
            found=data.cohort,
        )
    pools = with_estimate(pools, data, grouping, on)
    rates = [rate for rate in (data.expected_breakage_rate, data.expected_escheat_rate) if rate is not None]
    if sum(rates) >= 1 or not (is_rate(data) or names):
        raise _too_high(data)
    _check_fit([cohorts[name] for name in names if name in cohorts], pools, data)
    return pools


def _check_fit(cohorts: Sequence[Cohort], pools: Pools, data: BreakageEstimated) -> None:
    """Raises EstimateTooHigh or EstimateTooLow if the estimate fits no cohort that has credits.

    A rate for all cohorts may not fit a cohort of which more has expired. This cohort keeps its estimate, and the
    decision names it. Otherwise one old cohort would block a correction of all the others.
    """
    estimate = estimate_of(data, pools.by_name[data.pool].versions)
    if not cohorts and not is_rate(data):
        raise _too_high(data)
    first: tuple[Cohort, str] | None = None
    for cohort in cohorts:
        if is_rate(data) and not (cohort.credits and cohort.issued_minor):
            continue
        found = misfit(cohort, msgspec.structs.replace(estimate, issued_minor=cohort.issued_minor))
        if found is None:
            return
        first = first or (cohort, found)
    if first is not None:
        raise _too_high(data) if first[1] == "too_high" else _too_low(first[0], data)


def _too_low(cohort: Cohort, data: BreakageEstimated) -> errors.EstimateTooLow:
    expired = format_minor(cohort.expired_minor, cohort.currency)
    return errors.EstimateTooLow(
        f"more has expired of {cohort.name} than the expected breakage ({expired} {cohort.currency})",
        field=_field(data),
        expected=f"at least {expired} of breakage",
        found=str(data.expected_breakage or data.expected_breakage_rate),
    )


def _too_high(data: BreakageEstimated) -> errors.EstimateTooHigh:
    return errors.EstimateTooHigh(
        f"the expected breakage and escheat leave nothing of pool {data.pool} to be redeemed",
        field=_field(data),
        expected="together less than what is issued",
        found=str(data.expected_breakage or data.expected_breakage_rate),
    )


def _field(data: BreakageEstimated) -> str:
    return "data.expected_breakage" if data.expected_breakage is not None else "data.expected_breakage_rate"
