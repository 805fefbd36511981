"""Law of recording lag: the moment at which a usage is recorded changes no month; only when it happened does.

A block expires at the end of January, and the expiry is recorded at once. Usage of before may be recorded after it, and
after reversals of other usage.
"""

from __future__ import annotations

from collections import Counter
from datetime import date

from hypothesis import given
from hypothesis import strategies as st

from tests.laws.case import UNTIL_FEBRUARY, Case
from tests.laws.walk import Step

CREDITS = 40
LAST_DAY = 31
MONTH_ENDS = (date(2026, 1, 31), date(2026, 2, 28), date(2026, 3, 31))
REVENUE = {"consumption": "usage_revenue", "breakage": "breakage_revenue"}

Usage = tuple[int, int]
"""A day of January, and credits."""
Reversal = tuple[int, int]
"""The number of a usage, and a day; one credit comes back."""

USAGES = st.lists(st.tuples(st.integers(2, LAST_DAY), st.integers(1, 9)), min_size=1, max_size=6)
REVERSALS = st.lists(st.tuples(st.integers(0, 5), st.integers(2, 60)), max_size=4)


def month_ends(usages: list[Usage], reversals: list[Reversal], late: int | None) -> dict[tuple[date, str], int]:
    """The balances at the month ends. Facts are recorded as they happened, but the usage ``late`` after all others."""
    facts = [(day, 0, number) for number, (day, _) in enumerate(usages) if number != late]
    facts += [(day, 1, number) for number, day in reversals]
    case, recorded, is_swept = Case(), dict[int, Step](), False
    case.buys("A", credits=str(CREDITS), price="40.00", **UNTIL_FEBRUARY)
    for day, is_reversal, number in sorted(facts):
        if day > LAST_DAY and not is_swept:
            is_swept = _sweep(case)
        if is_reversal:
            case.takes_back(recorded[number], day, credits="1")
        else:
            recorded[number] = case.uses(str(usages[number][1]), day)
    if not is_swept:
        _sweep(case)
    if late is not None:
        case.uses(str(usages[late][1]), usages[late][0])
    return _balances(case)


def _sweep(case: Case) -> bool:
    [block] = case.wallets["ann"].blocks
    if block.remaining:
        case.expires("A")
    return True


def _balances(case: Case) -> dict[tuple[date, str], int]:
    found: Counter[tuple[date, str]] = Counter()
    for entry in case.entries:
        for end in MONTH_ENDS:
            if entry.accounting_date <= end:
                amount = entry.amount_minor if entry.kind in REVENUE else -entry.amount_minor
                found[end, "prepaid_liability"] -= amount
                found[end, REVENUE.get(entry.kind, "purchases")] += amount
    return {key: amount for key, amount in found.items() if amount}


@given(USAGES, REVERSALS, st.integers(0, 5))
def test_recording_one_usage_later_changes_no_month(usages: list[Usage], taken_back: list[Reversal], pick: int) -> None:
    late = pick % len(usages)
    if sum(credits for _, credits in usages) > CREDITS:
        return  # some usage would be refused, in one order or the other
    reversals, left = [], Counter({number: credits for number, (_, credits) in enumerate(usages)})
    for number, day in taken_back:
        # What is taken back of the late usage cannot be recorded before it.
        if number != late and number < len(usages) and day >= usages[number][0] and left[number]:
            reversals.append((number, day))
            left[number] -= 1
    assert month_ends(usages, reversals, late) == month_ends(usages, reversals, None)
