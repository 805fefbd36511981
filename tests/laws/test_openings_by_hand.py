"""Opening balances with figures by hand: the opened block, its rate, each other role, and every refusal."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from tests.laws.case import Case, in_euro, on, told

OPENED = {"role": "prepaid_liability", "credits": "10", "price": "20.00", "used": "4", "drawn": "8.00"}


def test_an_opened_block_has_the_terms_and_the_past_that_the_event_states() -> None:
    """Five credits for 10.00 remain of ten for 20.00: four were used, and one left the block with 2.00 in another way.

    Paid amounts: 10.00 remaining, 8.00 + 3.00 used, 2.00 expired, less 1.00 conceded; tax 2.50 less 0.10; together
    24.40.
    """
    case = Case(dimensions=("department",))
    step = case.does(
        "balance.opened", 31, **OPENED, currency="USD", block_id="A", unit="token", remaining="5",
        carrying_amount="10.00", earlier_drawn="3.00", expired="2.00", tax="2.50", conceded="1.00", conceded_tax="0.10",
        starts_at=on(2).isoformat(), expires_at=on(90).isoformat(), priority=7, scope=["b", "a"],
        escheat_class="DE-3y", due_at=on(40).isoformat(), invoice_id="I", processor="stripe",
        dimensions={"department": "lab"},
    )  # fmt: skip
    assert told(step) == ["01-31 opening_prepaid_liability 1000 block=A credits=5"]
    block = case.wallets["ann"].state_of_block("A")
    assert (block.credit_kind, block.unit, block.credits, block.price_minor, block.currency) == (
        "paid", "token", 5, 1000, "USD",
    )  # fmt: skip
    assert (block.starts_at, block.expires_at, block.due_at, block.priority) == (on(2), on(90), on(40), 7)
    assert (block.scope, block.escheat_class, block.invoice_id) == (("b", "a"), "DE-3y", "I")
    assert (block.refundable, block.refundable_apart, block.rate) == (False, False, None)
    assert (block.pool, block.cohort, block.dimensions) == (None, None, '{"department":"lab"}')
    assert (block.opened_on, block.losses_from) == (on(31).date(), on(31).date())
    assert (block.tax_minor, block.taxed_minor, block.tax_taken_minor, block.redemption_tax_minor) == (250, 2300, 10, 0)
    assert (block.conceded_minor, block.conceded_by) == (100, "balance.opened e1")
    assert (block.processor, block.processor_minor, block.chargeable) == ("stripe", 2440, (("stripe", 2440),))
    before = block.before
    assert before is not None
    assert (before.credits, before.price_minor, before.used, before.drawn_minor) == (10, 2000, 4, 800)
    assert (before.earlier_minor, before.expired_minor, before.escheated_minor) == (300, 200, 0)
    # Its draws continue: 20.00 × 7 / 10 − 8.00 = 6.00 for three more, then the rest.
    assert [told(case.uses(credits, 32, unit="token", product="a")) for credits in ("3", "2")] == [
        ["02-01 consumption 600 block=A credits=3"], ["02-01 consumption 400 block=A credits=2"],
    ]  # fmt: skip


def test_an_opened_block_has_no_more_than_the_event_states() -> None:
    case = Case()
    step = case.does(
        "balance.opened", 3, **OPENED, currency="USD", block_id="A", refundable=True, redemption_tax="1.50"
    )
    assert told(step) == ["01-03 opening_prepaid_liability 1200 block=A credits=6 refundable=True"]
    case.does("balance.opened", 3, role="prepaid_liability", currency="USD", block_id="B", credit_kind="promotional",
              credits="5")  # fmt: skip
    block, gift = (case.wallets["ann"].state_of_block(name) for name in "AB")
    assert (block.credits, block.price_minor, block.starts_at, block.expires_at, block.due_at) == (
        6, 1200, on(3), None, None,
    )  # fmt: skip
    assert (block.refundable, block.refundable_apart, block.redemption_tax_minor) == (True, True, 150)
    assert (block.tax_minor, block.taxed_minor, block.conceded_minor, block.conceded_by) == (0, 0, 0, None)
    assert (block.processor, block.processor_minor, block.chargeable, block.scope) == (None, 0, (), None)
    assert (gift.credit_kind, gift.credits, gift.price_minor, gift.claim_minor) == ("promotional", 5, 0, 0)


LEFT = {"remaining": "5", "carrying_amount": "10.00"}
NOTHING = {"used": "10", "drawn": "20.00"}


@pytest.mark.parametrize(
    ("data", "figures"),
    [
        # 12.00 EUR of 20.00 remain: at 1.20, 14.40 of 24.00, and 9.60 were drawn.
        ({}, (1440, "1.2", 2400, 960)),
        # They are carried at 13.20, so the whole is at 22.00. The rate is 1.10, and 8.80 were drawn.
        ({"functional_amount": "13.20"}, (1320, "1.1", 2200, 880)),
        ({"functional_amount": "13.20", "functional_price": "25.00"}, (1320, "1.25", 2500, 1180)),
        ({"functional_price": "25.00"}, (1440, "1.2", 2500, 1060)),
        ({"functional_price": "20.01", "functional_amount": "12.00"}, (1200, "1.0005", 2001, 801)),
        # A third of a minor unit is rounded in the rate: 20.00 / 30.00 with twelve decimals.
        ({"price": "30.00", "functional_amount": "14.00", "functional_price": "20.00"},
         (1400, "0.666666666667", 2000, 600)),
        # A credit left in another way: four tenths of 24.00 were drawn, which is less than the part that is no longer
        # carried.
        (LEFT, (1200, "1.2", 2400, 960)),
        ({**LEFT, "remaining": "6"}, (1200, "1.2", 2400, 960)),
        ({**LEFT, "remaining": "5", "carrying_amount": "12.00"}, (1440, "1.2", 2400, 960)),
        ({**LEFT, "functional_amount": "14.00", "functional_price": "20.00"}, (1400, "1", 2000, 600)),
        ({**LEFT, "functional_amount": "20.00", "functional_price": "20.00"}, (2000, "1", 2000, 0)),
        # No credits remain: the functional price is at the rate of the day, or as stated.
        (NOTHING, (0, "1.2", 2400, 2400)),
        ({**NOTHING, "functional_amount": "0"}, (0, "1.2", 2400, 2400)),
        ({**NOTHING, "functional_price": "22.00"}, (0, "1.2", 2200, 2200)),
        ({**NOTHING, "functional_amount": "0", "functional_price": "22.00"}, (0, "1.1", 2200, 2200)),
        # Refundable credits are carried at the rate of a month end, which may be above that of the purchase.
        ({"refundable": True, "functional_amount": "26.00", "functional_price": "25.00"}, (2600, "1.25", 2500, -100)),
        # Yen have no decimals: 2,000 at 0.0067 are 13.40.
        ({"currency": "JPY", "price": "2000", "drawn": "800"}, (804, "0.0067", 1340, 536)),
        ({"currency": "JPY", "price": "2000", "drawn": "800", "functional_amount": "9.00"}, (900, "0.0075", 1500, 600)),
        ({"price": "0", "drawn": "0", "functional_amount": "0", "functional_price": "0"}, (0, "0", 0, 0)),
    ],
    ids=str,
)  # fmt: skip
def test_an_opened_block_in_another_currency_has_its_functional_amounts_as_stated_or_at_the_rate_of_the_day(
    data: dict[str, Any], figures: tuple[int, str, int, int]
) -> None:
    case = in_euro()
    case.does("exchange_rate.set", 1, None, base="JPY", quote="USD", rate="0.0067", rate_source="ECB")
    step = case.does("balance.opened", 3, **{**OPENED, "currency": "EUR", "block_id": "A", **data})
    block = case.wallets["ann"].state_of_block("A")
    assert block.before is not None
    found = block.before.price_functional, block.before.drawn_functional
    assert (step.decision.movements[0].functional_minor, block.rate, *found) == (
        figures[0],
        Decimal(figures[1]),
        *figures[2:],
    )
    assert block.carrying_functional == figures[0]


def opened(currency: str = "USD", **changes: Any) -> Case:
    """A is opened on 4 January through the 31st, and so are a gift G and an invoice V; B was bought here.

    Pool q has an open cohort of January, pool r none with a rate, pool t has usage, pool m an amount.
    """
    case = in_euro(**changes)
    case.buys("B", 2)
    case.does("balance.opened", 4, **OPENED, currency=currency, block_id="A", remaining="5", carrying_amount="10.00")
    case.does("balance.opened", 4, **OPENED, currency="USD", block_id="G", credit_kind="goodwill")
    invoice = {"price": "5.00", "tax": "0.50", "conceded": "2.00", "conceded_tax": "0.20"}
    case.does("balance.opened", 4, role="accounts_receivable", currency="USD", amount="3.00", invoice_id="V", **invoice)
    case.does("balance.opened", 4, role="customer_balance", currency="USD", amount="3.00", payment_id="P")
    for pool in "qt":
        case.does("breakage.estimated", 4, None, pool=pool, currency="USD", expected_breakage_rate="0.1", evidence="r")
    for pool in "qrtm":
        case.does("balance.opened", 4, **OPENED, currency="USD", block_id=pool, pool=pool, unit=pool, cohort="2025-12")
    case.does("balance.opened", 4, **OPENED, currency="USD", block_id="Q", pool="q", unit="q", cohort="2025-10")
    case.does(
        "breakage.estimated",
        4,
        None,
        pool="m",
        cohort="2025-12",
        currency="USD",
        expected_breakage="1.00",
        evidence="r",
    )
    case.uses("1", 4, unit="t")
    return case


A = {"block_id": "A", "amount": "1.00", "currency": "USD"}
BREAKAGE = {"role": "breakage_recognized", "pool": "q", "cohort": "2025-12", "amount": "1.00", "redeemed": "90.00"}
BOUGHT = "block B was not opened by balance.opened, so its balances follow from its own events"
GOODWILL = "block G was granted for goodwill, not bought"
OF_AN_OPENING, A_PURCHASE = "a block that was opened by balance.opened", "a bought block"

# The data; code, field, expected, found; the words
REFUSED: list[tuple[dict[str, Any], tuple[str, str, str, str], str]] = [
    ({"role": "tax_payable", "amount": "1.00", "functional_amount": "1.00"},
     ("invalid_value", "data.functional_amount", "absent", "1.00"),
     "data.functional_amount does not go here: the amount is in USD already"),
    ({**OPENED, "block_id": "N", "expires_at": on(3).isoformat()},
     ("invalid_value", "data.expires_at", "later than 2026-01-05T12:00:00Z", "2026-01-03T12:00:00Z"),
     "data.expires_at is not after the block's start"),
    ({**OPENED, "block_id": "A"}, ("block_exists", "data.block_id", "a new block id", "A"),
     "a credit block A is already in the ledger"),
    ({**OPENED, "block_id": "N", "pool": "q", "currency": "EUR"}, ("wrong_currency", "data.currency", "USD", "EUR"),
     "pool q is in USD"),
    ({**OPENED, "block_id": "N", "pool": "t", "cohort": "2025-12"},
     ("cannot_be_opened", "data.pool", "openings before the other events of a cohort; or another pool", "t"),
     "something is recorded of cohort 2025-12 of pool t already, so its breakage cannot be taken over any more"),
    ({**OPENED, "block_id": "N", "currency": "EUR", "functional_amount": "12.01", "functional_price": "12.00"},
     ("exceeds_value", "data.functional_amount", "at most 12.00", "12.01"),
     "the functional amount exceeds the functional price (12.00 USD)"),
    *(({**OPENED, "block_id": "N", "currency": "EUR", field: "12.001"},
       ("too_many_decimals", f"data.{field}", "at most 2 decimals", "12.001"),
       f"data.{field} has more decimals than USD has")
      for field in ("functional_amount", "functional_price")),
    ({**OPENED, "block_id": "N", "currency": "JPY", "price": "10", "drawn": "0"},
     ("exchange_rate_missing", "data.currency", "an exchange_rate.set of base JPY on or before 2026-01-05", "JPY"),
     "no exchange rate from JPY to USD is known on 2026-01-05"),
    *(({"role": role, **A, "block_id": "B"}, ("cannot_be_opened", "data.block_id", OF_AN_OPENING, "B"), BOUGHT)
      for role in ("accounts_receivable", "refunds_payable", "unclaimed_property")),
    *(({"role": role, **A, "currency": "EUR"}, ("wrong_currency", "data.currency", "USD", "EUR"), "block A is in USD")
      for role in ("accounts_receivable", "refunds_payable", "unclaimed_property")),
    *(({"role": role, **A, "block_id": "G"}, ("not_a_purchase", "data.block_id", A_PURCHASE, "goodwill"), GOODWILL)
      for role in ("accounts_receivable", "refunds_payable", "unclaimed_property")),
    ({"role": "accounts_receivable", **A, "amount": "18.01"},
     ("exceeds_value", "data.amount", "at most 18.00", "18.01"),
     "the receivable exceeds the received price and tax of block A, without disputed money (18.00 USD)"),
    ({"role": "accounts_receivable", "amount": "1.00", "invoice_id": "V"},
     ("document_exists", "data.invoice_id", "a new invoice id", "V"),
     "the invoice V is already in the ledger: event e5 from billing recorded it at position 5"),
    ({"role": "customer_balance", "amount": "1.00", "payment_id": "P"},
     ("document_exists", "data.payment_id", "a new payment id", "P"),
     "the payment P is already in the ledger: event e6 from billing recorded it at position 6"),
    ({"role": "refunds_payable", "amount": "1.00", "invoice_id": "W"},
     ("unknown_invoice", "data.invoice_id", "a recorded invoice of this customer", "W"), "ann has no invoice W"),
    ({"role": "refunds_payable", "amount": "1.00", "invoice_id": "V", "currency": "EUR"},
     ("wrong_currency", "data.currency", "USD", "EUR"), "invoice V is in USD"),
    ({**OPENED, "block_id": "N", **LEFT, "expired": "2.01"}, ("exceeds_value", "data.expired", "at most 2.00", "2.01"),
     "the expired value exceeds the value that had left block N (2.00 USD)"),
    ({"role": "refunds_payable", "amount": "2.21", "invoice_id": "V"},
     ("exceeds_value", "data.amount", "at most 2.20", "2.21"),
     "the refund exceeds the amounts that were conceded on invoice V (2.20 USD)"),
    # Of 20.00, 8.00 were drawn and 10.00 remain: 2.00 left the block in another way. A tax of 0.00 may be rounded.
    ({"role": "refunds_payable", **A, "amount": "2.02"}, ("exceeds_value", "data.amount", "at most 2.01", "2.02"),
     "the refund exceeds the amounts that had left block A or were conceded (2.01 USD)"),
    ({"role": "unclaimed_property", **A, "amount": "2.01"}, ("exceeds_value", "data.amount", "at most 2.00", "2.01"),
     "the unclaimed property exceeds the value that had left block A (2.00 USD)"),
    ({"role": "unclaimed_property", **A, "block_id": "q", "amount": "0.01"},
     ("exceeds_value", "data.amount", "at most 0.00", "0.01"),
     "the unclaimed property exceeds the value that had left block q (0.00 USD)"),
    ({**BREAKAGE, "cohort": "2025-11"}, ("unknown_cohort", "data.cohort", "one of 2025-10, 2025-12", "2025-11"),
     "no block of this cohort of pool q was opened: its open blocks come before its breakage"),
    ({**BREAKAGE, "pool": "z"}, ("unknown_cohort", "data.pool", "a pool of opened blocks", "2025-12"),
     "no block of this cohort of pool z was opened: its open blocks come before its breakage"),
    ({**BREAKAGE, "pool": "z", "cohort": ...}, ("unknown_cohort", "data.pool", "a pool of opened blocks", "z"),
     "no block of this cohort of pool z was opened: its open blocks come before its breakage"),
    ({**BREAKAGE, "currency": "EUR"}, ("wrong_currency", "data.currency", "USD", "EUR"), "pool q is in USD"),
    ({**BREAKAGE, "pool": "t"},
     ("cannot_be_opened", "data.pool", "openings before the other events of a cohort; or another pool", "t"),
     "something is recorded of cohort 2025-12 of pool t already, so its breakage cannot be taken over any more"),
    *(({**BREAKAGE, "pool": pool},
       ("cannot_be_opened", "data.amount", "breakage.estimated with expected_breakage_rate before the opening", found),
       f"cohort 2025-12 of pool {pool} has no expected breakage by rate; an amount is estimated after the opening")
      for pool, found in (("r", "none"), ("m", "an amount"))),
    # 12.00 remain, so at most this amount can still expire, whatever was used or expired before.
    *(({**BREAKAGE, "amount": "12.01", **data}, ("exceeds_value", "data.amount", "at most 12.00", "12.01"),
       "the breakage recognised ahead exceeds what can still expire of the open blocks of cohort 2025-12 of pool q "
       "(12.00 USD)")
      for data in ({}, {"redeemed": "60.00", "expired": "30.00"})),
]  # fmt: skip


@pytest.mark.parametrize(("data", "facts", "words"), REFUSED, ids=lambda value: value if isinstance(value, str) else "")
def test_a_refused_opening_names_its_field_and_says_what_was_expected_and_found(
    data: dict[str, Any], facts: tuple[str, str, str, str], words: str
) -> None:
    whole = data["role"] in ("tax_payable", "breakage_recognized")
    error = opened().is_refused("balance.opened", 5, None if whole else "ann", **{"currency": "USD", **data})
    assert (error.code, error.field, error.expected, error.found) == facts
    assert error.message == words


@pytest.mark.parametrize(
    ("data", "expected"),
    [({"role": "refunds_payable"}, "more than 0"), ({"role": "accounts_receivable", "invoice_id": "N"}, "0 or more")],
    ids=str,
)
def test_a_negative_amount_is_shown_as_it_was_sent(data: dict[str, str], expected: str) -> None:
    error = Case().is_refused("balance.opened", 5, **data, amount="-10.00", currency="USD")
    assert (error.code, error.message) == ("invalid_value", f"data.amount must be {expected}")
    assert (error.field, error.expected, error.found) == ("data.amount", expected, "-10.00")


# The data; the movement. A movement of a block or an invoice is not dated before its opening on the 4th.
MOVED: list[tuple[dict[str, Any], str]] = [
    ({"role": "accounts_receivable", **A, "amount": "18.00"}, "01-04 opening_accounts_receivable 1800 block=A"),
    ({"role": "refunds_payable", **A}, "01-04 opening_refunds_payable 100 block=A"),
    ({"role": "unclaimed_property", **A, "amount": "2.00"}, "01-04 opening_unclaimed_property 200 block=A"),
    ({"role": "refunds_payable", "amount": "1.00", "invoice_id": "V"},
     "01-04 opening_refunds_payable 100 invoice=V"),
    ({"role": "refunds_payable", "amount": "1.00"}, "01-03 opening_refunds_payable 100"),
    ({"role": "accounts_receivable", "amount": "1.00", "invoice_id": "W"},
     "01-03 opening_accounts_receivable 100 invoice=W"),
    ({"role": "customer_balance", "amount": "1.00", "processor": "stripe"},
     "01-03 opening_customer_balance 100 processor=stripe"),
    ({"role": "tax_payable", "amount": "-1.00"}, "01-03 opening_tax_payable -100"),
    ({"role": "processor_clearing", "amount": "1.00", "processor": "stripe"},
     "01-03 opening_processor_clearing 100 processor=stripe"),
    ({"role": "tax_payable", "amount": "1.00", "currency": "EUR"},
     "01-03 opening_tax_payable 100 currency=EUR functional=120"),
    ({"role": "tax_payable", "amount": "1.00", "currency": "EUR", "functional_amount": "1.15"},
     "01-03 opening_tax_payable 100 currency=EUR functional=115"),
]  # fmt: skip


@pytest.mark.parametrize(("data", "movement"), MOVED, ids=str)
def test_an_opened_balance_is_one_movement(data: dict[str, Any], movement: str) -> None:
    whole = data["role"] in ("tax_payable", "processor_clearing")
    assert told(opened().does("balance.opened", 3, None if whole else "ann", **{"currency": "USD", **data})) == [
        movement
    ]


@pytest.mark.parametrize("setting", ["overage", "backfill"])
@pytest.mark.parametrize("stated", [..., "overage", "backfill"])
def test_opened_overage_is_backfilled_as_the_event_says_or_else_the_ledger(setting: str, stated: Any) -> None:
    case = opened(on_shortfall=setting, dimensions=("department",))
    data = {"role": "unbilled_receivable", "amount": "4.00", "currency": "USD", "credits": "2", "product": "api"}
    step = case.does("balance.opened", 3, **data, on_shortfall=stated, dimensions={"department": "lab"})
    backfill = " backfill=True" if (setting if stated is ... else stated) == "backfill" else ""
    assert told(step) == [
        f'01-03 opening_unbilled_receivable 400{backfill} credits=2 dimensions={{"department":"lab"}} product=api'
    ]


def test_unclaimed_property_is_part_of_the_value_that_had_left_the_block_at_its_present_price() -> None:
    """Of 20.00, 8.00 were drawn, 0.50 expired and 10.00 remain. The first price of a repriced block is unknown."""
    case = opened()
    for block_id, past in (("X", {"expired": "0.50"}), ("Y", {"earlier_drawn": "3.00"})):
        left = {"remaining": "5", "carrying_amount": "10.00"}
        case.does("balance.opened", 5, **OPENED, currency="USD", block_id=block_id, **left, **past)
    data = {"role": "unclaimed_property", "currency": "USD"}
    case.does("balance.opened", 6, **data, block_id="X", amount="1.00")
    assert case.is_refused("balance.opened", 6, **data, block_id="X", amount="0.51").expected == "at most 0.50"
    case.does("balance.opened", 6, **data, block_id="X", amount="0.50")
    assert case.wallets["ann"].state_of_block("X").unclaimed_minor == 150
    assert case.does("balance.opened", 6, **data, block_id="Y", amount="99.00")


@pytest.mark.parametrize(
    ("past", "most"),
    [
        # Of 100.00, 40.00 were drawn with 4.00 of tax: 60.00 had left it, with at most 60.00 × 4.01 / 40.00 of tax.
        ({"tax": "4.00"}, "66.02"),
        ({"tax": "4.00", "conceded": "10.00", "conceded_tax": "1.00"}, "77.02"),
        ({"tax": "4.00", "expired": "60.00"}, "0.00"),
        ({"tax": "10.00", "carrying_amount": "60.00", "remaining": "600"}, "0.00"),
        # No value remains, so the rate of the tax is unknown: at most that of the whole value.
        ({"used": "0", "drawn": "0"}, "200.00"),
        ({"used": "0", "drawn": "0", "tax": "10.00"}, "200.00"),
    ],
    ids=str,
)
def test_at_most_the_amounts_that_had_left_an_opened_block_are_owed_back(past: dict[str, str], most: str) -> None:
    """Refunds and unclaimed property together; a paid refund was owed at the cut-over, too."""
    case = Case()
    block = {"credits": "1000", "used": "400", "price": "100.00", "drawn": "40.00", "remaining": "0",
             "carrying_amount": "0"}  # fmt: skip
    case.does("balance.opened", 3, role="prepaid_liability", currency="USD", block_id="A", **{**block, **past})
    owed = {"role": "refunds_payable", "currency": "USD", "block_id": "A"}
    over = f"{Decimal(most) + Decimal('0.01')}"
    error = case.is_refused("balance.opened", 3, **owed, amount=over)
    assert (error.code, error.field, error.expected, error.found) == (
        "exceeds_value", "data.amount", f"at most {most}", over,
    )  # fmt: skip
    if most == "0.00":
        return
    wrong = case.does("balance.opened", 3, **owed, amount=most)
    case.undoes(wrong, 3)
    case.does("balance.opened", 3, **{**owed, "role": "unclaimed_property"}, amount="30.00")
    rest = f"{Decimal(most) - 30}"
    case.does("balance.opened", 3, **owed, amount=rest)
    case.does("payment.refunded", 4, amount=rest, currency="USD", block_id="A", refund_id="R")
    assert case.is_refused("balance.opened", 5, **owed, amount="0.01").expected == "at most 0.00"
    assert (
        case.is_refused("balance.opened", 5, **{**owed, "role": "unclaimed_property"}, amount="0.01").expected
        == "at most 0.00"
    )


def test_money_that_was_charged_back_had_been_received_so_it_is_not_opened_as_a_receivable() -> None:
    """Of 22.00, 2.00 are owed back and 20.00 were received. A dispute of 8.00 takes 2.00 and 6.00 of them."""
    case = Case()
    left = {"remaining": "4", "carrying_amount": "10.00", "tax": "2.00"}
    case.does("balance.opened", 3, **OPENED, currency="USD", block_id="A", processor="stripe", **left)
    case.does("balance.opened", 3, role="refunds_payable", **{**A, "amount": "2.00"})
    receivable = {"role": "accounts_receivable", **A}
    case.does("dispute.opened", 4, dispute_id="D", block_id="A", amount="8.00", currency="USD")
    error = case.is_refused("balance.opened", 5, **{**receivable, "amount": "14.01"})
    assert (error.code, error.expected) == ("exceeds_value", "at most 14.00")
    opening = case.does("balance.opened", 5, **{**receivable, "amount": "14.00"})
    assert case.is_refused("balance.opened", 5, **{**receivable, "amount": "0.01"}).expected == "at most 0.00"
    case.undoes(opening, 5)
    case.does("dispute.lost", 6, dispute_id="D")
    assert case.is_refused("balance.opened", 7, **{**receivable, "amount": "14.01"}).expected == "at most 14.00"
    case.does("balance.opened", 7, **{**receivable, "amount": "14.00"})


def test_the_id_of_an_undone_block_stays_taken_and_the_refusal_says_so() -> None:
    case = Case()
    opening = {**OPENED, "currency": "USD"}
    case.undoes(case.does("balance.opened", 3, **opening, block_id="A"), 4)
    again = case.is_refused("balance.opened", 4, **opening, block_id="A")
    bought = case.is_refused("credits.purchased", 4, block_id="A", credits="1", price="1.00", currency="USD")
    for error in (again, bought):
        assert (error.code, error.message) == (
            "block_exists",
            "a credit block A is already in the ledger; the event that opened it was undone, but its id stays taken, "
            "so use another id",
        )
    other = case.is_refused("credits.granted", 4, "bob", block_id="A", credits="1", reason="promotional")
    assert other.message == "a credit block A is already in the ledger"
    case.does("balance.opened", 4, **opening, block_id="A2")


@pytest.mark.parametrize("role", ["refunds_payable", "unclaimed_property"])
def test_money_that_is_owed_to_the_customer_or_a_state_can_be_charged_back(role: str) -> None:
    """Of 110.00 with tax, 50.00 are for used credits. The other 60.00 are lost first, and are not owed any more."""
    case = Case()
    past = {"credits": "1000", "used": "400", "price": "100.00", "drawn": "40.00", "tax": "10.00", "conceded": "0"}
    case.does("balance.opened", 3, role="prepaid_liability", currency="USD", block_id="A", processor="stripe",
              remaining="0", carrying_amount="0", **past)  # fmt: skip
    opening = case.does("balance.opened", 3, role=role, **{**A, "amount": "60.00"})
    dispute = {"dispute_id": "D", "block_id": "A", "currency": "USD"}
    assert case.is_refused("dispute.opened", 4, **dispute, amount="110.01").expected == "at most 110.00"
    disputed = case.does("dispute.opened", 4, **dispute)
    assert told(disputed) == ["01-04 dispute_opened 11000 block=A frozen=0 processor=stripe"]
    assert case.cannot_undo(opening, 5).code == "changed_since"
    case.undoes(disputed, 5)
    case.undoes(opening, 5)
    assert case.wallets["ann"].state_of_block("A").chargeable == (("stripe", 5000),)
    case.does("balance.opened", 5, role=role, **{**A, "amount": "60.00"})
    case.does("dispute.opened", 6, **dispute)
    first = {"refunds_payable": "refund", "unclaimed_property": "unclaimed"}[role]
    lost = [(m.kind, m.amount_minor) for m in case.does("dispute.lost", 7, dispute_id="D").decision.movements]
    assert lost == [(f"dispute_lost_{first}", 6000), ("dispute_lost_used", 4000), ("dispute_lost_tax", 1000)]


def test_what_was_conceded_on_an_opened_invoice_is_owed_back_and_not_conceded_again() -> None:
    """A paid invoice of 55.00 with tax, of which 20.00 and 2.00 were conceded: 30.00 and 3.00 are left to concede."""
    case = Case()
    invoice = {"invoice_id": "V", "currency": "USD"}
    case.does("balance.opened", 3, role="accounts_receivable", amount="0", price="50.00", tax="5.00", conceded="20.00",
              conceded_tax="2.00", **invoice)  # fmt: skip
    owed = {"role": "refunds_payable", **invoice}
    case.does("balance.opened", 3, **owed, amount="22.00")
    assert case.is_refused("balance.opened", 3, **owed, amount="0.01").expected == "at most 0.00"
    memo = {**invoice, "reason": "r"}
    assert case.is_refused("credit_memo.issued", 4, **memo, amount="30.01").expected == "at most 30.00"
    case.does("credit_memo.issued", 4, **memo, amount="30.00", tax="3.00")
    case.does("payment.refunded", 5, amount="55.00", currency="USD", refund_id="R")


@pytest.mark.parametrize(
    ("data", "field", "expected"),
    [
        ({"conceded": "50.01"}, "conceded", "at most data.price (50.00)"),
        ({"conceded_tax": "5.01"}, "conceded_tax", "at most data.tax (5.00)"),
        ({"conceded": "20.00", "conceded_tax": "2.00", "amount": "33.01"}, "amount",
         "what the invoice billed with its tax, less what was conceded (33.00)"),
    ],
    ids=str,
)  # fmt: skip
def test_an_invoice_concedes_at_most_what_it_billed(data: dict[str, str], field: str, expected: str) -> None:
    invoice = {"role": "accounts_receivable", "currency": "USD", "invoice_id": "V", "amount": "0", "price": "50.00",
               "tax": "5.00"}  # fmt: skip
    error = Case().is_refused("balance.opened", 3, **{**invoice, **data})
    assert (error.code, error.field, error.expected) == ("invalid_value", f"data.{field}", expected)


def test_a_block_that_was_repriced_before_the_cut_over_states_earlier_drawn() -> None:
    """The value that had left it at the earlier price is unknown, so it has no bound."""
    case = Case()
    past = {"earlier_drawn": "0.00", "expired": "50.00"}
    case.does("balance.opened", 3, **OPENED, currency="USD", block_id="A", **past)
    case.does("balance.opened", 3, role="refunds_payable", **{**A, "amount": "99.00"})
    case.does("balance.opened", 3, **OPENED, currency="USD", block_id="G", credit_kind="goodwill", earlier_drawn="0.00")
    assert case.does("balance.opened", 3, role="accounts_receivable", **{**A, "block_id": "G"})


def in_a_pool(currency: str = "EUR", rate: str | None = "0.1") -> tuple[Case, dict[str, Any]]:
    """Returns a pool with one block of January, of which 12.00 remain, carried at 13.20 if it is in euro."""
    case = in_euro()
    if rate is not None:
        estimate = {"pool": "p", "currency": currency, "expected_breakage_rate": rate, "evidence": "r"}
        case.does("breakage.estimated", 1, None, **estimate)
    functional = {"functional_amount": "13.20"} if currency == "EUR" else {}
    step = case.does("balance.opened", 4, **OPENED, currency=currency, block_id="A", pool="p", **functional)
    in_euros = "currency=EUR functional=1320 " if currency == "EUR" else ""
    opening = f"01-04 opening_prepaid_liability 1200 block=A cohort=2026-01 credits=6 {in_euros}pool=p"
    assert told(step) == [opening]
    return case, {"role": "breakage_recognized", "currency": currency, "pool": "p", "cohort": "2026-01"}


def test_opened_breakage_is_carried_as_stated_or_at_the_rate_of_its_open_blocks() -> None:
    """6.00 EUR × 13.20 / 12.00 = 6.60. Later redemptions continue on the line."""
    case, data = in_a_pool()
    before = {"amount": "6.00", "redeemed": "60.00"}
    assert told(case.does("balance.opened", 5, None, **data, **before)) == [
        "01-05 opening_breakage_recognized 600 cohort=2026-01 currency=EUR functional=660 pool=p"
    ]
    case, data = in_a_pool()
    assert told(case.does("balance.opened", 5, None, **data, **before, functional_amount="6.50")) == [
        "01-05 opening_breakage_recognized 600 cohort=2026-01 currency=EUR functional=650 pool=p"
    ]
    case, data = in_a_pool("USD")
    assert told(case.does("balance.opened", 5, None, **data, **before)) == [
        "01-05 opening_breakage_recognized 600 cohort=2026-01 pool=p"
    ]
    case = in_euro()
    case.does("balance.opened", 4, **{**OPENED, "price": "0", "drawn": "0"}, currency="EUR", block_id="A", pool="p")
    data["currency"] = "EUR"
    assert told(case.does("balance.opened", 5, None, **data, amount="0", redeemed="1.00")) == [
        "01-05 opening_breakage_recognized 0 cohort=2026-01 currency=EUR functional=0 pool=p"
    ], "credits at no price have no rate"


@pytest.mark.parametrize(
    ("before", "found"),
    [({"amount": "1.00"}, "1.00"), ({"redeemed": "1.00"}, "0.00"), ({"expired": "1.00"}, "1.00"),
     ({"escheated": "1.00"}, "0.00")],
)  # fmt: skip
def test_the_breakage_of_a_cohort_is_opened_once(before: dict[str, str], found: str) -> None:
    case, data = in_a_pool("USD")
    case.does("balance.opened", 5, None, **{"amount": "0", **data, **before})
    error = case.is_refused("balance.opened", 5, None, **data, amount="1.00", redeemed="1.00")
    assert error.message == "the breakage of cohort 2026-01 of pool p was opened already"
    assert (error.code, error.field, error.expected, error.found) == (
        "cannot_be_opened", "data.pool", "one opening of the breakage of a cohort", f"{found} USD recognised",
    )  # fmt: skip


def test_redemption_of_before_is_opened_without_an_estimate_but_breakage_ahead_is_not() -> None:
    case, data = in_a_pool("USD", None)
    assert case.is_refused("balance.opened", 5, None, **data, amount="0.01", redeemed="1.00").found == "none"
    assert case.does("balance.opened", 5, None, **data, amount="0", redeemed="1.00")


def test_an_undone_opening_restores_the_days_of_its_cohort() -> None:
    """The estimate of 10 January is a day of the cohort; without one the cohort follows from its figures."""
    case, _ = in_a_pool("USD")
    second = {**OPENED, "currency": "USD", "pool": "p", "cohort": "2026-01"}
    first = case.does("balance.opened", 5, **second, block_id="B")
    assert first.decision.found_cohort is None
    case.undoes(first, 6)
    estimate = {"pool": "p", "cohort": "2026-01", "currency": "USD", "expected_breakage_rate": "0.2", "evidence": "r"}
    case.does("breakage.estimated", 10, None, **estimate)
    found = case.books.pools.cohort(("p", "2026-01"))
    later = case.does("balance.opened", 11, **second, block_id="C")
    assert later.decision.found_cohort == found
    assert case.books.pools.cohort(("p", "2026-01")) != found
    case.undoes(later, 12)
    assert case.books.pools.cohort(("p", "2026-01")) == found
    breakage = {"role": "breakage_recognized", "currency": "USD", "pool": "p", "cohort": "2026-01", "redeemed": "5.00"}
    case.undoes(case.does("balance.opened", 13, None, **breakage, amount="1.00"), 14)
    assert case.books.pools.cohort(("p", "2026-01")) == found


@pytest.mark.parametrize("type", ["escheat.remitted", "escheat.reclaimed"])
def test_opened_unclaimed_property_is_not_paid_or_claimed_before_it_was_opened(type: str) -> None:
    case = Case()
    left = {"remaining": "5", "carrying_amount": "8.00"}
    case.does("balance.opened", 10, **OPENED, currency="USD", block_id="A", **left)
    opening = case.does("balance.opened", 12, **{**A, "amount": "4.00"}, role="unclaimed_property")
    for day, entry_day in ((8, 12), (11, 12), (14, 14)):
        step = case.does(type, day, **A)
        assert [str(movement.accounting_date) for movement in step.decision.movements] == [f"2026-01-{entry_day}"]
        case.undoes(step, day)
    assert case.undoes(opening, 15)
