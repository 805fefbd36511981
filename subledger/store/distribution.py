"""Ledgers over several servers: Citus distributes the tables, and a ledger's rows are together on one server.

Every key begins with the ledger, so the ledger is the distribution column and all tables are colocated. A batch, a read
or a proof of one ledger uses one shard. Tables without a ledger in their key stay on the coordinator, and are listed
here. Only work that shares a snapshot among processes must check if tables are distributed, because a snapshot exists
only on the coordinator.

Owns: the list of distributed tables, and the statements for it. Does not own: the extension, the servers, moving shards
between them. ``tests/store/test_distribution.py`` finds queries and constraints that a cluster refuses.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
import psycopg
from psycopg import sql

from subledger.errors import CitusMissing, DistributedOtherwise, IntegrityFault
from subledger.store.database import translated
from subledger.store.tables import APP_ROLE, NEVER_TRUNCATED, metadata

COLUMN: Final = "ledger"
LEADER: Final = "ledgers"
"""The table with which the others are colocated; it is distributed first."""
ON_COORDINATOR: Final = ("alembic_version", "api_keys")
"""Tables without a ledger in their key. They are read only on the coordinator and joined with no other table."""
SHARDS: Final = 32

HOLD: Final = "LOCK TABLE ledgers IN EXCLUSIVE MODE"
"""Waits for running batches and delays new ones. Reads of a ledger continue until its tables move."""
INSTALLED: Final = "SELECT 1 FROM pg_extension WHERE extname = 'citus'"
FOUND: Final = """
-- The distribution column of each distributed table, and its colocation group.
SELECT table_name::text, citus_table_type, distribution_column, colocation_id FROM citus_tables
"""
SPREAD: Final = "SELECT 1 FROM citus_tables WHERE table_name::text = %s"
CAN_LOG_IN: Final = "SELECT rolcanlogin FROM pg_roles WHERE rolname = %s"


class Distribution(msgspec.Struct, frozen=True, kw_only=True):
    """The tables that are distributed now, those that were distributed before, and the statements in between."""

    tables: tuple[str, ...]
    already: tuple[str, ...]
    statements: tuple[str, ...]

    @property
    def changed(self) -> bool:
        return bool(self.statements)


def sharded_tables() -> tuple[str, ...]:
    """Returns the tables to distribute, the leader first."""
    others = sorted(name for name in metadata.tables if name not in (*ON_COORDINATOR, LEADER))
    return (LEADER, *others)


def is_distributed(connection: psycopg.Connection[Any]) -> bool:
    """Returns True if ledgers are spread over servers."""
    if connection.execute(INSTALLED).fetchone() is None:
        return False
    return connection.execute(SPREAD, (LEADER,)).fetchone() is not None


def distribute(url: str, *, shards: int = SHARDS, dry_run: bool = False) -> Distribution:
    """Distributes the tables that are not distributed yet, as the owner in ``url``, in one transaction.

    Existing rows move to their shards; they are counted before and after. A dry run only returns the statements.
    Raises CitusMissing, DistributedOtherwise, DatabaseUnavailable.
    """
    with translated(), psycopg.connect(url) as connection:
        if connection.execute(INSTALLED).fetchone() is None:
            raise CitusMissing(
                "the database has no Citus, so its ledgers stay on this one server",
                expected="CREATE EXTENSION citus, with citus in shared_preload_libraries",
            )
        already = _already(connection)
        missing = [name for name in sharded_tables() if name not in already]
        logs_in = (connection.execute(CAN_LOG_IN, (APP_ROLE,)).fetchone() or (False,))[0]
        statements = _statements(missing, logs_in=logs_in, shards=shards)
        if statements and not dry_run:
            connection.execute(HOLD)
            before = _counts(connection, missing)
            for statement in statements:
                connection.execute(statement)
            _check(before, _counts(connection, missing))
    return Distribution(tables=sharded_tables(), already=tuple(already), statements=tuple(statements))


def _already(connection: psycopg.Connection[Any]) -> list[str]:
    """Returns the tables that are distributed. Raises DistributedOtherwise if one of them is distributed in another
    way.
    """
    found = {name: rest for name, *rest in connection.execute(FOUND)}
    group = found[LEADER][2] if LEADER in found else None
    for name in (*sharded_tables(), *ON_COORDINATOR):
        wanted = ["distributed", COLUMN, group]
        if name in found and (name in ON_COORDINATOR or found[name] != wanted):
            kind, column, of_group = found[name]
            raise DistributedOtherwise(
                f"the table {name} is distributed in another way",
                expected="nothing: it stays on the coordinator"
                if name in ON_COORDINATOR
                else f"distributed by {COLUMN}, colocated with {LEADER}",
                found=f"{kind} by {column}, in colocation group {of_group}",
                table=name,
            )
    return [name for name in sharded_tables() if name in found]


def _statements(missing: list[str], *, logs_in: bool, shards: int) -> list[str]:
    if not missing and logs_in:
        return []
    statements: list[str] = [
        HOLD,
        # Citus classifies every trigger as unsafe. These triggers refuse a change or seal their own row, and read no
        # other row.
        "SET LOCAL citus.enable_unsafe_triggers = on",
        "SET LOCAL citus.multi_shard_modify_mode = 'sequential'",
        "SET LOCAL client_min_messages = warning",
    ]
    if not logs_in:
        # The coordinator connects to the other servers as the role of its own session. The role has no password.
        statements.append(f"ALTER ROLE {APP_ROLE} LOGIN")
    for name in missing:
        option = f"shard_count => {shards}" if name == LEADER else f"colocate_with => '{LEADER}'"
        statements.append(f"SELECT create_distributed_table('{name}', '{COLUMN}', {option})")
    for name in missing:
        statements += _empty_the_copy(name)
    return statements


def _empty_the_copy(name: str) -> list[str]:
    """Returns statements that truncate the coordinator's old rows, which are copied to shards and never read again.

    A trigger refuses every truncation of such a table. So it is disabled for this one statement, only on the
    coordinator's table, in the transaction that has the table's lock. The triggers of the shards are never disabled.
    """
    truncate = f"SELECT truncate_local_data_after_distributing_table('{name}')"
    if name not in NEVER_TRUNCATED:
        return [truncate]
    return [
        "SET LOCAL citus.enable_ddl_propagation = off",
        f"ALTER TABLE {name} DISABLE TRIGGER never_truncated",
        truncate,
        f"ALTER TABLE {name} ENABLE ALWAYS TRIGGER never_truncated",
        "SET LOCAL citus.enable_ddl_propagation = on",
    ]


def _counts(connection: psycopg.Connection[Any], tables: list[str]) -> dict[str, int]:
    query = sql.SQL("SELECT count(*) FROM {}")
    return {name: connection.execute(query.format(sql.Identifier(name))).fetchall()[0][0] for name in tables}


def _check(before: dict[str, int], after: dict[str, int]) -> None:
    for name, count in before.items():
        if after[name] != count:
            raise IntegrityFault(f"{name} had {count} rows and would have {after[name]} on its shards", table=name)
