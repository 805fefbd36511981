"""Dynamics 365 Finance: we choose an import's id, its success proves no posting, and no journal is there twice."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from api.service import Subledger
from projections.delivery import by_hand
from projections.delivery.channels import Channel
from projections.delivery.deliveries import Delivery
from projections.delivery.sending import deliver_due
from projections.delivery.states import State
from projections.exports.exports import document_set_of, get_export
from tests.general_ledgers.certificates import CERTIFICATE_PEM, KEY_PEM
from tests.general_ledgers.conftest import OnItsWay
from tests.general_ledgers.dynamics import SIGNATURE, DynamicsStandIn
from tests.general_ledgers.every import dynamics_way
from tests.general_ledgers.stand_in import Fault, one_after_another
from tests.general_ledgers.working import states, steps, the_one, work

pytestmark = pytest.mark.usefixtures("open_borders")


@pytest.fixture
def dynamics() -> Iterator[DynamicsStandIn]:
    stand_in = DynamicsStandIn()
    yield stand_in
    stand_in.close()


@pytest.fixture
def sent(dynamics: DynamicsStandIn, on_its_way: OnItsWay, tmp_path: Path) -> OnItsWay:
    """A package for the stand-in in the outbox, with a number of blocks."""
    return partial(on_its_way, dynamics_way(dynamics, tmp_path))


def imported(service: Subledger, channel: Channel, dynamics: DynamicsStandIn) -> Delivery:
    """Delivers until the package is imported and looked up, but not posted."""
    while not (dynamics.journals and "is not posted" in str(the_one(service, channel).reason)):
        deliver_due(service.database, channel)
    return the_one(service, channel)


def test_a_package_is_imported_under_our_id_and_posted_as_a_journal(
    service: Subledger, sent: OnItsWay, dynamics: DynamicsStandIn
) -> None:
    channel, _ = sent()
    work(service, channel)
    assert the_one(service, channel).erp_id == "GJ-000001"
    assert [execution["id"][-2:] for execution in dynamics.executions] == ["-1"]


def test_all_vouchers_of_a_package_are_one_delivery(
    service: Subledger, sent: OnItsWay, dynamics: DynamicsStandIn
) -> None:
    channel, _ = sent(blocks=4, level="block", batch_lines=10)
    work(service, channel)
    assert the_one(service, channel).state is State.POSTED
    assert len(dynamics.headers) > 1, "one journal would not hold them"
    assert len(dynamics.executions) == 1


@pytest.mark.parametrize("status", [403, 409, 500])
def test_an_upload_that_fails_has_sent_nothing(
    service: Subledger, sent: OnItsWay, dynamics: DynamicsStandIn, status: int
) -> None:
    channel, delivery = sent()
    dynamics.uploads = [status]
    work(service, channel)
    assert states(service, delivery) == ["built", "rendered", "submitted", "accepted", "posted"]
    assert the_one(service, channel).attempts == 1
    assert len(dynamics.executions) == 1


def test_an_import_that_is_still_running_is_waited_for_however_long_it_takes(
    service: Subledger, sent: OnItsWay, dynamics: DynamicsStandIn
) -> None:
    channel, delivery = sent()
    dynamics.takes_s = 2 * channel.settings.settle_s
    dynamics.fault = one_after_another(["drops_after"])
    work(service, channel)
    assert states(service, delivery)[-3:] == ["unknown", "accepted", "posted"]
    assert len(dynamics.executions) == 1


@pytest.mark.parametrize("fault", [None, "drops_after"])
def test_an_import_that_succeeded_with_nothing_is_a_rejection(
    service: Subledger, sent: OnItsWay, dynamics: DynamicsStandIn, fault: Fault | None
) -> None:
    channel, delivery = sent()
    dynamics.maps = False
    dynamics.fault = one_after_another([fault])
    work(service, channel)
    rejected = the_one(service, channel)
    assert rejected.state is State.REJECTED
    assert "there is no voucher" in str(rejected.reason)
    assert "is Succeeded" in str(rejected.reason)
    assert len(dynamics.executions) == 1, "not sent again by itself"
    dynamics.maps = True
    by_hand.retry(service.database, channel.ledger, delivery.delivery_id, by="cfo")
    work(service, channel)
    assert the_one(service, channel).state is State.POSTED
    assert [execution["id"][-2:] for execution in dynamics.executions] == ["-1", "-2"]


@pytest.mark.campaign
@pytest.mark.parametrize("fault", [None, "drops_after"])
def test_a_closed_period_is_a_rejection_with_dynamics_reason_and_goes_through_later(
    service: Subledger, sent: OnItsWay, dynamics: DynamicsStandIn, fault: Fault | None
) -> None:
    channel, delivery = sent()
    dynamics.closed.add("2026-01")
    dynamics.fault = one_after_another([fault])
    work(service, channel)
    rejected = the_one(service, channel)
    assert rejected.state is State.REJECTED
    assert "Fiscal period for 2026-01-31 is not open." in str(rejected.reason)
    dynamics.closed.clear()
    by_hand.retry(service.database, channel.ledger, delivery.delivery_id, by="cfo")
    work(service, channel)
    assert the_one(service, channel).state is State.POSTED
    assert len(dynamics.headers) == 1
    assert len({execution["id"] for execution in dynamics.executions}) == len(dynamics.executions)


def test_a_journal_that_is_imported_into_a_closed_period_is_accepted_and_not_posted(
    service: Subledger, sent: OnItsWay, dynamics: DynamicsStandIn
) -> None:
    channel, _ = sent()
    dynamics.closed.add("2026-01")
    dynamics.checks_periods = False
    waiting = imported(service, channel, dynamics)
    assert (waiting.state, waiting.erp_id) == (State.ACCEPTED, "GJ-000001")
    dynamics.headers["GJ-000001"]["IsPosted"] = "Yes"
    work(service, channel)
    assert the_one(service, channel).state is State.POSTED


def test_a_package_of_which_a_part_is_there_is_a_rejection_that_names_what_is_missing(
    service: Subledger, sent: OnItsWay, dynamics: DynamicsStandIn
) -> None:
    channel, delivery = sent(blocks=4, level="block")
    [first, *_] = references_of(service, delivery)
    dynamics.loses = {first}
    work(service, channel)
    after = the_one(service, channel)
    assert after.state is State.REJECTED
    assert f"there is no voucher of {first}; but there is journal GJ-000001" in str(after.reason)
    assert f"Voucher of {first} is not valid." in str(after.reason)


def references_of(service: Subledger, delivery: Delivery) -> list[str]:
    with service.database.read() as connection:
        posted = document_set_of(connection, get_export(connection, delivery.ledger, delivery.export_id))
    assert posted is not None
    return [document.reference for document in posted.documents]


def test_other_amounts_under_our_documents_are_a_rejection(
    service: Subledger, sent: OnItsWay, dynamics: DynamicsStandIn
) -> None:
    channel, _ = sent()
    dynamics.posts = False
    imported(service, channel, dynamics)
    dynamics.journals[0]["lines"][0]["DebitAmount"] += 0.01
    work(service, channel)
    after = the_one(service, channel)
    assert after.state is State.REJECTED
    assert "it should be" in str(after.reason)


def test_a_journal_that_is_there_twice_is_a_rejection(
    service: Subledger, sent: OnItsWay, dynamics: DynamicsStandIn
) -> None:
    channel, _ = sent()
    dynamics.posts = False
    imported(service, channel, dynamics)
    dynamics.executions.append({**dynamics.executions[0], "id": "by hand", "status": "Executing", "due": 0.0})
    work(service, channel)
    assert the_one(service, channel).state is State.REJECTED


def test_a_link_that_leads_elsewhere_is_not_followed_with_our_token(
    service: Subledger, sent: OnItsWay, dynamics: DynamicsStandIn
) -> None:
    channel, delivery = sent()
    dynamics.posts = False
    imported(service, channel, dynamics)
    dynamics.page, dynamics.elsewhere = 1, dynamics.url.replace("127.0.0.1", "localhost")
    while "more LedgerJournalLines" not in str(the_one(service, channel).reason):
        deliver_due(service.database, channel)
    assert the_one(service, channel).state is State.ACCEPTED
    called = [exchange.url for step in steps(service, delivery) for exchange in step.exchanges]
    assert not any("localhost" in url for url in called)


def test_a_wrong_secret_is_not_an_attempt_at_anything(
    service: Subledger, sent: OnItsWay, dynamics: DynamicsStandIn, tmp_path: Path
) -> None:
    channel, _ = sent()
    (tmp_path / "dynamics").write_text("old-secret")
    deliver_due(service.database, channel)
    waiting = the_one(service, channel)
    assert waiting.state in (State.RENDERED, State.FAILED)
    assert "AADSTS7000215" in str(waiting.reason)
    assert dynamics.blobs == {}


def test_a_certificate_can_stand_for_the_secret(
    service: Subledger, sent: OnItsWay, dynamics: DynamicsStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SUBLEDGER_CREDENTIAL_KEY", KEY_PEM)
    monkeypatch.setenv("SUBLEDGER_CREDENTIAL_CERTIFICATE", CERTIFICATE_PEM)
    channel, delivery = sent({"client_secret": "", "certificate": "env:CERTIFICATE", "private_key": "env:KEY"})
    work(service, channel)
    assert the_one(service, channel).state is State.POSTED
    assert dynamics.assertions
    kept = repr([exchange for step in steps(service, delivery) for exchange in step.exchanges])
    assert not [secret for secret in ("PRIVATE KEY", "eyJ", "access-1") if secret in kept]


def test_calls_are_kept_without_secret_token_and_signature(
    service: Subledger, sent: OnItsWay, dynamics: DynamicsStandIn
) -> None:
    channel, delivery = sent()
    work(service, channel)
    exchanges = [exchange for step in steps(service, delivery) for exchange in step.exchanges]
    assert [exchange.method for exchange in exchanges if "/blob/" in exchange.url] == ["PUT"]
    kept = repr(exchanges)
    assert "ImportFromPackage" in kept
    for secret in (dynamics.secret, "access-1", SIGNATURE, quote(SIGNATURE), quote(SIGNATURE, safe="")):
        assert secret not in kept


BAD_SETTINGS: list[tuple[dict[str, Any], str]] = [
    ({"url": "http://erp.example"}, "url"),
    ({"authority": "http://login.example"}, "authority"),
    ({"tenant": ""}, "tenant"),
    ({"client_secret": "secret"}, "client_secret"),
    ({"client_secret": ""}, "client_secret"),
    ({"certificate": "env:C", "private_key": "env:K"}, "client_secret"),
    ({"client_secret": "", "certificate": "env:C"}, "private_key"),
    ({"tenant": "acme\n"}, "tenant"),
    ({"format": "dynamics-json"}, "format"),
]
