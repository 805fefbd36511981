"""A channel leads only to destinations that the operator allows, uses only credentials of its own ledger, and follows
no link.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from alembic import command

from api.service import Subledger, upgrade_database
from projections import monitors
from projections.delivery import channels
from projections.delivery.connectors import folder
from projections.delivery.connectors.connector import check_host, check_url
from projections.delivery.connectors.sftp import Sftp
from projections.delivery.sending import deliver_due
from projections.delivery.states import State
from projections.monitors.settings import set_settings
from subledger.errors import CredentialNotGranted, InvalidInput
from subledger.external import bounded_http, grants
from subledger.external.calls import Calls, NotSent
from subledger.external.credentials import named_in
from subledger.external.hosts import connect_checked
from subledger.ledger_settings import LedgerSettings
from subledger.store.database import Database
from subledger.store.migrate import _config
from tests.conftest import NewLedger
from tests.general_ledgers.conftest import deliveries
from tests.general_ledgers.drops import Drop, Importer
from tests.general_ledgers.sftp import HOST_KEY, line_of
from tests.general_ledgers.working import work

pytestmark = pytest.mark.usefixtures("open_borders")

SFTP: dict[str, Any] = {
    "connector": "sftp", "host": "sftp.example", "user": "erp", "host_key": line_of(HOST_KEY), "password": "env:P",
    "directory": "/drop",
}  # fmt: skip
SAP: dict[str, Any] = {"connector": "sap", "url": "https://sap.example", "user": "u", "password": "env:P"}


# --- credentials belong to ledgers --------------------------------------------------------------------------------


@pytest.fixture
def own_credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of credentials of an installation that does not share them."""
    monkeypatch.delenv("SUBLEDGER_CREDENTIALS_SHARED")
    monkeypatch.setenv("SUBLEDGER_CREDENTIALS", str(tmp_path / "secrets"))
    (tmp_path / "secrets").mkdir()
    return tmp_path / "secrets"


def test_a_channel_uses_what_its_ledger_was_granted_and_nothing_else(
    service: Subledger, new_ledger: NewLedger, own_credentials: Path
) -> None:
    ours, theirs = new_ledger(), new_ledger()
    grants.grant(service.database, theirs, "env:P", by="root")
    for given in (SAP, SFTP):
        with pytest.raises(CredentialNotGranted) as refused:
            channels.set_channel(service.database, ours, "steal", given, by="eve")
        assert f"subledger credentials grant env:P --ledger {ours}" in refused.value.message
        assert named_in(channels.set_channel(service.database, theirs, "erp", given, by="ann").settings) == ("env:P",)
    with pytest.raises(CredentialNotGranted):
        set_settings(service.database, ours, {"webhook": "https://eve.example/", "webhook_secret": "env:P"}, by="eve")


def test_files_in_a_ledgers_own_folder_are_its_own_and_no_other_ledgers(
    service: Subledger, new_ledger: NewLedger, own_credentials: Path
) -> None:
    ours, theirs = new_ledger(), new_ledger()
    folders = own_credentials / "ledgers"
    for ledger in (ours, theirs):
        (folders / ledger).mkdir(parents=True)
        (folders / ledger / "password").write_text("secret")
    (own_credentials / "shared").write_text("secret")
    (own_credentials / ours).write_text("a secret that is called as the ledger is")
    (folders / ours / "link").symlink_to(folders / theirs / "password")

    def set_with(path: str) -> None:
        given = {**SAP, "password": f"file:{own_credentials}/{path}"}
        channels.set_channel(service.database, ours, "erp", given, by="ann")

    set_with(f"ledgers/{ours}/password")
    for path in (
        f"ledgers/{theirs}/password",
        "shared",
        f"ledgers/{ours}/../{theirs}/password",
        f"ledgers/{ours}/link",
        f"ledgers/{ours}x/password",
        f"{ours}",
        f"ledgers/{ours}",
    ):
        with pytest.raises(CredentialNotGranted):
            set_with(path)


