"""Of several faults of one event the documented first one is reported: references, currency, amounts, credits.

The order is that of ``subledger.errors``. Each event type has an event that the books accept, and the faults that it
can have. Every combination of at most one fault per class is tested, if the faults touch different fields.
"""

from __future__ import annotations

from itertools import chain, combinations
from typing import Any, Final

import pytest

from subledger.errors import Refused
from subledger.events.data import EVENT_TYPES, LEDGER_WIDE
from subledger.events.meanings import REFUSALS
from tests.laws.case import EXPIRY, UNTIL_FEBRUARY, Case, in_euro, on

REFERENCES, CURRENCY, AMOUNTS, CREDITS, RATE = range(5)
ORDER: Final[tuple[frozenset[str], ...]] = (
    frozenset({
        "block_exists", "unknown_block", "block_of_another_customer", "not_a_purchase", "unknown_invoice",
        "unknown_payment", "unknown_dispute", "document_exists", "dispute_decided", "unknown_original",
        "not_reversible", "already_reversed",
        "unknown_cohort", "cohorts_fixed", "missing_field", "unknown_field", "unknown_reservation",
        "reservation_ended", "reservation_differs",
        "cannot_be_opened",
    }),
    frozenset({"wrong_currency"}),
    frozenset({
        "too_many_decimals", "invalid_value", "exceeds_value", "exceeds_receivable", "exceeds_payment", "nothing_owed",
        "exceeds_overage", "estimate_too_high", "estimate_too_low", "not_yet_expired",
    }),
    frozenset({
        "no_credits_left", "block_disputed", "insufficient_credits", "overage_price_missing",
        "reversal_exceeds_original", "overage_settled", "conceded", "changed_since", "too_many_reservations",
    }),
    frozenset({"exchange_rate_missing"}),
)  # fmt: skip
"""The codes of refusals by the books, by class."""

Fault = tuple[int, dict[str, Any]]
"""A class, and the fields that make the fault. ``...`` removes a field, and ``at`` is the time of the event."""

_UNKNOWN: Final[Fault] = (REFERENCES, {"block_id": "Z"})
_GRANTED: Final[tuple[Fault, ...]] = ((REFERENCES, {"block_id": "G"}), (REFERENCES, {"block_id": "H"}))
_EMPTY: Final[tuple[Fault, ...]] = ((CREDITS, {"block_id": "U"}), (CREDITS, {"block_id": "F"}))
_EURO: Final[Fault] = (CURRENCY, {"currency": "EUR"})
_MUCH: Final[Fault] = (AMOUNTS, {"amount": "99.00"})
_FINE: Final[Fault] = (AMOUNTS, {"amount": "0.001", "currency": ...})
_YEN: Final[Fault] = (RATE, {"currency": "JPY", "amount": "1", "tax": ..., "block_id": ..., "invoice_id": ...})
_PAID: Final = {"amount": "1.00", "currency": "USD"}
_MOST: Final = "1000000000000000"

