"""A second person: the events that wait, the persons who may approve them, and both names in the log."""

from __future__ import annotations

import uuid
from datetime import timedelta
from decimal import Decimal
from functools import partial
from typing import Any

import pytest
from fastapi.testclient import TestClient

from api.http.app import create_app
from api.keys import create_key
from api.service import Subledger
from projections import integrity
from subledger.errors import InvalidInput
from subledger.event_effect import NO_EFFECT, EventEffect
from subledger.events.envelope import read_event
from subledger.events.own_data import Approvals
from subledger.ledger_settings import LedgerSettings, SettingsChange
from subledger.store.reading.ledgers import ledger_head
from subledger.store.writing.batch import Approved
from subledger.store.writing.recent_effects import RecentEffects
from subledger.wallet import Approval
from tests.building import cloud_event, grant, recorded

ASKING = {
    "breakage_estimates": True, "write_offs": True, "voids": True, "reopening": True, "grant_credits_above": "100",
    "grant_value_above": "10.00",
}  # fmt: skip
NOON = "2026-01-15T12:00:00Z"


class Person:
    """A person with a key of the HTTP API."""

    def __init__(self, service: Subledger, name: str, role: str = "controller") -> None:
        key = create_key(service.database, ledger="*", role=role, name=name).secret
        self._client = TestClient(create_app(service), headers={"Authorization": f"Bearer {key}"})

    def post(self, path: str, body: Any = None) -> tuple[int, Any]:
        answer = self._client.post(path, json=body)
        return answer.status_code, answer.json()

    def patch(self, path: str, body: Any) -> tuple[int, Any]:
        answer = self._client.patch(path, json=body)
        return answer.status_code, answer.json()

    def get(self, path: str) -> Any:
        return self._client.get(path).json()


@pytest.fixture(scope="module")
def service(modules_service: Subledger) -> Subledger:
    """A service on its own database, because every call needs a key once a key exists."""
    return modules_service


@pytest.fixture(scope="module")
def ann(service: Subledger) -> Person:
    return Person(service, "ann")


@pytest.fixture(scope="module")
def bob(service: Subledger) -> Person:
    return Person(service, "bob")


@pytest.fixture
def books(service: Subledger, ann: Person) -> str:
    """A ledger that requires a second person, with a purchase and a closed January."""
    ledger = f"asking-{uuid.uuid4().hex[:8]}"
    service.create_ledger(ledger, LedgerSettings(currency="USD", approvals=Approvals.model_validate(ASKING)))
    url = f"/v1/ledgers/{ledger}"
    block = {"block_id": "B", "credits": "10", "price": "5.00", "currency": "USD", "pool": "P"}
    assert ann.post(f"{url}/events", cloud_event("buy", "credits.purchased", "cust", NOON, **block))[0] == 200
    assert ann.post(f"{url}/periods/2026-01/close")[0] == 200
    return ledger


def configure(service: Subledger, ledger: str, **approvals: Any) -> None:
    """Changes the acts that need a second person, with the approval of a second person."""
    asked = service.configure_ledger(ledger, SettingsChange(approvals=approvals), by="zoe")
    assert asked.approval_id is not None
    service.decide_approval(ledger, asked.approval_id, by="yan", allow=True)


give = partial(grant, time=NOON, credits="101", customer="cust")


