"""Credibility: the weight of a customer's own months beside those of its cohort, and the pace of silent customers.

Owns: the fit of both to past months. Does not own: the months, nor their two forecasts (``habits``). The weight of n
own months is Z = n / (n + k) (H. Bühlmann, "Experience Rating and Credibility", ASTIN Bulletin 4 (1967)). Its k is not
taken from the variances within and between purses, but is the one under which the last months of the purses would have
been forecast best: the share of a balance that is used falls when the balance grows, though the usage is the same. How
much a customer uses who has used nothing for some months is learnt in the same way (P. Fader, B. Hardie and J. Shang,
"Customer-Base Analysis in a Discrete-Time Noncontractual Setting", Marketing Science 29 (2010)), and so is how many
customers leave for good from month to month.

Pure: floats, and nothing here is money.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import fsum
from typing import Final, NamedTuple

import msgspec

SILENT: Final = 4
"""Purses that have been silent for more months are like those of this many."""
ABSENT: Final = 3
"""Customers who have been silent for so many months may have left."""
K_TRIED: Final = (0.0, 0.1, 0.25, 0.5, 1.0, 2.0, 3.0, 5.0, 8.0, 13.0, 25.0, 50.0, float("inf"))
BETTER: Final = 0.9
"""A larger k is taken if its error is less than this share of that of the smaller one."""
DOUBT: Final = 5
"""The number of average cases, with a pace of 1, that are added to those of a pace."""


class Fit(msgspec.Struct, frozen=True):
    """The credibility constant k of a cohort, the pace of its purses by their silent months, and how it goes on.

    ``stay`` is the part of a month's pace that is expected of the next: less than 1 where customers leave for good.
    """

    k: float
    paces: tuple[float, ...]
    stay: float = 1.0


class Case(NamedTuple):
    """A past month of a purse: the months known before it, two forecasts of it, and what was drawn; in credits."""

    months: int
    silent: int
    own: float
    cohort: float
    drawn: int
    opening: int

    def forecast(self, k: float) -> float:
        weight = self.months / (self.months + k)
        return weight * self.own + (1 - weight) * self.cohort


UNTESTED: Final = Fit(3.0, (1.0,) * (SILENT + 1))
"""The fit of a cohort that is too small to have one."""


def fit(cases: Sequence[Case], leaving: float = 0.0) -> Fit:
    """Returns the fit under which past months would have been forecast best.

    ``leaving`` is the share of months after which a customer was silent for ABSENT months. Those come back as far as
    the pace of customers who have been silent so long says; the others have left.

    A smaller k is kept unless a larger one is better by a tenth: the cohort's share assumes that usage grows with the
    balance, so that it is wrong for customers who buy more than they use.
    """
    found, least = UNTESTED, float("inf")
    for k in K_TRIED if cases else ():
        forecasts = [case.forecast(k) for case in cases]
        paces = _paces(cases, forecasts)
        error = fsum(
            (forecast * paces[case.silent] - case.drawn) ** 2 / case.opening
            for case, forecast in zip(cases, forecasts, strict=True)
        )
        if error < least * BETTER:
            stay = 1 - leaving * (1 - min(paces[ABSENT], 1.0))
            found, least = Fit(k, paces, stay), error
    return found


def _paces(cases: Sequence[Case], forecasts: Sequence[float]) -> tuple[float, ...]:
    """Returns the usage of purses so many months silent, as multiples of its forecast."""
    found = []
    for silent in range(SILENT + 1):
        own = [(case.drawn, said) for case, said in zip(cases, forecasts, strict=True) if case.silent == silent]
        drawn, said = fsum(each[0] for each in own), fsum(each[1] for each in own)
        prior = said / len(own) * DOUBT if own else 0.0
        found.append((drawn + prior) / (said + prior) if said else 1.0)
    return tuple(found)
