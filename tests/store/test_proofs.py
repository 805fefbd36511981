"""A month with wrong books is not closed: each proof names the block, the account and the amount."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from typing import Any

import psycopg
import pytest
from msgspec.structs import replace

from api.service import Subledger
from projections.close import close as closing
from projections.close.close import close_period
from subledger.deciding.context import Context
from subledger.deciding.decide import decide
from subledger.errors import IntegrityFault
from subledger.events.envelope import Event
from subledger.periods import Period
from subledger.posting import SHIPPED_POLICIES
from subledger.store.writing import batch
from subledger.wallet import Decision, Movement, Wallet
from tests.building import cloud_event, purchase, recorded, usage
from tests.conftest import NewLedger
from tests.store.tampering import differences
from tests.store.walked import policy_event

JANUARY = Period(2026, 1)
RATE = cloud_event(
    "rate", "exchange_rate.set", None, "2026-01-01T00:00:00Z", base="EUR", quote="USD", rate="1.2", rate_source="ECB"
)


buy = partial(purchase, customer="c", time="2026-01-05", price="10.00")


use = partial(usage, customer="c")


def _refused(service: Subledger, ledger: str, message: str) -> None:
    with pytest.raises(IntegrityFault) as caught:
        close_period(service.recorder, ledger, JANUARY)
    assert message in str(caught.value)
    assert caught.value.facts["through"] == "2026-01-31"


@pytest.mark.parametrize(
    ("events", "change", "says"),
    [
        ([buy(), use("use-6", "4", time="2026-01-06")], {"functional_minor": 399},
         "consumption on 2026-01-06 (policy 1) is 400, and 399 in the same currency"),
        ([buy(), use("use-6", "10", time="2026-01-06")], {"amount_minor": 999, "functional_minor": None},
         "in USD: 0 credits left, prepaid_liability 1 (1 functional), carrying amount 1 (1 functional),"
         " customer_deposits 1 (1 functional), credits_clearing 1 (1 functional)"),
        ([buy(), use("use-6", "10", time="2026-01-06")], {"amount_minor": 1001, "functional_minor": None},
         "in USD: 0 credits left, prepaid_liability -1 (-1 functional)"),
        ([buy(), use("use-6", "10", time="2026-01-06")], {"credits": Decimal(11)},
         "in USD: -1 credits left, prepaid_liability 0 (0 functional)"),
        ([RATE, buy(currency="EUR"), use("use-6", "10", time="2026-01-06")], {"functional_minor": 1199},
         "in EUR: 0 credits left, prepaid_liability 0 (1 functional), carrying amount 0 (1 functional)"),
        ([RATE, buy(currency="EUR"), use("use-6", "10", time="2026-01-06")], {"functional_minor": 1201},
         "in EUR: 0 credits left, prepaid_liability 0 (-1 functional)"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("policy", SHIPPED_POLICIES)
def test_books_that_a_faulty_decision_wrote_are_not_closed(
    service: Subledger,
    new_ledger: NewLedger,
    monkeypatch: pytest.MonkeyPatch,
    policy: str,
    events: list[dict[str, Any]],
    change: dict[str, Any],
    says: str,
) -> None:
    ledger = new_ledger(policy=policy, rate_max_age_days=31)
    recorded(service, ledger, *events[:-1])
    monkeypatch.setattr(batch, "decide", _faulty("consumption", lambda movement: replace(movement, **change)))
    recorded(service, ledger, events[-1])
    if policy == "contract_liability":
        says = says.split(" customer_deposits")[0]
    _refused(service, ledger, says)


@pytest.mark.parametrize(
    "change",
    [
        {"block_id": None},
        {"amount_minor": 999, "functional_minor": None},
        {"block_id": "b2", "amount_minor": 1001, "functional_minor": None},
    ],
)
def test_what_is_wrong_with_one_block_and_right_in_sum_is_found_by_a_verification(
    service: Subledger, new_ledger: NewLedger, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any]
) -> None:
    """A close reads no blocks, so its time does not depend on their number."""
    ledger = new_ledger(rate_max_age_days=31)
    recorded(service, ledger, buy(expires_at="2026-02-03T00:00:00Z"), buy("b2"))
    with monkeypatch.context() as patched:
        patched.setattr(batch, "decide", _faulty("consumption", lambda movement: replace(movement, **change)))
        recorded(service, ledger, use("use-6", "10", time="2026-01-06"))
    close_period(service.recorder, ledger, JANUARY)
    assert any("block" in difference.check and difference.position == 6 for difference in differences(service, ledger))


def _faulty(kind: str, change: Callable[[Movement], Movement]) -> Callable[[Wallet, Event, Context], Decision]:
    def faulty(wallet: Wallet, event: Event, context: Context) -> Decision:
        decision = decide(wallet, event, context)
        return replace(decision, movements=tuple(change(m) if m.kind == kind else m for m in decision.movements))

    return faulty


@pytest.mark.parametrize(
    ("events", "says"),
    [
        ([RATE, buy(currency="EUR")],
         "accounts_receivable in EUR of b is out by -100 functional at the rate of 2026-01-31"),
        ([RATE, buy(currency="EUR", tax="1.00")], "tax_payable in EUR is out by 10 functional at the rate"),
        ([RATE, cloud_event("give", "credits.granted", "c", "2026-01-05T00:00:00Z", block_id="b", credits="1",
                            reason="goodwill", value="10.00", currency="EUR"),
          buy("r", currency="EUR", refundable=True),
          cloud_event("off", "receivable.written_off", "c", "2026-01-06T00:00:00Z", block_id="r", amount="4.00",
                      reason="r")],
         "accounts_receivable in EUR of r is out by -60 functional at the rate"),
        ([RATE, cloud_event("pay", "payment.received", "c", "2026-01-05T00:00:00Z", amount="5.00", currency="EUR",
                            processor="cards")],
         "processor_clearing in EUR of cards is out by -50 functional at the rate of 2026-01-31"),
    ],
)  # fmt: skip
def test_a_month_whose_money_was_not_remeasured_is_not_closed(
    service: Subledger, new_ledger: NewLedger, monkeypatch: pytest.MonkeyPatch, events: list[dict[str, Any]], says: str
) -> None:
    ledger = new_ledger(rate_max_age_days=31)
    recorded(service, ledger, *events)
    later = RATE | {"id": "later", "time": "2026-01-20T00:00:00Z", "data": RATE["data"] | {"rate": "1.1"}}
    recorded(service, ledger, later)
    with monkeypatch.context() as patched:
        patched.setattr(closing, "remeasurements", lambda *_: [])
        _refused(service, ledger, says)
    close_period(service.recorder, ledger, JANUARY)
    assert differences(service, ledger) == []


@pytest.mark.parametrize(("before", "after"), [SHIPPED_POLICIES[:2], SHIPPED_POLICIES[1::-1], SHIPPED_POLICIES[1:]])
def test_a_month_in_which_the_policy_changed_is_closed_and_what_is_wrong_in_it_is_not(
    service: Subledger, new_ledger: NewLedger, owner_url: str, before: str, after: str
) -> None:
    """A block is bought under one policy, and used up under another. The liability ends at zero under both."""
    ledger = new_ledger(policy=before, rate_max_age_days=31)
    recorded(service, ledger, buy(), buy("b2"), use("use-6", "4", time="2026-01-06"))

    service.recorder.transact(ledger, lambda *_: [policy_event(2, after, datetime(2026, 1, 7, tzinfo=UTC))])
    recorded(service, ledger, use("use-7", "10", time="2026-01-07"), buy("b3"))
    with psycopg.connect(owner_url) as connection:
        connection.execute(
            "UPDATE posting_rules SET debit = 'refunds_payable' WHERE ledger = %s AND policy = 2"
            " AND kind = 'consumption' AND debit = 'prepaid_liability'",
            (ledger,),
        )
    _refused(service, ledger, "in USD: 16 credits left, prepaid_liability 2600 (2600 functional), carrying amount 1600")
    with psycopg.connect(owner_url) as connection:
        connection.execute(
            "UPDATE posting_rules SET debit = 'prepaid_liability' WHERE ledger = %s AND policy = 2"
            " AND kind = 'consumption' AND debit = 'refunds_payable'",
            (ledger,),
        )
    close_period(service.recorder, ledger, JANUARY)
    assert differences(service, ledger) == []
