"""Transferred credits, movement by movement: the credits that return to the bought block, their customer, and their
value.

Seven credits are bought for EUR 10.00 and 1.90 tax at 1.20, and paid.
"""

from __future__ import annotations

from datetime import date
from decimal import Decimal

import pytest

from subledger.availability import Portion
from subledger.blocks import Block
from subledger.deciding.context import Dates
from subledger.deciding.transferred import bought, handed_again, recalled, with_transferred
from tests.laws.case import Case, Step, in_euro, on, told


def paid(**changes: str) -> Case:
    case = in_euro()
    case.buys("A", price="10.00", tax="1.90", currency="EUR", **changes)
    case.does(
        "payment.received", 2, payment_id="P", amount="11.90", currency="EUR", block_id="A", processor="x"
    )  # fmt: skip
    return case


def gives(case: Case, day: int, of: tuple[str, str], to: tuple[str, str], credits: str) -> Step:
    customer, block_id = of
    data = {"block_id": block_id, "to_customer": to[0], "new_block_id": to[1], "credits": credits}
    return case.does("credits.transferred", day, customer, **data)


def moved(step: Step) -> list[str]:
    """Returns kind, block, credits, amount and functional amount; and the customer, if it is not that of the event."""
    return [
        f"{m.kind} {m.block_id} {m.credits.normalize():f} {m.amount_minor} {m.functional_minor}"
        + ("" if m.customer is None else f" of {m.customer}")
        for m in step.decision.movements
    ]


def blocks(case: Case) -> dict[str, str]:
    return {
        b.block_id: f"{b.left.credits.normalize():f} {b.left.amount_minor} {b.left.functional_minor}"
        for b in case.blocks
    }


def block(case: Case, block_id: str) -> Block:
    return next(block for block in case.blocks if block.block_id == block_id)


def test_what_is_passed_on_goes_back_to_the_bought_block_and_out_again_at_its_value() -> None:
    case = paid()
    assert moved(gives(case, 3, ("ann", "A"), ("bob", "N"), "3")) == [
        "transfer_out A 3 429 515", "transfer_in N 3 429 515 of bob",
    ]  # fmt: skip
    held = block(case, "N")
    assert (held.origin, held.payer, held.tax_minor, held.taxed_minor, held.receivable_minor) == ("A", "ann", 0, 429, 0)
    assert moved(gives(case, 4, ("bob", "N"), ("ann", "M"), "1")) == [
        "transfer_out N 1 143 172", "transfer_out A -1 -143 -172 of ann", "transfer_out A 1 143 172 of ann",
        "transfer_in M 1 143 172 of ann",
    ]  # fmt: skip
    assert (block(case, "M").origin, block(case, "M").payer) == ("A", "ann")
    assert block(case, "A").handed == (("N", "bob"), ("M", "ann"))
    gives(case, 5, ("bob", "N"), ("bob", "O"), "1")
    assert moved(case.does("credits.refunded", 6, "bob", block_id="O", credits="0.5")) == [
        "transfer_out O 0.5 72 87", "transfer_out A -0.5 -72 -87 of ann", "refund A 0.5 72 86 of ann",
        "tax_reversed_paid A 0 14 17 of ann",
    ]  # fmt: skip
    assert moved(case.does("purchase.voided", 7, "ann", block_id="M", reason="r")) == [
        "transfer_out M 1 143 172", "transfer_out A -1 -143 -172", "void_paid A 1 143 172",
        "tax_reversed_paid A 0 27 32",
    ]  # fmt: skip
    assert blocks(case) == {"A": "4 571 686", "N": "1 143 171", "M": "0 0 0", "O": "0.5 71 85"}


def test_money_of_a_transferred_block_is_its_payers_and_nobody_elses() -> None:
    case = paid()
    gives(case, 3, ("ann", "A"), ("bob", "N"), "3")
    case.sent += 1
    assert case.send("q", "payment.received", "bob", on(4), amount="1.00", currency="EUR", block_id="N") is None
    error = case.refused[-1]
    assert (error.code, error.field, error.expected, error.found) == (
        "block_of_another_customer", "data.block_id", "a block that bob bought", "N",
    )  # fmt: skip
    assert str(error) == "block N was bought by another customer than bob"
    assert case.is_refused("credit_memo.issued", 4, block_id="N", amount="1.00", currency="EUR", reason="r").code == (
        "exceeds_value"
    )
    case.does("credits.consumed", 4, "bob", credits="3")
    assert moved(
        case.does("credit_memo.issued", 5, block_id="N", amount="1.00", currency="EUR", reason="r")
    ) == ["memo_paid A 0 100 120"]  # fmt: skip
    assert case.is_refused("credit_memo.issued", 5, block_id="X", amount="1.00", currency="EUR", reason="r").code == (
        "unknown_block"
    )


