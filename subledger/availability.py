"""Availability: from which day on a block can lose credits and value, so that no view of it shows less than nothing.

A view of a day has the entries dated through that day. Usage is often dated before what is in the books already: an
entry may then take only what the block has on each day from its own date on. Usually that is what remains: a block
gains once, when it opens, and then only loses. If it gains again later, as when usage is reversed, an earlier day may
have less than remains, and from there on the changes of the block are remembered by day.

Owns: these changes, and the first day for a loss. Does not own: the figures of a block (blocks), on which events a date
depends besides (deciding). Pure.
"""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Final, NamedTuple

MOST_DAYS: Final = 64
"""Days that are remembered of a block. Beyond, losses are no longer dated before the middle one: no view is wrong, and
usage that comes very late is in the books a little later."""


class Change(NamedTuple):
    """Gain (positive) or loss of a block on a day: credits, and minor units of its currency."""

    on: date
    credits: Decimal
    amount_minor: int


Changes = tuple[Change, ...]
"""The changes of a block since it first gained something after its opening, in order of day, at most one a day."""


def with_change(changes: Changes, change: Change) -> Changes:
    """The changes with one more, added to that of its day if there is one."""
    before = tuple(other for other in changes if other.on < change.on)
    after = changes[len(before) :]
    if after and after[0].on == change.on:
        same = after[0]
        change = Change(change.on, same.credits + change.credits, same.amount_minor + change.amount_minor)
        after = after[1:]
    return (*before, change, *after) if change.credits or change.amount_minor else (*before, *after)


def first_day(changes: Changes, *, on: date, left: tuple[Decimal, int], loss: tuple[Decimal, int]) -> date:
    """The first day from ``on`` on which the block can lose ``loss``, without a later day having less than nothing.

    ``left`` is what the block has after all its changes, which suffices. Both are credits and minor units. A loss of
    all the credits of some day must be one of all their value: a block without credits has no value, in any view.
    """
    credits, amount_minor = left
    for change in reversed(changes):
        if change.on <= on:
            return on
        credits, amount_minor = credits - change.credits, amount_minor - change.amount_minor
        suffices = credits > loss[0] and amount_minor >= loss[1]
        if not suffices and (credits, amount_minor) != loss:
            return change.on
    return on
