"""A sandbox ledger has its own clock, and delivers nothing. A real ledger never becomes one."""

from __future__ import annotations

import io
import zipfile
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest

from api.service import Subledger
from projections import integrity
from projections.close.close import close_period
from projections.configuring.clock import set_clock
from projections.delivery import channels
from projections.delivery.checklist import checklist
from projections.exports.exporting import export
from projections.exports.exports import content_of
from projections.exports.formats import FORMATS
from projections.monitors import check
from projections.reads import blocks
from projections.reads.clock import clock_of
from projections.replay.rebuild import rebuild
from subledger.errors import ClockBackwards, LedgerExists, SandboxLedger, SettingFixed, UnknownEntity
from subledger.events.envelope import format_time
from subledger.ledger_settings import LedgerSettings, SettingsChange
from subledger.periods import Period
from subledger.store.reading.ledgers import ledger_head, ledgers_of
from tests.building import purchase
from tests.conftest import NewLedger

NOW = datetime(2031, 1, 31, 22, tzinfo=UTC)


@pytest.fixture
def ledger(new_ledger: NewLedger) -> str:
    return new_ledger(sandbox=True, clock=NOW, timezone="Asia/Tokyo")


buy = partial(purchase, credits="100", price="100.00")


def test_the_clock_decides_about_the_future_today_what_is_over_and_what_is_due(service: Subledger, ledger: str) -> None:
    expires = NOW + timedelta(days=3)
    [outcome] = service.record(ledger, [buy("A", time=NOW, expires_at=format_time(expires))])
    assert outcome.error is None
    found = clock_of(service.database, ledger)
    assert (found.sandbox, found.now, found.today) == (True, NOW, date(2031, 2, 1))
    with service.view(ledger) as view:
        assert (view.as_of, view.moment) == (date(2031, 2, 1), NOW)
    january = Period(2031, 1)
    month_over = {s.name: s.state for s in checklist(service.database, ledger, january, now=datetime.now(UTC)).steps}
    assert month_over["month_over"] == "done", "it is February in Tokyo"
    assert close_period(service.recorder, ledger, january).expired == 0
    set_clock(service.recorder, ledger, expires + timedelta(days=2))
    overdue = check(service.database, ledger, datetime.now(UTC)).named("expiry_sweep")
    assert overdue.value == 1
    assert service.expire(ledger, date(2031, 2, 4)) == 1
    with service.view(ledger) as view:
        assert view.as_of == date(2031, 2, 6)
        assert blocks.one_block(view, "A").status.value == "expired"


def test_when_something_became_known_is_the_real_clocks(service: Subledger, ledger: str) -> None:
    service.record(ledger, [buy("A", time=NOW)])
    with service.database.read() as connection:
        recorded_at = ledger_head(connection, ledger).recorded_at
    assert abs(recorded_at - datetime.now(UTC)) < timedelta(days=1)


def test_a_replay_needs_nothing_but_the_log(service: Subledger, ledger: str) -> None:
    service.record(ledger, [buy("A", time=NOW)])
    set_clock(service.recorder, ledger, NOW + timedelta(days=9), by="ann")
    assert integrity.verify(service.database, ledger).differences == []
    rebuild(service.database, ledger)
    assert clock_of(service.database, ledger).now == NOW + timedelta(days=9)
    assert integrity.verify(service.database, ledger).differences == []


def test_a_changed_clock_is_found(service: Subledger, ledger: str) -> None:
    with service.database.write() as connection:
        connection.execute("UPDATE ledgers SET clock = clock + interval '1 year' WHERE ledger = %s", (ledger,))
    assert [d.subject for d in integrity.verify(service.database, ledger).differences] == ["clock"]


def test_the_clock_never_goes_back_and_the_same_again_records_nothing(service: Subledger, ledger: str) -> None:
    assert set_clock(service.recorder, ledger, NOW + timedelta(days=1))
    assert not set_clock(service.recorder, ledger, NOW + timedelta(days=1))
    with pytest.raises(ClockBackwards) as refused:
        set_clock(service.recorder, ledger, NOW)
    assert refused.value.found == format_time(NOW)


