"""The database is what the code says: tables, triggers, grants, keys."""

from __future__ import annotations

import psycopg
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from subledger.store.database import engine_url
from subledger.store.tables import APP_ROLE, APPEND_ONLY, metadata

WITHOUT_LEDGER = {"api_keys"}


def test_the_tables_in_code_are_those_of_the_migrated_database(owner_url: str) -> None:
    engine = sa.create_engine(engine_url(owner_url))
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, metadata) == []
    engine.dispose()


def test_the_check_constraints_are_in_the_database(owner_url: str) -> None:
    in_code = {
        constraint.name
        for table in metadata.tables.values()
        for constraint in table.constraints
        if isinstance(constraint, sa.CheckConstraint)
    }
    with psycopg.connect(owner_url) as connection:
        rows = connection.execute("SELECT conname FROM pg_constraint WHERE contype = 'c' AND conrelid <> 0").fetchall()
    assert in_code <= {name for (name,) in rows}


def test_the_log_is_guarded_by_triggers_that_always_fire(owner_url: str) -> None:
    with psycopg.connect(owner_url) as connection:
        rows = connection.execute(
            "SELECT tgrelid::regclass::text, tgname, tgenabled::text FROM pg_trigger WHERE NOT tgisinternal"
        ).fetchall()
    expected = {(table, name, "A") for table in APPEND_ONLY for name in ("append_only", "never_truncated")}
    assert set(rows) == expected


def test_the_application_may_add_to_the_log_and_nothing_else(owner_url: str) -> None:
    with psycopg.connect(owner_url) as connection:
        rows = connection.execute(
            "SELECT table_name, privilege_type FROM information_schema.role_table_grants WHERE grantee = %s",
            (APP_ROLE,),
        ).fetchall()
    granted: dict[str, set[str]] = {}
    for table, privilege in rows:
        granted.setdefault(table, set()).add(privilege)
    for table in metadata.tables:
        changing = {"SELECT", "INSERT", "UPDATE", "DELETE"}
        assert granted[table] == ({"SELECT", "INSERT"} if table in APPEND_ONLY else changing), table


def test_every_key_begins_with_the_ledger() -> None:
    for name, table in metadata.tables.items():
        if name in WITHOUT_LEDGER:
            continue
        assert next(iter(table.primary_key.columns)).name == "ledger", name
        for index in table.indexes:
            assert next(iter(index.columns)).name == "ledger", index.name
        assert not table.foreign_keys, f"{name}: nothing references across tables"