ESTIMATE = cloud_event(
    "est", "breakage.estimated", None, NOON, pool="P", expected_breakage_rate="0.1", currency="USD", evidence="2025"
)
WRITE_OFF = cloud_event("off", "receivable.written_off", "cust", NOON, block_id="B", reason="insolvent")


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        (ESTIMATE, "breakage_estimate"),
        (WRITE_OFF, "write_off"),
        (cloud_event("void", "purchase.voided", "cust", NOON, block_id="B", reason="cancelled"), "void"),
        (give("large"), "grant"),
        (give("dear", credits="1", reason="goodwill", value="10.01", currency="USD"), "grant"),
    ],
)
def test_what_a_person_decides_waits_until_another_allows_it(
    event: Any, reason: str, books: str, ann: Person, bob: Person, service: Subledger
) -> None:
    url = f"/v1/ledgers/{books}"
    position = ann.get(url)["position"]
    status, answer = ann.post(f"{url}/events", event)
    [result] = answer["results"]
    assert (status, result["status"]) == (202, "waiting")
    assert ann.get(url)["position"] == position, "what waits has not happened"
    assert ann.post(f"{url}/events", event)[1]["results"] == [result], "sent again, it goes on waiting"
    approval = result["approval_id"]
    [waiting] = ann.get(f"{url}/approvals?state=waiting")["items"]
    assert (waiting["approval_id"], waiting["reason"], waiting["maker"]) == (approval, reason, "ann")
    assert waiting["event"]["data"] == event["data"]

    status, problem = ann.post(f"{url}/approvals/{approval}/approve")
    assert (status, problem["code"], problem["expected"]) == (422, "same_person", "somebody other than ann")
    status, answer = bob.post(f"{url}/approvals/{approval}/approve")
    assert (status, answer["state"], answer["position"]) == (200, "approved", position + 1)
    recorded = ann.get(f"{url}/events/{position + 1}")
    assert recorded["decision"]["approval"] == {"approval_id": approval, "maker": "ann", "checker": "bob"}
    status, problem = bob.post(f"{url}/approvals/{approval}/refuse")
    assert (status, problem["code"]) == (422, "approval_decided")
    assert ann.post(f"{url}/events", event)[1]["results"][0]["status"] == "duplicate"
    assert ann.get(f"{url}/approvals?state=waiting")["items"] == []
    assert integrity.verify(service.database, books).differences == []


def test_what_is_refused_is_never_recorded_and_its_id_is_spent(books: str, ann: Person, bob: Person) -> None:
    url = f"/v1/ledgers/{books}"
    approval = ann.post(f"{url}/events", WRITE_OFF)[1]["results"][0]["approval_id"]
    assert bob.post(f"{url}/approvals/{approval}/refuse", {"note": "they paid"})[0] == 200
    status, answer = ann.post(f"{url}/events", WRITE_OFF)
    error = answer["results"][0]["error"] if "results" in answer else answer
    assert (status, error["code"]) == (422, "approval_refused")
    assert "they paid" in error["detail"]
    [refused] = ann.get(f"{url}/approvals")["items"]
    assert (refused["state"], refused["checker"], refused["note"]) == ("refused", "bob", "they paid")


def test_small_grants_and_everything_else_need_nobody(books: str, ann: Person) -> None:
    url = f"/v1/ledgers/{books}"
    small = [give("small", credits="100"), give("cheap", credits="1", reason="goodwill", value="10.00", currency="USD")]
    status, answer = ann.post(f"{url}/events", [*small, ESTIMATE])
    assert (status, [result["status"] for result in answer["results"]]) == (207, ["recorded", "recorded", "waiting"])


def test_other_content_under_the_id_of_what_waits_is_a_conflict(books: str, ann: Person) -> None:
    url = f"/v1/ledgers/{books}"
    ann.post(f"{url}/events", ESTIMATE)
    other = {**ESTIMATE, "data": {**ESTIMATE["data"], "expected_breakage_rate": "0.2"}}
    status, answer = ann.post(f"{url}/events", other)
    error = answer["results"][0]["error"]
    assert (status, error["code"], error["differs"]) == (409, "event_conflict", ["data.expected_breakage_rate"])


def test_what_the_books_refuse_does_not_wait_and_what_they_come_to_refuse_says_so(
    books: str, ann: Person, bob: Person
) -> None:
    url = f"/v1/ledgers/{books}"
    too_much = {**WRITE_OFF, "id": "off-2", "data": {**WRITE_OFF["data"], "amount": "5.01"}}
    status, answer = ann.post(f"{url}/events", too_much)
    assert (status, answer["results"][0]["error"]["code"]) == (422, "exceeds_receivable")
    approval = ann.post(f"{url}/events", WRITE_OFF)[1]["results"][0]["approval_id"]
    paid = cloud_event("paid", "payment.received", "cust", NOON, block_id="B", amount="5.00", currency="USD")
    assert ann.post(f"{url}/events", paid)[0] == 200
    status, problem = bob.post(f"{url}/approvals/{approval}/approve")
    assert (status, problem["code"]) == (422, "exceeds_receivable")
    assert bob.get(f"{url}/approvals?state=waiting")["items"][0]["approval_id"] == approval


