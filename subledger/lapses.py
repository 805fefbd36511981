"""Lapses: the credits of a block that expired unused, by the day of their breakage, with the value that was booked.

Usage that becomes known after an expiry, but happened before it, takes back as much of a breakage as it uses: on the
breakage's own day, at its own value. If the expiry was moved meanwhile, the credits came back on a later day; then as
much less came back. Owns: these sums. Does not own: when credits break (deciding). Pure.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date
from decimal import Decimal
from typing import NamedTuple

from subledger.availability import Portion
from subledger.money import share


class Lapse(NamedTuple):
    """Credits that broke on a day, with their value; and the day on which a moved expiry brought them back, if any."""

    on: date
    back_on: date | None
    credits: Decimal
    amount_minor: int
    functional_minor: int

    def part(self, credits: Decimal) -> Portion:
        """The booked value of some of the credits, half up; the last ones have what is left."""
        if credits == self.credits:
            return Portion(credits, self.amount_minor, self.functional_minor)
        amount, functional = (
            share(value, credits, self.credits) for value in (self.amount_minor, self.functional_minor)
        )
        return Portion(credits, amount, functional)


Lapses = tuple[Lapse, ...]
"""At most one for each pair of days, in their order. What was used before it broke is not counted any more."""


def broken(lapses: Lapses, on: date, part: Portion) -> Lapses:
    """The lapses after breakage on a day."""
    return _summed((*lapses, Lapse(on, None, *part)))


def brought_back(lapses: Lapses, on: date) -> Lapses:
    """The lapses after an expiry was moved, which brings back on a day all that has broken."""
    return _summed(lapse._replace(back_on=on) if lapse.back_on is None else lapse for lapse in lapses)


def broken_again(lapses: Lapses, back_on: date, part: Portion) -> Lapses:
    """The lapses of which a part did not come back on a day after all."""
    returned = [lapse for lapse in lapses if lapse.back_on is not None]
    taken = _taken(sorted(returned, key=lambda lapse: lapse.back_on != back_on), part)
    return _summed((*lapses, *map(_negative, taken), *(lapse._replace(back_on=None) for lapse in taken)))


def taken_back(lapses: Lapses, on: date, part: Portion) -> Lapses:
    """The lapses after usage took back a part of the breakage of a day."""
    # A mirror in a closed month has a later date than the breakage: then it is of the first one.
    gone = [lapse for lapse in lapses if lapse.back_on is None]
    taken = _taken(sorted(gone, key=lambda lapse: lapse.on != on), part)
    return _summed((*lapses, *map(_negative, taken)))


def _taken(candidates: Iterable[Lapse], part: Portion) -> list[Lapse]:
    """The parts of lapses that make up a portion, from the first candidate on; the last has the rest of its value."""
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
    """One lapse for each pair of days, without those of no credits."""
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
