"""The days of recognised breakage: a change of a cohort's breakage is dated by what causes it.

Recognised breakage is what redemption has earned along the line, and what expiries force beyond that. What a redemption
earns is dated when the credits were redeemed, however late that is recorded; every other change of the line is not
dated before what was recorded of the line already, so that no view has less than nothing. What expiries force is dated
when the credits expired; what is earned later for an earlier day is forced no more from the day on from which expiries
force anything. So the order in which usage is recorded changes no month, and nothing is forced before the credits could
no longer be used.

Owns: the days. Does not own: the amounts (pools), the entries (deciding/estimates). Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from itertools import groupby
from typing import NamedTuple

from msgspec.structs import replace

from subledger.breakage_line import Estimate
from subledger.kinds import KIND_BY_NAME
from subledger.pools import Cohort
from subledger.wallet import Movement


class BreakageChange(NamedTuple):
    """A change of a cohort's recognised breakage on an accounting date, in both currencies."""

    on: date
    amount_minor: int
    functional_minor: int


class _Course:
    """The breakage of a cohort, step by step, and its changes by day."""

    def __init__(self, cohort: Cohort) -> None:
        self._earned = cohort.on_line()
        self._due = cohort.due() if cohort.expired_minor or not cohort.credits else self._earned
        self._forced_on, self._expired_on, self._moved_on = cohort.forced_on, cohort.expired_on, cohort.moved_on
        self._is_usage = False
        self._changes: dict[date, tuple[int, int]] = {}

    def earns(self, cohort: Cohort, on: date, *, at_end: bool = False, redeemed: bool = False) -> None:
        """Takes a change that no expiry causes; ``redeemed`` if credits were redeemed on this day.

        ``at_end`` of a decision: before that, credits do not tell whether the cohort has ended.
        """
        earned = cohort.on_line()
        due = earned
        if at_end or cohort.expired_minor:
            due = cohort.due() if at_end else cohort.line_or_expired()
        more = (earned[0] - self._earned[0], earned[1] - self._earned[1])
        self._is_usage |= redeemed
        if not redeemed or more[0] < 0:
            on = max(on, self._moved_on or on)
        self._add(on, more)
        forced = (due[0] - self._due[0] - more[0], due[1] - self._due[1] - more[1])
        forced_on = max(on, self._forced_on or self._expired_on or on)
        self._add(forced_on, forced)
        self._go_on(earned, due, forced_on)

    def expires(self, cohort: Cohort, on: date) -> None:
        """Takes a change by an expiry, or by its reversal: for late usage, or else as credits are reinstated."""
        due = cohort.line_or_expired()
        more = (due[0] - self._due[0], due[1] - self._due[1])
        if more[0] > 0 and self._forced_on is not None:
            self._forced_on = min(self._forced_on, on)
        elif more[0] < 0:
            on = max(on, self._forced_on or on, on if self._is_usage else self._moved_on or on)
        self._add(on, more)
        self._expired_on = max(on, self._expired_on or on)
        self._go_on(cohort.on_line(), due, on)

    def _add(self, on: date, change: tuple[int, int]) -> None:
        amount, functional = self._changes.get(on, (0, 0))
        self._changes[on] = (amount + change[0], functional + change[1])

    def _go_on(self, earned: tuple[int, int], due: tuple[int, int], on: date) -> None:
        self._earned, self._due = earned, due
        self._forced_on = (self._forced_on or on) if due[0] > earned[0] else None

    def end(self, cohort: Cohort) -> tuple[Cohort, tuple[BreakageChange, ...]]:
        """The cohort, which knows its days, and the changes in order of day."""
        changes = tuple(BreakageChange(on, *change) for on, change in sorted(self._changes.items()) if any(change))
        return replace(cohort, forced_on=self._forced_on, expired_on=self._expired_on), changes


