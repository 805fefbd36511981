"""Usage habits: the past months of each customer, and of its cohort if the customer has few months.

A *purse* is one customer's credits of one unit and scope. A *cohort* is all purses of one unit and scope that have paid
credits, or all that have none. (Cohorts by the month of the first purchase were tried on a year of real invoices; their
forecast was no better.) Usage that the blocks of a scope cannot cover is not moved to blocks without a scope.

Each month in which a purse had credits gives two figures: the credits consumed (the purse's own burn rate), and their
share of the opening credits (which can be applied to purses of another size). Recent months of a purse count more. If
the usage of a unit has a season, it is removed first.

The weight of a purse's own n months is its credibility Z = n / (n + k) (H. Bühlmann and A. Gisler, "A Course in
Credibility Theory" (2005)). The module ``credibility`` chooses k.

Owns: the figures learnt from the past. Does not own: the constant k (``credibility``).

Pure: no clock, no database. The ratios are floats; nothing here is money.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from math import fsum
from typing import Final

import msgspec

from projections.forecast.credibility import ABSENT, SILENT, UNTESTED, Case, fit
from projections.forecast.holdings import Holding, month_of
from projections.forecast.series import NO_SEASON, YEAR, Season

WINDOW: Final = 12
"""The number of past months from which habits are learnt."""
RECENT: Final = (1000, 841, 707, 595, 500, 420, 354, 297, 250, 210, 177, 149)
"""The weight of a purse's months by their age. It halves every four months."""
MOST_PURSES: Final = 2_000
"""The approximate number of purses from which credibility is learnt. If there are more, every n-th is used."""
LEAST_MONTHS: Final = 20
"""The number of months without departures that are added to the months of a cohort."""
TARGETS: Final = 3
"""The number of last months of a purse that are forecast from earlier months, to learn credibility."""

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
    Credits that expire in the month count for the days before their expiry. Disputed and scheduled credits do not
    count.
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
        """Returns the drawn and the opening credits of a month, which is selected by a number from 0 to 1."""
        return self.months[bisect_right(self.weights, int(chance * self.weights[-1]), 0, len(self.months) - 1)]


class OwnMonths(msgspec.Struct, frozen=True):
    """The credits that a purse used in each of its months, without season, with cumulative weights."""

    used: tuple[int, ...]
    weights: tuple[int, ...]

    def pick(self, chance: float) -> int:
        """Returns the credits used in a month, which is selected by a number from 0 to 1."""
        return self.used[bisect_right(self.weights, int(chance * self.weights[-1]), 0, len(self.used) - 1)]

    def mean(self, season: float, most: int) -> float:
        """Returns the expected usage of a month with a season, limited to ``most`` credits."""
        before, total = 0, 0.0
        for used, weight in zip(self.used, self.weights, strict=True):
            total += min(used * season, most) * (weight - before)
            before = weight
        return total / before


class Habits:
    """The usage of all purses as known at the end of a month. ``seasons``: of the units that have one."""

    def __init__(
        self, observed: dict[Purse, list[Observation]], through: int, seasons: Mapping[str, Season] | None = None
    ) -> None:
        self._through, self._seasons = through, seasons or {}
        self._own_months: dict[Purse, OwnMonths] = {}
        self._own = {
            purse: [each for each in months if through - WINDOW < each.month <= through]
            for purse, months in observed.items()
        }
        by_cohort: dict[Cohort, list[list[Observation]]] = {}
        for months in self._own.values():
            if months:
                by_cohort.setdefault(months[-1].cohort, []).append(months)
        self._fits = {
            cohort: fit(_cases(purses, self.season(cohort[0])), leaving(purses)) for cohort, purses in by_cohort.items()
        }
        self._cohort_months = {
            cohort: _cohort_months(purses, self.season(cohort[0])) for cohort, purses in by_cohort.items()
        }
        every = [months for months in self._own.values() if months]
        self._anybody = _cohort_months(every, NO_SEASON) if every else None

    def season(self, unit: str) -> Season:
        return self._seasons.get(unit, NO_SEASON)

    def own(self, purse: Purse) -> OwnMonths | None:
        """Returns a purse's own months; None if it has none."""
        months = self._own.get(purse)
        if not months:
            return None
        if purse not in self._own_months:
            self._own_months[purse] = own_months(months, self._through, self.season(purse[1]))
        return self._own_months[purse]

    def cohort_months(self, cohort: Cohort) -> CohortMonths | None:
        """Returns the months of a cohort; if it has none, those of all purses; None if no purse ever had credits."""
        return self._cohort_months.get(cohort, self._anybody)

    def credibility(self, purse: Purse, cohort: Cohort) -> float:
        """Returns the weight of a purse's own months, from 0 to 1."""
        months = len(self._own.get(purse, ()))
        return months / (months + self._fits.get(cohort, UNTESTED).k) if months else 0.0

    def paces(self, purse: Purse, cohort: Cohort) -> Iterator[float]:
        """Yields the factors of a purse's usage in future months, from the number of months since its last usage."""
        of_cohort, months = self._fits.get(cohort, UNTESTED), self._own.get(purse)
        pace = of_cohort.paces[silent_months(months)] if months else 1.0
        while True:
            yield pace
            pace *= of_cohort.stay


def own_months(months: Sequence[Observation], through: int, season: Season) -> OwnMonths:
    return OwnMonths(
        tuple(int(each.used / season[each.month % YEAR]) for each in months),
        tuple(accumulate(RECENT[min(through - each.month, WINDOW - 1)] for each in months)),
    )


def silent_months(months: Sequence[Observation]) -> int:
    """Returns the number of months without usage at the end, at most SILENT."""
    found = 0
    for each in reversed(months):
        if each.used or found == SILENT:
            break
        found += 1
    return found


def leaving(purses: Iterable[list[Observation]]) -> float:
    """Returns the share of months with usage after which a purse was silent for ABSENT months, while it had credits."""
    gone, all_months = 0, LEAST_MONTHS
    for months in purses:
        for at, each in enumerate(months[:-ABSENT]):
            if each.used:
                all_months += 1
                gone += not any(later.used for later in months[at + 1 : at + 1 + ABSENT])
    return gone / all_months


def _cohort_months(purses: Iterable[list[Observation]], season: Season) -> CohortMonths:
    months = [each for own in purses for each in own]
    return CohortMonths(
        tuple((int(each.drawn / season[each.month % YEAR]), each.opening) for each in months),
        tuple(accumulate(each.opening for each in months)),
    )


def _cases(every: Sequence[list[Observation]], season: Season) -> list[Case]:
    """Returns the last months of purses, each with two forecasts of it from the months before."""
    if len(every) < 2:
        return []
    purses = every[:: max(1, len(every) // MOST_PURSES)]
    opening = sum(each.opening for months in purses for each in months)
    share = fsum(each.drawn / season[each.month % YEAR] for months in purses for each in months) / opening
    found = []
    for months in purses:
        for at in range(max(1, len(months) - TARGETS), len(months)):
            each, before = months[at], months[:at]
            index = season[each.month % YEAR]
            own = own_months(before, each.month - 1, season).mean(index, each.opening)
            cohort = min(share * index, 1.0) * each.opening
            found.append(Case(at, silent_months(before), own, cohort, each.drawn, each.opening))
    return found
