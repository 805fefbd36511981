"""Credibility: the weight of a customer's own months beside those of its cohort, and the pace of silent customers.

The weight of n own months is Z = n / (n + k). The constant k is the one that would have given the best forecasts of the
last months of the purses. It is not computed from the variances within and between purses, because these are shares of
a balance: if the balance grows and the usage stays the same, the share falls.

Two more figures are learnt from past months in the same way: the usage of a customer who has used nothing for some
months, and the share of customers who leave for good from month to month.

Sources: H. Bühlmann, "Experience Rating and Credibility", ASTIN Bulletin 4 (1967); P. Fader, B. Hardie and J. Shang,
"Customer-Base Analysis in a Discrete-Time Noncontractual Setting", Marketing Science 29 (2010).

Owns: the fit of these figures to past months. Does not own: the months, their two forecasts (``habits``).

Pure: floats, and nothing here is money.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import fsum
from typing import Final, NamedTuple

import msgspec

SILENT: Final = 4
"""The highest number of silent months that is distinguished. Purses with more silent months count as having this many.
"""
ABSENT: Final = 3
"""The number of silent months after which a customer may have left."""
K_TRIED: Final = (0.0, 0.1, 0.25, 0.5, 1.0, 2.0, 3.0, 5.0, 8.0, 13.0, 25.0, 50.0, float("inf"))
BETTER: Final = 0.9
"""A larger k is used only if its error is less than this share of the error of the smaller k."""
DOUBT: Final = 5
"""The number of average cases, with a pace of 1, that are added to the cases of a pace."""


class Fit(msgspec.Struct, frozen=True):
    """The credibility constant k of a cohort, and the pace of its purses by their silent months.

    ``stay`` is the factor by which the pace falls from month to month: less than 1 if customers leave for good.
    """

    k: float
    paces: tuple[float, ...]
    stay: float = 1.0


class Case(NamedTuple):
    """A past month of a purse: the number of months before it, its two forecasts, and the amount drawn; in credits."""

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
    """Returns the fit that would have given the best forecasts of past months.

    ``leaving`` is the share of months after which a customer was silent for ABSENT months. The pace of customers who
    have been silent so long gives the part of them that comes back; the others have left.

    A larger k is used only if it is better by a tenth. The reason is that the cohort's share assumes that usage grows
    with the balance, which is wrong for customers who buy more than they use.
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
    """Returns the usage of purses by their number of silent months, as a multiple of the forecast."""
    found = []
    for silent in range(SILENT + 1):
        own = [(case.drawn, said) for case, said in zip(cases, forecasts, strict=True) if case.silent == silent]
        drawn, said = fsum(each[0] for each in own), fsum(each[1] for each in own)
        prior = said / len(own) * DOUBT if own else 0.0
        found.append((drawn + prior) / (said + prior) if said else 1.0)
    return tuple(found)
