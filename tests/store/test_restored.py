"""A database that was dumped and restored holds the same books, and its verification is as clean as before."""

from __future__ import annotations

import subprocess
import uuid
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import make_url

from api.service import LedgerSettings, Subledger
from projections.integrity import verify
from subledger.store.database import Database
from subledger.store.embedded_programs import candidates
from tests.conftest import cloud_event


def program(name: str, major: int) -> Path:
    """One of PostgreSQL's programs, of the server's version; the test is skipped, visibly, where there is none."""
    for found in candidates():
        if found.major == major and (found.folder / name).exists():
            return found.folder / name
    pytest.skip(f"there is no {name} of PostgreSQL {major} on this machine")


def test_a_restored_database_verifies_clean(scratch_url: str, server_url: str, tmp_path: Path) -> None:
    """The server writes a nested condition of a trigger in one way, and in another once it has read that again."""
    database = Database(scratch_url)
    service = Subledger(database)
    service.create_ledger("acme", LedgerSettings(currency="USD"))
    service.record("acme", [
        cloud_event("b", "credits.purchased", "ann", "2026-01-05T10:00:00Z", block_id="b", credits="10",
                    price="10.00", currency="USD"),
        cloud_event("u", "credits.consumed", "ann", "2026-01-06T10:00:00Z", credits="4"),
    ])  # fmt: skip
    assert [each.message for each in verify(database, "acme").differences] == []
    database.close()
    with psycopg.connect(server_url, autocommit=True) as connection:
        major = connection.info.server_version // 10_000
        name = f"restored_{uuid.uuid4().hex[:12]}"
        dump, restore = program("pg_dump", major), program("pg_restore", major)
        connection.execute(f"CREATE DATABASE {name}")
        try:
            file = str(tmp_path / "books.dump")
            other = make_url(server_url).set(database=name).render_as_string(hide_password=False)
            subprocess.run([dump, "--format=custom", f"--file={file}", scratch_url], check=True)
            subprocess.run([restore, "--exit-on-error", f"--dbname={other}", file], check=True)
            restored = Database(other)
            assert [each.message for each in verify(restored, "acme").differences] == []
            restored.close()
        finally:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
