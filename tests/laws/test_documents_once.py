"""Documents, such as payments and reservations, are recorded once by their own ids, whatever the id of the event."""

from __future__ import annotations

from datetime import date
from typing import Any

import msgspec
import pytest

from subledger.books import evolve_books
from subledger.events.data import EVENT_TYPES
from subledger.events.references import DOCUMENTS, once_key
from tests.laws.case import Case, in_euro, on

OWED = {"amount": "1.00", "currency": "USD"}
ONCE: list[tuple[str, str | None, dict[str, Any], str]] = [
    ("payment.received", "ann", {**OWED, "payment_id": "X"}, "payment X"),
    ("payment.refunded", "ann", {**OWED, "refund_id": "X"}, "refund X"),
    ("payout.settled", None, {**OWED, "processor": "stripe", "payout_id": "X"}, "payout X of stripe"),
    (
        "processor.adjusted",
        None,
        {**OWED, "processor": "stripe", "adjustment_id": "X", "kind": "fee"},
        "adjustment X of stripe",
    ),
    ("dispute.opened", "ann", {**OWED, "dispute_id": "X", "payment_id": "P"}, "dispute X"),
    ("overage.billed", "ann", {**OWED, "invoice_id": "X"}, "invoice X"),
    (
        "credits.reserved",
        "ann",
        {"reservation_id": "X", "credits": "1", "unit": "token", "expires_at": on(30).isoformat()},
        "reservation X",
    ),
]


def books() -> Case:
    """Returns a case in which Ann has paid for a block, is owed 5.00, and has 5.00 of overage."""
    case = Case(on_shortfall="overage")
    case.buys("A")
    case.does("payment.received", 2, amount="10.00", currency="USD", block_id="A", payment_id="P")
    case.uses("12", 3, overage_price="1.00", currency="USD")
    case.does("payment.received", 4, amount="5.00", currency="USD", payment_id="Q")
    case.buys("T", 4, unit="token")
    return case


def test_every_document_has_a_field_of_its_own() -> None:
    assert {type for type, *_ in ONCE} == set(DOCUMENTS)
    for type, (kind, field) in DOCUMENTS.items():
        assert field in EVENT_TYPES[type].model_fields
        assert field == f"{kind}_id"


@pytest.mark.parametrize(("type", "customer", "data", "name"), ONCE)
def test_a_document_told_again_under_another_event_id_is_refused_naming_the_first(
    type: str, customer: str | None, data: dict[str, Any], name: str
) -> None:
    case = books()
    first = case.does(type, 5, customer, **data)
    steps = len(case.steps)
    assert case.send("again", type, customer, first.event.occurred_at, **data) is None
    document = case.refused[-1].as_document()
    kind, field = DOCUMENTS[type]
    assert (
        document.items()
        >= {
            "code": "document_exists",
            "field": f"data.{field}",
            "expected": f"a new {kind} id",
            "found": "X",
            "first": {"source": "billing", "id": first.event.event_id, "position": first.position},
            "detail": f"the {name} is already in the ledger: event {first.event.event_id} from billing recorded it at "
            f"position {first.position}",
        }.items()
    )
    assert len(case.steps) == steps


@pytest.mark.parametrize(("type", "customer", "data", "name"), ONCE)
def test_another_id_is_another_document(type: str, customer: str | None, data: dict[str, Any], name: str) -> None:
    case, field = books(), DOCUMENTS[type][1]
    case.does(type, 5, customer, **data)
    assert case.does(type, 6, customer, **{**data, field: "Y"}), name


def test_payout_ids_are_of_their_processor_and_refunds_may_have_none() -> None:
    case = books()
    for processor in ("stripe", "adyen"):
        case.does("payout.settled", 5, None, **OWED, processor=processor, payout_id="X")
    for _ in range(2):
        case.does("payment.refunded", 6, **OWED)
    assert once_key("payment.refunded", case.steps[-1].event.data) is None


def test_a_log_in_which_a_payout_was_recorded_twice_is_replayed_as_it_is() -> None:
    """In ledgers from before this rule, the recorded decisions stay valid."""
    case = in_euro()
    paid = case.does("payout.settled", 5, None, amount="2.00", currency="EUR", processor="stripe", payout_id="X")
    again = msgspec.structs.replace(paid.event, event_id="again")
    twice = evolve_books(
        case.books, again, paid.decision, effective=date(2026, 1, 5),
        functional_currency=case.state.functional_currency, closed_through=None,
    )  # fmt: skip
    before = case.books.standing("cash", "EUR")
    assert twice.standing("cash", "EUR") == (2 * before[0], 2 * before[1])
