"""Checkpoints are signed and stored even if the home is read-only, and are durable if it is writable."""

from __future__ import annotations

import base64
import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import structlog
from psycopg import sql

from api.checkpoint import checkpoint_of, earlier_checkpoint
from subledger.errors import CheckpointConflict, FileUnavailable
from tests.http.test_checkpoints import Installation, read_note
from tests.store.tampering import LEDGER, differences

NOWHERE = "/sys/subledger"
"""A path at which no user can make a directory."""


@pytest.fixture
def ours(scratch_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Installation]:
    monkeypatch.setenv("SUBLEDGER_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("SUBLEDGER_DATABASE_URL", scratch_url)
    monkeypatch.setenv("SUBLEDGER_SIGNING_KEY", base64.b64encode(b"k" * 32).decode())
    installation = Installation(scratch_url, tmp_path / "home")
    installation.record("a", "b")
    yield installation
    installation.service.database.close()


def _keys(ours: Installation) -> list[bytes]:
    with psycopg.connect(ours.url) as owner:
        return [bytes(key) for (key,) in owner.execute("SELECT public_key FROM checkpoints ORDER BY size")]


def test_a_machine_without_a_home_signs_and_the_database_alone_keeps_it(
    ours: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SUBLEDGER_HOME", NOWHERE)
    database, size = ours.service.database, ours.sizes()
    with structlog.testing.capture_logs() as logs:
        signed = checkpoint_of(database, LEDGER)
    assert [(line["event"], line["ledger"], line["size"]) for line in logs] == [
        ("checkpoint kept in the database alone: the home cannot be written", LEDGER, size)
    ]
    assert signed.public_key is not None
    assert read_note(signed.text, signed.public_key)[:2] == (f"subledger/{LEDGER}", size)
    assert checkpoint_of(database, LEDGER) == earlier_checkpoint(database, LEDGER, size) == signed
    assert _keys(ours) == [signed.public_key]
    ours.rewrite("a", "other")
    assert {difference.check for difference in differences(ours.service)} == {"seen"}
    with pytest.raises(CheckpointConflict):
        checkpoint_of(database, LEDGER)


@pytest.mark.parametrize("needed_for", ["SUBLEDGER_SIGNING_KEY", "SUBLEDGER_DATABASE_URL"])
def test_a_machine_whose_key_or_database_is_in_its_home_cannot_do_without(
    ours: Installation, monkeypatch: pytest.MonkeyPatch, needed_for: str
) -> None:
    monkeypatch.setenv("SUBLEDGER_HOME", NOWHERE)
    monkeypatch.delenv(needed_for)
    with pytest.raises(OSError, match=NOWHERE):
        checkpoint_of(ours.service.database, LEDGER)
    assert _keys(ours) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root can write anywhere")
def test_a_home_that_is_read_only_by_now_still_says_what_was_signed(
    ours: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    database, path = ours.service.database, ours.home / "checkpoints" / f"{LEDGER}.jsonl"
    first = checkpoint_of(database, LEDGER)
    path.chmod(0o400)
    path.parent.chmod(0o500)
    try:
        assert checkpoint_of(database, LEDGER) == first
        ours.record("c")
        assert checkpoint_of(database, LEDGER).text != first.text
        assert len(path.read_text().splitlines()) == 1
        assert ours.client.get(f"/v1/ledgers/{LEDGER}/reports/integrity").json()["differences"] == []
        monkeypatch.delenv("SUBLEDGER_SIGNING_KEY")
        with pytest.raises(PermissionError):
            checkpoint_of(database, LEDGER)
    finally:
        path.parent.chmod(0o700)


@pytest.mark.parametrize("refusal", ["read_only_sql_transaction", "feature_not_supported"])
def test_a_checkpoint_that_neither_the_database_nor_the_home_can_keep_is_not_handed_out(
    ours: Installation, monkeypatch: pytest.MonkeyPatch, refusal: str
) -> None:
    """A standby refuses a write, or the beginning of a transaction that may write."""
    monkeypatch.setenv("SUBLEDGER_HOME", NOWHERE)
    refuse = (
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE EXCEPTION 'standby' USING ERRCODE = {}; END $$"
    )
    with psycopg.connect(ours.url) as owner:
        owner.execute(sql.SQL(refuse).format(sql.Literal(refusal)))
        owner.execute("CREATE TRIGGER refuse BEFORE INSERT ON checkpoints FOR EACH ROW EXECUTE FUNCTION refuse()")
    with pytest.raises(FileUnavailable, match="neither in the database"):
        checkpoint_of(ours.service.database, LEDGER)
    monkeypatch.setenv("SUBLEDGER_HOME", str(ours.home))
    signed = checkpoint_of(ours.service.database, LEDGER)
    lines = (ours.home / "checkpoints" / f"{LEDGER}.jsonl").read_text().splitlines()
    assert [json.loads(line)["note"] for line in lines] == [signed.text]
    assert _keys(ours) == []


def test_another_machine_can_tell_which_key_signed(ours: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    size, first = ours.sizes(), checkpoint_of(ours.service.database, LEDGER)
    monkeypatch.delenv("SUBLEDGER_SIGNING_KEY")
    monkeypatch.setenv("SUBLEDGER_HOME", str(ours.home.parent / "another"))
    assert earlier_checkpoint(ours.service.database, LEDGER, size) == first
    assert not (ours.home.parent / "another").exists(), "who only reads makes no key"


def test_the_first_checkpoint_is_found_after_the_power_has_failed(
    ours: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file and the directories with its name are written to disk."""
    written: list[int] = []
    really = os.fsync

    def fsync(descriptor: int) -> None:
        written.append(os.fstat(descriptor).st_ino)
        really(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    checkpoint_of(ours.service.database, LEDGER)
    path = ours.home / "checkpoints" / f"{LEDGER}.jsonl"
    assert written == [place.stat().st_ino for place in (path, path.parent, ours.home)]
    written.clear()
    ours.record("c")
    checkpoint_of(ours.service.database, LEDGER)
    assert written == [path.stat().st_ino], "its name is there already"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