def test_a_grant_that_was_revoked_is_missed_at_the_next_attempt_and_both_names_are_kept(
    service: Subledger,
    own_credentials: Path,
    sold: Callable[..., str],
    exported: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    new_sftp: Any,
) -> None:
    ledger, drop = sold(), new_sftp
    grants.grant(service.database, ledger, "env:SFTP_PASSWORD", by="root")
    channel, _ = drop.on_its_way(exported(ledger, "sap-xml", "sap"))
    assert grants.revoke(service.database, ledger, "env:SFTP_PASSWORD", by="eva")
    assert not grants.revoke(service.database, ledger, "env:SFTP_PASSWORD", by="eva")
    deliver_due(service.database, channel)
    [after] = deliveries(service, ledger)
    assert after.state is State.FAILED
    assert "may not use the credential env:SFTP_PASSWORD" in str(after.reason)
    with service.database.read() as connection:
        [found] = grants.list_grants(connection, ledger)
    assert (found.granted_by, found.revoked_by) == ("root", "eva")
    grants.grant(service.database, ledger, "env:SFTP_PASSWORD", by="ola")
    with service.database.read() as connection:
        [before, found] = grants.list_grants(connection, ledger)
    assert before.revoked_by == "eva", "what was granted before, and who ended it, stays known"
    assert (found.granted_by, found.revoked_at, found.revoked_by) == ("ola", None, None)


@pytest.fixture
def new_sftp(service: Subledger, tmp_path: Path) -> Drop:
    """A channel to a server that is never called."""
    given = {**SFTP, "host": "127.0.0.1", "port": 1, "password": "env:SFTP_PASSWORD"}
    return Drop(service, Importer(tmp_path / "drop"), given)


def test_a_webhook_whose_secret_is_no_longer_granted_is_not_called(
    service: Subledger, new_ledger: NewLedger, own_credentials: Path
) -> None:
    ledger = new_ledger()
    grants.grant(service.database, ledger, "env:HOOK", by="root")
    given = {"webhook": "http://127.0.0.1:1/", "webhook_secret": "env:HOOK", "verified_within_s": 0}
    set_settings(service.database, ledger, given, by="ann")
    grants.revoke(service.database, ledger, "env:HOOK", by="root")
    report = monitors.check(service.database, ledger, datetime.now(UTC))
    notified = monitors.notify(service.database, ledger, report)
    assert "may not use the credential env:HOOK" in str(notified.failure)


