"""The experiment on storage runs, and the compared databases differ only in their layout. The speed is not tested."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from subledger.store.tables import APPEND_ONLY
from tests.benchmarks import layouts

pytestmark = pytest.mark.campaign

ROOT = Path(__file__).parents[2]
COMPARED = {
    "partitions": {"hashed by ledger, 4", "entries by position, 4"},
    "settings": {"ours", "with ALTER TABLE wallets SET (fillfactor = 50)"},
    "freezing": {"ours", "with ALTER TABLE wallets SET (fillfactor = 50)"},
}


@pytest.mark.parametrize("experiment", COMPARED)
def test_every_layout_is_compared_in_every_measure(experiment: str) -> None:
    command = [sys.executable, "-m", "tests.benchmarks.storage", experiment, "--tiny", "--parts", "4", "--json"]
    command += ["--try", "ALTER TABLE wallets SET (fillfactor = 50)"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["machine"]["cores"] >= 1
    assert found["server"]["shared_buffers"] == "128MB"
    measures = found["measures"]
    names = {layout: [m["name"] for m in measures if m["goal"] == layout] for layout in COMPARED[experiment]}
    assert {measure["goal"] for measure in measures} == COMPARED[experiment]
    assert len({tuple(each) for each in names.values()}) == 1
    assert all(measure["rounds"] for measure in measures)


@pytest.mark.parametrize("layout", [layouts.hashed(2), layouts.ranged(2, 100)])
def test_a_partitioned_log_has_the_same_keys_and_views_and_refuses_the_same(
    scratch_url: str, layout: layouts.Layout
) -> None:
    with psycopg.connect(scratch_url, autocommit=True) as owner:
        before = _shape(owner)
        layout(owner)
        assert _shape(owner) == before
        for table in APPEND_ONLY:
            parts = owner.execute(
                "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = %s::regclass", (table,)
            )
            for name in (table, *(row[0] for row in parts)):
                with pytest.raises(psycopg.errors.RestrictViolation):
                    owner.execute(f"TRUNCATE {name}")


def _shape(owner: psycopg.Connection[tuple[object, ...]]) -> list[tuple[object, ...]]:
    """Returns the indexes of the log with their columns, its columns, checks and grants, and every view."""
    return owner.execute("""
        SELECT 'index', c.relname, x.indisunique::text, regexp_replace(pg_get_indexdef(i.oid), ' ON (ONLY )?', ' ON ')
        FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid JOIN pg_class c ON c.oid = x.indrelid
        WHERE c.relname IN ('events', 'entries')
        UNION ALL
        SELECT 'column', table_name, column_name, data_type || is_nullable FROM information_schema.columns
        WHERE table_name IN ('events', 'entries')
        UNION ALL
        SELECT 'check', conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint
        WHERE contype = 'c' AND conrelid IN ('events'::regclass, 'entries'::regclass)
        UNION ALL
        SELECT 'trigger', tgrelid::regclass::text, tgname, tgenabled::text FROM pg_trigger
        WHERE tgrelid IN ('events'::regclass, 'entries'::regclass)
        UNION ALL
        SELECT 'grant', table_name, grantee, privilege_type FROM information_schema.table_privileges
        WHERE table_name IN ('events', 'entries', 'journal_lines', 'recorded_events')
        UNION ALL
        SELECT 'view', viewname, '', definition FROM pg_views WHERE schemaname = 'public'
        ORDER BY 1, 2, 3, 4
    """).fetchall()
