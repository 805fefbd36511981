"""Oracle Fusion: only the journals prove an import, and no journal is there twice."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from api.service import Subledger
from projections.delivery import by_hand, channels
from projections.delivery.sending import deliver_due
from projections.delivery.states import State
from tests.general_ledgers.certificates import CERTIFICATE_PEM, KEY_PEM
from tests.general_ledgers.conftest import OnItsWay
from tests.general_ledgers.every import oracle_way
from tests.general_ledgers.oracle import OracleStandIn
from tests.general_ledgers.pace import QUICK
from tests.general_ledgers.stand_in import Fault, one_after_another
from tests.general_ledgers.working import states, steps, the_one, work

pytestmark = pytest.mark.usefixtures("open_borders")


@pytest.fixture
def oracle() -> Iterator[OracleStandIn]:
    stand_in = OracleStandIn()
    yield stand_in
    stand_in.close()


@pytest.fixture
def sent(oracle: OracleStandIn, on_its_way: OnItsWay, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> OnItsWay:
    """A file for the stand-in in the outbox, with a number of blocks."""
    monkeypatch.setenv("SUBLEDGER_CREDENTIAL_ORACLE_TOKEN", oracle.token)
    return partial(on_its_way, oracle_way(oracle, tmp_path))


@pytest.mark.parametrize("way", ["password", "token", "client", "signed"])
def test_a_file_is_loaded_imported_and_found_by_its_journals(
    service: Subledger, sent: OnItsWay, oracle: OracleStandIn, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    secrets = {"KEY": KEY_PEM, "CERTIFICATE": CERTIFICATE_PEM, "CLIENT": "of the app"}
    for name, value in secrets.items():
        monkeypatch.setenv(f"SUBLEDGER_CREDENTIAL_{name}", value)
    client = {"token_url": f"{oracle.url}/oauth2/v1/token", "client_id": "app", "client_secret": "env:CLIENT"}
    signing = {"private_key": "env:KEY", "certificate": "env:CERTIFICATE", "issuer": "subledger-issuer"}
    settings: dict[str, dict[str, Any]] = {
        "password": {},
        "token": {"user": "", "password": "", "token": "env:ORACLE_TOKEN"},
        "client": {"user": "", "password": "", **client, "scope": "urn:opc:resource:fusion:test:boss"},
        "signed": {"password": "", **signing},
    }
    channel, delivery = sent(settings[way])
    work(service, channel)
    assert states(service, delivery) == ["built", "rendered", "submitted", "accepted", "posted"]
    assert the_one(service, channel).erp_id == "1"
    assert (oracle.tokens, len(oracle.signed)) >= ((1, 0) if way == "client" else (0, way == "signed"))
    kept = repr([exchange for step in steps(service, delivery) for exchange in step.exchanges])
    assert not [secret for secret in ("eyJ", "issued-1", "PRIVATE", "of the app", oracle.token) if secret in kept]


def test_all_documents_of_a_file_are_one_delivery(service: Subledger, sent: OnItsWay, oracle: OracleStandIn) -> None:
    channel, _ = sent(blocks=4, level="block", lines=8)
    work(service, channel)
    assert the_one(service, channel).state is State.POSTED
    assert len(oracle.journals) > 1
    assert len(oracle.loads) == 1


def test_what_a_request_is_still_doing_is_waited_for_however_long_it_takes(
    service: Subledger, sent: OnItsWay, oracle: OracleStandIn
) -> None:
    channel, _ = sent()
    oracle.takes_s = 2 * channel.settings.settle_s
    work(service, channel)
    assert the_one(service, channel).state is State.POSTED
    assert len(oracle.loads) == 1


def test_a_request_that_succeeded_without_a_journal_is_a_rejection(
    service: Subledger, sent: OnItsWay, oracle: OracleStandIn
) -> None:
    channel, delivery = sent()
    oracle.imports = False
    work(service, channel)
    assert states(service, delivery)[-2:] == ["accepted", "rejected"]
    assert "there is no journal" in str(the_one(service, channel).reason)


def test_a_journal_is_accepted_until_it_is_posted(service: Subledger, sent: OnItsWay, oracle: OracleStandIn) -> None:
    channel, _ = sent()
    oracle.autoposts = False
    deliver_due(service.database, channel)
    while not oracle.journals or not str(the_one(service, channel).reason).startswith("batch"):
        deliver_due(service.database, channel)
    waiting = the_one(service, channel)
    assert (waiting.state, waiting.erp_id) == (State.ACCEPTED, "1")
    assert "Unposted" in str(waiting.reason)
    oracle.journals[0]["posted"] = True
    work(service, channel)
    assert the_one(service, channel).state is State.POSTED


@pytest.mark.parametrize("fault", [None, "drops_after"])
def test_a_closed_period_is_a_rejection_with_oracles_reason_and_goes_through_later(
    service: Subledger, sent: OnItsWay, oracle: OracleStandIn, fault: Fault | None
) -> None:
    channel, delivery = sent()
    oracle.closed.add("2026-01")
    oracle.fault = one_after_another([fault])
    work(service, channel)
    rejected = the_one(service, channel)
    assert rejected.state is State.REJECTED
    assert "EP01 This date is not in any open or future enterable period." in str(rejected.reason)
    assert "EU02" not in str(rejected.reason), "the report's key is not what happened"
    assert f"delete what is left of interface group {oracle.loads[0].group}" in str(rejected.reason)
    oracle.closed.clear()
    oracle.delete_interface()
    by_hand.retry(service.database, channel.ledger, delivery.delivery_id, by="cfo")
    work(service, channel)
    assert the_one(service, channel).state is State.POSTED
    assert len(oracle.journals) == 1


def test_what_was_left_in_the_interface_and_came_in_too_is_noticed(
    service: Subledger, sent: OnItsWay, oracle: OracleStandIn
) -> None:
    channel, delivery = sent()
    oracle.closed.add("2026-01")
    work(service, channel)
    oracle.closed.clear()
    by_hand.retry(service.database, channel.ledger, delivery.delivery_id, by="cfo")
    work(service, channel)
    after = the_one(service, channel)
    assert after.state is State.REJECTED
    assert "it should be" in str(after.reason)


def test_other_amounts_under_our_names_are_a_rejection(
    service: Subledger, sent: OnItsWay, oracle: OracleStandIn
) -> None:
    channel, _ = sent()
    oracle.fault = one_after_another(["drops_after"])
    oracle.autoposts = False
    deliver_due(service.database, channel)
    while not oracle.journals:
        deliver_due(service.database, channel)
    oracle.journals[0]["credit"] += 1
    work(service, channel)
    after = the_one(service, channel)
    assert after.state is State.REJECTED
    assert "it should be" in str(after.reason)


def test_a_file_of_which_a_part_is_there_is_a_rejection_that_names_what_is_missing(
    service: Subledger, sent: OnItsWay, oracle: OracleStandIn
) -> None:
    channel, _ = sent(blocks=4, level="block", lines=8)
    oracle.autoposts = False
    deliver_due(service.database, channel)
    while not oracle.journals:
        deliver_due(service.database, channel)
    gone = oracle.journals.pop()
    work(service, channel)
    after = the_one(service, channel)
    assert after.state is State.REJECTED
    assert f"there is no journal {gone['reference']}; but there is" in str(after.reason)


def test_a_journal_that_went_into_another_period_is_a_rejection_that_names_it(
    service: Subledger, sent: OnItsWay, oracle: OracleStandIn
) -> None:
    channel, _ = sent()
    oracle.moves_to = "Feb-26"
    work(service, channel)
    after = the_one(service, channel)
    assert after.state is State.REJECTED
    assert "period Feb-26, not Jan-26" in str(after.reason)


def test_a_file_that_oracle_starts_no_request_for_is_a_rejection(
    service: Subledger, sent: OnItsWay, oracle: OracleStandIn
) -> None:
    channel, _ = sent()
    oracle.refuses = "The document account is not valid."
    work(service, channel)
    after = the_one(service, channel)
    assert after.state is State.REJECTED
    assert "The document account is not valid." in str(after.reason)


def test_an_answer_without_a_request_is_no_answer(service: Subledger, sent: OnItsWay, oracle: OracleStandIn) -> None:
    channel, delivery = sent()
    oracle.tells = False
    work(service, channel)
    assert states(service, delivery)[-3:] == ["submitted", "unknown", "posted"]
    assert len(oracle.loads) == 1


def test_a_file_that_is_not_loaded_is_a_rejection_with_the_loaders_reason(
    service: Subledger, sent: OnItsWay, oracle: OracleStandIn
) -> None:
    channel, _ = sent()
    oracle.loads_nothing = "Record 1: Rejected - Error on table GL_INTERFACE.\nORA-01722: invalid number"
    work(service, channel)
    after = the_one(service, channel)
    assert after.state is State.REJECTED
    assert "Load File to Interface ended as ERROR" in str(after.reason)
    assert "ORA-01722: invalid number" in str(after.reason)


def test_a_query_that_oracle_does_not_take_is_not_an_answer_of_nothing(
    service: Subledger, sent: OnItsWay, oracle: OracleStandIn
) -> None:
    channel, _ = sent()
    given = {
        "connector": "oracle",
        "url": oracle.url,
        "token": "env:ORACLE_TOKEN",
        "attempts": 2,
        "batch_query": "Name = '{source}'",
        **QUICK,
    }
    channel = channels.set_channel(service.database, channel.ledger, "oracle", given, by="test")
    work(service, channel)
    assert the_one(service, channel).state is State.FAILED
    assert oracle.loads == []


def test_calls_are_kept_without_the_password(service: Subledger, sent: OnItsWay, oracle: OracleStandIn) -> None:
    channel, delivery = sent()
    work(service, channel)
    exchanges = [exchange for step in steps(service, delivery) for exchange in step.exchanges]
    [load] = [exchange for exchange in exchanges if exchange.method == "POST"]
    assert load.status == 201
    assert "importBulkData" in load.body
    assert oracle.password not in repr(exchanges)


BAD_SETTINGS: list[tuple[dict[str, Any], str]] = [
    ({"url": "http://erp.example"}, "url"),
    ({"password": ""}, "password"),
    ({"token": "env:T"}, "password"),
    ({"password": "secret"}, "password"),
    ({"private_key": "env:K", "certificate": "env:C", "issuer": "us"}, "password"),
    ({"password": "", "private_key": "env:K", "certificate": "env:C"}, "issuer"),
    ({"password": "", "private_key": "env:K", "issuer": "us"}, "certificate"),
    ({"client_id": "c", "client_secret": "env:C", "token_url": "https://idcs.example/token"}, "password"),
    ({"client_id": "c", "client_secret": "env:C", "token_url": "http://idcs.example/token"}, "token_url"),
    ({"parameters": "{source},{group_id},{colour}"}, "parameters"),
    ({"parameters": "1,2,3"}, "parameters"),
    ({"parameters": "{source:>999999999999}{group_id}"}, "parameters"),
    ({"parameters": "{source!r}{group_id}"}, "parameters"),
    ({"parameters": "{source.__class__}{source}{group_id}"}, "parameters"),
    ({"batch_query": "{source:{batch}}{source}"}, "batch_query"),
    ({"framework_version": "4\r\nX-More: 1"}, "framework_version"),
    ({"framework_version": "4\n"}, "framework_version"),
    ({"batch_query": "Status = 'U'"}, "batch_query"),
    ({"format": "csv"}, "format"),
]
