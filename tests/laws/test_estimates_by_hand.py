"""Breakage estimates with figures by hand: the cohorts of a pool, the entries that are due, and every refusal."""

from __future__ import annotations

from typing import Any

import pytest

from tests.laws.case import UNTIL_FEBRUARY, Case, in_euro, on, told

RATE = {"currency": "USD", "expected_breakage_rate": "0.1", "evidence": "r"}


def estimated() -> Case:
    """Pool p has cohorts of January and February at 10 %; pool w is one cohort.

    In pool x, January is used up. Of February one block has expired, and another has remaining credits.
    """
    case = Case()
    case.buys("A", 2, pool="p", unit="p")
    case.buys("B", 33, pool="p", unit="p", price="20.00")
    case.does("breakage.estimated", 34, None, pool="p", **RATE)
    case.buys("W", 2, pool="w", unit="w")
    case.does("breakage.estimated", 34, None, pool="w", currency="USD", expected_breakage="1.00", evidence="r")
    case.buys("X", 2, pool="x", unit="x")
    case.uses("7", 3, unit="x")
    for name, moment in (("Y", on(40)), ("Z", on(90))):
        case.buys(name, 33, pool="x", unit="x", expires_at=moment.isoformat())
    assert case.own("y", "credits.expired", "ann", on(40), block_id="Y")
    return case


AMOUNT: dict[str, Any] = {"expected_breakage_rate": ..., "expected_breakage": "1.00"}
NOTHING_LEFT = "the expected breakage and escheat leave nothing of pool {} to be redeemed"

# The data; code, field, expected, found; the words
REFUSED: list[tuple[dict[str, Any], tuple[str, str, str, str], str]] = [
    ({"pool": "p", "cohorts": "year"}, ("cohorts_fixed", "data.cohorts", "month, or absent", "year"),
     "the cohorts of pool p were set by its first estimate, or it is older than cohorts: month"),
    ({"pool": "p", "cohort": "2026"}, ("unknown_cohort", "data.cohort", "the name of a month", "2026"),
     "pool p has no cohort 2026: its cohorts are by month"),
    ({"pool": "w", "cohort": "2026-01"}, ("unknown_cohort", "data.cohort", "absent", "2026-01"),
     "pool w is one cohort by itself"),
    ({"pool": "n", "cohorts": "year", "cohort": "2026-01"},
     ("unknown_cohort", "data.cohort", "the name of a year", "2026-01"),
     "pool n has no cohort 2026-01: its cohorts are by year"),
    ({"pool": "p", **AMOUNT}, ("unknown_cohort", "data.cohort", "one of 2026-01, 2026-02", "none"),
     "pool p has 2 cohorts, and an amount is of one"),
    ({"pool": "p", "currency": "EUR"}, ("wrong_currency", "data.currency", "USD", "EUR"), "pool p is in USD"),
    ({"pool": "p", "cohort": "2026-03"}, ("unknown_cohort", "data.cohort", "one of 2026-01, 2026-02", "2026-03"),
     "nothing of pool p is issued in 2026-03: an estimate of a cohort needs a block"),
    ({"pool": "n", "cohort": "2026-03"}, ("unknown_cohort", "data.cohort", "absent", "2026-03"),
     "nothing of pool n is issued in 2026-03: an estimate of a cohort needs a block"),
    *(({"pool": pool, "expected_breakage_rate": "0.9", "expected_escheat_rate": "0.1"},
       ("estimate_too_high", "data.expected_breakage_rate", "together less than what is issued", "0.9"),
       NOTHING_LEFT.format(pool)) for pool in "pn"),
    ({"pool": "n", **AMOUNT},
     ("estimate_too_high", "data.expected_breakage", "together less than what is issued", "1.00"),
     NOTHING_LEFT.format("n")),
    # 10.00 of the 20.00 of February have expired; January is used up, so a rate does not have to fit it.
    ({"pool": "x"}, ("estimate_too_low", "data.expected_breakage_rate", "at least 10.00 of breakage", "0.1"),
     "more has expired of cohort 2026-02 of pool x than the expected breakage (10.00 USD)"),
    ({"pool": "x", "cohort": "2026-02", **AMOUNT},
     ("estimate_too_low", "data.expected_breakage", "at least 10.00 of breakage", "1.00"),
     "more has expired of cohort 2026-02 of pool x than the expected breakage (10.00 USD)"),
]  # fmt: skip


