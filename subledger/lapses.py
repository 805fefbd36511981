"""Lapses: the credits of a block that expired unused, by the day of their breakage, with the value that was booked.

Late usage happened before an expiry and is recorded after it. It reverses the breakage of the credits that it uses, on
the day of the breakage and at its value. If a moved expiry had brought these credits back on a later day, the late
usage also reduces the credits that came back. Owns: these sums. Does not own: when credits break (deciding). Pure.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date
from decimal import Decimal
from typing import NamedTuple

from subledger.availability import Portion
from subledger.money import share


class Lapse(NamedTuple):
    """Credits that expired on a day, with their value. ``back_on``: the day on which a moved expiry restored them."""

    on: date
    back_on: date | None
    credits: Decimal
    amount_minor: int
    functional_minor: int

    def part(self, credits: Decimal) -> Portion:
        """The booked value of some of the credits, half up; the last credits have the rest."""
        if credits == self.credits:
            return Portion(credits, self.amount_minor, self.functional_minor)
        amount, functional = (
            share(value, credits, self.credits) for value in (self.amount_minor, self.functional_minor)
        )
        return Portion(credits, amount, functional)


Lapses = tuple[Lapse, ...]
"""At most one for each pair of days, in their order. Credits that late usage drew are not in them any more."""


def broken(lapses: Lapses, on: date, part: Portion) -> Lapses:
    """The lapses after breakage on a day."""
    return _summed((*lapses, Lapse(on, None, *part)))


def brought_back(lapses: Lapses, on: date) -> Lapses:
    """The lapses after an expiry was moved. On a day it brings back all credits that have not come back yet."""
    return _summed(lapse._replace(back_on=on) if lapse.back_on is None else lapse for lapse in lapses)


def broken_again(lapses: Lapses, back_on: date, part: Portion) -> Lapses:
    """The lapses after a part of the credits that came back on a day is cancelled."""
    returned = [lapse for lapse in lapses if lapse.back_on is not None]
    taken = _taken(sorted(returned, key=lambda lapse: lapse.back_on != back_on), part)
    return _summed((*lapses, *map(_negative, taken), *(lapse._replace(back_on=None) for lapse in taken)))


def taken_back(lapses: Lapses, on: date, part: Portion) -> Lapses:
    """The lapses after usage took back a part of the breakage of a day."""
    # In a closed month the mirror is dated later than the breakage. Then it takes back the first lapse.
    gone = [lapse for lapse in lapses if lapse.back_on is None]
    taken = _taken(sorted(gone, key=lambda lapse: lapse.on != on), part)
    return _summed((*lapses, *map(_negative, taken)))


def _taken(candidates: Iterable[Lapse], part: Portion) -> list[Lapse]:
    """The parts of lapses that make up a portion, first candidates first. The last part has the rest of the value."""
    taken: list[Lapse] = []
    credits, amount, functional = part
    for lapse in candidates:
        if not credits:
            break
        piece = lapse.part(min(lapse.credits, credits))
        if piece.credits == credits:
            piece = Portion(credits, amount, functional)
        taken.append(lapse._replace(credits=piece[0], amount_minor=piece[1], functional_minor=piece[2]))
        credits, amount, functional = credits - piece[0], amount - piece[1], functional - piece[2]
    return taken


def _negative(lapse: Lapse) -> Lapse:
    return lapse._replace(
        credits=-lapse.credits, amount_minor=-lapse.amount_minor, functional_minor=-lapse.functional_minor
    )


def _summed(lapses: Iterable[Lapse]) -> Lapses:
    """One lapse for each pair of days, without lapses that have no credits."""
    sums: dict[tuple[date, date | None], Lapse] = {}
    for lapse in lapses:
        known = sums.get((lapse.on, lapse.back_on))
        if known is not None:
            lapse = lapse._replace(
                credits=known.credits + lapse.credits,
                amount_minor=known.amount_minor + lapse.amount_minor,
                functional_minor=known.functional_minor + lapse.functional_minor,
            )
        sums[lapse.on, lapse.back_on] = lapse
    left = (lapse for lapse in sums.values() if lapse.credits)
    return tuple(sorted(left, key=lambda lapse: (lapse.on, lapse.back_on or date.max)))