FAULTS: Final[dict[str, tuple[dict[str, Any], tuple[Fault, ...]]]] = {
    "credits.purchased": (
        {"block_id": "N", "credits": "1", "price": "1.00", "currency": "USD"},
        ((REFERENCES, {"block_id": "A"}), (CURRENCY, {"currency": "EUR", "pool": "q"}),
         (AMOUNTS, {"credits": _MOST, "bonus_credits": "1"}), (RATE, {"currency": "JPY"})),
    ),
    "credits.granted": (
        {"block_id": "N", "credits": "1", "reason": "goodwill", "value": "2", "currency": "USD"},
        ((REFERENCES, {"block_id": "A"}), (RATE, {"currency": "JPY"})),
    ),
    "credits.consumed": (
        {"credits": "1", "unit": "token"},
        (_UNKNOWN, (REFERENCES, {"reservation_id": "Z"}), (REFERENCES, {"reservation_id": "R"}),
         (CURRENCY, {"tax": "0.10", "currency": "EUR"}),
         (AMOUNTS, {"credits": "999999999999", "overage_price": "999999999", "currency": "USD"}),
         (AMOUNTS, {"tax": "9.00", "currency": "USD"}), (AMOUNTS, {"tax": "0.001", "currency": ...}),
         (CREDITS, {"credits": "99", "on_shortfall": "reject"}), (CREDITS, {"credits": "99"}),
         (RATE, {"credits": "99", "overage_price": "1", "currency": "JPY"})),
    ),
    "credits.reserved": (
        {"reservation_id": "N", "credits": "1", "unit": "token", "expires_at": on(20).isoformat()},
        ((REFERENCES, {"reservation_id": "R"}), (AMOUNTS, {"expires_at": on(9).isoformat()}),
         (CREDITS, {"credits": "99"})),
    ),
    "reservation.released": (
        {"reservation_id": "R"}, ((REFERENCES, {"reservation_id": "Z"}), (REFERENCES, {"reservation_id": "S"}))
    ),
    "credits.expired": (
        {"block_id": "A", "at": EXPIRY},
        (_UNKNOWN, (AMOUNTS, {"at": on(9)}), (CREDITS, {"block_id": "X"})),
    ),
    "consumption.reversed": (
        {"event_id": "used", "reason": "r"},
        ((REFERENCES, {"event_id": "unknown"}), (REFERENCES, {"event_id": "e1"}), (CREDITS, {"credits": "99"}),
         (CREDITS, {"event_id": "settled"})),
    ),
    "event.reversed": (
        {"event_id": "meant", "reason": "r"},
        (*((REFERENCES, {"event_id": name}) for name in ("unknown", "used", "undone")),
         (CREDITS, {"event_id": "changed"})),
    ),
    "purchase.voided": ({"block_id": "B", "reason": "r"}, (_UNKNOWN, *_EMPTY, (CREDITS, {"credits": "99"}))),
    "credits.refunded": (
        {"block_id": "B", "currency": "USD"},
        (_UNKNOWN, *_GRANTED, _EURO, _MUCH, _FINE, *_EMPTY, (CREDITS, {"credits": "99"})),
    ),
    "block.expiry_changed": (
        {"block_id": "A", "expires_at": on(60).isoformat(), "reason": "r"},
        (_UNKNOWN, (AMOUNTS, {"expires_at": on(1).isoformat()})),
    ),
    "block.repriced": (
        {"block_id": "B", "add_price": "1.00", "add_credits": "1", "reason": "r"},
        (_UNKNOWN, (REFERENCES, {"block_id": "P"}), (REFERENCES, {"block_id": "O"}),
         (AMOUNTS, {"add_price": "-99.00"}), (AMOUNTS, {"add_price": "0.001"}),
         (AMOUNTS, {"add_price": "9999999999999.99"}), (AMOUNTS, {"add_credits": _MOST}),
         *_EMPTY, (CREDITS, {"add_credits": "-99"})),
    ),
    "credits.transferred": (
        {"block_id": "B", "to_customer": "bob", "new_block_id": "N"},
        (_UNKNOWN, (REFERENCES, {"new_block_id": "A"}), *_EMPTY, (CREDITS, {"credits": "99"})),
    ),
    "payment.received": (
        {"block_id": "B", "payment_id": "N", **_PAID},
        (_UNKNOWN, (REFERENCES, {"invoice_id": "V"}), (REFERENCES, {"payment_id": "Y"}), _EURO, _YEN),
    ),
    "payment.applied": (
        {"payment_id": "Y", "block_id": "B", **_PAID},
        (_UNKNOWN, (REFERENCES, {"payment_id": "Z"}), _EURO, (CURRENCY, {"block_id": "A"}), _MUCH),
    ),
    "payout.settled": (
        {"processor": "stripe", "payout_id": "N", **_PAID},
        ((REFERENCES, {"payout_id": "out"}), (RATE, {"currency": "JPY"})),
    ),
    "processor.adjusted": (
        {"processor": "stripe", "adjustment_id": "N", "kind": "fee", **_PAID},
        ((REFERENCES, {"adjustment_id": "fee"}), (RATE, {"currency": "JPY"})),
    ),
    "payment.refunded": (
        {"payment_id": "Y", "refund_id": "N", **_PAID},
        (_UNKNOWN, (REFERENCES, {"payment_id": "Z"}), (REFERENCES, {"refund_id": "back"}), _EURO,
         (CURRENCY, {"block_id": "A"}), _MUCH),
    ),
    "dispute.opened": (
        {"dispute_id": "N", "block_id": "B", **_PAID},
        (_UNKNOWN, *_GRANTED, (REFERENCES, {"dispute_id": "D"}), _EURO, _MUCH, _FINE,
         (AMOUNTS, {"fee": "0.001", "currency": ...})),
    ),
    **dict.fromkeys(
        ("dispute.won", "dispute.lost"),
        ({"dispute_id": "D", **_PAID},
         ((REFERENCES, {"dispute_id": "Z"}), (REFERENCES, {"dispute_id": "W"}), (REFERENCES, {"block_id": "B"}), _EURO,
          _MUCH, _FINE, (AMOUNTS, {"fee": "0.001", "currency": ...}))),
    ),
    "receivable.written_off": (
        {"block_id": "B", "amount": "1.00", "reason": "r"},
        (_UNKNOWN, (REFERENCES, {"block_id": ..., "invoice_id": "Z"}), _MUCH, (AMOUNTS, {"amount": "0.001"}),
         (CREDITS, {"block_id": "F"})),
    ),
    "credit_memo.issued": (
        {"block_id": "B", "reason": "r", **_PAID},
        (_UNKNOWN, (REFERENCES, {"block_id": ..., "invoice_id": "Z"}), (REFERENCES, {"block_id": ...}), _EURO, _MUCH,
         (AMOUNTS, {"tax": "9.00"})),
    ),
    "overage.billed": ({"invoice_id": "N", "amount": "0.10", "currency": "USD"},
                       ((REFERENCES, {"invoice_id": "V"}), _MUCH)),
    "breakage.estimated": (
        {"pool": "q", "currency": "USD", "expected_breakage_rate": "0.1", "evidence": "r"},
        (_EURO, (AMOUNTS, {"expected_breakage_rate": "1"})),
    ),
    "credits.escheated": ({"block_id": "B"}, (_UNKNOWN, *_EMPTY)),
    **dict.fromkeys(
        ("escheat.reclaimed", "escheat.remitted"), ({"block_id": "E", **_PAID}, (_UNKNOWN, _EURO, _MUCH))
    ),
    "balance.opened": (
        {"role": "accounts_receivable", "block_id": "T", **_PAID},
        (_UNKNOWN, (REFERENCES, {"block_id": "B"}), _EURO, _MUCH),
    ),
    "exchange_rate.set": (
        {"base": "CHF", "quote": "USD", "rate": "1.1", "rate_source": "ECB"}, ((CURRENCY, {"quote": "GBP"}),)
    ),
}  # fmt: skip