def test_reopening_a_month_waits_too(books: str, ann: Person, bob: Person) -> None:
    url = f"/v1/ledgers/{books}"
    status, answer = ann.post(f"{url}/periods/2026-01/reopen", {"reason": "a late invoice"})
    assert (status, answer["state"]) == (202, "waiting")
    assert ann.get(url)["closed_through"] == "2026-01-31"
    assert bob.post(f"{url}/approvals/{answer['approval_id']}/approve")[0] == 200
    assert ann.get(url)["closed_through"] == "2025-12-31"


def test_a_writer_may_ask_and_not_decide(books: str, ann: Person, service: Subledger) -> None:
    url = f"/v1/ledgers/{books}"
    approval = ann.post(f"{url}/events", ESTIMATE)[1]["results"][0]["approval_id"]
    status, problem = Person(service, "wil", "writer").post(f"{url}/approvals/{approval}/approve")
    assert (status, problem["code"]) == (403, "not_allowed")
    assert ann.post(f"{url}/approvals/apr-none/approve")[1]["code"] == "unknown_approval"


def test_a_ledger_that_asks_for_nobody_records_at_once(service: Subledger, ann: Person) -> None:
    service.create_ledger("trusting", LedgerSettings(currency="USD"))
    url = "/v1/ledgers/trusting"
    assert ann.post(f"{url}/events", give("large", credits="1000000"))[0] == 200
    assert ann.get(url)["approvals"] == {}


def test_what_waits_or_was_refused_under_an_id_is_not_recorded_with_other_content(
    books: str, ann: Person, bob: Person
) -> None:
    url = f"/v1/ledgers/{books}"
    assert ann.post(f"{url}/events", give("waits"))[0] == 202
    status, answer = ann.post(f"{url}/events", give("waits", credits="10"))
    assert (status, answer["results"][0]["error"]["code"]) == (409, "event_conflict")
    status, answer = ann.post(f"{url}/events", give("refused"))
    approval = answer["results"][0]["approval_id"]
    assert bob.post(f"{url}/approvals/{approval}/refuse")[0] == 200
    _, answer = ann.post(f"{url}/events", give("refused", credits="10"))
    assert answer["results"][0]["status"] == "rejected"


def test_credits_added_to_a_block_for_nothing_are_a_grant(books: str, ann: Person) -> None:
    url = f"/v1/ledgers/{books}"

    def more(id: str, **data: Any) -> int:
        event = cloud_event(id, "block.repriced", "cust", NOON, block_id="B", reason="a gift", **data)
        return ann.post(f"{url}/events", event)[0]

    assert more("few", add_credits="100") == 200
    assert more("for a cent", add_credits="101", add_price="0.01") == 202
    assert more("sold", add_credits="101", add_price="5.00") == 200
    assert more("given", add_credits="101") == 202


@pytest.mark.parametrize(
    ("id", "data"),
    [
        ("for nothing", {"credits": "500000", "price": "0.00"}),
        ("for a cent", {"credits": "101", "price": "0.99"}),
        ("as a bonus", {"credits": "1", "price": "50.00", "bonus_credits": "900000"}),
        ("together", {"credits": "51", "price": "0.01", "bonus_credits": "50"}),
    ],
)
def test_a_purchase_that_gives_credits_away_is_a_grant(id: str, data: dict[str, str], books: str, ann: Person) -> None:
    def buy(id: str, **data: str) -> Any:
        event = cloud_event(id, "credits.purchased", "cust", NOON, block_id=id, currency="USD", **data)
        return ann.post(f"/v1/ledgers/{books}/events", event)

    status, answer = buy(id, **data)
    assert (status, answer["results"][0]["status"]) == (202, "waiting")
    assert ann.get(f"/v1/ledgers/{books}/approvals?state=waiting")["items"][0]["reason"] == "grant"
    assert buy("sold for a unit of money", credits="500000", price="1.00")[0] == 202
    assert buy("sold", credits="500000", price="5000.00")[0] == 200
    assert buy("small", credits="100", price="0.00")[0] == 200
    assert buy("with a small bonus", credits="5000", price="50.00", bonus_credits="100")[0] == 200


