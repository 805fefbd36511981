"""Usage habits: the past months of each customer, and of its cohort if the customer has few months.

Owns: the figures learnt from the past. A *purse* is one customer's credits of one unit and scope. A *cohort* is all
purses of one unit and scope with paid credits, or all without. (Cohorts by the month of the first purchase were tried
on a year of real invoices; their forecast was no better.) Usage that the blocks of a scope cannot cover is not moved to
blocks without a scope. For each month in which a purse had credits, two figures are used: the credits consumed (the
purse's own burn rate), and their share of the opening credits (which can be applied to purses of another size). The
weight of a purse's own months is its credibility

    Z = n / (n + k),  k = variance within purses / variance between purses,

n its months: H. Bühlmann and E. Straub, "Glaubwürdigkeit für Schadensätze", Mitteilungen der Vereinigung
schweizerischer Versicherungsmathematiker 70 (1970); H. Bühlmann and A. Gisler, "A Course in Credibility Theory"
(2005), chapter 4, with the unbiased estimators of R's ``actuar::bstraub``. A cohort's months are weighted by their
opening credits, so the cohort's share is that of its credits, not the average of its purses.

Pure: no clock, no database. The ratios are floats; nothing here is money.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from itertools import accumulate
from typing import Final

import msgspec

from projections.forecast.holdings import Holding, month_of

WINDOW: Final = 12
"""The number of past months from which habits are learnt."""
UNTESTED_K: Final = 3.0
"""The credibility constant k, in months, of a cohort that is too small to estimate it."""

Purse = tuple[str, str, tuple[str, ...]]
"""Customer, unit, scope (empty: any product). Blocks of another scope are used for other products."""
Cohort = tuple[str, tuple[str, ...], bool]
"""Unit, scope, and true for purses with paid credits."""


class Observation(msgspec.Struct, frozen=True):
    """One month of a purse, in billionths of credits.

    ``used``: the credits used, of all its blocks. ``drawn``: the part drawn from ``opening``, its opening credits
    (weighted by the part of the month before their expiry).
    """

    month: int
    cohort: Cohort
    used: int
    drawn: int
    opening: int

    @property
    def share(self) -> float:
        return self.drawn / self.opening


class _Sums(msgspec.Struct):
    opening: int = 0
    alive: int = 0
    drawn: int = 0
    used: int = 0
    gained: int = 0
    closing: int = 0
    paid: bool = False


def purse_of(holding: Holding) -> Purse:
    return holding.customer, holding.block.unit, holding.block.scope or ()


def observe(holdings: Iterable[Holding], through: int) -> dict[Purse, list[Observation]]:
    """Returns the months of every purse through a whole month, in order of time.

    A month counts if the purse had credits at its beginning, or if all credits bought in the month were used in it.
    Credits that expire in the month count for the days before; disputed and scheduled credits do not count.
    """
    sums: dict[Purse, dict[int, _Sums]] = {}
    for holding in holdings:
        _observe(holding, sums.setdefault(purse_of(holding), {}), through)
    found = {}
    for purse, months in sums.items():
        observations = [_observation(purse, month, of_month) for month, of_month in sorted(months.items())]
        found[purse] = [observation for observation in observations if observation is not None]
    return found


def _observe(holding: Holding, months: dict[int, _Sums], through: int) -> None:
    last = holding.months[-1] if not holding.credits[-1] else through
    credits, at = 0, 0
    for month in range(holding.months[0], min(last, through) + 1):
        of_month = months.get(month) or months.setdefault(month, _Sums())
        if credits:
            disputed = holding.disputed[at - 1] > 0
            alive = 0 if disputed else _lived(holding, month, credits)
            of_month.opening += credits
            of_month.alive += alive
            of_month.paid |= not holding.is_promotional
        if at < len(holding.months) and holding.months[at] == month:
            moved = holding.moved[at]
            of_month.used += moved.used
            of_month.gained += moved.gained
            if credits:
                of_month.drawn += moved.used
            credits = holding.credits[at]
            at += 1
        of_month.closing += credits


def _lived(holding: Holding, month: int, credits: int) -> int:
    """Returns the credits multiplied by the part of the month in which they could be used."""
    period = month_of(month)
    first, days = period.first_day, (period.last_day - period.first_day).days + 1
    until = min((holding.last_day(first) - first).days + 1, days)
    since = max((holding.starts_on - first).days, 0)
    return credits * max(until - since, 0) // days


def _observation(purse: Purse, month: int, sums: _Sums) -> Observation | None:
    cohort = (purse[1], purse[2], sums.paid)
    used = max(sums.used, 0)
    if sums.alive:
        drawn = min(max(sums.drawn, 0), sums.alive)
        return Observation(month, cohort, used, drawn, sums.alive)
    if not sums.opening and sums.gained and used and not sums.closing:
        return Observation(month, (purse[1], purse[2], True), used, min(used, sums.gained), sums.gained)
    return None


class CohortMonths(msgspec.Struct, frozen=True):
    """The months of a cohort's purses, with their opening credits as cumulative weights."""

    months: tuple[tuple[int, int], ...]
    weights: tuple[int, ...]

    def pick(self, chance: float) -> tuple[int, int]:
        """Returns the credits drawn and held in a month, selected by a number from 0 to 1."""
        return self.months[bisect_right(self.weights, int(chance * self.weights[-1]), 0, len(self.months) - 1)]


