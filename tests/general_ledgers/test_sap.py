"""SAP posts a repeated message again, and answers 200 even without posting; each document is there once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import pytest

from api.service import Subledger
from projections.delivery import by_hand, channels, outbox
from projections.delivery.channels import Channel
from projections.delivery.deliveries import Delivery, get_delivery
from projections.delivery.sending import deliver_due
from projections.delivery.states import State
from projections.exports.exports import Export
from tests.building import cloud_event
from tests.general_ledgers.conftest import deliveries
from tests.general_ledgers.pace import UNHURRIED
from tests.general_ledgers.sap import OAUTH_CLIENT, OAUTH_SECRET, PASSWORD, SCOPE, TOKEN, TOKENS, USER, SapStandIn
from tests.general_ledgers.stand_in import one_after_another
from tests.general_ledgers.working import states, steps, work

pytestmark = pytest.mark.usefixtures("open_borders")

SapChannel = Callable[..., Channel]


@pytest.fixture
def sap() -> Iterator[SapStandIn]:
    stand_in = SapStandIn()
    yield stand_in
    stand_in.close()


@pytest.fixture
def sap_channel(service: Subledger, sap: SapStandIn, monkeypatch: pytest.MonkeyPatch) -> SapChannel:
    monkeypatch.setenv("SUBLEDGER_CREDENTIAL_SAP_PASSWORD", PASSWORD)
    monkeypatch.setenv("SUBLEDGER_CREDENTIAL_SAP_TOKEN", TOKEN)

    def channel(ledger: str, **settings: Any) -> Channel:
        given = {
            "connector": "sap",
            "url": sap.url,
            "user": USER,
            "password": "env:SAP_PASSWORD",
            **UNHURRIED,
            **settings,
        }
        return channels.set_channel(service.database, ledger, "sap", given, by="test")

    return channel


@pytest.fixture
def export(sold: Callable[..., str], exported: Callable[..., Export]) -> Export:
    return exported(sold(), "sap-xml", "sap", company_code="1010")


@pytest.fixture
def one(service: Subledger, export: Export, sap_channel: SapChannel) -> tuple[Channel, Delivery]:
    """One document in the outbox."""
    channel = sap_channel(export.ledger)
    [delivery] = outbox.add(service.database, channel, export, by="test")
    return channel, delivery


def now(service: Subledger, delivery: Delivery) -> Delivery:
    with service.database.read() as connection:
        return get_delivery(connection, delivery.ledger, delivery.delivery_id)


def test_a_document_is_posted_and_found_with_its_amounts(
    service: Subledger, one: tuple[Channel, Delivery], sap: SapStandIn
) -> None:
    channel, delivery = one
    work(service, channel)
    assert states(service, delivery) == ["built", "rendered", "submitted", "accepted", "posted"]
    [there] = sap.journals
    assert there["reference"] == delivery.reference
    assert Decimal(there["debit"]) == Decimal(there["credit"]) > 0
    assert now(service, delivery).erp_id == "1010-0100000000-2026"


def test_an_answer_of_200_that_has_no_number_is_a_rejection_in_the_words_of_sap(
    service: Subledger, one: tuple[Channel, Delivery], sap: SapStandIn
) -> None:
    channel, delivery = one
    sap.closed.add("2026-01")
    work(service, channel)
    rejected = now(service, delivery)
    assert rejected.state is State.REJECTED
    assert "201(F5) Posting period 01 2026 is not open" in str(rejected.reason)
    sap.closed.clear()
    by_hand.retry(service.database, delivery.ledger, delivery.delivery_id, by="cfo", reason="January is open again")
    work(service, channel)
    assert states(service, delivery)[-3:] == ["submitted", "accepted", "posted"]
    assert len(sap.journals) == 1


def test_an_answer_with_neither_number_nor_error_is_not_believed(
    service: Subledger, one: tuple[Channel, Delivery], sap: SapStandIn
) -> None:
    channel, delivery = one
    sap.shrugs = True
    deliver_due(service.database, channel)
    unknown = now(service, delivery)
    assert unknown.state is State.UNKNOWN
    assert "neither a document number nor an error" in str(unknown.reason)
    sap.shrugs = False
    work(service, channel)
    assert now(service, delivery).state is State.POSTED
    assert len(sap.journals) == 1


@pytest.mark.parametrize("code", ["Client", "Server", "VersionMismatch"])
def test_a_fault_is_a_rejection_if_the_document_is_not_there(
    service: Subledger, one: tuple[Channel, Delivery], sap: SapStandIn, code: str
) -> None:
    channel, delivery = one
    sap.faults = code
    deliver_due(service.database, channel)
    rejected = now(service, delivery)
    assert rejected.state is State.REJECTED
    assert f"soap-env:{code} Error in deserializing" in str(rejected.reason)
    sap.faults = None
    by_hand.retry(service.database, delivery.ledger, delivery.delivery_id, by="cfo", reason="SAP was repaired")
    work(service, channel)
    assert now(service, delivery).state is State.POSTED
    assert len(sap.journals) == 1


def test_a_fault_after_which_the_document_is_there_is_no_rejection(
    service: Subledger, one: tuple[Channel, Delivery], sap: SapStandIn
) -> None:
    channel, delivery = one
    sap.faults_after = "Server"
    work(service, channel)
    assert states(service, delivery) == ["built", "rendered", "submitted", "unknown", "posted"]
    assert len(sap.journals) == 1


@pytest.mark.parametrize("status", [502, 503, 504])
def test_a_fault_that_stands_in_front_of_sap_answers_is_looked_up_later(
    service: Subledger, one: tuple[Channel, Delivery], sap: SapStandIn, status: int
) -> None:
    channel, delivery = one
    sap.faults, sap.faults_by = "Server", status
    deliver_due(service.database, channel)
    assert now(service, delivery).state is State.UNKNOWN
    sap.faults = None
    work(service, channel)
    assert now(service, delivery).state is State.POSTED
    assert len(sap.journals) == 1


@pytest.mark.parametrize(
    ("names", "state"), [({"UUID": "00163e0a"}, State.POSTED), ({"ReferenceID": "ANOTHER"}, State.UNKNOWN)]
)
def test_the_only_confirmation_is_ours_unless_it_names_another_document(
    service: Subledger, one: tuple[Channel, Delivery], sap: SapStandIn, names: dict[str, str], state: State
) -> None:
    channel, delivery = one
    sap.names = names
    deliver_due(service.database, channel)
    assert now(service, delivery).state is state
    work(service, channel)
    assert now(service, delivery).state is State.POSTED
    assert len(sap.journals) == 1


def test_a_service_that_is_not_there_uses_up_the_attempts_and_says_so(
    service: Subledger, export: Export, sap_channel: SapChannel, sap: SapStandIn
) -> None:
    channel = sap_channel(export.ledger, post_path="/sap/bc/srt/elsewhere", attempts=2)
    [delivery] = outbox.add(service.database, channel, export, by="test")
    work(service, channel)
    assert now(service, delivery).state is State.FAILED
    assert "/sap/bc/srt/elsewhere answered 404" in str(now(service, delivery).reason)
    assert sap.journals == []


def test_a_parked_document_is_accepted_until_it_is_posted_there(
    service: Subledger, one: tuple[Channel, Delivery], sap: SapStandIn
) -> None:
    channel, delivery = one
    sap.parks = True
    deliver_due(service.database, channel)
    assert now(service, delivery).state is State.ACCEPTED
    for item in sap.journals[0]["items"]:
        item["AccountingDocumentCategory"] = ""
    work(service, channel)
    assert now(service, delivery).state is State.POSTED


def test_other_amounts_under_our_reference_are_a_rejection_until_they_are_reversed(
    service: Subledger, one: tuple[Channel, Delivery], sap: SapStandIn
) -> None:
    channel, delivery = one
    sap.fault = one_after_another(["drops_after"])
    deliver_due(service.database, channel)
    first = sap.journals[0]["items"][0]
    first["AmountInTransactionCurrency"] = str(Decimal(first["AmountInTransactionCurrency"]) + 1)
    work(service, channel)
    assert now(service, delivery).state is State.REJECTED
    assert "it should be" in str(now(service, delivery).reason)
    sap.reverse(0)
    by_hand.retry(service.database, delivery.ledger, delivery.delivery_id, by="cfo")
    work(service, channel)
    assert now(service, delivery).state is State.POSTED
    assert len(sap.named(delivery.reference)) == 2, "the wrong one, which is reversed, and ours"


def test_a_document_that_is_there_twice_is_a_rejection_that_names_both(
    service: Subledger, one: tuple[Channel, Delivery], sap: SapStandIn
) -> None:
    channel, delivery = one
    sap.fault = one_after_another(["drops_after"])
    deliver_due(service.database, channel)
    twin = [{**item, "AccountingDocument": "0100000777"} for item in sap.journals[0]["items"]]
    sap.journals.append({**sap.journals[0], "items": twin})
    work(service, channel)
    assert now(service, delivery).state is State.REJECTED
    assert "2 times, as 1010-0100000000-2026, 1010-0100000777-2026" in str(now(service, delivery).reason)
    sap.reverse(1)
    by_hand.retry(service.database, delivery.ledger, delivery.delivery_id, by="cfo")
    work(service, channel)
    assert now(service, delivery).state is State.POSTED
    assert sap.met == {"drops_after": 1}, "nothing was sent again"


def test_a_document_in_another_fiscal_year_is_found_all_the_same(
    service: Subledger, one: tuple[Channel, Delivery], sap: SapStandIn
) -> None:
    channel, delivery = one
    sap.fault = one_after_another(["drops_after"])
    deliver_due(service.database, channel)
    for item in sap.journals[0]["items"]:
        item["FiscalYear"] = "2025"
    work(service, channel)
    assert now(service, delivery).erp_id == "1010-0100000000-2025"
    assert len(sap.journals) == 1


def test_items_are_looked_up_to_the_last_one(
    service: Subledger, one: tuple[Channel, Delivery], sap: SapStandIn
) -> None:
    channel, delivery = one
    sap.page = 3
    work(service, channel)
    assert now(service, delivery).state is State.POSTED


def test_a_look_up_that_does_not_show_all_items_is_not_believed(
    service: Subledger, one: tuple[Channel, Delivery], sap: SapStandIn
) -> None:
    channel, delivery = one
    sap.page = 0
    deliver_due(service.database, channel)
    accepted = now(service, delivery)
    assert accepted.state is State.ACCEPTED
    assert "has shown 0 of" in str(accepted.reason)
    sap.page = 5_000
    work(service, channel)
    assert now(service, delivery).state is State.POSTED


@pytest.mark.parametrize("converts", [None, Decimal("1.5")])
def test_a_foreign_document_is_posted_at_our_rate_or_not_taken_for_ours(
    service: Subledger,
    new_ledger: Callable[..., str],
    exported: Callable[..., Export],
    sap_channel: SapChannel,
    sap: SapStandIn,
    converts: Decimal | None,
) -> None:
    ledger = new_ledger()
    rate = cloud_event(
        "r1", "exchange_rate.set", None, "2026-01-02T00:00:00Z", base="EUR", quote="USD", rate="1.2", rate_source="bank"
    )
    sale = cloud_event(
        "p1",
        "credits.purchased",
        "c1",
        "2026-01-05T00:00:00Z",
        block_id="b1",
        credits="10",
        price="10.00",
        currency="EUR",
    )
    service.record(ledger, [rate, sale])
    channel = sap_channel(ledger)
    sap.converts = converts
    outbox.add(service.database, channel, exported(ledger, "sap-xml", "sap", company_code="1010"), by="test")
    work(service, channel)
    [after], [there] = deliveries(service, ledger), sap.journals
    assert {item["TransactionCurrency"] for item in there["items"]} == {"EUR"}
    if converts is None:
        assert after.state is State.POSTED
        assert {abs(Decimal(item["AmountInCompanyCodeCurrency"])) for item in there["items"]} == {Decimal(12)}
    else:
        assert after.state is State.REJECTED
        assert "at 45.00 debit, 45.00 credit in USD; it should be 36.00 each" in str(after.reason)


@pytest.mark.parametrize("by_token", [False, True])
def test_secrets_are_not_kept(
    service: Subledger, export: Export, sap_channel: SapChannel, sap: SapStandIn, by_token: bool
) -> None:
    settings = {"user": "", "password": "", "token": "env:SAP_TOKEN"} if by_token else {}
    sap.client = "100"
    channel = sap_channel(export.ledger, client="100", **settings)
    [delivery] = outbox.add(service.database, channel, export, by="test")
    work(service, channel)
    assert now(service, delivery).state is State.POSTED
    kept = repr([exchange for step in steps(service, delivery) for exchange in step.exchanges])
    assert "JournalEntryBulkCreateRequest" in kept
    assert not [secret for secret in (PASSWORD, TOKEN, "Basic ") if secret in kept]


@pytest.fixture
def oauth(sap: SapStandIn, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The settings of an OAuth client."""
    monkeypatch.setenv("SUBLEDGER_CREDENTIAL_SAP_CLIENT", OAUTH_SECRET)
    client = {"token_url": sap.url + TOKENS, "client_id": OAUTH_CLIENT, "client_secret": "env:SAP_CLIENT"}
    return {"user": "", "password": "", **client, "scope": SCOPE}