@pytest.fixture
def books() -> Case:
    """Blocks: A is in EUR and expires; X was used up and has expired. The others are in USD: B is partly used, U used
    up, F in dispute, G goodwill, H goodwill used up, P promotional, O promotional used up, E escheated, Q in pool q, T
    opened at a cut-over.

    Documents: payment Y, disputes D (open) and W (won), invoice V of overage, refund ``back``, payout ``out``,
    adjustment ``fee``, reservations R (open, of credits of Q) and S (released).
    """
    case = in_euro(on_shortfall="overage")
    case.buys("A", currency="EUR", tax="1.00", invoice_id="I", **UNTIL_FEBRUARY)
    case.buys("B", unit="token", price="7.00")
    assert case.send("used", "credits.consumed", "ann", on(2), credits="3", unit="token")
    for block_id in ("F", "W"):
        case.buys(block_id, unit="frozen")
    for block_id in ("U", "X"):
        case.buys(block_id, unit=f"of {block_id}", **(UNTIL_FEBRUARY if block_id == "X" else {}))
        case.uses("7", 2, unit=f"of {block_id}")
    for block_id, reason, value in (
        ("G", "goodwill", "2.00"),
        ("H", "goodwill", "2.00"),
        ("P", "promotional", ...),
        ("O", "promotional", ...),
    ):
        case.does(
            "credits.granted",
            2,
            block_id=block_id,
            credits="4",
            unit=f"of {block_id}",
            reason=reason,
            value=value,
            currency="USD",
        )
    for block_id in ("H", "O"):
        case.uses("4", 2, unit=f"of {block_id}")
    for block_id in ("B", "F", "W"):
        paid = {"amount": "2.00", "currency": "USD", "processor": "stripe"}
        case.does("payment.received", 3, block_id=block_id, **paid)
    case.does("dispute.opened", 3, dispute_id="D", block_id="F")
    case.uses("5.6", 3, unit="frozen", block_id="F")
    case.does("dispute.opened", 3, dispute_id="W", block_id="W", amount="1.00", currency="USD")
    case.does("dispute.won", 3, dispute_id="W")
    case.does("payment.received", 4, amount="5.00", currency="USD", payment_id="Y", processor="stripe")
    case.does("payment.refunded", 4, amount="1.00", currency="USD", payment_id="Y", refund_id="back")
    case.does("payout.settled", 4, None, amount="1.00", currency="USD", processor="stripe", payout_id="out")
    fee = {"amount": "-1.00", "currency": "USD", "processor": "stripe", "adjustment_id": "fee", "kind": "fee"}
    case.does("processor.adjusted", 4, None, **fee)
    usage = {"credits": "2", "unit": "more", "overage_price": "1.00", "currency": "USD"}
    assert case.send("settled", "credits.consumed", "ann", on(4), **usage)
    case.does("overage.billed", 5, invoice_id="V", amount="1.50", currency="USD", tax="0.10")
    case.buys("Q", unit="pooled", pool="q")
    for reservation_id in ("R", "S"):
        until = {"expires_at": on(20).isoformat()}
        case.does("credits.reserved", 6, reservation_id=reservation_id, credits="1", unit="pooled", **until)
    case.does("reservation.released", 6, reservation_id="S")
    for event_id in ("changed", "meant", "undone"):
        grant = {"block_id": event_id, "credits": "4", "unit": "granted", "reason": "promotional"}
        assert case.send(event_id, "credits.granted", "ann", on(5), **grant)
    case.does("event.reversed", 5, event_id="undone", reason="r")
    case.does("purchase.voided", 5, block_id="changed", reason="r")
    case.buys("E", unit="gone")
    case.does("payment.received", 6, amount="10.00", currency="USD", block_id="E")
    case.does("credits.escheated", 6, block_id="E")
    opened = {"block_id": "T", "credits": "7", "price": "10.00", "currency": "USD", "unit": "opened"}
    case.does("balance.opened", 6, role="prepaid_liability", **opened)
    return case