def test_a_sandbox_begins_when_it_is_created_where_nothing_is_said(service: Subledger, new_ledger: NewLedger) -> None:
    before = datetime.now(UTC) - timedelta(days=1)
    assert before < clock_of(service.database, new_ledger(sandbox=True)).now < before + timedelta(days=2)


def test_a_real_ledger_never_becomes_a_sandbox_nor_the_reverse(
    service: Subledger, ledger: str, new_ledger: NewLedger
) -> None:
    real = new_ledger()
    for name, value in ((real, True), (ledger, False)):
        with pytest.raises(SettingFixed) as refused:
            service.configure_ledger(name, SettingsChange(sandbox=value))
        assert refused.value.field == "sandbox"
        with pytest.raises(LedgerExists):
            service.create_ledger(name, LedgerSettings(currency="USD", sandbox=value))
    with pytest.raises(SettingFixed):
        set_clock(service.recorder, real, datetime.now(UTC))
    assert not clock_of(service.database, real).sandbox


def test_the_same_sandbox_again_changes_nothing_wherever_its_clock_is(service: Subledger, ledger: str) -> None:
    settings = LedgerSettings(currency="USD", sandbox=True, clock=NOW, timezone="Asia/Tokyo")
    set_clock(service.recorder, ledger, NOW + timedelta(days=400))
    assert not service.create_ledger(ledger, settings)
    assert clock_of(service.database, ledger).now == NOW + timedelta(days=400)


def test_a_sandbox_delivers_nothing_and_exports_files(service: Subledger, ledger: str, tmp_path: Path) -> None:
    service.record(ledger, [buy("A", time=NOW)])
    given = {"connector": "folder", "directory": str(tmp_path), "format": "csv"}
    with pytest.raises(SandboxLedger):
        channels.set_channel(service.database, ledger, "drop", given, by="ann")
    with pytest.raises(SandboxLedger):
        service.deliver(ledger, Period(2031, 1), by="ann")
    assert export(service.recorder, service.database, ledger, Period(2031, 1), "csv")
    assert list(tmp_path.iterdir()) == []


def test_a_sandbox_is_in_no_report_of_its_entity(service: Subledger, new_ledger: NewLedger) -> None:
    entity = f"E-{new_ledger()}"
    new_ledger(sandbox=True, entity=entity)
    with service.database.read() as connection, pytest.raises(UnknownEntity):
        ledgers_of(connection, entity)
    real = new_ledger(entity=entity)
    with service.database.read() as connection:
        assert ledgers_of(connection, entity) == [real]


@pytest.mark.parametrize(
    ("format", "detail"),
    [
        (form.name, detail)
        for form in FORMATS.values()
        for detail in (False, True)
        if form.supports_detail or not detail
    ],
)
def test_every_file_of_a_sandbox_says_so_in_its_name_and_within_and_none_of_a_real_ledger(
    service: Subledger, ledger: str, new_ledger: NewLedger, format: str, detail: bool
) -> None:
    def exported(ledger: str, month: Period) -> tuple[str, bool]:
        [made] = export(service.recorder, service.database, ledger, month, format, detail=detail)
        content = b"".join(content_of(service.database, made))
        if made.filename.endswith(".zip"):
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                content = b"".join(archive.read(name) for name in archive.namelist())
        content = content.replace(b"\0", b"")  # of UTF-16
        return made.filename, b"SANDBOX" in content or b'"sandbox":true' in content

    service.record(ledger, [buy("A", time=NOW - timedelta(days=5))])
    name, marked = exported(ledger, Period(2031, 1))
    assert name.startswith(f"SANDBOX-{ledger}-2031-01-1-{format}")
    assert marked
    assert integrity.verify(service.database, ledger).differences == []
    real = new_ledger()
    service.record(real, [buy("A", time=datetime(2026, 1, 5, tzinfo=UTC))])
    name, marked = exported(real, Period(2026, 1))
    assert name.startswith(f"{real}-2026-01-1-{format}")
    assert not marked
    assert integrity.verify(service.database, real).differences == []