def test_an_upgrade_grants_each_ledger_what_its_channels_use(
    fresh_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    upgrade_database(fresh_database_url)
    database = Database(fresh_database_url)
    service = Subledger(database)
    for ledger in ("acme", "other"):
        service.create_ledger(ledger, LedgerSettings(currency="USD"))
    channels.set_channel(database, "acme", "erp", SAP, by="ann")
    channels.set_channel(database, "acme", "drop", {**SFTP, "password": "", "key": "file:/run/secrets/key"}, by="ann")
    set_settings(database, "other", {"webhook": "https://x.example/", "webhook_secret": "env:HOOK"}, by="ann")
    database.close()
    command.downgrade(_config(fresh_database_url), "0022")
    upgrade_database(fresh_database_url)
    monkeypatch.delenv("SUBLEDGER_CREDENTIALS_SHARED")
    try:
        with database.read() as connection:
            granted = {ledger: grants.list_grants(connection, ledger) for ledger in ("acme", "other")}
            channels.check_allowed(database, channels.get_channel(connection, "acme", "drop"))
        assert [found.credential for found in granted["acme"]] == ["env:P", "file:/run/secrets/key"]
        assert [found.credential for found in granted["other"]] == ["env:HOOK"]
        with pytest.raises(CredentialNotGranted):
            channels.set_channel(database, "other", "erp", SAP, by="eve")
    finally:
        database.close()


# --- hosts --------------------------------------------------------------------------------------------------------

NEAR = [
    "127.0.0.1", "127.1", "0x7f.0.0.1", "2130706433", "localhost", "LOCALHOST.", "a.localhost", "::1", "[::1]",
    "::ffff:127.0.0.1", "0.0.0.0", "169.254.169.254", "fe80::1", "::127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::",
    "64:ff9b::a9fe:a9fe", "fd00:ec2::254", "100.100.100.200",
]  # fmt: skip


@pytest.mark.parametrize("host", NEAR)
def test_this_machine_and_its_network_are_no_hosts_unless_they_are_named(
    host: str, monkeypatch: pytest.MonkeyPatch, service: Subledger, new_ledger: NewLedger
) -> None:
    for allowed in ("", "*", "erp.example"):
        monkeypatch.setenv("SUBLEDGER_DELIVERY_HOSTS", allowed)
        with pytest.raises(InvalidInput):
            check_host(host)
    with pytest.raises(InvalidInput) as refused:
        channels.set_channel(service.database, new_ledger(), "drop", {**SFTP, "host": host}, by="eve")
    assert refused.value.field == "host"
    monkeypatch.setenv("SUBLEDGER_DELIVERY_HOSTS", f"erp.example, {host}")
    check_host(host)


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:19555/ia", "http://localhost/", "https://127.0.0.1/", "https://[::1]/"]
)
def test_loopback_is_called_only_if_it_is_named(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SUBLEDGER_DELIVERY_HOSTS")
    with pytest.raises(InvalidInput):
        check_url(url)
    monkeypatch.setenv("SUBLEDGER_DELIVERY_HOSTS", "127.0.0.1, localhost, ::1")
    check_url(url)


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "::ffff:127.0.0.1", "169.254.169.254", "0.0.0.0"])
def test_a_name_that_leads_to_this_machine_is_not_called_unless_it_is_named(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A foreign name server resolves a name. Here it answers ``address``, at which a server listens."""
    look_up, asked = socket.getaddrinfo, list[str]()

    def resolving(host: Any, *arguments: Any, **named: Any) -> Any:
        if host != "erp.example":
            return look_up(host, *arguments, **named)
        asked.append(host)
        return look_up(address, *arguments, **named)

    monkeypatch.setattr(socket, "getaddrinfo", resolving)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        given = {name: value for name, value in SFTP.items() if name != "connector"}
        settings = channels.read_channel_settings(Sftp, {**given, "host": "erp.example", "port": port})
        for allowed in ("", "*", "erp.example.org, .example"):
            monkeypatch.setenv("SUBLEDGER_DELIVERY_HOSTS", allowed)
            with bounded_http.client() as client, pytest.raises(httpx.ConnectError, match="this machine"):
                client.get(f"http://erp.example:{port}/")
            with bounded_http.client() as client:
                sftp = Sftp(settings, Calls(client, timeout_s=10, turn=lambda: None), {})
                with pytest.raises(NotSent, match="this machine"):
                    sftp.opened().__enter__()
        server.setblocking(False)
        with pytest.raises(BlockingIOError):
            server.accept()
        server.setblocking(True)
        asked.clear()
        monkeypatch.setenv("SUBLEDGER_DELIVERY_HOSTS", "erp.example")
        if address == "127.0.0.1":
            assert connect_checked("erp.example", port, lambda found: found) == address
            connect_checked("erp.example", port, lambda found: socket.create_connection((found, port))).close()
            server.accept()[0].close()
            assert asked == ["erp.example"] * 2, "one look-up a connection"


def test_sftp_goes_to_hosts_that_are_allowed_as_every_connector_does(
    service: Subledger, new_ledger: NewLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SUBLEDGER_DELIVERY_HOSTS", "erp.example, .files.example")
    ledger = new_ledger()
    channels.set_channel(service.database, ledger, "drop", {**SFTP, "host": "a.files.example"}, by="ann")
    for host in ("evil.example", "files.example", "xerp.example"):
        with pytest.raises(InvalidInput) as refused:
            channels.set_channel(service.database, ledger, "drop", {**SFTP, "host": host}, by="ann")
        assert (refused.value.field, refused.value.found) == ("host", host)


def test_a_host_that_is_no_longer_allowed_is_not_called(
    service: Subledger,
    sold: Callable[..., str],
    exported: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    new_sftp: Drop,
) -> None:
    channel, delivery = new_sftp.on_its_way(exported(sold(), "sap-xml", "sap"))
    monkeypatch.setenv("SUBLEDGER_DELIVERY_HOSTS", "erp.example")
    deliver_due(service.database, channel)
    [after] = deliveries(service, delivery.ledger)
    assert after.state is State.FAILED
    assert "SUBLEDGER_DELIVERY_HOSTS" in str(after.reason)


# --- folders ------------------------------------------------------------------------------------------------------


@pytest.fixture
def drop(folder_drop: Drop) -> Drop:
    return folder_drop


@pytest.fixture
def allowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder that is allowed for deliveries."""
    monkeypatch.setenv("SUBLEDGER_DELIVERY_FOLDERS", str(tmp_path / "drop"))
    return tmp_path / "drop"


def test_a_folder_outside_those_that_are_allowed_is_refused_and_none_is_by_default(
    drop: Drop, new_ledger: NewLedger, allowed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = new_ledger()
    drop.channel(ledger)
    (allowed / "out").symlink_to("/etc")
    for directory in (
        "/etc/cron.d",
        f"{allowed}/../elsewhere",
        f"{allowed}/out",
        f"{allowed}/out/cron.d",
        f"{allowed}x",
        "/",
    ):
        with pytest.raises(InvalidInput) as refused:
            drop.channel(ledger, directory=directory)
        assert refused.value.field == "directory"
    monkeypatch.delenv("SUBLEDGER_DELIVERY_FOLDERS")
    with pytest.raises(InvalidInput) as refused:
        drop.channel(ledger)
    assert refused.value.expected == "none is allowed"


@pytest.mark.parametrize("how", ["no longer allowed", "a link by now"])
def test_a_folder_is_looked_at_again_when_something_is_delivered(
    how: str,
    service: Subledger,
    drop: Drop,
    sold: Callable[..., str],
    exported: Callable[..., Any],
    allowed: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (allowed / "in").mkdir()
    channel, delivery = drop.on_its_way(exported(sold(), "sap-xml", "sap"), directory=str(allowed / "in"))
    outside = tmp_path / "outside"
    outside.mkdir()
    if how == "no longer allowed":
        monkeypatch.setenv("SUBLEDGER_DELIVERY_FOLDERS", str(outside))
    else:
        (allowed / "in").rmdir()
        (allowed / "in").symlink_to(outside)
    deliver_due(service.database, channel)
    [after] = deliveries(service, delivery.ledger)
    assert after.state is State.FAILED
    assert list(outside.iterdir()) == []


def test_a_link_that_was_put_in_the_way_after_the_look_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "allowed").mkdir()
    (tmp_path / "outside").mkdir()
    (tmp_path / "allowed" / "in").symlink_to(tmp_path / "outside")
    with pytest.raises(OSError, match="in"):
        folder.open_folder(tmp_path / "allowed", Path("in"))


@pytest.mark.parametrize("name", [".{}.part", ".{}.sent"])
def test_a_link_in_the_place_of_a_file_is_named_and_never_followed(
    name: str, service: Subledger, drop: Drop, sold: Callable[..., str], exported: Callable[..., Any], tmp_path: Path
) -> None:
    export = exported(sold(), "sap-xml", "sap")
    victim, link = tmp_path / "victim", drop.importer.folder / name.format(export.filename)
    victim.write_text("theirs")
    link.symlink_to(victim)
    channel, delivery = drop.on_its_way(export)
    deliver_due(service.database, channel)
    [after] = deliveries(service, delivery.ledger)
    assert (after.state, drop.importer.waiting) == (State.RENDERED, [])
    assert "is a link" in str(after.reason)
    link.unlink()
    work(service, channel)
    [put] = drop.importer.waiting
    assert (put.is_symlink(), put.read_bytes()) == (False, drop.content(export))
    assert victim.read_text() == "theirs"


def test_a_file_is_written_in_the_place_of_a_link_and_not_through_it(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("theirs")
    (tmp_path / "file").symlink_to(tmp_path / "victim")
    here = os.open(tmp_path, os.O_RDONLY)
    folder._LocalFolder(here).write("file", b"ours")
    os.close(here)
    assert (tmp_path / "victim").read_text() == "theirs"
    assert (tmp_path / "file").read_bytes() == b"ours"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "victim"]


def test_what_a_worker_that_died_has_begun_to_write_is_taken_away(
    service: Subledger, drop: Drop, sold: Callable[..., str], exported: Callable[..., Any]
) -> None:
    export = exported(sold(), "sap-xml", "sap")
    (drop.importer.folder / f".{export.filename}.part.0123456789abcdef.unfinished").write_text("half")
    channel, _ = drop.on_its_way(export)
    work(service, channel)
    assert drop.importer.hidden == [f".{export.filename}.sent"]
    assert os.stat(drop.importer.folder / export.filename).st_size == len(drop.content(export))