def combined(faults: tuple[Fault, ...]) -> list[tuple[Fault, ...]]:
    """Returns every combination of faults of different classes that touch different fields, in the order of the
    classes.
    """
    choices = chain.from_iterable(combinations(faults, count) for count in range(1, len(ORDER) + 1))
    return [
        chosen
        for chosen in choices
        if len({place for place, _ in chosen}) == len(chosen)
        and len({name for _, fields in chosen for name in fields}) == sum(len(fields) for _, fields in chosen)
    ]


def code_of(books: Case, type: str, fields: dict[str, Any]) -> str | None:
    """Returns the code with which an event with these fields is refused; None if it is recorded."""
    fields = dict(fields)
    at, customer = fields.pop("at", on(9)), None if type in LEDGER_WIDE else "ann"
    if books.send("tried", type, customer, at, **fields) is not None:
        return None
    return getattr(books.refused[-1], "code", None)


@pytest.mark.parametrize("type", EVENT_TYPES)
def test_of_several_faults_of_an_event_the_first_in_the_documented_order_is_reported(books: Case, type: str) -> None:
    sound, faults = FAULTS[type]
    assert [place for place, _ in faults] == sorted(place for place, _ in faults)
    alone = {}
    for place, fields in faults:
        code = alone[str(fields)] = code_of(books, type, {**sound, **fields})
        assert code in ORDER[place], fields
    for chosen in combined(faults):
        fields = {name: value for _, others in chosen for name, value in others.items()}
        assert code_of(books, type, {**sound, **fields}) == alone[str(chosen[0][1])], fields
    assert code_of(books, type, sound) is None, "and without a fault it is recorded"


def test_every_refusal_of_an_event_has_its_place_in_the_order_and_is_listed_in_it() -> None:
    places = {code: place for place, codes in enumerate(ORDER) for code in codes}
    for type, codes in REFUSALS.items():
        assert [places[code] for code in codes] == sorted(places[code] for code in codes), type
    assert set(places) - {code for codes in REFUSALS.values() for code in codes} == {"invalid_value"}


def test_an_exhausted_block_is_refunded_in_another_currency() -> None:
    case = Case()
    case.buys("U")
    case.uses("7", 2)
    error = case.is_refused("credits.refunded", 9, block_id="U", amount="1.00", currency="EUR")
    assert isinstance(error, Refused)
    assert (error.code, error.expected, error.found) == ("wrong_currency", "USD", "EUR")
