"""Forecasts of a monthly series: the consumption of a whole ledger, its purchases, and the season of its usage.

Several simple methods forecast the series without its season. The run rate is one of them. The weight of a method
follows from the errors that it would have had in the past of the same series (R. Winkler and S. Makridakis, "The
Combination of Forecasts", Journal of the Royal Statistical Society A 146 (1983)).

The season is the average shape of the last two or three whole years, each relative to its own mean and trend. It is
weighted by the agreement of the years: their mean correlation, extended to the number of years by the formula of
Spearman and Brown (1910). With less than two years there is no season.

Owns: the methods, their combination, the season. Does not own: the usage of a customer (``habits``), the run-off of the
open blocks (``runoff``).

Pure: no clock, no database. Floats, but only operations that give the same result on every machine.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import fsum, sqrt
from typing import Final

YEAR: Final = 12
MOST_YEARS: Final = 3
LEAST_AGREEMENT: Final = 0.3
"""The lowest agreement of the years for which a season is used."""
ORIGINS: Final = 12
"""The number of past months after which the methods are tried."""
SMALLEST_INDEX: Final = 0.1

Season = tuple[float, ...]
"""The usage of January to December as multiples of a year's mean."""
NO_SEASON: Final[Season] = (1.0,) * YEAR

Method = Callable[[Sequence[float], int], list[float]]
"""A function that takes the past months and a number of months, and returns the forecast of that number of months."""


# --- methods --------------------------------------------------------------------------------------------------------


def mean_of_last(number: int) -> Method:
    """Returns the run rate: the mean of the last months, for every future month."""

    def method(past: Sequence[float], months: int) -> list[float]:
        last = past[-number:]
        return [fsum(last) / len(last)] * months

    return method


def damped_trend(past: Sequence[float], months: int) -> list[float]:
    """Exponential smoothing with a damped trend: E. Gardner and E. McKenzie, Management Science 31 (1985)."""
    level, trend = past[0], 0.0
    for value in past[1:]:
        before = level
        level = 0.5 * value + 0.5 * (level + 0.9 * trend)
        trend = 0.2 * (level - before) + 0.8 * 0.9 * trend
    found, damping = [], 1.0
    for _ in range(months):
        damping *= 0.9
        level += damping * trend
        found.append(max(level, 0.0))
    return found


def half_years(past: Sequence[float], months: int) -> list[float]:
    """The line through the means of the last half year and the half year before it, or of shorter halves; flat after
    half a year.
    """
    half = min(YEAR // 2, len(past) // 2)
    if half < 3:
        return mean_of_last(3)(past, months)
    recent, earlier = fsum(past[-half:]) / half, fsum(past[-2 * half : -half]) / half
    step = (recent - earlier) / half
    return [max(recent + step * ((half - 1) / 2 + min(ahead, YEAR // 2)), 0.0) for ahead in range(1, months + 1)]


METHODS: Final[tuple[Method, ...]] = (
    mean_of_last(1),
    mean_of_last(3),
    mean_of_last(6),
    mean_of_last(12),
    damped_trend,
    half_years,
)


# --- season ---------------------------------------------------------------------------------------------------------


def season_of(past: Sequence[float], next_month: int) -> Season:
    """Returns the season of a series. ``next_month`` is the ``month_number`` of the month after it."""
    years = min(len(past) // YEAR, MOST_YEARS)
    blocks = [past[len(past) - YEAR * (at + 1) : len(past) - YEAR * at] for at in range(years)]
    means = [fsum(block) / YEAR for block in blocks]
    if years < 2 or min(means) <= 0:
        return NO_SEASON
    step = (means[0] - means[-1]) / (YEAR * (years - 1))
    shapes = [_shape(block, mean, step) for block, mean in zip(blocks, means, strict=True)]
    pairs = [_correlation(one, other) for at, one in enumerate(shapes) for other in shapes[:at]]
    agreement = fsum(pairs) / len(pairs)
    if agreement < LEAST_AGREEMENT:
        return NO_SEASON
    belief = years * agreement / (1 + (years - 1) * agreement)
    index = [max(1 + belief * fsum(months) / years, SMALLEST_INDEX) for months in zip(*shapes, strict=True)]
    mean = fsum(index) / YEAR
    return tuple(index[(month - next_month) % YEAR] / mean for month in range(YEAR))


def _shape(year: Sequence[float], mean: float, step: float) -> list[float]:
    """Returns the months of a year relative to the line through its mean, as deviations from their average."""
    beside = [value / max(mean + step * (at - (YEAR - 1) / 2), mean / 4) for at, value in enumerate(year)]
    average = fsum(beside) / YEAR
    return [each / average - 1 for each in beside] if average > 0 else [0.0] * YEAR


def _correlation(one: Sequence[float], other: Sequence[float]) -> float:
    scale = sqrt(fsum(each * each for each in one) * fsum(each * each for each in other))
    return fsum(a * b for a, b in zip(one, other, strict=True)) / scale if scale else 0.0


# --- combination ----------------------------------------------------------------------------------------------------


def expected(past: Sequence[float], next_month: int, months: int) -> list[float]:
    """Returns the forecast of a series: the mean of all methods, weighted by the cube of their past precision.

    The first month of a series is usually not a whole month. It is left out if there are at least three others. Without
    past months the forecast is zero.
    """
    if not past or not any(past):
        return [0.0] * months
    season = season_of(past, next_month)
    first = next_month - len(past)
    flat = [value / season[(first + at) % YEAR] for at, value in enumerate(past)]
    flat = flat[1:] if len(flat) > 3 else flat
    said = [method(flat, months) for method in METHODS]
    errors = [_errors(method, flat, min(months, ORIGINS)) for method in METHODS]
    weights = [_weights([of_method[: ahead + 1] for of_method in errors]) for ahead in range(min(months, ORIGINS))]
    found = []
    for ahead in range(months):
        of_methods = zip(weights[min(ahead, ORIGINS - 1)], said, strict=True)
        found.append(fsum(weight * each[ahead] for weight, each in of_methods) * season[(next_month + ahead) % YEAR])
    return found


def _errors(method: Method, flat: Sequence[float], months: int) -> list[list[float]]:
    """Returns a method's squared errors in the past, by the number of months ahead."""
    errors: list[list[float]] = [[] for _ in range(months)]
    for origin in range(max(3, len(flat) - ORIGINS), len(flat)):
        for ahead, value in enumerate(method(flat[:origin], min(months, len(flat) - origin))):
            errors[ahead].append((value - flat[origin + ahead]) ** 2)
    return errors


def _weights(errors: Sequence[Sequence[Sequence[float]]]) -> list[float]:
    """Returns weights that add up to 1, by the mean squared errors up to a number of months ahead."""
    means = []
    for of_method in errors:
        every = [error for ahead in of_method for error in ahead]
        means.append(fsum(every) / len(every) if every else 0.0)
    least = min(means)
    if least <= 0:
        exact = [float(mean <= 0) for mean in means]
        return [each / fsum(exact) for each in exact]
    weights = [(least / mean) ** 3 for mean in means]
    return [each / fsum(weights) for each in weights]
