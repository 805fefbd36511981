"""Other layouts of the same tables, for comparison with ours: partitioned, and with PostgreSQL's own settings.

Each layout is applied to an empty migrated database. It keeps every column, key, index, trigger, grant and view, so
that the same code runs on it.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any, Final, cast

import psycopg
from psycopg import sql

from subledger.store.tables import APP_ROLE

PARTITIONED: Final = ("events", "entries")
INDEXES: Final = "SELECT indexdef, indexname FROM pg_indexes WHERE tablename = %s AND NOT indexname LIKE 'pk%%'"
VIEWS: Final = "SELECT viewname, definition FROM pg_views WHERE schemaname = 'public' ORDER BY viewname"
SET_HERE: Final = """
-- What is set for our own tables: names alone, and with their values.
SELECT c.relname, string_agg(o.option_name, ', '), string_agg(o.option_name || ' = ' || o.option_value, ', ')
FROM pg_class c CROSS JOIN LATERAL pg_options_to_table(c.reloptions) o
WHERE c.relkind = 'r' AND c.relnamespace = 'public'::regnamespace GROUP BY c.relname
"""

Owner = psycopg.Connection[Any]
Layout = Callable[[Owner], None]


def as_it_is(_owner: Owner) -> None:
    """Our layout."""


def hashed(parts: int) -> Layout:
    """Returns a layout with events and entries in ``parts`` partitions, by a hash of the ledger."""

    def apply(owner: Owner) -> None:
        ranges = [f"WITH (MODULUS {parts}, REMAINDER {part})" for part in range(parts)]
        _partition(owner, PARTITIONED, "HASH (ledger)", ranges)

    return apply


def ranged(parts: int, last: int) -> Layout:
    """Returns a layout with entries in ``parts`` partitions, by position. Events are not partitioned, because their ids
    must be unique over all positions.
    """

    def apply(owner: Owner) -> None:
        bounds = ["MINVALUE", *(str(last * part // parts) for part in range(1, parts)), "MAXVALUE"]
        ranges = [f"FROM ({start}) TO ({end})" for start, end in pairwise(bounds)]
        _partition(owner, ("entries",), "RANGE (position)", ranges)

    return apply


def at_defaults(owner: Owner) -> None:
    """Sets every storage parameter to PostgreSQL's default."""
    for name, names, _ in owner.execute(SET_HERE).fetchall():
        _do(owner, f"ALTER TABLE {name} RESET ({names})")


def tried(statement: str) -> Layout:
    """Returns our layout with one additional statement."""

    def apply(owner: Owner) -> None:
        _do(owner, statement)

    return apply


def left_alone(tables: tuple[str, ...]) -> Layout:
    """Returns a layout without autovacuum on some tables, so that vacuums run only when they are measured."""

    def apply(owner: Owner) -> None:
        for name in tables:
            _do(owner, f"ALTER TABLE {name} SET (autovacuum_enabled = off)")

    return apply


def both(one: Layout, other: Layout) -> Layout:
    """Returns a layout that applies one layout after the other."""

    def apply(owner: Owner) -> None:
        one(owner)
        other(owner)

    return apply


def _partition(owner: Owner, tables: tuple[str, ...], by: str, ranges: list[str]) -> None:
    views = owner.execute(VIEWS).fetchall()
    options = {name: f"WITH ({both})" for name, _, both in owner.execute(SET_HERE)}
    for name, _ in views:
        _do(owner, f"DROP VIEW {name}")
    for table in tables:
        indexes = owner.execute(INDEXES, (table,)).fetchall()
        _do(owner, f"ALTER TABLE {table} RENAME TO was")
        _do(owner, f"ALTER TABLE was RENAME CONSTRAINT pk_{table} TO pk_was")
        for _, name in indexes:
            _do(owner, f"DROP INDEX {name}")
        _do(owner, f"CREATE TABLE {table} (LIKE was INCLUDING ALL EXCLUDING INDEXES) PARTITION BY {by}")
        key = "ledger, position" if table == "events" else "ledger, position, number"
        _do(owner, f"ALTER TABLE {table} ADD CONSTRAINT pk_{table} PRIMARY KEY ({key})")
        for definition, _ in indexes:
            _do(owner, definition)
        _do(owner, "DROP TABLE was")
        for number, bounds in enumerate(ranges):
            part = f"{table}_{number}"
            _do(owner, f"CREATE TABLE {part} PARTITION OF {table} FOR VALUES {bounds} {options.get(table, '')}")
            _guard(owner, part, "never_truncated BEFORE TRUNCATE", "STATEMENT")  # a partition does not inherit it
        _guard(owner, table, "append_only BEFORE UPDATE OR DELETE", "ROW")
        _guard(owner, table, "never_truncated BEFORE TRUNCATE", "STATEMENT")
        _do(owner, f"GRANT SELECT, INSERT ON {table} TO {APP_ROLE}")
    for name, definition in views:
        _do(owner, f"CREATE VIEW {name} AS {definition}")
        _do(owner, f"GRANT SELECT ON {name} TO {APP_ROLE}")


def _guard(owner: Owner, table: str, trigger: str, each: str) -> None:
    _do(owner, f"CREATE TRIGGER {trigger} ON {table} FOR EACH {each} EXECUTE FUNCTION refuse_change()")
    _do(owner, f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER {trigger.split()[0]}")


def _do(owner: Owner, statement: str) -> None:
    owner.execute(sql.SQL(cast("Any", statement)))
