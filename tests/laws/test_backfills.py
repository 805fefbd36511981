"""Laws of backfills: the unbilled overage that a new block pays first, the amount, and the day."""

from __future__ import annotations

from datetime import date

from tests.laws.case import Case, told


def test_what_a_backfill_differs_by_is_a_part_of_its_draw_and_no_gain() -> None:
    case = Case(on_shortfall="backfill")
    case.uses("2", 10, overage_price="5.00", currency="USD")
    step = case.buys("A", 5)
    assert told(step) == [
        "01-05 purchase 1000 block=A credits=7",
        "01-10 overage_backfilled 1000 block=A credits=2 overage=1",
        "01-10 backfill_difference -714 block=A overage=1",
    ]
    [now] = step.wallets["ann"].blocks
    assert (now.losses_from, now.used, now.drawn_minor) == (date(2026, 1, 5), 2, 286)
    [usage] = step.wallets["ann"].overages
    assert (usage.open, usage.open_minor, usage.settled_by) == (0, 0, ("e2",))


def test_a_backfill_pays_the_oldest_overage_first_and_only_overage_that_its_block_could_have_paid_for() -> None:
    case = Case(on_shortfall="backfill")
    case.does("exchange_rate.set", 1, None, base="EUR", quote="USD", rate="1.2", rate_source="ECB")
    usd = {"overage_price": "1.00", "currency": "USD"}
    case.uses("1", 2, product="api", **{**usd, "currency": "EUR"})
    case.uses("1", 2, unit="token", **usd)
    case.uses("1", 2, product="other", **usd)
    case.uses("1", 2, on_shortfall="overage", product="api", **usd)
    case.uses("1", 2, product="api", **usd)
    case.uses("2", 3, product="api", **usd)
    case.uses("9", 4, product="web", **usd)
    step = case.buys("A", 3, credits="4", price="4.00", bonus_credits="1", scope=["api", "web"])
    assert told(step) == [
        "01-03 purchase 400 block=A credits=5",
        "01-03 overage_backfilled 100 block=A credits=1 overage=6 product=api",
        "01-03 backfill_difference -20 block=A overage=6 product=api",
        "01-03 overage_backfilled 200 block=A credits=2 overage=7 product=api",
        "01-03 backfill_difference -40 block=A overage=7 product=api",
        "01-04 overage_backfilled 200 block=A credits=2 overage=8 product=web",
        "01-04 backfill_difference -40 block=A overage=8 product=web",
    ]
    assert told(case.buys("B", 5, credits="4", price="4.00", scope=["web"])) == [
        "01-05 purchase 400 block=B credits=4",
        "01-05 overage_backfilled 400 block=B credits=4 overage=8 product=web",
    ], "what is paid is not paid again"


def test_a_backfill_goes_on_to_the_last_credit_and_no_further() -> None:
    case = Case(on_shortfall="backfill")
    for _ in range(3):
        case.uses("1", 2, overage_price="0.50", currency="USD")
    assert told(case.buys("A", 3, credits="2", price="1.00")) == [
        "01-03 purchase 100 block=A credits=2",
        "01-03 overage_backfilled 50 block=A credits=1 overage=1",
        "01-03 overage_backfilled 50 block=A credits=1 overage=2",
    ]


def test_an_overage_at_the_blocks_own_price_is_backfilled_without_a_difference() -> None:
    case = Case(on_shortfall="backfill")
    case.uses("2", 10, overage_price="0.10", currency="USD")
    assert told(case.buys("A", 12, credits="10", price="1.00", tax="0.20")) == [
        "01-12 purchase 100 block=A credits=10",
        "01-12 purchase_tax 20 block=A",
        "01-12 overage_backfilled 20 block=A credits=2 overage=1",
    ]
    case.uses("1", 13, unit="token", overage_price="0.10", currency="USD")
    assert len(told(case.buys("B", 14))) == 1, "of another unit"
