"""Tax at redemption, movement by movement: a proportional part of the value that usage draws, and that a reversal
returns.
"""

from __future__ import annotations

from typing import Any

from tests.laws.case import Case, in_euro, on


def vouchers(**changes: Any) -> Case:
    """Returns a case with three blocks in EUR, sold at 1.20: 3 credits for 10.00, 2 for nothing, 7 for 1.00."""
    case = in_euro(**changes)
    case.buys("A", 1, credits="3", price="10.00", currency="EUR", priority=1)
    case.does("credits.granted", 1, block_id="B", credits="2", reason="promotional", priority=2)
    case.buys("C", 1, credits="7", price="1.00", currency="EUR", priority=3)
    return case


def moved(case: Case) -> list[str]:
    return [
        f"{m.kind} {m.block_id} {m.credits.normalize():f} {m.amount_minor} {m.functional_minor}"
        for m in case.steps[-1].decision.movements
    ]


def test_each_draw_has_tax_in_proportion_to_its_value() -> None:
    case = vouchers()
    usage = case.uses("8", 2, tax="1.67", currency="EUR")
    assert moved(case) == [
        "consumption A 3 840 1008", "redemption_tax A 0 160 192", "consumption B 2 0 None",
        "consumption C 3 36 43", "redemption_tax C 0 7 8",
    ]  # fmt: skip
    [a, b, c] = case.blocks
    assert (a.redemption_tax_minor, b.redemption_tax_minor, c.redemption_tax_minor) == (160, 0, 7)
    case.takes_back(usage, 3, credits="4")
    assert moved(case) == [
        "consumption C -3 -36 -43", "redemption_tax C 0 -7 -8", "consumption B -1 0 None",
    ]  # fmt: skip
    case.takes_back(usage, 4, credits="2")
    assert moved(case) == [
        "consumption B -1 0 None", "consumption A -1 -280 -336", "redemption_tax A 0 -53 -64",
    ]  # fmt: skip
    case.takes_back(usage, 5, credits="1")
    assert moved(case)[:2] == ["consumption A -1 -280 -336", "redemption_tax A 0 -54 -64"]
    case.takes_back(usage, 6)
    assert moved(case)[:2] == ["consumption A -1 -280 -336", "redemption_tax A 0 -53 -64"]
    assert [(block.redemption_tax_minor, block.drawn_minor) for block in case.blocks] == [(0, 0)] * 3


def test_tax_may_be_all_of_the_value_or_too_small_for_some_draws_or_nothing() -> None:
    case = vouchers()
    case.uses("8", 2, tax="10.43", currency="EUR")
    assert moved(case)[:2] == ["consumption A 3 0 0", "redemption_tax A 0 1000 1200"]
    case = vouchers()
    case.uses("8", 2, tax="0.01", currency="EUR")
    assert moved(case) == [
        "consumption A 3 999 1199", "redemption_tax A 0 1 1", "consumption B 2 0 None", "consumption C 3 43 51",
    ]  # fmt: skip
    case = vouchers()
    case.uses("3", 2, tax="0.00", currency="EUR")
    assert moved(case) == ["consumption A 3 1000 1200"]
    in_dollars = Case()
    in_dollars.buys("A")
    in_dollars.uses("7", 2, tax="1.90", currency="USD")
    assert moved(in_dollars) == ["consumption A 7 810 None", "redemption_tax A 0 190 None"]


def test_overage_beside_a_draw_has_no_part_of_the_tax() -> None:
    case = in_euro(on_shortfall="overage")
    case.buys("A", credits="3", price="10.00", currency="EUR")
    case.uses("5", 2, tax="1.60", currency="EUR", overage_price="1.00")
    assert moved(case) == ["consumption A 3 840 1008", "redemption_tax A 0 160 192", "overage None 2 200 240"]


def refusal(case: Case, credits: str, tax: str, currency: str | None, **data: str) -> tuple[Any, ...]:
    data = data if currency is None else {**data, "currency": currency}
    error = case.is_refused("credits.consumed", 2, credits=credits, tax=tax, **data)
    return error.code, error.field, error.expected, error.found, str(error)


def test_tax_is_refused_that_does_not_fit_what_is_drawn() -> None:
    case = vouchers()
    assert refusal(case, "8", "10.44", "EUR") == (
        "exceeds_value", "data.tax", "at most 10.43", "10.44",
        "the tax exceeds the value that the usage draws (10.43 EUR)",
    )  # fmt: skip
    code, field, expected, found, text = refusal(case, "8", "1.00", "USD")
    assert (code, field, expected, found) == ("wrong_currency", "data.currency", "EUR", "USD")
    assert text.startswith("the value that is drawn is in EUR")
    case.buys("D", 1, credits="3", price="10.00", currency="USD", priority=4)
    assert refusal(case, "15", "1.00", "EUR") == (
        "wrong_currency", "data.tax", "usage of one currency: name the block", "USD",
        "usage with tax draws on blocks in EUR and USD",
    )  # fmt: skip
    assert refusal(case, "1", "0.01", "EUR", block_id="B")[:4] == (
        "exceeds_value", "data.tax", "at most 0.00", "0.01",
    )  # fmt: skip
    case.buys("E", 1, credits="3", price="10.00", tax="1.90", currency="EUR", priority=0)
    assert refusal(case, "1", "0.10", "EUR") == (
        "invalid_value", "data.tax", "no tax: it was due with the sale", "E",
        "data.tax of usage that draws on block E, which was sold with tax",
    )  # fmt: skip
    case.does("credits.transferred", 1, block_id="E", to_customer="ann", new_block_id="F", credits="3")
    assert refusal(case, "1", "0.10", "EUR", block_id="F")[:4] == (
        "invalid_value", "data.tax", "no tax: it was due with the sale", "F",
    )  # fmt: skip
    case.does("credits.transferred", 1, block_id="A", to_customer="ann", new_block_id="G", credits="3")
    case.uses("3", 2, tax="1.60", currency="EUR", block_id="G")
    assert moved(case) == ["consumption G 3 840 1008", "redemption_tax G 0 160 192"]


def test_a_memo_of_redeemed_value_takes_its_tax_back() -> None:
    case = vouchers()
    case.uses("3", 2, tax="1.60", currency="EUR")
    memo = {"block_id": "A", "currency": "EUR", "reason": "r"}
    case.does("credit_memo.issued", 3, amount="8.40", tax="1.60", **memo)
    assert case.is_refused("credit_memo.issued", 4, amount="0.01", **memo).code == "exceeds_value"


def test_the_tax_of_three_draws_adds_up_to_what_is_stated() -> None:
    case = Case()
    for block_id in ("A", "B", "C"):
        case.buys(block_id, credits="1", price="1.00")
    case.uses("3", 2, tax="0.10", currency="USD")
    assert [m.amount_minor for m in case.steps[-1].decision.movements] == [97, 3, 96, 4, 97, 3]


def test_breakage_that_late_usage_takes_back_has_no_tax() -> None:
    case = Case(late_usage="reclassify")
    case.buys("A", expires_at=on(20).isoformat())
    case.own("x", "credits.expired", "ann", on(20), block_id="A")
    case.uses("7", 10, tax="1.90", currency="USD")
    assert moved(case) == ["breakage A -7 -1000 None", "consumption A 7 810 None", "redemption_tax A 0 190 None"]
