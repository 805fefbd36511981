"""Forecast trials: the errors of the forecast on portfolios whose behaviour is known, compared with the run rate.

    make forecast-trials                                     every portfolio, a few minutes
    python -m tests.campaigns.forecast_trials --seeds 1 --portfolio steady

Each portfolio is forecast at its last twelve month-ends, as in the back-test of `report forecast`. A forecast uses only
the months before it, and is made for one month and for the sums of three and of six months. A history of 10 months is a
young ledger. A history of 36 months is long enough to show a season. The retail portfolio needs `SUBLEDGER_TEST_DATA`.
The result is the table in `projections/README.md`.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from datetime import date
from fractions import Fraction
from pathlib import Path
from typing import Final, NamedTuple

from projections.forecast.accuracy import Compared, errors
from projections.forecast.backtest import FORECAST, LAST_MONTH, METHODS, RUN_RATE, Trial, trials
from projections.forecast.bands import Bands, within
from projections.forecast.holdings import Holding, month_number
from projections.forecast.prospects import BREAKAGE, CONSUMPTION, MEASURES, TOTAL
from tests.campaigns.portfolios import FIRST, PORTFOLIOS, monthly_of, shop

AHEAD: Final = (1, 3, 6)
YOUNG, OLD = 10, 36
SEEDS: Final = 3
FIRST_SEED: Final = 100
"""Seeds that were not used to choose the method; it was chosen with smaller seeds."""
RETAIL: Final = "retail"
INVOICES: Final = "online_retail_invoices.csv.gz"
NAMES: Final = {
    TOTAL: "all consumption",
    CONSUMPTION: "consumption of the open blocks",
    BREAKAGE: "breakage of the open blocks",
}


class Result(NamedTuple):
    """The errors of a portfolio in one measure, a number of months ahead; None if the actual amounts are zero."""

    portfolio: str
    history: int
    measure: str
    ahead: int
    cases: int
    wape: dict[str, Fraction | None]
    bias: Fraction | None
    within: Fraction | None


def measured(name: str, history: int, books: Iterable[tuple[list[Holding], int]]) -> Iterator[Result]:
    """Yields the errors over some books of a portfolio, each with its last month."""
    tried = [trials(holdings, monthly_of(holdings), last) for holdings, last in books]
    for measure in MEASURES:
        for ahead in AHEAD:
            cases = [case for of_book in tried for case in _cases(of_book, measure, ahead)]
            if not cases:
                continue
            bands = [case.is_within for case in cases if case.is_within is not None]
            yield Result(
                portfolio=name,
                history=history,
                measure=measure,
                ahead=ahead,
                cases=len(cases),
                wape={method: errors(cases, method)[0] for method in METHODS},
                bias=errors(cases, FORECAST)[1],
                within=Fraction(sum(bands), len(bands)) if bands else None,
            )


def _cases(tried: Sequence[Trial], measure: str, ahead: int) -> Iterator[Compared]:
    months = slice(0, ahead)
    for trial in tried:
        if ahead > len(trial.actuals):
            continue
        bands, is_within = Bands(tried, trial.month), None
        if bands.spread(trial.currency, measure, months) is not None:
            is_within = within(
                bands.band(trial.prospect, trial.currency, measure, months), trial.actual(measure, months)
            )
        expected = {method: trial.by(method, measure, months) for method in METHODS}
        yield Compared(trial.currency, ahead, measure, expected, trial.actual(measure, months), is_within)


def synthetic(name: str, history: int, seeds: int) -> list[Result]:
    books = ((PORTFOLIOS[name](seed, history), FIRST + history - 1) for seed in range(FIRST_SEED, FIRST_SEED + seeds))
    return list(measured(name, history, books))


def retail(path: Path) -> list[Result]:
    return list(measured(RETAIL, 12, [(shop(path), month_number(date(2011, 11, 30)))]))


def lines(results: Sequence[Result], measure: str) -> Iterator[str]:
    """Yields the table of a measure in Markdown: errors of the forecast, the run rate and the last month, and bias."""
    yield f"**{NAMES[measure]}**"
    yield ""
    yield "| portfolio, months of history | " + " | ".join(f"{ahead} ahead | bias" for ahead in AHEAD) + " |"
    yield "|---|" + "---|" * (2 * len(AHEAD))
    portfolios = dict.fromkeys((each.portfolio, each.history) for each in results)
    for name, history in portfolios:
        own = {each.ahead: each for each in results if each[:3] == (name, history, measure)}
        if not any(each.wape[FORECAST] for each in own.values()):
            continue
        cells = [cell for ahead in AHEAD for cell in _cells(own.get(ahead))]
        yield f"| {name}, {history} | " + " | ".join(cells) + " |"
    yield ""


def _cells(result: Result | None) -> tuple[str, str]:
    if result is None or result.wape[FORECAST] is None:
        return "–", "–"
    wapes = [_percent(result.wape[method]) for method in (FORECAST, RUN_RATE, LAST_MONTH)]
    return f"**{wapes[0]}** / {wapes[1]} / {wapes[2]}", _percent(result.bias, sign="+")


def _percent(ratio: Fraction | None, sign: str = "") -> str:
    return "–" if ratio is None else f"{float(ratio) * 100:{sign}.1f}"


def covered(results: Sequence[Result]) -> str:
    """Returns the share of actual amounts within their band, over all portfolios."""
    found = []
    for measure in MEASURES:
        shares = [each.within for each in results if each.measure == measure and each.within is not None]
        if shares:
            found.append(f"{NAMES[measure]} {_percent(sum(shares) / len(shares))} %")
    return "Within their bands (nominally 80 %): " + ", ".join(found) + "."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seeds", type=int, default=SEEDS, help="portfolios of each kind")
    parser.add_argument("--portfolio", choices=[*PORTFOLIOS, RETAIL], help="this one alone")
    arguments = parser.parse_args()
    results: list[Result] = []
    for name in PORTFOLIOS if arguments.portfolio is None else {arguments.portfolio} & set(PORTFOLIOS):
        for history in (YOUNG, OLD):
            print(f"{name}, {history} months", file=sys.stderr)
            results += synthetic(name, history, arguments.seeds)
    folder = os.environ.get("SUBLEDGER_TEST_DATA", str(Path(__file__).parents[3] / "shared" / "data"))
    invoices = Path(folder) / INVOICES
    if arguments.portfolio in (None, RETAIL):
        if invoices.exists():
            results += retail(invoices)
        else:
            print(f"{invoices} is missing: set SUBLEDGER_TEST_DATA; no retail portfolio", file=sys.stderr)
    print("Errors in percent, Σ |forecast − actual| / Σ |actual|: **forecast** / run rate / last month.\n")
    for measure in (TOTAL, CONSUMPTION, BREAKAGE):
        print("\n".join(lines(results, measure)))
    print(covered(results))


if __name__ == "__main__":
    main()
