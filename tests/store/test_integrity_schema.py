"""The guards of the books in the database are those of the migrations. A removed or added guard is found."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest
import sqlalchemy as sa

from projections.integrity.schema import schema_faults
from subledger.store.database import Database, driver
from subledger.store.schema_facts import FILE
from subledger.store.tables import NEVER_TRUNCATED, metadata, sealed_tables


def test_a_migrated_database_guards_the_books(database: Database) -> None:
    with database.read() as connection:
        assert list(schema_faults(driver(connection))) == []


CHANGES = [
    *(f"ALTER TABLE {table} DISABLE TRIGGER never_truncated" for table in NEVER_TRUNCATED),
    *(f"ALTER TABLE {table} ENABLE TRIGGER sealed" for table in sealed_tables()),
    "DROP TRIGGER append_only ON events",
    "DROP TRIGGER append_only ON events; CREATE TRIGGER append_only BEFORE DELETE ON events"
    " FOR EACH ROW EXECUTE FUNCTION refuse_change(); ALTER TABLE events ENABLE ALWAYS TRIGGER append_only",
    "CREATE TRIGGER mine BEFORE INSERT ON entries FOR EACH ROW EXECUTE FUNCTION refuse_change()",
    "CREATE OR REPLACE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'",
    "CREATE OR REPLACE FUNCTION row_seal(sealed jsonb) RETURNS bytea LANGUAGE sql IMMUTABLE PARALLEL SAFE"
    " AS $$ SELECT ''::bytea $$",
    "CREATE RULE mine AS ON UPDATE TO journals DO INSTEAD NOTHING",
    "DO $$ BEGIN EXECUTE 'CREATE OR REPLACE VIEW journal_lines AS SELECT * FROM (' ||"
    " rtrim(pg_get_viewdef('journal_lines'), ';') || ') AS lines WHERE position > 1'; END $$",
    "GRANT UPDATE ON events TO subledger_app",
    "GRANT UPDATE (data) ON events TO PUBLIC",
    "GRANT DELETE ON journals TO PUBLIC",
    "GRANT TRUNCATE ON approvals TO subledger_app",
    "REVOKE INSERT ON deliveries FROM subledger_app",
    "ALTER ROLE subledger_app SUPERUSER",
    "GRANT pg_write_all_data TO subledger_app",
    "ALTER TABLE journals OWNER TO subledger_app",
    "ALTER TABLE approvals DROP CONSTRAINT ck_approvals_two_persons",
    "DROP INDEX ux_events_key",
    "DROP INDEX ix_blocks_customer",
    "DROP INDEX ix_blocks_customer; CREATE INDEX ix_blocks_customer ON blocks (ledger, customer)",
    "CREATE UNIQUE INDEX mine ON wallets (ledger, customer)",
    "CREATE INDEX mine ON wallets (customer); UPDATE pg_index SET indisvalid = false"
    " WHERE indexrelid = 'mine'::regclass",
    "CREATE FUNCTION mine(text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN $1; END';"
    " CREATE INDEX mine ON wallets (mine(customer))",
    "ALTER TABLE events ALTER COLUMN data DROP NOT NULL",
    "ALTER TABLE events ALTER COLUMN data SET DEFAULT 'x'",
    "ALTER TABLE events ADD COLUMN mine text",
    "ALTER TABLE entries ENABLE ROW LEVEL SECURITY",
    "CREATE TABLE mine () INHERITS (entries)",
]


@pytest.mark.parametrize("change", CHANGES)
def test_a_guard_that_was_taken_away_or_changed_is_found(owner: psycopg.Connection[Any], change: str) -> None:
    assert list(schema_faults(owner)) == []
    owner.execute(change.encode())
    found: list[Any] = list(schema_faults(owner))
    assert found
    assert {breach.check for breach in found} == {"schema"}


@pytest.mark.parametrize("index", ["(customer)", "(lower(customer))", "USING hash (customer) WHERE ledger <> ''"])
def test_an_index_that_is_not_unique_is_no_difference(owner: psycopg.Connection[Any], index: str) -> None:
    owner.execute(f"CREATE INDEX mine ON wallets {index}".encode())
    assert list(schema_faults(owner)) == []


def test_every_constraint_and_index_is_a_fact() -> None:
    with_names = FILE.read_text("utf-8")
    for table in metadata.tables.values():
        for index in table.indexes:
            assert f" {index.name} " in with_names
        for constraint in table.constraints:
            if isinstance(constraint, sa.CheckConstraint):
                assert f" {constraint.name} " in with_names