class Habits:
    """The usage of all purses as known at the end of a month."""

    def __init__(self, observed: dict[Purse, list[Observation]], through: int) -> None:
        self._own = {
            purse: [each for each in months if through - WINDOW < each.month <= through]
            for purse, months in observed.items()
        }
        by_cohort: dict[Cohort, list[list[Observation]]] = {}
        for months in self._own.values():
            if months:
                by_cohort.setdefault(months[-1].cohort, []).append(months)
        self._k = {cohort: credibility_k(purses) for cohort, purses in by_cohort.items()}
        self._cohort_months = {cohort: _cohort_months(purses) for cohort, purses in by_cohort.items()}
        self._anybody = _cohort_months([months for months in self._own.values() if months]) if by_cohort else None

    def own(self, purse: Purse) -> list[int]:
        """Returns the credits used in each of a purse's months."""
        return [each.used for each in self._own.get(purse, ())]

    def cohort_months(self, cohort: Cohort) -> CohortMonths | None:
        """Returns the months of a cohort, of all purses if the cohort has none; None if no purse ever had credits."""
        return self._cohort_months.get(cohort, self._anybody)

    def credibility(self, purse: Purse, cohort: Cohort) -> float:
        """Returns the weight of a purse's own months, from 0 to 1."""
        months = len(self._own.get(purse, ()))
        return months / (months + self._k.get(cohort, UNTESTED_K)) if months else 0.0


def _cohort_months(purses: Iterable[list[Observation]]) -> CohortMonths:
    months = [each for own in purses for each in own]
    return CohortMonths(
        tuple((each.drawn, each.opening) for each in months), tuple(accumulate(each.opening for each in months))
    )


def credibility_k(purses: list[list[Observation]]) -> float:
    """Returns the credibility constant k: the variance of shares within purses divided by that between purses.

    Infinite if purses do not differ more than by chance. Bühlmann and Straub with equal weights.
    """
    counts = [len(months) for months in purses]
    total, degrees = sum(counts), sum(counts) - len(counts)
    if len(purses) < 2 or not degrees:
        return UNTESTED_K
    means = [sum(each.share for each in months) / len(months) for months in purses]
    within = sum((each.share - mean) ** 2 for months, mean in zip(purses, means, strict=True) for each in months)
    overall = sum(mean * count for mean, count in zip(means, counts, strict=True)) / total
    between = sum(count * (mean - overall) ** 2 for mean, count in zip(means, counts, strict=True))
    noise = within / degrees
    signal = (between - (len(purses) - 1) * noise) / (total - sum(count * count for count in counts) / total)
    if noise == 0:
        return 0.0
    return noise / signal if signal > 0 else float("inf")
