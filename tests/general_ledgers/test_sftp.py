"""A folder of an SFTP server: whatever fails on the connection, the file is there completely and once at the end."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import paramiko
import pytest

from api.service import Subledger
from projections.delivery import by_hand
from projections.delivery.sending import deliver_due
from projections.delivery.states import State
from projections.exports.exports import Export
from tests.general_ledgers.conftest import deliveries
from tests.general_ledgers.drops import Drop, Importer
from tests.general_ledgers.pace import meeting
from tests.general_ledgers.sftp import HOST_KEY, OTHER_KEY, PASSWORD, USER_PEM, SftpStandIn, line_of
from tests.general_ledgers.stand_in import FAULTS, Fault, at_random, one_after_another
from tests.general_ledgers.working import states, steps, work
from tests.waiting import HANGS_S

pytestmark = pytest.mark.usefixtures("open_borders")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[SftpStandIn]:
    stand_in = SftpStandIn(tmp_path)
    yield stand_in
    stand_in.close()


@pytest.fixture
def drop(service: Subledger, tmp_path: Path, server: SftpStandIn, sftp_settings: Callable[..., dict[str, Any]]) -> Drop:
    return Drop(service, Importer(tmp_path / "drop"), sftp_settings(server))


def put_once(service: Subledger, drop: Drop, export: Export) -> None:
    [after] = deliveries(service, export.ledger)
    assert after.state is State.POSTED
    drop.importer.take()
    assert drop.importer.taken == [(export.filename, drop.content(export))]
    assert drop.importer.hidden == [f".{export.filename}.sent"]


@pytest.mark.campaign
@pytest.mark.parametrize("posix_rename", [True, False])
@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault != "throttles"])
def test_whatever_goes_wrong_with_the_rename_the_file_is_there_once_in_the_end(
    service: Subledger, server: SftpStandIn, drop: Drop, export: Export, fault: Fault, posix_rename: bool
) -> None:
    server.posix_rename = posix_rename
    server.fault = one_after_another([fault])
    channel, _ = drop.on_its_way(export, **meeting(fault))
    work(service, channel)
    put_once(service, drop, export)
    assert server.met[0] == fault


@pytest.mark.parametrize("fault", ["drops_after", "late"])
def test_a_file_that_the_importer_takes_before_it_is_looked_up_is_not_put_again(
    service: Subledger, server: SftpStandIn, drop: Drop, export: Export, fault: Fault
) -> None:
    server.fault = one_after_another([fault])
    server.late_s = 0.0
    channel, delivery = drop.on_its_way(export)
    deliver_due(service.database, channel)
    assert states(service, delivery)[-1] == "unknown"
    assert fault != "late" or server.late.wait(HANGS_S)
    drop.importer.take()
    work(service, channel)
    put_once(service, drop, export)


def test_a_rename_that_arrives_after_it_was_asked_for_again_finds_nothing(
    service: Subledger, server: SftpStandIn, drop: Drop, export: Export
) -> None:
    server.fault = one_after_another(["late"])
    server.late_s = None
    channel, delivery = drop.on_its_way(export)
    work(service, channel)
    assert states(service, delivery).count("submitted") == 2
    drop.importer.take()
    server.arrive()
    put_once(service, drop, export)


@pytest.mark.campaign
@pytest.mark.parametrize("seed", range(3))
def test_of_two_workers_faults_at_random_and_an_eager_importer_comes_each_file_once(
    service: Subledger,
    server: SftpStandIn,
    drop: Drop,
    sold: Callable[..., str],
    exported: Callable[..., Export],
    seed: int,
) -> None:
    faults = tuple(fault for fault in FAULTS if fault not in ("throttles", "times_out_after"))
    server.fault = at_random(seed, 0.6, faults)
    exports = [exported(sold(), "sap-xml", "sap") for _ in range(3)]
    going = [drop.on_its_way(export, settle_s=3.0)[0] for export in exports]
    with ThreadPoolExecutor(8) as workers:
        working = [workers.submit(work, service, channel) for channel in going for _ in range(2)]
        while not all(worker.done() for worker in working):
            drop.importer.take()
    for worker in working:
        worker.result()
    drop.importer.take()
    assert sorted(drop.importer.taken) == sorted((export.filename, drop.content(export)) for export in exports)
    assert {delivery.state for export in exports for delivery in deliveries(service, export.ledger)} == {State.POSTED}


@pytest.mark.parametrize("lost", ["dropped", "full"])
def test_an_upload_that_fails_shows_the_importer_nothing(
    service: Subledger, server: SftpStandIn, drop: Drop, export: Export, lost: str
) -> None:
    server.full, server.drops_uploads = lost == "full", 100 if lost == "dropped" else None
    channel, _ = drop.on_its_way(export)
    deliver_due(service.database, channel)
    [after] = deliveries(service, export.ledger)
    assert (after.state, after.attempts) == (State.RENDERED, 1)
    assert drop.importer.waiting == []
    assert server.met == [], "nothing was renamed"
    server.full = False
    work(service, channel)
    put_once(service, drop, export)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"host_key": line_of(OTHER_KEY)}, "another host key"),
        ({"host_key": line_of(paramiko.RSAKey.generate(2048))}, "no host key of the kinds"),
        ({"user": "nobody"}, "does not let nobody in"),
        ({"password": "env:NO_SUCH_PASSWORD"}, "NO_SUCH_PASSWORD"),
        ({"password": "env:WRONG_PASSWORD"}, "does not let erp in"),
        ({"directory": "/elsewhere"}, "no folder /elsewhere"),
        ({"port": 1}, "cannot be reached"),
    ],
)
def test_a_server_that_cannot_be_used_is_told_and_gets_nothing(
    service: Subledger,
    server: SftpStandIn,
    drop: Drop,
    export: Export,
    monkeypatch: pytest.MonkeyPatch,
    settings: dict[str, Any],
    said: str,
) -> None:
    monkeypatch.setenv("SUBLEDGER_CREDENTIAL_WRONG_PASSWORD", "guess")
    channel, delivery = drop.on_its_way(export, attempts=2, **settings)
    work(service, channel)
    [after] = deliveries(service, export.ledger)
    assert after.state is State.FAILED
    assert said in str(after.reason)
    assert drop.importer.hidden == []
    if "host_key" in settings:
        assert server.logins == 0, "no password goes to a server that is not the one"
    if {"directory", "port"} & settings.keys():
        return  # another destination needs another channel
    mended = drop.channel(export.ledger, format=export.format)
    by_hand.retry(service.database, export.ledger, delivery.delivery_id, by="test")
    work(service, mended)
    put_once(service, drop, export)


def test_a_server_that_says_nothing_is_not_waited_for(
    service: Subledger, server: SftpStandIn, drop: Drop, export: Export
) -> None:
    server.silent = True
    channel, _ = drop.on_its_way(export, timeout_s=0.2)
    deliver_due(service.database, channel)
    [after] = deliveries(service, export.ledger)
    assert (after.state, after.attempts) == (State.RENDERED, 1)
    assert "cannot be reached" in str(after.reason)


@pytest.mark.parametrize("wants", [("publickey",), ("publickey", "password")])
def test_a_user_may_have_a_key_and_a_password_too(
    service: Subledger, server: SftpStandIn, drop: Drop, export: Export, tmp_path: Path, wants: tuple[str, ...]
) -> None:
    key = tmp_path / "key"
    key.write_text(USER_PEM)
    server.wants, server.user_key = wants, paramiko.Ed25519Key.from_private_key(io.StringIO(USER_PEM))
    channel, _ = drop.on_its_way(export, key=f"file:{key}")
    work(service, channel)
    put_once(service, drop, export)


@pytest.mark.parametrize(
    ("text", "known", "said"),
    [
        (USER_PEM, True, "wants password of erp as well"),
        (USER_PEM, False, "does not let erp in"),
        ("no key", True, "cannot be read"),
    ],
)
def test_a_key_that_does_not_do_is_told(
    service: Subledger,
    server: SftpStandIn,
    drop: Drop,
    export: Export,
    tmp_path: Path,
    text: str,
    known: bool,
    said: str,
) -> None:
    key = tmp_path / "key"
    key.write_text(text)
    server.wants = ("publickey", "password")
    server.user_key = paramiko.Ed25519Key.from_private_key(io.StringIO(USER_PEM)) if known else OTHER_KEY
    channel, _ = drop.on_its_way(export, key=f"file:{key}", password="", attempts=1)
    work(service, channel)
    [after] = deliveries(service, export.ledger)
    assert said in str(after.reason)


def test_secrets_are_not_kept(service: Subledger, drop: Drop, export: Export) -> None:
    channel, delivery = drop.on_its_way(export)
    work(service, channel)
    kept = repr([exchange for step in steps(service, delivery) for exchange in step.exchanges])
    assert "sftp://127.0.0.1" in kept
    assert PASSWORD not in kept


BAD_SETTINGS: list[tuple[dict[str, Any], str]] = [
    ({"host_key": ""}, "host_key"),
    ({"host_key": "# a comment"}, "host_key"),
    ({"host_key": "ssh-ed25519"}, "host_key"),
    ({"host_key": "ssh-ed25519 AAAA"}, "host_key"),
    ({"host_key": "sftp.example"}, "host_key"),
    ({"host_key": "SHA256:1fNzcZAiLyDDjZNRWLFaFBFDLuCoPYWNpIHrSVUlrrA"}, "host_key"),
    ({"password": ""}, "key"),
    ({"password": "open sesame"}, "password"),
    ({"port": 0}, "port"),
    ({"user": ""}, "user"),
    ({"host": ""}, "host"),
]


def test_a_host_key_is_a_line_of_known_hosts_or_several(drop: Drop, new_ledger: Callable[..., str]) -> None:
    both = f"sftp.example {line_of(OTHER_KEY)}\n\n# from March on\n{line_of(HOST_KEY)} comment\n"
    assert drop.channel(new_ledger(), host_key=both).settings.host_key == both