@pytest.mark.parametrize(("data", "facts", "words"), REFUSED, ids=lambda value: value if isinstance(value, str) else "")
def test_a_refused_estimate_names_its_field_and_says_what_was_expected_and_found(
    data: dict[str, Any], facts: tuple[str, str, str, str], words: str
) -> None:
    error = estimated().is_refused("breakage.estimated", 41, None, **{**RATE, **data})
    assert (error.code, error.field, error.expected, error.found) == facts
    assert error.message == words


def test_a_rate_leaves_a_cohort_that_it_does_not_fit_as_it_was() -> None:
    """A third cohort of pool x fits the rate of 10 %. Of February's cohort 10.00 of 20.00 have expired."""
    case = estimated()
    case.buys("V", 60, pool="x", unit="x")
    step = case.does("breakage.estimated", 61, None, pool="x", **RATE)
    assert step.decision.kept_estimates == ("2026-02",)
    cohorts = case.books.pools.cohorts["x"]
    assert cohorts["2026-02"].estimate is None
    assert cohorts["2026-03"].estimate is not None


@pytest.mark.parametrize(
    ("stated", "names"),
    [({}, ["2026-01", "2026-02"]), ({"cohorts": "year"}, ["2026"]), ({"cohorts": "none"}, [""]),
     ({"cohorts": "quarter"}, ["2026-Q1"]), (AMOUNT, [""]), ({**AMOUNT, "cohorts": "year"}, ["2026"]),
     ({"cohort": "2026-01"}, ["2026-01", "2026-02"]), ({**AMOUNT, "cohort": "2026-02"}, ["2026-01", "2026-02"])],
    ids=str,
)  # fmt: skip
def test_the_first_estimate_of_a_pool_divides_its_blocks_into_cohorts(stated: dict[str, Any], names: list[str]) -> None:
    case = Case()
    case.buys("A", 2, pool="p")
    case.buys("B", 33, pool="p")
    case.does("breakage.estimated", 34, None, pool="p", **{**RATE, **stated})
    assert sorted(name for name, each in case.books.pools.cohorts["p"].items() if each.has_begun) == names


def test_an_estimate_is_an_entry_in_the_currency_of_the_pool() -> None:
    """Half of 100.00 is redeemed: T = 10.00 × 50 / 90 = 5.56, at 1.20 6.67."""
    for case, currency, entry in (
        (Case(), "USD", "01-04 breakage_estimate 556 cohort=2026-01 pool=p"),
        (in_euro(), "EUR", "01-04 breakage_estimate 556 cohort=2026-01 currency=EUR functional=667 pool=p"),
    ):
        case.buys("A", 2, credits="100", price="100.00", pool="p", currency=currency)
        case.uses("50", 3)
        assert told(case.does("breakage.estimated", 4, None, pool="p", **{**RATE, "currency": currency})) == [entry]


def test_breakage_that_falls_in_the_functional_currency_while_it_rises_takes_two_entries() -> None:
    """100.00 EUR at 1.20 and 1 %, 45.00 redeemed: T = 1.00 × 45 / 99 = 0.45, 0.54 USD. 8.00 more at 0.10; then 55.00
    are redeemed: T = 0.45 + 0.63 × 55 / 61.92 = 1.01. The 0.56 more are at 120.80 / 108.00: 0.63, together 1.17 USD.
    At last the 8.00 expire, which are 0.80 USD: 6.99 EUR more, and 0.37 USD less.
    """
    case = in_euro()
    case.buys("A", 2, credits="100", price="100.00", pool="p", currency="EUR")
    data = {"pool": "p", "currency": "EUR", "evidence": "r"}
    case.does("breakage.estimated", 3, None, **data, expected_breakage_rate="0.01")
    case.uses("45", 4)
    case.does("exchange_rate.set", 5, None, base="EUR", quote="USD", rate="0.1", rate_source="ECB")
    case.buys("B", 5, credits="8", price="8.00", pool="p", unit="b", currency="EUR", **UNTIL_FEBRUARY)
    case.uses("55", 6)
    entry = "breakage_estimate {} cohort=2026-01 currency=EUR functional={} pool=p"
    assert [line[6:] for step in case.steps for line in told(step) if "breakage" in line] == [
        entry.format(45, 54),
        entry.format(56, 63),
    ]
    assert [line[6:] for line in told(case.expires("B")) if "breakage_estimate" in line] == [
        entry.format(699, 0),
        entry.format(0, -37),
    ]
