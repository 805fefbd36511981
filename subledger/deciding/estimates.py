"""Breakage estimates: what a decision makes due of the expected breakage of its pools' cohorts.

Owns: the estimates that follow a decision's movements, how a pool's first estimate divides it into cohorts, and the
refusal of an estimate that does not fit. Does not own: the formula (pools), what expires (expiry). Pure.
"""

from __future__ import annotations

from datetime import date

import msgspec

from subledger import errors
from subledger.cohorts import Grouping, grouping_of
from subledger.deciding.context import Context, Dates, same_currency
from subledger.errors import present
from subledger.events.data import BreakageEstimated
from subledger.events.envelope import Event
from subledger.money import format_minor
from subledger.pooling import CohortKey, Pools, after_movements, estimated_cohorts, with_estimate, with_grouping
from subledger.pools import Cohort
from subledger.wallet import Decision, Movement


def with_due_breakage(draft: Decision, event: Event, context: Context, dates: Dates) -> Decision:
    """A decision with the breakage that its movements make due, cohort by cohort.

    Raises WrongCurrency, CohortsFixed, UnknownCohort, EstimateTooHigh, EstimateTooLow.
    """
    pools, functional_currency = context.books.pools, context.state.functional_currency
    touched: dict[CohortKey, date] = {}
    data = event.data
    if isinstance(data, BreakageEstimated):
        grouping = _grouping(pools, data)
        pools = _estimated(pools, data, grouping)
        touched = {(data.pool, name): dates.on() for name in estimated_cohorts(pools, data)}
        draft = msgspec.structs.replace(draft, grouping=grouping)
    pools = after_movements(pools, draft.movements, functional_currency)
    for movement in draft.movements:
        if movement.pool is not None:
            key = pools.key_of(movement)
            touched[key] = max(touched.get(key, movement.accounting_date), movement.accounting_date)
    estimates = [
        movement for key, on in touched.items() for movement in _due(pools.cohort(key), on, functional_currency)
    ]
    return msgspec.structs.replace(draft, movements=draft.movements + tuple(estimates))


def _due(cohort: Cohort, on: date, functional_currency: str) -> list[Movement]:
    """The entries that take the recognised breakage of a cohort to what is due."""
    amount = cohort.due_minor() - cohort.recognised_minor
    foreign = cohort.currency != functional_currency
    functional = cohort.due_functional() - cohort.recognised_functional if foreign else None
    # An average rate that moves may turn the functional side: an entry has one direction, so it takes two.
    turned = functional is not None and amount * functional < 0
    return [
        Movement(
            kind="breakage_estimate",
            accounting_date=on,
            amount_minor=part,
            pool=cohort.pool,
            cohort=cohort.cohort,
            functional_minor=part_functional,
            currency=cohort.currency if foreign else None,
        )
        for part, part_functional in (((amount, 0), (0, functional)) if turned else ((amount, functional),))
        if part or part_functional
    ]


def _grouping(pools: Pools, data: BreakageEstimated) -> Grouping:
    """The grouping of a pool's blocks into cohorts: set by its first estimate, for good.

    If it names no grouping, it is the one of the cohort that it names; else a rate is of months, and an amount, which
    is of one cohort, of the pool as a whole. Raises CohortsFixed, UnknownCohort.
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
        return "none" if data.expected_breakage_rate is None else "month"
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


def _estimated(pools: Pools, data: BreakageEstimated, grouping: Grouping) -> Pools:
    """The pools with a new estimate. Raises UnknownCohort, WrongCurrency, EstimateTooHigh, EstimateTooLow."""
    grouped = with_grouping(pools, data.pool, data.currency, grouping)
    names = estimated_cohorts(grouped, data)
    by_rate = data.expected_breakage_rate is not None
    if not by_rate and len(names) > 1:
        raise errors.UnknownCohort(
            f"pool {data.pool} has {len(names)} cohorts, and an amount is of one",
            field="data.cohort",
            expected=f"one of {', '.join(names[:12])}",
            found="none",
        )
    same_currency(data.currency, grouped.by_name[data.pool].currency, f"pool {data.pool}")
    pools = with_estimate(pools, data, grouping)
    cohorts = [pools.cohort((data.pool, name)) for name in names]
    rates = [rate for rate in (data.expected_breakage_rate, data.expected_escheat_rate) if rate is not None]
    if sum(rates) >= 1 or not (by_rate or cohorts):
        raise _too_high(data)
    refusals = [_refusal(cohort, data) for cohort in cohorts if cohort.issued_minor or not by_rate]
    first = next((refusal for refusal in refusals if refusal is not None), None)
    # A rate of all cohorts may not fit some of them: more of one has expired. There no more is recognised; only a rate
    # that fits none is refused, as otherwise one old cohort would keep the estimate of all others from being mended.
    if first is not None and None not in refusals:
        raise first
    return pools


def _refusal(cohort: Cohort, data: BreakageEstimated) -> errors.Refused | None:
    """The refusal of a cohort's estimate, if it does not fit what has been issued, has escheated and has expired."""
    breakage, escheat, per = cohort.expected()
    if breakage + escheat >= cohort.issued_minor * per:
        return _too_high(data)
    if breakage < cohort.expired_minor * per:
        return errors.EstimateTooLow(
            f"more has expired of {cohort.name} than the expected breakage"
            f" ({format_minor(cohort.expired_minor, cohort.currency)} {cohort.currency})",
            field=_field(data),
            expected=f"at least {format_minor(cohort.expired_minor, cohort.currency)} of breakage",
            found=str(data.expected_breakage or data.expected_breakage_rate),
        )
    return None


def _too_high(data: BreakageEstimated) -> errors.EstimateTooHigh:
    return errors.EstimateTooHigh(
        f"the expected breakage and escheat leave nothing of pool {data.pool} to be redeemed",
        field=_field(data),
        expected="together less than what is issued",
        found=str(data.expected_breakage or data.expected_breakage_rate),
    )


def _field(data: BreakageEstimated) -> str:
    return "data.expected_breakage" if data.expected_breakage is not None else "data.expected_breakage_rate"
