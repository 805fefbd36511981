"""Reservations: credits that are held for later usage, against other usage and other reservations.

The laws hold for all blocks: with or without a scope, scheduled, expiring. The cases show a reservation after other
events of its credits, and after its expiry.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from subledger import errors
from subledger.billing_documents import Reservation
from subledger.blocks import ZERO
from subledger.reserved import Held, held_at, spendable
from subledger.wallet import Wallet
from tests.laws.case import Case, on, told
from tests.laws.walk import Step

UNTIL = on(20)


class Booking(Case):
    """A case in which ann reserves credits."""

    def reserves(self, name: str, credits: str, day: int = 5, /, until: datetime = UNTIL, **data: Any) -> Step:
        return self.does(
            "credits.reserved", day, reservation_id=name, credits=credits, expires_at=until.isoformat(), **data
        )

    def cannot_reserve(self, credits: str, day: int = 5, /, **data: Any) -> errors.SubledgerError:
        name, until = f"r{self.sent}", UNTIL.isoformat()
        return self.is_refused(
            "credits.reserved", day, **{"reservation_id": name, "credits": credits, "expires_at": until, **data}
        )

    def cannot_use(self, credits: str, day: int, /, **data: Any) -> errors.SubledgerError:
        return self.is_refused("credits.consumed", day, credits=credits, **data)

    def releases(self, name: str, day: int) -> Step:
        return self.does("reservation.released", day, reservation_id=name)

    def spendable(self, day: int, product: str | None = None) -> str:
        wallet = self.wallet("ann")
        return f"{spendable(wallet.blocks, held(wallet, on(day)), unit='credit', product=product, at=on(day)):f}"

    def held(self, name: str, day: int) -> str:
        return f"{held(self.wallet('ann'), on(day)).of(name):f}"


def held(wallet: Wallet, at: datetime) -> Held:
    return held_at(wallet.blocks, wallet.reservations, at, late=False)


# --- effects of a reservation -----------------------------------------------------------------------------------------


def test_a_reservation_moves_nothing_and_lowers_what_is_spendable() -> None:
    case = Booking()
    case.buys("A")
    assert told(case.reserves("job", "5")) == ["01-05 credits_reserved 0"]
    [entry] = case.steps[-1].entries
    assert (entry.customer, entry.block_id, entry.credits, entry.amount_minor) == ("ann", None, ZERO, 0)
    assert case.spendable(5) == "2"
    assert case.spendable(4) == "7", "it holds nothing before its own time"
    assert case.cannot_use("2.000000001", 6).facts["available"] == "2"
    case.uses("2", 6)
    assert case.cannot_use("0.000000001", 7).code == "insufficient_credits"


def test_usage_that_names_it_settles_it_and_the_rest_is_free() -> None:
    case = Booking()
    case.buys("A")
    case.reserves("job", "5")
    step = case.uses("3", 6, reservation_id="job")
    assert told(step) == ["01-06 consumption 429 block=A credits=3", "01-06 reservation_settled 0"]
    assert case.spendable(6) == "4"
    assert told(case.uses("4", 7, reservation_id="job")) == ["01-07 consumption 571 block=A credits=4"], "as any usage"


def test_usage_above_its_reservation_draws_what_is_free_besides() -> None:
    case = Booking()
    case.buys("A")
    case.reserves("job", "3")
    case.reserves("other", "2")
    error = case.cannot_use("5.5", 6, reservation_id="job")
    assert (error.facts["available"], error.facts["missing"]) == ("5", "0.5")
    case.uses("5", 6, reservation_id="job")
    assert (case.held("other", 6), case.spendable(6)) == ("2", "0")


def test_a_reservation_asks_for_credits_that_are_spendable() -> None:
    case = Booking(on_shortfall="overage")
    case.buys("A")
    case.reserves("job", "5")
    error = case.cannot_reserve("2.5")
    assert (error.code, error.facts["available"], error.facts["missing"]) == ("insufficient_credits", "2", "0.5")
    case.reserves("other", "2")


def test_a_released_reservation_holds_nothing_and_ends_once() -> None:
    case = Booking()
    case.buys("A")
    case.reserves("job", "7")
    assert told(case.releases("job", 6)) == ["01-06 reservation_released 0"]
    assert case.spendable(6) == "7"
    error = case.is_refused("reservation.released", 7, reservation_id="job")
    assert (error.code, error.facts["ended_by"]) == ("reservation_ended", "reservation.released e3")
    case.uses("7", 7, reservation_id="job")


def test_a_reservation_expires_by_itself_and_usage_that_names_it_later_is_any_usage() -> None:
    case = Booking()
    case.buys("A")
    case.reserves("job", "5", until=on(10))
    assert (case.spendable(9), case.spendable(10)) == ("2", "7")
    case.uses("3", 10)
    assert case.cannot_use("5", 11, reservation_id="job").facts["available"] == "4"
    assert told(case.uses("4", 11, reservation_id="job"))[1:] == ["01-11 reservation_settled 0"]


def test_usage_of_before_the_reservation_that_comes_late_is_not_held_up_by_it() -> None:
    case = Booking()
    case.buys("A")
    case.reserves("job", "7", 6)
    case.uses("3", 5)
    assert case.held("job", 6) == "4"
    assert case.cannot_use("5", 7, reservation_id="job").facts["available"] == "4"
    case.uses("4", 7, reservation_id="job")


def test_with_overage_usage_goes_beyond_the_credits_and_not_into_a_reservation() -> None:
    case = Booking(on_shortfall="overage")
    case.buys("A")
    case.reserves("job", "5")
    step = case.uses("3", 6, overage_price="1.00", currency="USD")
    assert told(step) == ["01-06 consumption 286 block=A credits=2", "01-06 overage 100 credits=1"]
    assert told(case.uses("5", 7, reservation_id="job"))[0] == "01-07 consumption 714 block=A credits=5"


def test_a_block_that_usage_names_is_held_too() -> None:
    case = Booking()
    case.buys("A")
    case.buys("B", 2)
    case.reserves("job", "5")
    assert case.cannot_use("3", 6, block_id="A").facts["available"] == "2"
    case.uses("7", 6, block_id="B")


def test_a_reservation_is_for_its_unit_and_product() -> None:
    case = Booking()
    case.buys("A", scope=["api", "chat"])
    case.buys("N", 2)
    case.reserves("job", "8", product="api")
    assert (case.spendable(6), case.spendable(6, "chat")) == ("6", "6")
    error = case.cannot_use("1", 6, reservation_id="job", product="chat")
    assert (error.code, error.field, error.expected, error.found) == (
        "reservation_differs", "data.product", "api", "chat",
    )  # fmt: skip
    assert case.cannot_use("1", 6, reservation_id="job").found == "no product"
    assert case.cannot_use("1", 6, reservation_id="job", unit="token", product="api").field == "data.unit"
    case.uses("8", 6, reservation_id="job", product="api")
    case.reserves("any", "6", 7)
    case.uses("6", 8, reservation_id="any", product="chat")


# --- other events of the credits -----------------------------------------------------------------------


def test_what_takes_credits_otherwise_is_not_held_up_and_the_reservation_is_short() -> None:
    ways: list[tuple[str, dict[str, Any]]] = [
        ("purchase.voided", {"block_id": "A", "credits": "4", "reason": "r"}),
        ("credits.refunded", {"block_id": "A", "credits": "4"}),
        ("credits.transferred", {"block_id": "A", "credits": "4", "to_customer": "bob", "new_block_id": "T"}),
        ("block.repriced", {"block_id": "A", "add_credits": "-4", "reason": "r"}),
    ]
    for type, data in ways:
        case = Booking()
        case.buys("A")
        case.reserves("job", "5")
        case.does(type, 6, **data)
        assert (case.held("job", 7), case.spendable(7)) == ("3", "0"), type
        assert case.cannot_use("4", 7, reservation_id="job").facts["available"] == "3"
        case.buys("B", 7, credits="10")
        assert (case.held("job", 7), case.spendable(7)) == ("5", "8"), "a purchase fills it first"


def test_a_reservation_keeps_no_credits_alive() -> None:
    case = Booking()
    case.buys("A", expires_at=on(10).isoformat())
    case.buys("B", credits="2")
    case.reserves("job", "8")
    assert (case.spendable(9), case.held("job", 9)) == ("1", "8")
    assert (case.spendable(10), case.held("job", 10)) == ("0", "2"), "expired, whether or not that is recorded"
    assert case.own("x", "credits.expired", "ann", on(10), block_id="A") is not None
    assert (case.spendable(11), case.held("job", 11)) == ("0", "2")


def test_frozen_and_scheduled_credits_are_not_spendable() -> None:
    case = Booking()
    case.buys("A")
    case.buys("B", starts_at=on(8).isoformat())
    assert case.cannot_reserve("7.5").facts["available"] == "7"
    case.does("payment.received", 4, amount="10.00", currency="USD", block_id="A", processor="stripe")
    case.does("dispute.opened", 4, dispute_id="D", block_id="A")
    assert (case.spendable(5), case.spendable(8)) == ("0", "7")
    assert case.cannot_reserve("1").facts["available"] == "0"
    case.reserves("job", "7", 8)
    case.does("dispute.won", 9, dispute_id="D")
    assert (case.held("job", 9), case.spendable(9)) == ("7", "7")


def test_reversed_usage_does_not_bring_its_reservation_back() -> None:
    case = Booking()
    case.buys("A")
    case.reserves("job", "5")
    step = case.uses("5", 6, reservation_id="job")
    case.takes_back(step, 7)
    assert (case.spendable(7), case.wallet("ann").reservations) == ("7", ())


def test_late_usage_of_before_a_repricing_leaves_what_was_reserved_then() -> None:
    case = Booking()
    case.buys("A")
    case.reserves("job", "5")
    case.does("block.repriced", 8, block_id="A", add_credits="10", add_price="1.00", reason="r")
    assert case.cannot_use("3", 7).facts["available"] == "2", "what was added on day 8 was not there"
    case.uses("2", 7)
    assert (case.held("job", 9), case.spendable(9)) == ("5", "10")


def test_late_usage_of_an_expired_block_leaves_what_was_reserved_then() -> None:
    case = Booking()
    case.buys("A", expires_at=on(10).isoformat())
    case.reserves("job", "5")
    assert case.own("x", "credits.expired", "ann", on(10), block_id="A") is not None
    assert case.cannot_use("3", 7).facts["available"] == "2"
    case.uses("2", 7)
    step = case.uses("5", 8, reservation_id="job")
    assert [movement.kind for movement in step.decision.movements] == [
        "breakage", "consumption", "reservation_settled",
    ]  # fmt: skip


# --- memory ----------------------------------------------------------------------------------------------------------


def _reserves(case: Case, day: int, reservation_id: str, credits: str, until: int) -> Step:
    data = {"reservation_id": reservation_id, "credits": credits, "expires_at": on(until).isoformat()}
    return case.does("credits.reserved", day, product="api", **data)


def _refusal(case: Case, type: str, day: int, **data: Any) -> tuple[Any, ...]:
    error = case.is_refused(type, day, **data)
    return error.code, error.message, error.field, error.expected, error.found, dict(error.facts)


def test_a_reservation_that_is_recorded_late_takes_nothing_that_another_holds_from_then_on() -> None:
    case = Case()
    case.buys("A", credits="10")
    _reserves(case, 5, "R", "6", 9)
    for day in 3, 6:
        late = {"reservation_id": "S", "credits": "5", "product": "api", "expires_at": on(8).isoformat()}
        code, message, *_, facts = _refusal(case, "credits.reserved", day, **late)
        assert (code, message) == ("insufficient_credits", "5 credit requested, 4 available")
        assert facts == {"available": "4", "missing": "1"}
    _reserves(case, 3, "T", "4", 8)
    _reserves(case, 2, "U", "6", 5)  # it ends when R begins


def test_refused_reservations_say_which_one_and_why() -> None:
    case = Case()
    case.buys("A", credits="10")
    at = on(3)
    assert _refusal(case, "credits.reserved", 3, reservation_id="R", credits="1", expires_at=at.isoformat()) == (
        "invalid_value",
        "data.expires_at is not after the time of the reservation",
        "data.expires_at",
        "later than 2026-01-03T12:00:00Z",
        "2026-01-03T12:00:00Z",
        {},
    )
    _reserves(case, 3, "R", "2", 9)
    for data, differing in (
        ({}, ("product api", "data.product", "api", "no product")),
        ({"unit": "token", "product": "api"}, ("unit credit", "data.unit", "credit", "token")),
    ):
        what, field, expected, found = differing
        refusal = _refusal(case, "credits.consumed", 4, credits="1", reservation_id="R", **data)
        assert refusal == ("reservation_differs", f"reservation R is for the {what}", field, expected, found, {})
    settling = case.uses("1", 4, reservation_id="R", product="api")
    assert told(settling) == ["01-04 consumption 100 block=A credits=1", "01-04 reservation_settled 0"]
    by = f"credits.consumed {settling.event.event_id}"
    assert _refusal(case, "reservation.released", 5, reservation_id="R") == (
        "reservation_ended",
        f"reservation R was ended by {by}",
        "data.reservation_id",
        "a reservation that was not settled or released",
        "R",
        {"ended_by": by},
    )
    assert told(case.uses("1", 5, reservation_id="R", product="api")) == ["01-05 consumption 100 block=A credits=1"]


def test_an_expired_reservation_is_forgotten_a_day_later_with_the_next_one_and_its_document_stays() -> None:
    case = Booking()
    case.buys("A")
    case.reserves("old", "5", until=on(6))
    case.reserves("soon", "1", 6)
    assert [r.reservation_id for r in case.wallet("ann").reservations] == ["old", "soon"]
    assert case.cannot_use("3", 5).facts["available"] == "2", "usage of a moment at which it was open"
    case.reserves("next", "1", 7)
    assert [r.reservation_id for r in case.wallet("ann").reservations] == ["soon", "next"]
    case.uses("5", 5)
    case.releases("old", 8)
    document = case.wallet("ann").document(Reservation, "old")
    assert document is not None
    assert document.ended_by == "reservation.released e7"


# --- laws ------------------------------------------------------------------------------------------------------------

PRODUCTS = st.sampled_from((None, "api", "chat"))
SCOPES = st.sampled_from((None, ["api"], ["chat"], ["api", "chat"]))
CREDITS = st.integers(1, 40).map(lambda quarters: f"{Decimal(quarters) / 4:f}")
BLOCKS = st.lists(st.tuples(CREDITS, SCOPES, st.sampled_from((10, 50)), st.booleans()), min_size=1, max_size=5)
ACTS = st.lists(
    st.tuples(
        st.sampled_from(("reserve", "reserve", "use", "settle", "settle more", "release", "buy")), CREDITS, PRODUCTS,
        st.integers(0, 9), SCOPES,
    ),
    min_size=1, max_size=12,
)  # fmt: skip


@given(BLOCKS, ACTS)
def test_no_other_usage_or_reservation_takes_what_a_reservation_holds(
    blocks: list[tuple[str, list[str] | None, int, bool]], acts: list[tuple[str, str, str | None, int, Any]]
) -> None:
    case = Booking()
    for number, (credits, scope, priority, expires) in enumerate(blocks):
        case.buys(
            f"b{number}",
            credits=credits,
            scope=scope or ...,
            priority=priority,
            expires_at=on(30).isoformat() if expires else ...,
        )
    for number, (act, credits, product, pick, scope) in enumerate(acts):
        case.sent += 1
        open = case.wallet("ann").reservations
        one = open[pick % len(open)] if open else None
        at, name = on(6) + timedelta(seconds=number), f"e{case.sent}"
        free = spendable(case.wallet("ann").blocks, held(case.wallet("ann"), at), unit="credit", product=product, at=at)
        match act:
            case "reserve":
                data = {"credits": credits, "expires_at": UNTIL.isoformat(), "product": product or ...}
                step = case.send(name, "credits.reserved", "ann", at, reservation_id=f"r{number}", **data)
                assert (step is not None) == (Decimal(credits) <= free)
            case "use":
                step = case.send(name, "credits.consumed", "ann", at, credits=credits, product=product or ...)
                assert (step is not None) == (Decimal(credits) <= free)
            case "settle" | "settle more" if one is not None:
                used = one.credits if act == "settle more" else min(Decimal(credits), one.credits)
                data = {"product": one.product or product or ..., "reservation_id": one.reservation_id}
                step = case.send(name, "credits.consumed", "ann", at, credits=f"{used:f}", **data)
                assert step is not None, "usage up to what was reserved finds its credits"
                assert not any(movement.kind == "overage" for movement in step.decision.movements)
            case "release" if one is not None:
                assert case.send(name, "reservation.released", "ann", at, reservation_id=one.reservation_id)
            case "buy":
                case.buys(f"n{number}", 3, credits=credits, scope=scope or ..., priority=10 * pick)
        wallet = case.wallet("ann")
        now = held(wallet, at)
        assert all(now.of(open.reservation_id) == open.credits for open in wallet.reservations), "nothing is short"
        taken: dict[str, Decimal] = {}
        for parts in now.by_reservation.values():
            for block_id, part in parts.items():
                taken[block_id] = taken.get(block_id, ZERO) + part
        for block in wallet.blocks:
            assert taken.get(block.block_id, ZERO) <= block.available, "no credit is held twice"


@given(BLOCKS, st.lists(st.tuples(CREDITS, PRODUCTS), max_size=5), PRODUCTS, st.booleans())
def test_what_is_spendable_can_be_used_and_no_more(
    blocks: list[tuple[str, list[str] | None, int, bool]],
    reservations: list[tuple[str, str | None]],
    product: str | None,
    late: bool,
) -> None:
    case = Booking(late_usage="reclassify" if late else "new")
    for number, (credits, scope, priority, expires) in enumerate(blocks):
        until = on(7).isoformat() if expires else ...
        case.buys(f"b{number}", credits=credits, scope=scope or ..., priority=priority, expires_at=until)
    for number, (credits, wanted) in enumerate(reservations):
        data = {"credits": credits, "expires_at": UNTIL.isoformat(), "product": wanted or ...}
        case.send(f"r{number}", "credits.reserved", "ann", on(5), reservation_id=f"r{number}", **data)
    for day in (6, 8):
        free = Decimal(case.spendable(day, product))
        over = case.cannot_use(f"{free + Decimal('0.000000001'):f}", day, product=product or ...)
        assert over.facts["available"] == f"{free.normalize():f}"
        if free:
            case.uses(f"{free:f}", day, product=product or ...)