def test_a_dispute_calls_back_what_the_bought_block_lacks_oldest_transfers_first_and_hands_it_out_again() -> None:
    case = paid()
    for name, customer, credits in (("N", "bob", "3"), ("M", "bob", "2"), ("O", "ann", "1")):
        gives(case, 3, ("ann", "A"), (customer, name), credits)
    before = blocks(case)
    assert before == {"A": "1 142 170", "N": "3 429 515", "M": "2 286 343", "O": "1 143 172"}
    assert moved(case.does("dispute.opened", 8, dispute_id="D", payment_id="P")) == [
        "dispute_opened A 0 1190 1428",
        "transfer_out N 3 429 515 of bob", "transfer_out A -3 -429 -515",
        "transfer_out M 2 286 343 of bob", "transfer_out A -2 -286 -343",
        "transfer_out O 1 143 172", "transfer_out A -1 -143 -172",
    ]  # fmt: skip
    assert (block(case, "A").available, blocks(case)["A"]) == (0, "7 1000 1200")
    assert moved(case.does("dispute.won", 9, dispute_id="D")) == [
        "dispute_won A 0 1190 1428",
        "transfer_out A 3 429 515", "transfer_out N -3 -429 -515 of bob",
        "transfer_out A 2 286 343", "transfer_out M -2 -286 -343 of bob",
        "transfer_out A 1 143 172", "transfer_out O -1 -143 -172",
    ]  # fmt: skip
    assert blocks(case) == before


def test_a_dispute_of_a_part_calls_back_only_what_is_lacking() -> None:
    case = paid()
    gives(case, 3, ("ann", "A"), ("bob", "N"), "3")
    gives(case, 4, ("ann", "A"), ("bob", "M"), "2")
    assert moved(
        case.does("dispute.opened", 8, dispute_id="D", payment_id="P", amount="5.95", currency="EUR")
    ) == [
        "dispute_opened A 0 595 714", "transfer_out N 1.5 215 258 of bob", "transfer_out A -1.5 -215 -258",
    ]  # fmt: skip
    assert blocks(case) == {"A": "3.5 500 600", "N": "1.5 214 257", "M": "2 286 343"}
    assert [(m.kind, m.amount_minor) for m in case.does("dispute.lost", 9, dispute_id="D").decision.movements][:2] == [
        ("dispute_lost_unused", 500), ("dispute_lost_tax", 95),
    ]  # fmt: skip


def test_what_expires_of_transferred_credits_is_escheated_by_the_bought_block_as_far_as_it_was_paid() -> None:
    case = in_euro()
    case.buys("A", currency="EUR", expires_at=on(20).isoformat(), escheat_class="DE-3y")
    gives(case, 3, ("ann", "A"), ("bob", "N"), "3")
    step = case.own("x", "credits.expired", "bob", on(20), block_id="N")
    assert step is not None
    assert moved(step) == [
        "transfer_out N 3 429 515", "transfer_out A -3 -429 -515 of ann", "void_unpaid A 0 429 515 of ann",
        "escheat A 3 0 0 of ann",
    ]  # fmt: skip
    assert block(case, "N").expired


def test_a_promotional_block_has_no_bought_block_behind_it() -> None:
    case = Case()
    case.does("credits.granted", 1, block_id="G", credits="7", reason="promotional")
    assert moved(gives(case, 6, ("ann", "G"), ("bob", "H"), "3")) == [
        "transfer_out G 3 0 None",
        "transfer_in H 3 0 None of bob",
    ]
    assert (block(case, "H").origin, block(case, "H").payer, block(case, "H").taxed_minor) == (None, None, 0)
    assert moved(gives(case, 7, ("bob", "H"), ("ann", "I"), "1")) == [
        "transfer_out H 1 0 None",
        "transfer_in I 1 0 None of ann",
    ]
    assert told(case.steps[-1])[0].startswith("01-07")


# --- recalled credits, and the purchase as a whole -----------------------------------------------------------------


def called_back(case: Case, credits: str, amount: int, *, after: date | None = None) -> list[str]:
    """Returns the credits that are recalled on 10 January, because the bought block lacks some credits and value."""
    event = case.steps[-1].event
    movements, left = recalled(
        block(case, "A"), Decimal(credits), amount, case.wallet("ann"), case.context(event), event,
        Dates(date(2026, 1, 10), None), after,
    )  # fmt: skip
    assert left.remaining == block(case, "A").remaining - sum(m.credits for m in movements if m.block_id == "A")
    assert {m.accounting_date for m in movements} <= {after or date(2026, 1, 10)}
    return [
        f"{m.block_id} {m.credits.normalize():f} {m.amount_minor} {m.functional_minor} {m.customer}"
        for m in movements
        if m.block_id != "A"
    ]