@pytest.mark.parametrize(
    ("type", "data"),
    [
        ("credits.refunded", {"block_id": "B", "credits": "1"}),
        ("credit_memo.issued", {"block_id": "B", "amount": "0.50", "currency": "USD", "reason": "an outage"}),
        ("block.repriced", {"block_id": "B", "add_price": "-1.00", "reason": "a discount"}),
        ("block.repriced", {"block_id": "B", "add_credits": "-1", "reason": "too many"}),
    ],
)
def test_what_takes_back_a_sale_needs_who_a_void_needs(
    type: str, data: dict[str, str], books: str, ann: Person, bob: Person, service: Subledger
) -> None:
    url = f"/v1/ledgers/{books}"
    use = cloud_event("use", "credits.consumed", "cust", NOON, credits="5")
    assert ann.post(f"{url}/events", use)[0] == 200
    status, answer = ann.post(f"{url}/events", cloud_event("back", type, "cust", NOON, **data))
    assert status == 202
    approval = answer["results"][0]["approval_id"]
    assert bob.post(f"{url}/approvals/{approval}/approve")[0] == 200
    assert integrity.verify(service.database, books).differences == []
    plain = f"plain-{uuid.uuid4().hex[:8]}"
    service.create_ledger(plain, LedgerSettings(currency="USD"))
    bought = cloud_event(
        "buy", "credits.purchased", "cust", NOON, block_id="B", credits="10", price="5.00", currency="USD"
    )
    events = [bought, use, cloud_event("back", type, "cust", NOON, **data)]
    recorded(service, plain, *events)


def test_a_changed_expiry_needs_somebody_where_the_ledger_asks(
    books: str, ann: Person, bob: Person, service: Subledger
) -> None:
    url = f"/v1/ledgers/{books}"

    bought = {"block_id": "E", "credits": "1", "price": "5.00", "currency": "USD", "expires_at": "2026-02-01T00:00:00Z"}
    assert ann.post(f"{url}/events", cloud_event("buy-E", "credits.purchased", "cust", NOON, **bought))[0] == 200

    def extend(id: str) -> tuple[int, Any]:
        data = {"block_id": "E", "expires_at": "2026-02-15T00:00:00Z", "reason": "agreed"}
        return ann.post(f"{url}/events", cloud_event(id, "block.expiry_changed", "cust", NOON, **data))

    assert extend("without")[0] == 200
    configure(service, books, expiry_changes=True)
    status, answer = extend("with")
    assert (status, answer["results"][0]["status"]) == (202, "waiting")
    approval = answer["results"][0]["approval_id"]
    [waiting] = ann.get(f"{url}/approvals?state=waiting")["items"]
    assert waiting["reason"] == "expiry_change"
    assert bob.post(f"{url}/approvals/{approval}/approve")[0] == 200


@pytest.fixture
def priced(service: Subledger) -> str:
    """A ledger that sells a credit for 0.01, and requires a second person for grants above 10.00 within a day."""
    ledger = f"priced-{uuid.uuid4().hex[:8]}"
    asked = {"grant_value_above": "10.00", "credit_prices": {"credit": "0.01", "hour": "5"}, "grants_within": "1d"}
    service.create_ledger(ledger, LedgerSettings(currency="USD", approvals=Approvals.model_validate(asked)))
    rate = {"base": "EUR", "quote": "USD", "rate": "1.20", "rate_source": "test"}
    service.record(ledger, [cloud_event("rate", "exchange_rate.set", None, "2026-01-01T00:00:00Z", **rate)])
    return ledger


