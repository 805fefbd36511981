"""The database agrees with the code: tables, triggers, grants, keys."""

from __future__ import annotations

import os

import psycopg
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from subledger.store.database import engine_url
from subledger.store.schema_facts import FILE, expected_facts, facts_of, written_down
from subledger.store.tables import APP_ROLE, APPEND_ONLY, HANDED_OVER, ONLY_FORWARD, metadata, sealed_tables

# These tables stay on one server when ledgers are spread over servers.
WITHOUT_LEDGER = {"api_keys", "alembic_version"}


def test_the_tables_in_code_are_those_of_the_migrated_database(owner_url: str) -> None:
    engine = sa.create_engine(engine_url(owner_url))
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, metadata) == []
    engine.dispose()


def test_the_facts_of_the_schema_are_those_that_are_written_down(owner_url: str) -> None:
    """After a migration: SUBLEDGER_WRITE_SCHEMA=1 pytest tests/store/test_schema.py -k written_down"""
    with psycopg.connect(owner_url) as connection:
        functions = connection.execute("SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace")
        found = facts_of(connection, [name for (name,) in functions])
        if os.environ.get("SUBLEDGER_WRITE_SCHEMA"):
            FILE.write_text(written_down(found), "utf-8")
        assert found == expected_facts(connection), "see the docstring of this test"


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


def test_the_storage_parameters_are_in_the_database(owner_url: str) -> None:
    in_code = {
        name: {f"{option}={value}" for option, value in (table.dialect_options["postgresql"]["with"] or {}).items()}
        for name, table in metadata.tables.items()
    }
    with psycopg.connect(owner_url) as connection:
        rows = connection.execute(
            "SELECT relname, coalesce(reloptions, '{}') FROM pg_class"
            " WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace AND relname <> 'alembic_version'"
        ).fetchall()
    assert {name: set(options) for name, options in rows} == in_code


def triggers() -> set[tuple[str, str]]:
    """Returns all triggers: table, name."""
    found = {(table, name) for table in (*APPEND_ONLY, *HANDED_OVER) for name in ("append_only", "never_truncated")}
    found |= {(t, name) for t in ONLY_FORWARD for name in ("only_forward", "never_deleted", "never_truncated")}
    found.add(("ledgers", "goes_forward"))
    return found | {(table, "sealed") for table in sealed_tables()}


def test_the_log_is_guarded_by_triggers_that_always_fire(owner_url: str) -> None:
    with psycopg.connect(owner_url) as connection:
        rows = connection.execute(
            "SELECT t.tgrelid::regclass::text, t.tgname, t.tgenabled::text FROM pg_trigger t JOIN pg_class c"
            " ON c.oid = t.tgrelid WHERE NOT t.tgisinternal AND c.relnamespace = 'public'::regnamespace"
        ).fetchall()
    assert set(rows) == {(table, name, "A") for table, name in triggers()}


def test_the_triggers_refuse_every_kind_of_change(owner_url: str) -> None:
    with psycopg.connect(owner_url) as connection:
        rows = connection.execute(
            "SELECT trigger_name, event_manipulation, action_timing, action_orientation, event_object_table"
            " FROM information_schema.triggers WHERE trigger_schema = 'public'"
        ).fetchall()
    # The information schema does not list TRUNCATE. Its refusal is tested in test_integrity.
    changes = {
        "append_only": ("UPDATE", "DELETE"),
        "only_forward": ("UPDATE",),
        "goes_forward": ("UPDATE",),
        "never_deleted": ("DELETE",),
        "sealed": ("INSERT", "UPDATE"),
        "never_truncated": (),
    }
    assert set(rows) == {
        (name, change, "BEFORE", "ROW", table) for table, name in triggers() for change in changes[name]
    }


def test_the_application_owns_nothing_and_is_no_superuser(owner_url: str) -> None:
    with psycopg.connect(owner_url) as connection:
        owned = connection.execute(
            "SELECT relname FROM pg_class WHERE relowner = %s::regrole AND relpersistence <> 't'", (APP_ROLE,)
        ).fetchall()
        powers = connection.execute(
            "SELECT rolsuper, rolcreaterole, rolcreatedb, rolreplication, rolbypassrls, rolcanlogin FROM pg_roles"
            " WHERE rolname = %s",
            (APP_ROLE,),
        ).fetchone()
    assert owned == []
    assert powers == (False,) * 6


def test_every_key_begins_with_the_ledger(owner_url: str) -> None:
    with psycopg.connect(owner_url) as connection:
        keys = connection.execute(
            "SELECT c.relname, a.attname FROM pg_class c"
            " LEFT JOIN pg_index i ON i.indrelid = c.oid AND i.indisprimary"
            " LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = i.indkey[0]"
            " WHERE c.relkind IN ('r', 'p') AND c.relnamespace = 'public'::regnamespace"
        ).fetchall()
    assert {name for name, _ in keys} == {*metadata.tables, "alembic_version"}
    assert {name for name, column in keys if column != "ledger"} == WITHOUT_LEDGER
    for name, table in metadata.tables.items():
        assert not table.foreign_keys, f"{name}: nothing references across tables"
        for index in table.indexes if name not in WITHOUT_LEDGER else ():
            assert next(iter(index.columns)).name == "ledger", index.name
