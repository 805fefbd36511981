"""The days of recognised breakage: T of a cohort is a function of its days, not of the order of recording.

The steps of a day have one order:
- an estimate, in force from the beginning of the day;
- issues, cancellations and escheats, which set an anchor;
- redemption by purchases that pay for earlier overage;
- redemption by usage;
- expiry.

An event that changes a day makes breakage due on that day and on later days. The anchors of these days are set anew.
The difference between T and the posted breakage is posted day by day. So the time of recording does not matter, and A ≤
T ≤ F − R − S holds in the view of every day.

A day with only issues recognises nothing. A purchase that is recorded late may change the breakage of redemptions on
its own day and later days, because it changes their line.

Owns: the days. Does not own: the amounts (pools), the entries (deciding/estimates). Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import date
from typing import NamedTuple

from msgspec.structs import replace

from subledger.breakage_line import Estimate
from subledger.cohort_days import Day, Days, forgotten, place_of, with_change
from subledger.kinds import KIND_BY_NAME
from subledger.pools import Cohort
from subledger.wallet import Movement


class BreakageChange(NamedTuple):
    """A change of a cohort's recognised breakage on an accounting date, in both currencies."""

    on: date
    amount_minor: int
    functional_minor: int


def with_days(cohort: Cohort, changes: Iterable[Day]) -> tuple[Cohort, date | None]:
    """The cohort with changes of some days, and the first of these days: from it on the breakage may differ.

    A change of a forgotten day is added to the last forgotten day.
    """
    lines_from: date | None = None
    first: date | None = None
    for change in changes:
        if cohort.forgotten_through is not None and change.on < cohort.forgotten_through:
            change = change._replace(on=cohort.forgotten_through)
        days, number = with_change(cohort.days, change)
        known = None if len(days) > len(cohort.days) else cohort.days[number]
        if number < len(days) - 1 or _changes_line(known, days[number]):
            lines_from = change.on if lines_from is None else min(lines_from, change.on)
        first = change.on if first is None else min(first, change.on)
        cohort = replace(cohort.plus(change), days=days)
    return (cohort if lines_from is None else _with_lines(cohort, place_of(cohort.days, lines_from)[0])), first


def _changes_line(before: Day | None, after: Day) -> bool:
    """True if the last day may need another anchor. An anchor depends only on the figures before its day."""
    if before is None:
        return after.turns or after.estimate is not None
    return (
        before.turns != after.turns
        or before.estimate is not after.estimate
        or bool(before.backfilled_minor or after.backfilled_minor)
    )


def _with_lines(cohort: Cohort, first: int) -> Cohort:
    """The cohort with new anchors for its days, beginning with day number ``first``."""
    days, point = list(cohort.days), before_day(cohort, first)
    for number in range(first, len(days)):
        day = days[number]
        after = _after(point, day)
        if not _is_posted(cohort, day):
            anchor = None if after.anchor is point.anchor else after.anchor
            days[number] = day._replace(anchor=anchor)
        point = after
    return replace(cohort, days=tuple(days), estimate=point.estimate, anchor=point.anchor)


def before_day(cohort: Cohort, number: int) -> Cohort:
    """The cohort as it was before one of its days: its figures, its estimate and its anchor."""
    for day in cohort.days[number:]:
        cohort = cohort.plus(day, -1)
    earlier = cohort.days[:number]
    estimates = (day.estimate for day in reversed(earlier) if day.estimate is not None)
    anchors = (day.anchor for day in reversed(earlier) if day.anchor is not None)
    return replace(cohort, estimate=next(estimates, cohort.start_estimate), anchor=next(anchors, cohort.start_anchor))


def _after(point: Cohort, day: Day) -> Cohort:
    """The cohort after a day, in the order of the steps of a day."""
    if _is_posted(point, day):
        anchor, estimate = day.anchor or point.anchor, day.estimate or point.estimate
        return replace(point.plus(day), anchor=anchor, estimate=estimate)
    if day.estimate is not None:
        point = point.estimated(day.estimate)
    if not day.turns:
        return point.plus(day)
    point = point.anchored()
    if day.backfilled_minor > 0:
        of_purchases = Day(
            day.on, day.issued_minor, day.issued_functional, day.backfilled_minor, escheated_minor=day.escheated_minor
        )
        limited = point.plus(of_purchases).limited()
        return limited.plus(of_purchases, -1).plus(day)
    return point.plus(day)


def _is_posted(cohort: Cohort, day: Day) -> bool:
    return cohort.posted_through is not None and day.on <= cohort.posted_through


def due_from(cohort: Cohort, first: date) -> tuple[BreakageChange, ...]:
    """The breakage that is due on each day from ``first`` on, less what was posted, if anything differs.

    Breakage that should have been posted earlier is posted on the first of these days.
    """
    number, _ = place_of(cohort.days, first)
    if number < len(cohort.days) - 1:
        return tuple(_differences(cohort, number))
    due, functional = cohort.due()
    change = (due - cohort.recognised_minor, functional - cohort.recognised_functional)
    return (BreakageChange(cohort.days[-1].on, *change),) if any(change) else ()


def _differences(cohort: Cohort, number: int) -> Iterator[BreakageChange]:
    point, more, more_functional = before_day(cohort, number), 0, 0
    for day in cohort.days[number:]:
        point = _after(point, day)
        is_kept = cohort.posted_through is not None and day.on < cohort.posted_through
        due, functional = point.within_bounds() if is_kept else point.due()
        amount = due - point.recognised_minor - more
        amount_functional = functional - point.recognised_functional - more_functional
        if amount or amount_functional:
            yield BreakageChange(day.on, amount, amount_functional)
        more, more_functional = more + amount, more_functional + amount_functional


