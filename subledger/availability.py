"""Availability: from which day on a block can lose credits and value, so that no view of it shows less than nothing.

A view of a day has the entries dated through that day. A new entry is often dated before entries that are recorded
already. It may take only credits and value that the block has on every day from the entry's date on. So a block stores
its changes by day. Its credits and value on a day are the remaining ones, less the changes of later days.

Owns: these changes, how long they are stored, and the first day for a loss. Does not own: the figures of a block
(blocks), the other facts that a date depends on (deciding). Pure.
"""

from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal
from typing import Final, NamedTuple

REMEMBERED: Final = timedelta(days=400)
"""Changes that are this much older than the last one are no longer stored by day."""


class Portion(NamedTuple):
    """A part of a block: credits with their value, in the block's currency and in the functional currency."""

    credits: Decimal
    amount_minor: int
    functional_minor: int


def negative(part: Portion) -> Portion:
    """The portion with its signs turned."""
    return Portion(-part.credits, -part.amount_minor, -part.functional_minor)


def plus(one: Portion, other: Portion) -> Portion:
    """Two portions together."""
    return Portion(one[0] + other[0], one[1] + other[1], one[2] + other[2])


def minus(one: Portion, other: Portion) -> Portion:
    """One portion without another."""
    return Portion(one[0] - other[0], one[1] - other[1], one[2] - other[2])


class Change(NamedTuple):
    """Gain (positive) or loss of a block on a day; the functional amount is 0 without a currency of its own."""

    on: date
    credits: Decimal
    amount_minor: int
    functional_minor: int = 0

    @property
    def gains(self) -> bool:
        """True if the change adds credits or value to the block."""
        return self.credits > 0 or self.amount_minor > 0 or self.functional_minor > 0


Changes = tuple[Change, ...]
"""Changes of a block after its opening, in order of day, at most one a day."""


def with_change(changes: Changes, change: Change) -> Changes:
    """The changes with one more, added to the change of the same day if there is one; without a change of zero."""
    if not changes or changes[-1].on < change.on:
        return (*changes, change) if any(change[1:]) else changes
    after = len(changes)
    while after and changes[after - 1].on > change.on:
        after -= 1
    before = after
    if after and changes[after - 1].on == change.on:
        before -= 1
        _, credits, amount, functional = changes[before]
        change = Change(
            change.on, credits + change.credits, amount + change.amount_minor, functional + change.functional_minor
        )
    if change.credits or change.amount_minor or change.functional_minor:
        return (*changes[:before], change, *changes[after:])
    return (*changes[:before], *changes[after:])


def remembered(changes: Changes, closed_through: date | None) -> tuple[Changes, date | None]:
    """Returns the changes that are still stored by day, and the day of the last gain among the others.

    Nothing is booked in a closed month. If the month is reopened, its figures by day are not known any more. From the
    last gain on, the block had at least its figures of the month's end. Before that gain it may have had less.
    """
    if not changes:
        return changes, None
    forgotten = max(changes[-1].on - REMEMBERED, closed_through or date.min)
    if changes[0].on > forgotten:
        return changes, None
    number, last_gain = 0, None
    for change in changes:
        if change.on > forgotten:
            break
        number += 1
        if change.gains:
            last_gain = change.on
    return changes[number:], last_gain


def first_day(changes: Changes, *, on: date, left: Portion, loss: Portion) -> date:
    """The first day from ``on`` on which the block can lose ``loss`` without being negative on a later day.

    ``left``: the credits and value of the block after all its changes. They cover the loss. A loss of all the credits
    of a day must take all the value of that day, because a block without credits has no value in any view. A negative
    loss is a gain.
    """
    for change in reversed(changes):
        if change.on <= on:
            return on
        left = _before(left, change)
        suffices = (
            left.credits > loss.credits
            and left.amount_minor >= loss.amount_minor
            and left.functional_minor >= loss.functional_minor
        )
        if not suffices and left != loss:
            return change.on
    return on


def first_draw(changes: Changes, *, on: date, left: Portion, draw: Portion) -> tuple[date, Portion]:
    """The first day from ``on`` on which the block has the credits of a draw, and the draw with the value of that day.

    The given value is used if every day from the found day on has it. Else the value is the largest that all these days
    have. Values of the same credits may differ by roundings, which depend on the order of draws. ``left`` is as in
    ``first_day``.
    """
    most, exact = left, left if left.credits == draw.credits else None
    for change in reversed(changes):
        if change.on <= on:
            break
        left = _before(left, change)
        most = _least(most, left)
        if left.credits == draw.credits and exact is None:
            exact = left
        conflicts = left.credits < draw.credits or (
            exact is not None
            and (
                exact.amount_minor > most.amount_minor
                or exact.functional_minor > most.functional_minor
                or (left.credits == draw.credits and left != exact)
            )
        )
        if conflicts:
            return change.on, draw
        value = exact or _least(most, draw)
        draw = Portion(draw.credits, value.amount_minor, value.functional_minor)
    return on, draw


def is_sound(changes: Changes, left: Portion) -> bool:
    """True if the block is negative on no day and never has value without credits. ``left``: after all changes."""
    for change in (*reversed(changes), None):
        if left.credits < 0 or left.amount_minor < 0 or left.functional_minor < 0 or (not left.credits and any(left)):
            return False
        if change is not None:
            left = _before(left, change)
    return True


def days_of(changes: Changes, left: Portion) -> list[tuple[date, Portion]]:
    """The credits and value of a block after each day of its changes, first days first. ``left``: after all."""
    found: list[tuple[date, Portion]] = []
    for change in reversed(changes):
        found.append((change.on, left))
        left = _before(left, change)
    return found[::-1]


def least_credits(changes: Changes, *, first: date, until: date, credits: Decimal) -> Decimal:
    """The fewest credits on a day from ``first`` until before ``until``; ``credits``: the credits after all changes."""
    least: Decimal | None = None
    for change in reversed(changes):
        if change.on < until:
            least = credits if least is None else min(least, credits)
        if change.on <= first:
            break
        credits -= change.credits
    else:
        return credits if least is None else min(least, credits)
    return credits if least is None else least


def _before(left: Portion, change: Change) -> Portion:
    return Portion(
        left.credits - change.credits,
        left.amount_minor - change.amount_minor,
        left.functional_minor - change.functional_minor,
    )


def _least(one: Portion, other: Portion) -> Portion:
    """The smaller credits, amount and functional amount of two portions, each compared by itself."""
    return Portion(
        min(one.credits, other.credits),
        min(one.amount_minor, other.amount_minor),
        min(one.functional_minor, other.functional_minor),
    )