@pytest.mark.parametrize(("lasts_s", "tokens"), [(3_600, 1), (60, 3)])
def test_a_token_is_used_until_it_expires_and_then_renewed(
    service: Subledger,
    export: Export,
    sap_channel: SapChannel,
    sap: SapStandIn,
    oauth: dict[str, str],
    lasts_s: int,
    tokens: int,
) -> None:
    sap.lasts_s = lasts_s
    channel = sap_channel(export.ledger, **oauth)
    [delivery] = outbox.add(service.database, channel, export, by="test")
    work(service, channel)
    assert states(service, delivery) == ["built", "rendered", "submitted", "accepted", "posted"]
    assert sap.tokens == tokens, "one for all calls; or one for each of three calls, as it lasts too short a time"
    kept = repr([exchange for step in steps(service, delivery) for exchange in step.exchanges])
    assert not [secret for secret in (OAUTH_SECRET, "token-of-sap", "Basic ") if secret in kept]


def test_a_token_that_is_refused_is_renewed(
    service: Subledger, export: Export, sap_channel: SapChannel, sap: SapStandIn, oauth: dict[str, str]
) -> None:
    channel = sap_channel(export.ledger, **oauth)
    [delivery] = outbox.add(service.database, channel, export, by="test")

    def withdrawn() -> None:
        sap.valid = frozenset()

    sap.fault = lambda: withdrawn()  # after the submission was authorised, and before its look-up
    work(service, channel)
    assert now(service, delivery).state is State.POSTED
    assert sap.tokens == 2
    assert len(sap.journals) == 1


