"""Settings of a channel: refused if they cannot work; its pace is shared by all workers."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from api.service import Subledger
from projections.delivery import channels, outbox
from projections.delivery.channels import Channel
from projections.delivery.deliveries import get_delivery
from subledger.errors import ChannelFixed, InvalidInput, UnknownChannel, UnknownConnector, UnknownDelivery
from subledger.external import credentials
from subledger.external.calls import NotAuthorised, Throttled

pytestmark = pytest.mark.usefixtures("open_borders")

NETSUITE = {
    "connector": "netsuite", "url": "https://1234567.suitetalk.api.netsuite.com", "client_id": "client",
    "certificate_id": "certificate", "private_key": "env:NETSUITE_KEY",
}  # fmt: skip


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"format": "sap-xml"}, "format"),
        ({"url": "http://erp.example"}, "url"),
        ({"url": ""}, "url"),
        ({"private_key": "-----BEGIN PRIVATE KEY-----"}, "private_key"),
        ({"client_id": ""}, "client_id"),
        ({"certificate_id": ""}, "certificate_id"),
        ({"private_key": ""}, "private_key"),
        ({"colour": "blue"}, "colour"),
        ({"attempts": 0}, "attempts"),
        ({"settle_s": -1.0}, "settle_s"),
        ({"settle_s": float("nan")}, "settle_s"),
        ({"timeout_s": float("inf")}, "timeout_s"),
        ({"timeout_s": 1e12}, "timeout_s"),
        ({"calls_a_minute": 2**63 - 1}, "calls_a_minute"),
        ({"url": "https://user:secret@erp.example"}, "url"),
        ({"url": "https://erp.example/?key=secret"}, "url"),
        ({"attempts": "many"}, "attempts"),
        ({"algorithm": "none"}, "algorithm"),
    ],
)
def test_what_could_not_work_is_refused_naming_the_setting(
    service: Subledger, new_ledger: Callable[..., str], given: dict[str, Any], field: str
) -> None:
    ledger = new_ledger()
    with pytest.raises(InvalidInput) as refused:
        channels.set_channel(service.database, ledger, "erp", {**NETSUITE, **given}, by="test")
    assert refused.value.field == field
    with service.database.read() as connection:
        assert channels.list_channels(connection, ledger) == []


def test_a_setting_that_is_missing_names_itself(service: Subledger, new_ledger: Callable[..., str]) -> None:
    given = {name: value for name, value in NETSUITE.items() if name != "client_id"}
    with pytest.raises(InvalidInput) as refused:
        channels.set_channel(service.database, new_ledger(), "erp", given, by="test")
    assert refused.value.field == "client_id"


@pytest.mark.parametrize("name", ["", "a b", "a/b", "x" * 41, "-", "-a", "_a"])
def test_a_channel_has_a_name_that_fits_an_address(
    service: Subledger, new_ledger: Callable[..., str], name: str
) -> None:
    with pytest.raises(InvalidInput):
        channels.set_channel(service.database, new_ledger(), name, NETSUITE, by="test")


def test_what_there_is_not_is_named_with_what_there_is(service: Subledger, new_ledger: Callable[..., str]) -> None:
    ledger = new_ledger()
    channels.set_channel(service.database, ledger, "erp", NETSUITE, by="test")
    with pytest.raises(UnknownConnector) as connector:
        channels.set_channel(service.database, ledger, "erp", {**NETSUITE, "connector": "excel"}, by="test")
    assert "netsuite" in str(connector.value.expected)
    with service.database.read() as connection:
        with pytest.raises(UnknownChannel) as channel:
            channels.get_channel(connection, ledger, "post")
        assert channel.value.expected == "erp"
        with pytest.raises(UnknownDelivery):
            get_delivery(connection, ledger, "erp-none")


def test_a_channel_is_read_as_it_was_set(service: Subledger, new_ledger: Callable[..., str]) -> None:
    ledger = new_ledger()
    made = channels.set_channel(service.database, ledger, "erp", {**NETSUITE, "timeout_s": 0.25}, by="test")
    with service.database.read() as connection:
        assert channels.get_channel(connection, ledger, "erp") == made
    assert (made.destination, made.settings.timeout_s) == ("netsuite", 0.25)
    channels.drop_channel(service.database, ledger, "erp", by="test")
    with service.database.read() as connection:
        assert channels.list_channels(connection, ledger) == []


def paced(service: Subledger, ledger: str, pace: int) -> Channel:
    return channels.set_channel(service.database, ledger, "erp", {**NETSUITE, "calls_a_minute": pace}, by="test")


def test_calls_keep_their_distance_over_all_workers(service: Subledger, new_ledger: Callable[..., str]) -> None:
    channel = paced(service, new_ledger(), 600)
    workers = [channels.turn_of(service.database, channel) for _ in range(3)]
    started = time.monotonic()
    for turn in (*workers, *workers):
        turn()
    assert time.monotonic() - started >= 0.5, "the first at once, five more a tenth of a second apart"


def test_a_target_that_takes_no_calls_is_left_alone_by_all(service: Subledger, new_ledger: Callable[..., str]) -> None:
    channel = paced(service, new_ledger(), 0)
    channels.hold_off(service.database, channel, 120.0)
    with pytest.raises(Throttled) as wait:
        channels.turn_of(service.database, channel)()
    assert 100 < wait.value.wait_s <= 120


def test_a_worker_waits_out_a_slow_pace(
    service: Subledger, new_ledger: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    monkeypatch.setattr(channels.time, "sleep", waits.append)
    turn = channels.turn_of(service.database, paced(service, new_ledger(), 1))
    turn()
    turn()  # a minute later; it is not put off, because an attempt makes several calls
    assert waits[0] == 0
    assert 10 < waits[1] <= 60


def test_where_a_channel_leads_to_is_fixed_once_it_has_deliveries(
    service: Subledger, sold: Callable[..., str], exported: Callable[..., Any]
) -> None:
    ledger = sold()
    channel = channels.set_channel(service.database, ledger, "erp", NETSUITE, by="test")
    channels.set_channel(service.database, ledger, "erp", {**NETSUITE, "url": "https://other.example"}, by="test")
    outbox.add(service.database, channel, exported(ledger), by="test")
    for change in ({"url": "https://third.example"}, {"format": "netsuite-deposits"}):
        with pytest.raises(ChannelFixed) as refused:
            channels.set_channel(
                service.database, ledger, "erp", {**NETSUITE, "url": "https://other.example", **change}, by="test"
            )
        assert refused.value.field == next(iter(change))
    with pytest.raises(ChannelFixed):
        channels.set_channel(service.database, ledger, "erp", {"connector": "folder", "directory": "/drop"}, by="test")
    with pytest.raises(ChannelFixed):
        channels.drop_channel(service.database, ledger, "erp", by="test")
    kept = {**NETSUITE, "url": "https://other.example", "client_id": "another"}
    assert channels.set_channel(service.database, ledger, "erp", kept, by="test").settings.client_id == "another"


def test_deliveries_go_to_hosts_that_are_allowed(
    service: Subledger, new_ledger: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SUBLEDGER_DELIVERY_HOSTS", "erp.example, .netsuite.com")
    ledger = new_ledger()
    channels.set_channel(service.database, ledger, "erp", NETSUITE, by="test")
    with pytest.raises(InvalidInput) as refused:
        channels.set_channel(service.database, ledger, "erp", {**NETSUITE, "url": "https://evil.example"}, by="test")
    assert refused.value.found == "evil.example"


def test_a_channel_reads_no_file_but_credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, outside = tmp_path / "credentials", tmp_path / "outside"
    folder.mkdir()
    outside.write_text("secret of another kind")
    (folder / "link").symlink_to(outside)
    monkeypatch.setenv("SUBLEDGER_CREDENTIALS", str(folder))
    monkeypatch.setenv("PLAIN", "of another kind")
    for credential in (f"file:{outside}", f"file:{folder}/../outside", f"file:{folder}/link", "env:PLAIN"):
        with pytest.raises(NotAuthorised):
            credentials.read(credential)
    with pytest.raises(NotAuthorised):
        credentials.replace(f"file:{outside}", "overwritten")
    assert outside.read_text() == "secret of another kind"


def test_a_credential_is_named_and_read_where_the_worker_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUBLEDGER_CREDENTIAL_ERP_TOKEN", "abc")
    assert credentials.read("env:ERP_TOKEN") == "abc"
    monkeypatch.delenv("SUBLEDGER_CREDENTIAL_ERP_TOKEN")
    with pytest.raises(NotAuthorised, match="ERP_TOKEN"):
        credentials.read("env:ERP_TOKEN")
    file = tmp_path / "token"
    with pytest.raises(NotAuthorised, match="token"):
        credentials.read(f"file:{file}")
    file.write_text("old\n")
    assert credentials.read(f"file:{file}") == "old"
    credentials.replace(f"file:{file}", "new")
    assert credentials.read(f"file:{file}") == "new"
    assert file.stat().st_mode & 0o077 == 0
    assert list(tmp_path.iterdir()) == [file]
    with pytest.raises(NotAuthorised, match="file"):
        credentials.replace("env:ERP_TOKEN", "new")