@pytest.mark.parametrize(
    ("credits", "amount", "expected"),
    [
        ("2", 285, []),
        ("2.5", 0, ["N 0.5 72 86 bob"]),
        ("2.5", 300, ["N 0.5 72 86 bob"]),
        ("0", 286, ["N 0.006993007 1 1 bob"]),
        ("0", 300, ["N 0.104895105 15 18 bob"]),
        ("2.000000001", 0, ["N 0.000000001 0 0 bob"]),
        ("0", 713, ["N 2.993006993 428 514 bob"]),
        ("0", 714, ["N 3 429 515 bob"]),
        ("5", 0, ["N 3 429 515 bob"]),
        ("4.999999999", 285, ["N 2.999999999 429 515 bob"]),
        ("5", 300, ["N 3 429 515 bob"]),
        ("4.9", 714, ["N 3 429 515 bob"]),
        ("5.5", 0, ["N 3 429 515 bob", "M 0.5 72 86 ann"]),
        ("0", 715, ["N 3 429 515 bob", "M 0.006993007 1 1 ann"]),
        ("7", 1000, ["N 3 429 515 bob", "M 2 286 343 ann"]),
        ("9", 0, ["N 3 429 515 bob", "M 2 286 343 ann"]),
    ],
)
def test_as_much_is_called_back_as_is_lacking_of_credits_or_value(
    credits: str, amount: int, expected: list[str]
) -> None:
    case = paid()
    gives(case, 3, ("ann", "A"), ("bob", "N"), "3")
    gives(case, 4, ("ann", "A"), ("ann", "M"), "2")
    expected = [line.replace(" ann", " None") for line in expected]
    assert called_back(case, credits, amount) == expected
    assert called_back(case, credits, amount, after=date(2026, 1, 20)) == expected


def test_a_block_without_credits_is_passed_over() -> None:
    case = paid()
    gives(case, 3, ("ann", "A"), ("bob", "N"), "3")
    gives(case, 4, ("ann", "A"), ("bob", "M"), "2")
    case.does("credits.consumed", 5, "bob", credits="3", block_id="N")
    assert called_back(case, "2.5", 0) == ["M 0.5 72 86 bob"]
    assert called_back(case, "7", 1000) == ["M 2 286 343 bob"]


def test_the_purchase_as_a_whole_has_what_was_drawn_and_broke_of_all_its_credits() -> None:
    case = in_euro()
    case.buys("A", price="10.00", currency="EUR", expires_at=on(20).isoformat())
    gives(case, 3, ("ann", "A"), ("bob", "N"), "3")
    gives(case, 3, ("ann", "A"), ("bob", "M"), "1")
    case.does("credits.consumed", 5, "bob", credits="1", block_id="N", tax="0.20", currency="EUR")
    case.uses("1", 6, block_id="A", tax="0.10", currency="EUR")
    for name in ("N", "M"):
        case.own(f"x{name}", "credits.expired", "bob", on(20), block_id=name)
    context = case.context(case.steps[-1].event)
    for customer, name in (("ann", "A"), ("bob", "N"), ("bob", "M")):
        whole = with_transferred(block(case, name), case.wallet(customer), context)
        assert (whole.block_id, whole.used, whole.drawn_minor, whole.redemption_tax_minor) == ("A", 2, 286, 30)
        assert whole.disposed["expired"] == Portion(Decimal(3), 429, 515)
        assert whole.disposed["transferred"] == Portion(Decimal(0), 0, 0)
        assert (whole.remaining, whole.carrying_minor) == (2, 285)
        payer = bought(block(case, name), case.wallet(customer), context).payer
        assert payer == ("ann" if customer == "bob" else None)
    case.own("xA", "credits.expired", "ann", on(20), block_id="A")
    whole = with_transferred(block(case, "N"), case.wallet("bob"), context)
    assert (whole.disposed["expired"], whole.remaining) == (Portion(Decimal(5), 714, 857), 0)


def test_credits_are_handed_out_again_as_far_as_there_are_some() -> None:
    case = paid()
    gives(case, 3, ("ann", "A"), ("bob", "N"), "3")
    gives(case, 4, ("ann", "A"), ("ann", "M"), "2")
    gives(case, 4, ("ann", "A"), ("bob", "O"), "1")
    parts = [("N", "bob", Decimal(0)), ("M", "ann", Decimal("0.5")), ("O", "bob", Decimal(3)), ("N", "bob", Decimal(1))]
    event = case.steps[-1].event
    movements = handed_again(block(case, "A"), parts, case.wallet("ann"), event, date(2026, 1, 9))
    assert [
        f"{m.block_id} {m.credits.normalize():f} {m.amount_minor} {m.functional_minor} {m.customer}" for m in movements
    ] == [
        "A 0.5 71 85 None", "M -0.5 -71 -85 None", "A 0.5 71 85 None", "O -0.5 -71 -85 bob",
    ]  # fmt: skip
    in_dollars = Case()
    in_dollars.buys("A")
    gives(in_dollars, 3, ("ann", "A"), ("bob", "N"), "3")
    event = in_dollars.steps[-1].event
    movements = handed_again(
        block(in_dollars, "A"), [("N", "bob", Decimal(1))], in_dollars.wallet("ann"), event, on(9).date()
    )
    assert [m.functional_minor for m in movements] == [None, None]
