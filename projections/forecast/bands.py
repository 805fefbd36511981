"""Bands around expected amounts, from the errors of earlier forecasts of the same ledger.

A band is the expected amount plus and minus the error that four of five earlier trials did not exceed, so its nominal
coverage is 80 %. Errors are shares. For the use of open blocks they are shares of the amount expected to remain, and
for the total consumption shares of the expected amount. The error of the band is the ⌈0.8 × (n + 1)⌉-th smallest of n
earlier errors.

With fewer than four trials the band of open blocks is the full range of possible amounts, and the total consumption has
no band. A band of open blocks never exceeds the range of possible amounts.

Sources: split conformal prediction, V. Vovk et al., "Algorithmic Learning in a Random World" (2005); for forecasts of
several steps K. Stankevičiūtė et al., "Conformal time-series forecasting" (NeurIPS 2021).

Owns: the bands. Does not own: the trials (``backtest``).

Pure: functions of figures.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from typing import Final

from projections.forecast.backtest import CUMULATED, Trial
from projections.forecast.prospects import BREAKAGE, CONSUMPTION, HORIZON, MEASURES, TOTAL, Prospect

LEVEL: Final = Fraction(4, 5)
Band = tuple[int | None, int | None]
"""Low and high in minor units; None if no limit is known."""


class Bands:
    """The errors of the trials whose outcome was known at the end of a month."""

    def __init__(self, tried: Iterable[Trial], known: int) -> None:
        self._errors: dict[tuple[str, str, int, int], list[Fraction]] = {}
        for trial in tried:
            for months in stretches(min(len(trial.actuals), known - trial.month)):
                for measure in MEASURES:
                    error = trial.error(measure, months)
                    if error is not None:
                        key = (trial.currency, measure, months.start, months.stop)
                        self._errors.setdefault(key, []).append(error)

    def spread(self, currency: str, measure: str, months: slice) -> Fraction | None:
        """Returns the error that a share LEVEL of all forecasts does not exceed; None with too few trials."""
        return spread(self._errors.get((currency, measure, months.start, months.stop), []))

    def band(self, prospect: Prospect, currency: str, measure: str, months: slice) -> Band:
        """Returns low and high of the expected amount. Months beyond the tried ones have the widest band of these."""
        expected, most = prospect.expected(measure, months), _most(prospect, measure, months)
        tried = [months] if months.stop <= HORIZON else [slice(at, at + 1) for at in range(HORIZON)]
        spreads = [self.spread(currency, measure, each) for each in tried]
        widest = max((each for each in spreads if each is not None), default=None)
        if widest is None or (months.stop <= HORIZON and spreads[0] is None):
            return (None, None) if measure == TOTAL else (0, most)
        off = math.ceil(widest * max(prospect.exposed(measure, months), 0))
        high = expected + off if most is None else max(expected, min(expected + off, most))
        return max(expected - off, 0), high


def within(band: Band, actual: int) -> int | None:
    """Returns 1 if an amount is in a band, else 0; None if there is no band."""
    low, high = band
    return None if low is None or high is None else int(low <= actual <= high)


def spread(errors: Sequence[Fraction]) -> Fraction | None:
    """Returns the ⌈LEVEL × (n + 1)⌉-th smallest of n errors, None if n is too small."""
    rank = math.ceil(LEVEL * (len(errors) + 1))
    return sorted(errors)[rank - 1] if rank <= len(errors) else None


def _most(prospect: Prospect, measure: str, months: slice) -> int | None:
    """Returns the largest possible amount; None if there is no limit."""
    if measure == CONSUMPTION:
        return max(prospect.outlook.usable[months], default=0)
    return sum(prospect.outlook.expiring[months]) if measure == BREAKAGE else None


def stretches(months: int) -> Iterator[slice]:
    """Yields the stretches of months that are tried: each single month up to the horizon, and the sums of months."""
    for month in range(min(months, HORIZON)):
        yield slice(month, month + 1)
    for number in CUMULATED:
        if number <= months:
            yield slice(0, number)