@pytest.mark.parametrize(
    ("type", "data", "waits"),
    [
        ("credits.purchased", {"credits": "500000", "price": "1.00", "currency": "USD"}, True),
        ("credits.purchased", {"credits": "500000", "price": "0.00", "currency": "USD"}, True),
        ("credits.purchased", {"credits": "500000", "price": "4990.00", "currency": "USD"}, False),
        ("credits.purchased", {"credits": "500000", "price": "4989.99", "currency": "USD"}, True),
        ("credits.purchased", {"credits": "500000", "price": "9000.00", "currency": "USD"}, False),
        ("credits.purchased", {"credits": "1", "bonus_credits": "1002", "price": "0.02", "currency": "USD"}, True),
        ("credits.purchased", {"credits": "12000", "price": "92.00", "currency": "EUR"}, False),
        ("credits.purchased", {"credits": "12000", "price": "91.00", "currency": "EUR"}, True),
        ("credits.purchased", {"credits": "9", "unit": "second", "price": "0.00", "currency": "USD"}, False),
        ("credits.granted", {"credits": "3", "unit": "hour", "reason": "promotional"}, True),
        ("credits.granted", {"credits": "1000", "reason": "promotional"}, False),
        ("credits.granted", {"credits": "1001", "reason": "promotional"}, True),
        ("credits.granted", {"credits": "2000", "reason": "goodwill", "value": "0.01", "currency": "USD"}, True),
        ("credits.granted", {"credits": "1", "reason": "goodwill", "value": "10.01", "currency": "USD"}, True),
    ],
)
def test_what_is_given_away_is_measured_by_what_credits_are_sold_for(
    type: str, data: dict[str, str], waits: bool, priced: str, ann: Person
) -> None:
    status, _ = ann.post(f"/v1/ledgers/{priced}/events", cloud_event("e", type, "cust", NOON, block_id="X", **data))
    assert status == (202 if waits else 200)


def test_grants_that_are_each_within_the_limit_need_somebody_together(
    priced: str, ann: Person, bob: Person, service: Subledger
) -> None:
    url = f"/v1/ledgers/{priced}/events"

    def status(*ids: str, customer: str = "cust", credits: str = "400", time: str = NOON) -> Any:
        data = {"credits": credits, "reason": "promotional"}
        events = [cloud_event(id, "credits.granted", customer, time, block_id=id, **data) for id in ids]
        return [result["status"] for result in ann.post(url, events)[1]["results"]]

    assert status("1", "2", "3") == ["recorded", "recorded", "waiting"], "in one batch"
    assert status("4") == ["waiting"], "in another"
    assert status("5", time="2026-01-02T12:00:00Z") == ["waiting"], "dated back"
    assert [outcome.status for outcome in service.record(priced, [give("6", credits="400")], by="zoe")] == ["waiting"]
    assert status("7", credits="200") == ["recorded"], "just within the limit"
    assert status("8", customer="other") == ["recorded"]
    sold = {"block_id": "9", "credits": "100000", "price": "1000.00", "currency": "USD"}
    assert ann.post(url, cloud_event("9", "credits.purchased", "cust", NOON, **sold))[0] == 200, "no gift"
    more = cloud_event("10", "block.repriced", "cust", NOON, block_id="9", add_credits="1", reason="r")
    assert ann.post(url, more)[0] == 202, "a gift by another name"


def test_what_a_second_person_allowed_counts_no_more(priced: str, ann: Person, bob: Person) -> None:
    url = f"/v1/ledgers/{priced}"
    _, answer = ann.post(f"{url}/events", give("large", credits="5000"))
    assert bob.post(f"{url}/approvals/{answer['results'][0]['approval_id']}/approve")[0] == 200
    assert ann.post(f"{url}/events", give("small", credits="1000"))[0] == 200
    assert ann.post(f"{url}/events", give("more", credits="1"))[0] == 202