def test_a_client_that_sap_does_not_know_is_named_in_the_reason(
    service: Subledger, export: Export, sap_channel: SapChannel, oauth: dict[str, str]
) -> None:
    channel = sap_channel(export.ledger, attempts=2, **{**oauth, "client_id": "ANOTHER"})
    [delivery] = outbox.add(service.database, channel, export, by="test")
    work(service, channel)
    assert now(service, delivery).state is State.FAILED
    assert "SAP gives no token: 400 no such client" in str(now(service, delivery).reason)


def test_credentials_that_sap_does_not_take_are_told(
    service: Subledger, export: Export, sap_channel: SapChannel, monkeypatch: pytest.MonkeyPatch
) -> None:
    channel = sap_channel(export.ledger, attempts=2)
    monkeypatch.setenv("SUBLEDGER_CREDENTIAL_SAP_PASSWORD", "old")
    [delivery] = outbox.add(service.database, channel, export, by="test")
    work(service, channel)
    assert now(service, delivery).state is State.FAILED
    assert "check the channel's credentials" in str(now(service, delivery).reason)


BAD_SETTINGS: list[tuple[dict[str, Any], str]] = [
    ({"url": "http://sap.example"}, "url"),
    ({"user": ""}, "user"),
    ({"password": ""}, "password"),
    ({"token": "env:SAP_TOKEN"}, "token"),
    ({"user": "", "password": ""}, "token"),
    ({"client": "1"}, "client"),
    ({"client_id": "c", "client_secret": "env:C", "token_url": "https://sap.example/token"}, "token"),
    ({"client_id": "c", "client_secret": "env:C", "user": "", "password": ""}, "token_url"),
    ({"client_id": "c", "token_url": "https://sap.example/token"}, "client_secret"),
    ({"client_secret": "env:C", "token_url": "https://sap.example/token"}, "client_id"),
    ({"post_path": "sap/bc"}, "post_path"),
    ({"items_path": "/items?$filter=1"}, "items_path"),
    ({"format": "sap-csv"}, "format"),
]
