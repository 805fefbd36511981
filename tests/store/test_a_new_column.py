"""A later column of the entries: existing ledgers verify, and the column is recorded, read, replayed and compared."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest

from api.service import LedgerSettings, Subledger
from subledger.store.database import Database
from subledger.store.migrate import revision
from tests.building import purchase, recorded, usage
from tests.scratch_database import scratch_database
from tests.store.a_new_column import COLUMN, EDITS, MIGRATION, SCHEMA, copy_with_the_new_column
from tests.store.edited_copy import ROOT
from tests.store.tampering import LEDGER

FILES_OF_THE_STORE: Final = ["subledger/store/columns.py"]

LATER: Final = """
import json, sys
import psycopg
from api.service import Subledger
from projections.integrity import verify
from projections.replay.rebuild import rebuild
from subledger.store.columns import ENTRIES
from subledger.store.database import Database
from subledger.store.migrate import migrate
from subledger.store.reading.pages import entries_page
from subledger.store.schema_facts import FILE, facts_of, functions_written_down, written_down

url, ledger = sys.argv[1:]
migrate(url)
with psycopg.connect(url) as owner:
    FILE.write_text(written_down(facts_of(owner, functions_written_down())), "utf-8")
service = Subledger(Database(url))
found = {"columns": ENTRIES.names}


def differences():
    return [f"{d.check}: {d.message}" for d in verify(service.database, ledger).differences]


def campaigns(customer):
    with service.database.read() as connection:
        rows = entries_page(connection, ledger, kinds=None, customer=customer, limit=10_000)
    return [row.entry.campaign for row in rows]


asked = json.load(sys.stdin)
found["before"] = differences()
for name in ("few", "many"):
    outcomes = service.record(ledger, asked[name])
    assert all(outcome.error is None for outcome in outcomes), outcomes
found["after"] = differences()
found["read"] = {customer: campaigns(customer) for customer in ("ann", "bob", "joe")}
counts = rebuild(service.database, ledger, workers=1)
found["rebuilt"] = sum(counts.removed.values()) + sum(counts.written.values())
with psycopg.connect(url) as owner:
    owner.execute("ALTER TABLE entries DISABLE TRIGGER ALL")
    owner.execute("UPDATE entries SET campaign = 'other' WHERE customer = 'bob' AND campaign = 'may'")
    owner.execute("ALTER TABLE entries ENABLE ALWAYS TRIGGER append_only")
    owner.execute("ALTER TABLE entries ENABLE ALWAYS TRIGGER never_truncated")
found["tampered"] = differences()
service.database.close()
json.dump(found, sys.stdout)
"""
"""The code of a process of a later release, on a ledger of an earlier one."""


def _usage(number: int, customer: str, campaign: str) -> dict[str, Any]:
    return {**usage(f"{customer}-{number}", "1", customer), "campaign": campaign}


ASKED: Final = {
    "few": [_usage(1, "bob", "may")],
    "many": [_usage(number, "joe", "june") for number in range(250)],  # more than a batch that is sent as arrays
}


@pytest.fixture(scope="module")
def later(server_url: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The findings of a later release with one more column in a ledger of today's product."""
    with scratch_database(server_url) as url:
        database = Database(url)
        service = Subledger(database)
        service.create_ledger(LEDGER, LedgerSettings(currency="USD"))
        bought = [purchase(f"b-{customer}", "1000", customer, "2026-01-05") for customer in ("ann", "bob", "joe")]
        recorded(service, LEDGER, *bought, usage("use", "3", "ann", "2026-01-06"))
        database.close()
        copy = copy_with_the_new_column(tmp_path_factory.mktemp("later"), str(revision(url)))
        done = subprocess.run(
            [sys.executable, "-c", LATER, url, LEDGER],
            input=json.dumps(ASKED),
            cwd=copy,
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": str(copy)},
            check=False,
        )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_a_ledger_of_before_verifies_clean_before_and_after_the_column_is_used(later: dict[str, Any]) -> None:
    assert COLUMN in later["columns"]
    assert (later["before"], later["after"]) == ([], [])


def test_the_column_is_recorded_by_arrays_and_by_copy_and_read(later: dict[str, Any]) -> None:
    assert later["read"]["ann"] == [None, None]
    assert later["read"]["bob"] == [None, "may"]
    assert later["read"]["joe"] == [None, *["june"] * 250]


def test_the_column_is_replayed_and_another_value_in_it_is_found(later: dict[str, Any]) -> None:
    assert later["rebuilt"] == 0
    checks = {difference.partition(":")[0] for difference in later["tampered"]}
    assert checks >= {"log", "entries"}
    assert any(COLUMN in difference for difference in later["tampered"])


def test_a_new_column_touches_one_file_of_the_store_and_the_schema(later: dict[str, Any]) -> None:
    assert later["after"] == []  # these files are enough
    assert [name for name in EDITS if name.startswith("subledger/store/")] == FILES_OF_THE_STORE
    assert [name for name in EDITS if name.startswith(("projections/", "api/"))] == []


def test_the_documentation_lists_the_files_that_a_new_column_touches() -> None:
    readme = Path(ROOT / "subledger" / "README.md").read_text("utf-8")
    chapter = readme.partition("\n## Adding a column to the entries\n")[2].partition("\n## ")[0]
    listed = [line.split("`")[1] for line in chapter.splitlines() if line.startswith("| `")]
    assert listed == [*EDITS, f"{Path(MIGRATION).parent}/*.py", SCHEMA]
