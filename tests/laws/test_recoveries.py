"""Money after a write-off: the recovered parts add up to the recoverable amount, however the money is divided."""

from __future__ import annotations

from datetime import date

from hypothesis import given
from hypothesis import strategies as st

from subledger.written_off import WrittenOff, written_off_after
from tests.laws.case import Case, told

AMOUNTS = st.integers(0, 500)
ON = date(2026, 1, 31)


@given(value=AMOUNTS, tax=AMOUNTS, borne=AMOUNTS, unused=AMOUNTS, pieces=st.lists(st.integers(1, 200), max_size=12))
def test_pieces_recover_what_one_payment_would_and_in_the_end_all(
    value: int, tax: int, borne: int, unused: int, pieces: list[int]
) -> None:
    whole = WrittenOff(on=ON, value_minor=value, tax_minor=tax, tax_borne_minor=borne)
    if not whole.recoverable_minor(unused):
        return
    assert unused or whole.recoverable_minor(unused) == value + tax + borne
    now, came = whole, 0
    for piece in [*pieces, 10_000]:
        amount = min(piece, now.recoverable_minor(unused))
        if not amount:
            continue
        came += amount
        parts = now.divided(amount, unused)
        assert sum(parts.values()) == amount
        assert min(parts.values()) >= 0
        for part, minor in parts.items():
            now = written_off_after(now, part, minor, ON, recovers=True) or now
        at_once = whole.divided(came, unused)
        assert (now.recovered_minor, now.recovered_tax_minor + now.recovered_tax_borne_minor) == (
            at_once["value"],
            at_once["tax"] + at_once["tax_borne"],
        )
    assert now.recoverable_minor(unused) == 0
    assert now.recovered_minor == value


def test_a_recovery_owes_what_was_written_off_again_and_pays_it() -> None:
    case = Case()
    case.buys("A", price="10.00", tax="1.00")
    case.uses("3.5", 2)
    case.does("receivable.written_off", 3, block_id="A", reason="r")
    paid = case.does("payment.received", 4, amount="2.00", currency="USD", block_id="A", payment_id="P")
    assert told(paid) == [
        "01-04 write_off_recovered 182 block=A",
        "01-04 recovered_tax 18 block=A",
        "01-04 payment_cash 200 block=A",
    ]
    paid = case.does("payment.received", 5, amount="4.00", currency="USD", block_id="A")
    assert told(paid) == [
        "01-05 write_off_recovered 318 block=A",
        "01-05 recovered_tax 32 block=A",
        "01-05 payment_cash 350 block=A",
        "01-05 unapplied_cash 50",
    ]
    block = case.wallet("ann").state_of_block("A")
    assert (block.conceded_minor, block.receivable_minor, block.recoverable_minor, block.received_minor) == (
        0, 0, 0, 550,
    )  # fmt: skip


def test_a_payment_of_an_invoice_pays_all_that_is_open_before_it_recovers_anything() -> None:
    case = Case()
    for block_id in ("A", "B"):
        case.buys(block_id, price="10.00", invoice_id="V")
    case.uses("7", 2, block_id="A")
    case.does("receivable.written_off", 3, block_id="A", reason="r")
    paid = case.does("payment.received", 4, amount="12.00", currency="USD", invoice_id="V")
    assert told(paid) == [
        "01-04 write_off_recovered 200 block=A",
        "01-04 payment_cash 200 block=A",
        "01-04 payment_cash 1000 block=B",
    ]