def test_what_was_given_before_the_time_that_counts_does_not_count(priced: str, service: Subledger) -> None:
    service.record(priced, [give("first", credits="1000")], by="ann")
    with service.database.read() as connection:
        head = ledger_head(connection, priced)
    known = RecentEffects()
    for later, effect in (
        (timedelta(hours=23), EventEffect(credits_given=Decimal(1000), value_given=Decimal(10))),
        (timedelta(days=1), NO_EFFECT),
    ):
        for recent in (known, RecentEffects()):
            with service.database.write() as connection:
                recent.load(connection, head.state, {"cust", "other"}, head.recorded_at + later)
            assert (recent.of("cust"), recent.of("other")) == (effect, NO_EFFECT)


def test_a_request_whose_event_was_recorded_after_the_ledger_stopped_asking_waits_no_more(
    books: str, ann: Person, bob: Person, service: Subledger
) -> None:
    url = f"/v1/ledgers/{books}"
    ann.post(f"{url}/events", give("other"))
    approval = ann.post(f"{url}/events", give("large"))[1]["results"][0]["approval_id"]
    off = dict.fromkeys(ASKING, False) | {"grant_credits_above": None, "grant_value_above": None}
    configure(service, books, **off)
    for writer in (service, Subledger(service.database)):  # the one that requested it, and another one
        [outcome] = writer.record(books, [give("large")], by="ann")
        assert outcome.status == ("recorded" if writer is service else "duplicate")
    [settled] = ann.get(f"{url}/approvals?state=recorded")["items"]
    assert (settled["approval_id"], settled["checker"]) == (approval, None)
    assert f"position {ann.get(url)['position']} " in settled["note"]
    [other] = ann.get(f"{url}/approvals?state=waiting")["items"]
    for decision in ("approve", "refuse"):
        status, problem = bob.post(f"{url}/approvals/{approval}/{decision}")
        assert (status, problem["code"], problem["found"]) == (422, "approval_decided", "recorded")
    assert [o.status for o in Subledger(service.database).record(books, [give("other")], by="ann")] == ["recorded"]
    assert ann.get(f"{url}/approvals?state=waiting")["items"] == []
    assert other["event"]["id"] == "other"
    assert integrity.verify(service.database, books).differences == []


@pytest.mark.parametrize("decision", ["approve", "refuse"])
def test_a_decision_that_finds_the_event_recorded_settles_the_request(
    decision: str, books: str, ann: Person, bob: Person, service: Subledger
) -> None:
    """The request is from a version that ignored requests when a ledger no longer required a second person."""
    url = f"/v1/ledgers/{books}"
    approval = ann.post(f"{url}/events", give("large"))[1]["results"][0]["approval_id"]
    service.recorder.transact(
        books, lambda *_: [Approved(read_event(give("large")), Approval(approval_id="apr-x", maker="a", checker="b"))]
    )
    for _ in range(2):
        status, problem = bob.post(f"{url}/approvals/{approval}/{decision}")
        assert (status, problem["code"], problem["found"]) == (422, "approval_decided", "recorded")
        assert "without a second person" in problem["detail"]
    assert ann.get(f"{url}/approvals?state=waiting")["items"] == []


