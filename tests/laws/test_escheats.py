"""Credits that are owed to a state at their expiry, movement by movement: at most the amount received for them."""

from __future__ import annotations

from subledger.errors import Conceded
from tests.laws.case import Case, Step, in_euro, on

DAY = on(20)


def sold() -> tuple[Case, Step]:
    """7 credits for EUR 10.00 and 1.90 tax at 1.20, of which 2 are used."""
    case = in_euro()
    case.buys("A", tax="1.90", currency="EUR", expires_at=DAY.isoformat(), escheat_class="DE-3y")
    return case, case.uses("2", 5)


def pays(case: Case, day: int, amount: str) -> None:
    payment = {"payment_id": f"P{day}", "processor": "x", "block_id": "A"}
    case.does("payment.received", day, amount=amount, currency="EUR", **payment)


def moved(step: Step | None) -> list[str]:
    assert step is not None
    return [
        f"{m.accounting_date:%m-%d} {m.kind} {m.credits.normalize():f} {m.amount_minor} {m.functional_minor}"
        for m in step.decision.movements
        if not m.kind.startswith("fx_")
    ]


def expires(case: Case) -> list[str]:
    return moved(case.own("x", "credits.expired", "ann", DAY, block_id="A"))


def test_what_is_not_paid_is_cancelled_with_its_tax_and_only_the_rest_is_a_states() -> None:
    case, _ = sold()
    pays(case, 6, "5.95")
    assert expires(case) == [
        "01-20 void_unpaid 0 500 600", "01-20 tax_reversed_unpaid 0 95 114", "01-20 escheat 5 214 257",
    ]  # fmt: skip


def test_a_paid_block_is_a_states_and_an_unpaid_one_nobodys() -> None:
    case, _ = sold()
    pays(case, 6, "11.90")
    assert expires(case) == ["01-20 escheat 5 714 857"]
    case, _ = sold()
    assert expires(case) == [
        "01-20 void_unpaid 0 714 857",
        "01-20 tax_reversed_unpaid 0 136 163",
        "01-20 escheat 5 0 0",
    ]


def test_usage_that_comes_back_after_the_expiry_is_a_states_at_the_value_that_it_had() -> None:
    case, usage = sold()
    expires(case)
    pays(case, 21, "2.40")
    assert moved(case.takes_back(usage, 25, credits="1")) == [
        "01-25 consumption -1 -143 -172", "01-25 void_unpaid 0 84 101", "01-25 tax_reversed_unpaid 0 16 19",
        "01-25 escheat 1 59 71",
    ]  # fmt: skip
    assert moved(case.takes_back(usage, 26)) == ["01-26 consumption -1 -143 -171", "01-26 escheat 1 143 171"]


def test_a_promotional_block_of_a_class_escheats_no_value() -> None:
    case = Case()
    case.buys("A", price="0.00", expires_at=DAY.isoformat(), escheat_class="DE-3y")
    assert expires(case) == ["01-20 escheat 7 0 None"]


def test_an_expiry_is_not_dated_before_it_was_moved_and_what_comes_back_not_before_it_broke() -> None:
    case = Case()
    case.buys("A", expires_at=on(20).isoformat())
    case.does("block.expiry_changed", 25, block_id="A", expires_at=on(15).isoformat(), reason="r")
    assert moved(case.own("x", "credits.expired", "ann", on(15), block_id="A")) == ["01-25 breakage 7 1000 None"]
    back = case.does("block.expiry_changed", 16, block_id="A", expires_at=on(40).isoformat(), reason="r")
    assert moved(back) == ["01-16 expiry_changed 0 0 None", "01-25 reinstatement 7 1000 None"]


def test_an_expiry_is_not_moved_of_credits_whose_value_was_written_off_also_if_they_were_transferred() -> None:
    case = Case()
    case.buys("A", expires_at=DAY.isoformat())
    case.does("credits.transferred", 3, block_id="A", to_customer="bob", new_block_id="N", credits="3")
    for customer, block_id in (("ann", "A"), ("bob", "N")):
        assert case.own(f"x{block_id}", "credits.expired", customer, DAY, block_id=block_id) is not None
    case.does("receivable.written_off", 21, block_id="A", reason="r")
    for customer, block_id, value in (("ann", "A", "0.00"), ("bob", "N", "0.00")):
        case.sent += 1
        data = {"block_id": block_id, "expires_at": on(40).isoformat(), "reason": "r"}
        assert case.send(f"m{block_id}", "block.expiry_changed", customer, on(22), **data) is None
        error = case.refused[-1]
        assert isinstance(error, Conceded)
        assert (error.field, error.found, error.expected) == (
            "data.block_id",
            block_id,
            f"at most {value} USD of value",
        )