class _NoCourse(_Course):
    """The same of a cohort of which nothing has expired, if nobody asks for its breakage: it has no days to remember.

    Nearly all events are of this sort when a log is replayed.
    """

    def __init__(self, cohort: Cohort) -> None:
        pass

    def earns(self, cohort: Cohort, on: date, *, at_end: bool = False, redeemed: bool = False) -> None:
        pass

    def end(self, cohort: Cohort) -> tuple[Cohort, tuple[BreakageChange, ...]]:
        return cohort, ()


def after_movements_of(
    cohort: Cohort, movements: Sequence[Movement], *, turns: bool, asked: bool
) -> tuple[Cohort, tuple[BreakageChange, ...]]:
    """A cohort after the movements of one decision on it, at least one, and the breakage that they make due if asked.

    ``turns`` if they change what is issued or escheated: then the line gets an anchor before them.
    """
    is_old = movements[-1].cohort is None
    asked = asked or bool(cohort.expired_minor) or any(_step(movement)[0] for movement in movements)
    course = _Course(cohort) if asked else _NoCourse(cohort)
    if turns:
        cohort = cohort.anchored()
    moving = []
    for movement in movements:
        if KIND_BY_NAME[movement.kind].column is None:
            cohort = _moved(cohort, movement)
        else:
            moving.append(movement)
    last = max((movement.accounting_date for movement in moving), default=None)
    if last is None:
        return (cohort.as_posted() if is_old else _posted(cohort, movements)), ()
    for (expires, on), of_day in groupby(sorted(moving, key=_step), key=_step):
        redeemed_before = cohort.redeemed_minor
        for movement in of_day:
            cohort = _moved(cohort, movement)
        if expires:
            course.expires(cohort, on)
        else:
            redeemed = cohort.redeemed_minor > redeemed_before
            course.earns(cohort, on, redeemed=redeemed)
            last = on
    if turns:
        cohort = cohort.settled()
    if is_old:
        cohort = cohort.as_posted()
    if turns or is_old or not cohort.credits:
        course.earns(cohort, last, at_end=True)
    return course.end(cohort)


def after_estimate(cohort: Cohort, estimate: Estimate) -> Cohort:
    """A cohort after a new estimate.

    Without credits it has posted nothing, and its line has changed: no later change is before what was posted.
    """
    cohort = cohort.estimated(estimate)
    forces = cohort.due_minor() > cohort.on_line()[0]
    if cohort.credits:
        return replace(cohort, forced_on=(cohort.forced_on or cohort.expired_on) if forces else None)
    latest = max(filter(None, (cohort.moved_on, cohort.expired_on)), default=None)
    return replace(cohort, moved_on=latest, forced_on=latest if forces else None)


def catch_up(before: Cohort, after: Cohort, on: date) -> tuple[BreakageChange, ...]:
    """The breakage that an estimate dated ``on`` makes due: not before what it counts was redeemed or has expired.

    A cohort without credits has the breakage that has expired, before and after.
    """
    if not before.credits:
        return ()
    course = _Course(before)
    course.earns(after, on, at_end=True)
    return course.end(after)[1]


def _posted(cohort: Cohort, movements: Sequence[Movement]) -> Cohort:
    """A cohort after the entries of an estimate: no later change of the line is before them."""
    for movement in movements:
        if movement.kind == "breakage_estimate":
            cohort = replace(cohort, moved_on=max(movement.accounting_date, cohort.moved_on or date.min))
    return cohort


def _step(movement: Movement) -> tuple[bool, date]:
    return KIND_BY_NAME[movement.kind].column == "expired", movement.accounting_date


def _moved(cohort: Cohort, movement: Movement) -> Cohort:
    kind = KIND_BY_NAME[movement.kind]
    functional = movement.amount_minor if movement.functional_minor is None else movement.functional_minor
    cohort = cohort.moved(kind, amount=movement.amount_minor, functional=functional, credits=movement.credits)
    if kind.column in (None, "expired"):
        return cohort
    on = movement.accounting_date
    return replace(cohort, moved_on=max(on, cohort.moved_on or on))
