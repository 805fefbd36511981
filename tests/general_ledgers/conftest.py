"""Fixtures: stand-ins, and ledgers with journals to deliver into them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest

from api.service import Subledger
from projections.delivery import channels, outbox
from projections.delivery.channels import Channel
from projections.delivery.deliveries import Delivery, list_deliveries
from projections.exports import exporting, targets
from projections.exports.exports import Export
from projections.exports.formats import TARGETS
from subledger.periods import Period
from tests.building import cloud_event
from tests.general_ledgers.drops import Drop, Importer
from tests.general_ledgers.every import Way
from tests.general_ledgers.netsuite import PEM, NetSuiteStandIn
from tests.general_ledgers.pace import QUICK
from tests.general_ledgers.sftp import HOST_KEY, PASSWORD, USER, SftpStandIn, line_of

NewLedger = Callable[..., str]
MONTH = Period.parse("2026-01")


@pytest.fixture
def sold(service: Subledger, new_ledger: NewLedger) -> Callable[..., str]:
    """A ledger with blocks that were sold and partly used in January."""

    def make(blocks: int = 1, **settings: str) -> str:
        ledger = new_ledger(**settings)
        events = []
        for number in range(blocks):
            name = f"{number:04}"
            events.append(
                cloud_event(
                    f"p{name}",
                    "credits.purchased",
                    f"c{name}",
                    "2026-01-05T00:00:00Z",
                    block_id=f"b{name}",
                    credits="10",
                    price=f"{10 + number}.00",
                    currency="USD",
                )
            )
            events.append(cloud_event(f"u{name}", "credits.consumed", f"c{name}", "2026-01-20T00:00:00Z", credits="4"))
        for place in range(0, len(events), 1_000):
            service.record(ledger, events[place : place + 1_000])
        return ledger

    return make


@pytest.fixture
def exported(service: Subledger) -> Callable[..., Export]:
    """The export of January in a format, with settings of its target."""

    def export(ledger: str, form: str = "netsuite-json", target: str = "netsuite", **settings: Any) -> Export:
        targets.set_settings(service.database, ledger, TARGETS[target], settings, by="test")
        return exporting.export(service.recorder, service.database, ledger, MONTH, form)[-1]

    return export


class OnItsWay(Protocol):
    """Adds a journal with a number of blocks to the outbox, with settings of the channel and of the target."""

    def __call__(
        self, more: dict[str, Any] | None = None, *, blocks: int = 1, **of_target: Any
    ) -> tuple[Channel, Delivery]: ...


@pytest.fixture
def on_its_way(service: Subledger, sold: Callable[..., str], exported: Callable[..., Export]) -> Callable[..., Any]:
    """Adds a journal for a stand-in (``every.Way``) to the outbox. Returns the channel, and the only delivery."""

    def send(
        way: Way, more: dict[str, Any] | None = None, *, blocks: int = 1, **of_target: Any
    ) -> tuple[Channel, Delivery]:
        ledger = sold(blocks)
        settings = {**QUICK, **way.settings, **(more or {})}
        channel = channels.set_channel(service.database, ledger, way.name, settings, by="test")
        if way.target is None:
            export = exporting.export(service.recorder, service.database, ledger, MONTH, way.form)[-1]
        else:
            export = exported(ledger, way.form, way.target, **{**way.of_target, **of_target})
        [delivery] = outbox.add(service.database, channel, export, by="test")
        return channel, delivery

    return send


@pytest.fixture
def netsuite() -> Iterator[NetSuiteStandIn]:
    stand_in = NetSuiteStandIn()
    yield stand_in
    stand_in.close()


@pytest.fixture
def netsuite_channel(service: Subledger, netsuite: NetSuiteStandIn, tmp_path: Path) -> Callable[..., Channel]:
    """A ledger's channel to the stand-in."""
    key = tmp_path / "netsuite.pem"
    key.write_text(PEM)

    def channel(ledger: str, **settings: Any) -> Channel:
        given = {
            "connector": "netsuite",
            "url": netsuite.url,
            "client_id": "client",
            "certificate_id": "certificate",
            "private_key": f"file:{key}",
            **QUICK,
            **settings,
        }
        return channels.set_channel(service.database, ledger, "netsuite", given, by="test")

    return channel


@pytest.fixture
def sftp_settings(monkeypatch: pytest.MonkeyPatch) -> Callable[[SftpStandIn], dict[str, Any]]:
    """The settings of a channel to the stand-in of an SFTP server."""
    monkeypatch.setenv("SUBLEDGER_CREDENTIAL_SFTP_PASSWORD", PASSWORD)
    return lambda server: {
        "connector": "sftp",
        "host": "127.0.0.1",
        "port": server.port,
        "user": USER,
        "host_key": line_of(HOST_KEY),
        "password": "env:SFTP_PASSWORD",
        "directory": "/drop",
    }


def deliveries(service: Subledger, ledger: str) -> list[Delivery]:
    with service.database.read() as connection:
        return list_deliveries(connection, ledger)


@pytest.fixture
def export(sold: Callable[..., str], exported: Callable[..., Export]) -> Export:
    """January as a file for SAP."""
    return exported(sold(), "sap-xml", "sap")


@pytest.fixture
def folder_drop(service: Subledger, tmp_path: Path) -> Drop:
    """A folder with its importer, and channels to it."""
    importer = Importer(tmp_path / "drop")
    return Drop(service, importer, {"connector": "folder", "directory": str(importer.folder)})