# --- what an event changes --------------------------------------------------------------------------------------------


def day_of(movement: Movement) -> Day | None:
    """The changes that a movement makes to a cohort's figures; None if there are none."""
    kind, on, amount = KIND_BY_NAME[movement.kind], movement.accounting_date, movement.amount_minor
    functional = amount if movement.functional_minor is None else movement.functional_minor
    if kind.name == "breakage_estimate":
        return Day(on, recognised_minor=amount, recognised_functional=functional)
    credits = kind.sign * movement.credits
    match kind.column:
        case "consumed":
            backfilled = amount if kind.backfills else 0
            return Day(on, redeemed_minor=amount, backfilled_minor=backfilled, credits=credits)
        case "expired":
            sign = -kind.sign
            return Day(on, expired_minor=sign * amount, expired_functional=sign * functional, credits=credits)
        case "escheated":
            return Day(on, escheated_minor=amount, credits=credits)
        case None:
            return None
    return Day(on, kind.sign * amount, kind.sign * functional, credits=credits)


def after_movements_of(cohort: Cohort, movements: Sequence[Movement]) -> tuple[Cohort, date | None]:
    """A cohort after the movements of one decision on it, and the first day that they change."""
    changes: dict[date, Day] = {}
    moves = False
    for movement in movements:
        change = day_of(movement)
        if change is None:
            continue
        moves = moves or movement.kind != "breakage_estimate"
        known = changes.get(change.on)
        changes[change.on] = change if known is None else known.plus(change)
    if moves and cohort.was_estimated_last:
        cohort = replace(cohort, was_estimated_last=False)
    if not changes:
        return cohort, None
    if movements[-1].cohort is None:
        return as_posted(with_sums(cohort, changes.values())), None
    return with_days(cohort, changes.values())


def after_estimate(cohort: Cohort, estimate: Estimate, on: date) -> Cohort:
    """The cohort with an estimate that is in force from a day until the next estimate."""
    replaced = {day.on: day.estimate for day in cohort.days}.get(max(on, cohort.forgotten_through or on))
    cohort, _ = with_days(cohort, [Day(on, estimate=estimate)])
    return replace(cohort, was_estimated_last=True, replaced=replaced)


def has_estimate(cohort: Cohort, version: int) -> bool:
    """True if an estimate of this version is in force on a remembered day of the cohort."""
    return any(day.estimate is not None and day.estimate.version == version for day in cohort.days)


def without_estimate(cohort: Cohort, version: int) -> Cohort:
    """The cohort without its latest estimate. Its day again has the estimate that it replaced, if any."""
    for number, day in enumerate(cohort.days):
        if day.estimate is not None and day.estimate.version == version:
            days = (*cohort.days[:number], day._replace(estimate=cohort.replaced), *cohort.days[number + 1 :])
            cohort = replace(cohort, days=days, was_estimated_last=False, replaced=None)
            return _with_lines(cohort, number)
    return cohort


def with_sums(cohort: Cohort, changes: Iterable[Day]) -> Cohort:
    """A cohort with changes of some days that set no anchors."""
    for change in changes:
        cohort = replace(cohort.plus(change), days=with_change(cohort.days, change)[0])
    return cohort


def as_posted(cohort: Cohort) -> Cohort:
    """The cohort after an event that was recorded before there were cohorts: its line starts from what was posted."""
    anchor = cohort.posted_anchor()
    days = tuple(day._replace(anchor=None, estimate=None) for day in cohort.days)
    if not days:
        return replace(cohort, anchor=anchor, start_anchor=anchor, start_estimate=cohort.estimate)
    days = (*days[:-1], days[-1]._replace(anchor=anchor, estimate=cohort.estimate))
    return replace(cohort, days=days, anchor=anchor, start_anchor=None, posted_through=days[-1].on)


def remembered(cohort: Cohort, closed_through: date | None) -> Cohort:
    """The cohort without the days that need not be stored separately any more."""
    number = forgotten(cohort.days, closed_through)
    if not number:
        return cohort
    gone, days = cohort.days[:number], cohort.days[number:]
    estimates = (day.estimate for day in reversed(gone) if day.estimate is not None)
    anchors = (day.anchor for day in reversed(gone) if day.anchor is not None)
    posted = cohort.posted_through
    return replace(
        cohort,
        days=days,
        start_estimate=next(estimates, cohort.start_estimate),
        start_anchor=next(anchors, cohort.start_anchor),
        forgotten_through=gone[-1].on,
        posted_through=None if posted is None or posted <= gone[-1].on else posted,
    )


def together(cohort: Cohort, other: Cohort) -> Cohort:
    """Two cohorts as one. Neither has an estimate yet, so only the breakage of expired credits is recognised."""
    through = max(filter(None, (cohort.forgotten_through, other.forgotten_through)), default=None)
    days: Days = ()
    for day in (*cohort.days, *other.days):
        if through is None or day.on > through:
            days, _ = with_change(days, day._replace(anchor=None))
    cohort = cohort.with_sums_of(other)
    cohort = replace(cohort, days=days, anchor=None, start_anchor=None, forgotten_through=through)
    return _with_lines(cohort, 0) if days else cohort
