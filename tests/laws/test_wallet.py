"""Laws of a wallet as a value: finding its parts, recalling finished parts, and the price of overage."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from subledger.billing_documents import Dispute, Invoice, Overage, Payment, ReversedUsage
from subledger.blocks import PAID, Block
from subledger.errors import IntegrityFault
from subledger.money import MAX_MINOR, exponent
from subledger.wallet import Wallet, carry_after_restoring, price_overage
from subledger.wallet_parts import Blocks, Documents, Overages, ReversedUsages

START = datetime(2026, 1, 1, tzinfo=UTC)
CURRENCIES = st.sampled_from(("JPY", "USD", "KWD"))
CREDITS = st.integers(1, 10**15).map(lambda billionths: Decimal(billionths).scaleb(-9))
PRICES = st.integers(0, 10**15).map(lambda trillionths: Decimal(trillionths).scaleb(-12))


def block(block_id: str, **changes: object) -> Block:
    values: dict[str, object] = {
        "block_id": block_id,
        "credit_kind": PAID,
        "unit": "credit",
        "credits": Decimal(10),
        "price_minor": 1_000,
        "currency": "USD",
        "starts_at": START,
        "opened_at_position": 4,
        "losses_from": date(2026, 1, 1),
    }
    return Block(**{**values, **changes})


def overage(position: int, **changes: object) -> Overage:
    values: dict[str, object] = {
        "position": position,
        "unit": "credit",
        "price": Decimal("0.1"),
        "currency": "USD",
        "credits": Decimal(3),
        "amount_minor": 30,
        "accounting_date": date(2026, 1, 1),
    }
    return Overage(**{**values, **changes})


# --- the price of overage -------------------------------------------------------------------------------------


@given(CURRENCIES, st.lists(st.tuples(CREDITS, PRICES), min_size=1, max_size=8))
def test_overages_together_post_their_exact_price_to_within_half_a_minor_unit(
    currency: str, usages: list[tuple[Decimal, Decimal]]
) -> None:
    wallet, posted, exact = Wallet(customer="ann"), 0, Fraction(0)
    for credits, price in usages:
        amount, carry = price_overage(wallet, credits, price, currency)
        assert amount >= 0
        posted += amount
        exact += Fraction(credits) * Fraction(price) * 10 ** exponent(currency)
        assert Fraction(carry) == exact - posted
        assert abs(exact - posted) <= Fraction(1, 2)
        wallet = Wallet(customer="ann", carry={**wallet.carry, currency: carry})


@given(CURRENCIES, CREDITS, PRICES)
def test_overage_that_is_taken_back_leaves_the_carry_as_if_it_had_never_been(
    currency: str, credits: Decimal, price: Decimal
) -> None:
    before = Wallet(customer="ann", carry={currency: Decimal("0.25"), "EUR": Decimal("0.125")})
    amount, carry = price_overage(before, credits, price, currency)
    after = Wallet(customer="ann", carry={**before.carry, currency: carry})
    assert carry_after_restoring(after, credits, price, currency, amount) == Decimal("0.25")


def test_overage_is_never_less_than_nothing_and_is_bounded_before_it_is_refused() -> None:
    restored = Wallet(customer="ann", carry={"USD": Decimal(-3)})
    assert price_overage(restored, Decimal(1), Decimal("0.01"), "USD") == (0, Decimal(-2))
    amount, _ = price_overage(Wallet(customer="ann"), Decimal(10**15), Decimal(10**6), "USD")
    assert amount == 10 * MAX_MINOR


# --- finding parts ----------------------------------------------------------------------------------------------

PAYMENT, OTHER = Payment(payment_id="n", currency="USD"), Payment(payment_id="m", currency="USD")
INVOICE = Invoice(invoice_id="n", currency="USD")
FIXED = ReversedUsage(position=7, restored={"A": (Decimal(1), 10, 0)})
HELD = Wallet(
    customer="ann",
    blocks=Blocks((block("A"), block("B"))),
    overages=Overages((overage(5), overage(6))),
    reversed_usages=ReversedUsages((FIXED,)),
    documents=Documents((OTHER, PAYMENT, INVOICE)),
    standings={"accounts_receivable EUR A": (100, 120), "customer_balance USD ": (-7, -7)},
)


def test_what_a_wallet_holds_is_found_by_its_name_and_nothing_else_is() -> None:
    assert (HELD.block("B"), HELD.block("Z")) == (HELD.blocks[1], None)
    assert (HELD.overage(6), HELD.overage(4)) == (HELD.overages[1], None)
    assert (HELD.reversed_usage(7), HELD.reversed_usage(8)) == (FIXED, ReversedUsage(position=8, restored={}))
    assert (HELD.document(Payment, "n"), HELD.document(Invoice, "n")) == (PAYMENT, INVOICE)
    assert (HELD.document(Payment, "z"), HELD.document(Dispute, "n")) == (None, None)
    assert HELD.standing("accounts_receivable", "EUR", "A") == (100, 120)
    assert HELD.standing("accounts_receivable", "EUR", "B") == (0, 0)
    assert HELD.standing("accounts_receivable", "EUR") == (0, 0)
    assert HELD.standing("customer_balance", "USD") == (-7, -7)
    with pytest.raises(IntegrityFault) as fault:
        HELD.state_of_overage(4)
    assert fault.value.facts["position"] == 4
    with pytest.raises(IntegrityFault) as fault:
        HELD.state_of_block("Z")
    assert fault.value.facts["block_id"] == "Z"


# --- finished parts leave, and are recalled ----------------------------------------------------------------------


def test_what_is_recalled_stands_in_order_beside_what_is_held_and_what_is_held_wins() -> None:
    stale, early = block("B", used=Decimal(3)), block("0", starts_at=datetime(2025, 1, 1, tzinfo=UTC))
    recalled = HELD.recall(
        (stale, early),
        (overage(6, settled=Decimal(3)), overage(2)),
        (ReversedUsage(position=7, restored={}), ReversedUsage(position=9, restored={})),
        (Payment(payment_id="n", currency="EUR"), Invoice(invoice_id="m", currency="EUR")),
    )
    assert tuple(recalled.blocks) == (early, *HELD.blocks)
    assert tuple(recalled.overages) == (overage(2), *HELD.overages)
    assert tuple(recalled.reversed_usages) == (FIXED, ReversedUsage(position=9, restored={}))
    assert set(recalled.documents) == {*HELD.documents, Invoice(invoice_id="m", currency="EUR")}
    assert (recalled.customer, recalled.standings) == (HELD.customer, HELD.standings)
    assert HELD.recall() == HELD


def test_a_wallet_is_kept_without_what_is_finished_or_always_recalled() -> None:
    gone, paid = block("C", used=Decimal(10)), overage(4, settled=Decimal(3), settled_minor=30)
    bare = Wallet(customer="ann", blocks=HELD.blocks, overages=HELD.overages, carry={"USD": Decimal("0.5")})
    assert bare.without_finished() is bare
    for more in ({"blocks": (gone,)}, {"overages": (paid,)}, {"reversed_usages": (FIXED,)}, {"documents": (PAYMENT,)}):
        assert bare.recall(**more).without_finished() == bare
        assert bare.recall(**more).without_finished(bare) == bare