def test_a_price_is_nominal_by_what_it_comes_to_in_the_functional_currency(
    books: str, ann: Person, service: Subledger
) -> None:
    """A hundred minor units of a weak currency are worth very little, and a few minor units of a strong one may be a
    price.
    """
    rates = [
        cloud_event(
            base,
            "exchange_rate.set",
            None,
            "2026-01-01T00:00:00Z",
            base=base,
            quote="USD",
            rate=rate,
            rate_source="test",
        )
        for base, rate in (("IDR", "0.00006"), ("KWD", "3.25"))
    ]
    recorded(service, books, *rates)

    def status(id: str, type: str = "credits.purchased", **data: str) -> int:
        event = cloud_event(id, type, "cust", NOON, **{"block_id": id, **data})
        return ann.post(f"/v1/ledgers/{books}/events", event)[0]

    assert status("weak", credits="101", price="16000.00", currency="IDR") == 202, "0.96 USD"
    assert status("sold", credits="101", price="17000.00", currency="IDR") == 200, "1.02 USD"
    assert status("strong", credits="101", price="0.310", currency="KWD") == 200, "1.01 USD"
    assert status("stronger", credits="101", price="0.300", currency="KWD") == 202, "0.98 USD"
    more = {"type": "block.repriced", "block_id": "sold", "add_credits": "101", "reason": "r"}
    assert status("more", **more, add_price="1.00") == 202
    assert status("more sold", **more, add_price="17000.00") == 200


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({"grants_within": "a day"}, "approvals.grants_within"),
        ({"grants_within": "99d"}, "approvals.grants_within"),
        ({"credit_prices": {"credit": "-1"}}, "approvals.credit_prices.credit"),
        ({"credit_prices": {"": "1"}}, "approvals.credit_prices"),
        ({"credit_prices": {f"unit-{n}": "1" for n in range(101)}}, "approvals.credit_prices"),
    ],
)
def test_limits_that_cannot_be_are_refused(asked: dict[str, Any], field: str, books: str, service: Subledger) -> None:
    with pytest.raises(InvalidInput) as caught:
        service.configure_ledger(books, SettingsChange(approvals=asked))
    assert caught.value.field is not None
    assert caught.value.field.startswith(field)


def test_a_change_of_the_second_persons_settings_waits_and_the_second_person_sees_it(
    books: str, ann: Person, bob: Person, service: Subledger
) -> None:
    url, admin = f"/v1/ledgers/{books}", Person(service, "adam", "admin")
    status, answer = admin.patch(url, {"approvals": {"voids": False, "grant_value_above": "99.00"}})
    assert (status, answer["status"], answer["approvals"]["voids"]) == (202, "waiting", True)
    asked = bob.get(f"{url}/approvals/{answer['approval_id']}")
    assert (asked["reason"], asked["maker"], asked["customer"], asked["block_id"]) == ("settings", "adam", None, None)
    lines = ["approvals.voids: true to false", "approvals.grant_value_above: 10.00 to 99.00"]
    assert asked["effect"]["changed_settings"] == lines
    status, problem = admin.post(f"{url}/approvals/{answer['approval_id']}/approve")
    assert (status, problem["code"]) == (422, "same_person")
    assert bob.post(f"{url}/approvals/{answer['approval_id']}/approve")[0] == 200
    assert "voids" not in ann.get(url)["approvals"]
    status, answer = admin.patch(url, {"on_shortfall": "overage"})
    assert (status, answer["status"]) == (200, "configured")
    assert integrity.verify(service.database, books).differences == []


def test_the_second_person_is_answered_with_what_was_approved(books: str, ann: Person, bob: Person) -> None:
    url = f"/v1/ledgers/{books}"
    paid = {"block_id": "B", "amount": "5.00", "currency": "USD"}
    assert ann.post(f"{url}/events", cloud_event("paid", "payment.received", "cust", NOON, **paid))[0] == 200
    back = {"block_id": "B", "credits": "4", "reason": "a complaint"}
    _, answer = ann.post(f"{url}/events", cloud_event("back", "credits.refunded", "cust", NOON, **back))
    approval = answer["results"][0]["approval_id"]
    [waiting] = ann.get(f"{url}/approvals?state=waiting")["items"]
    assert waiting == ann.get(f"{url}/approvals/{approval}")
    status, approved = bob.post(f"{url}/approvals/{approval}/approve")
    assert (status, approved["state"], approved["status"]) == (200, "approved", "recorded")
    seen = ("customer", "block_id", "amount", "stated_reason", "effect")
    assert {name: approved[name] for name in seen} == {name: waiting[name] for name in seen}
    assert (approved["customer"], approved["block_id"], approved["stated_reason"]) == ("cust", "B", "a complaint")
    assert approved["effect"]["money_back"] == {"amount": "2.00", "currency": "USD"}
    recorded = ann.get(f"{url}/events/{approved['position']}")
    assert recorded["decision"]["effect"] == {"cancels": True, "money_back": "2"}
