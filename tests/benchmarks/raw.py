"""RAW, the limit of writing: binary COPY of the same rows, encoded beforehand, on one connection, with one commit per
batch.

The tables have the same columns, constraints and indexes, but no triggers. No logic runs.
"""

from __future__ import annotations

from typing import Any, Final

import psycopg
from psycopg import sql

from tests.benchmarks.measures import seconds

TABLES: Final = ("events", "entries")


class Raw:
    """Copies of a ledger's rows, each copied once."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection = connection
        for table in TABLES:
            connection.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(_raw(table)))
            connection.execute(
                sql.SQL("CREATE TABLE {} (LIKE {} INCLUDING ALL)").format(_raw(table), sql.Identifier(table))
            )
        connection.commit()

    def copy_s(self, ledger: str, first: int, last: int) -> float:
        """Returns the seconds to copy and commit the rows of a range of positions (both ends inclusive)."""
        encoded = {table: self._encoded(table, ledger, first, last) for table in TABLES}
        self._connection.commit()

        def copy() -> None:
            for table, content in encoded.items():
                query = sql.SQL("COPY {} FROM STDIN (FORMAT BINARY)").format(_raw(table))
                with self._connection.cursor().copy(query) as copying:
                    copying.write(content)
            self._connection.commit()

        return seconds(copy)

    def copies_s(self, ledger: str, first: int, last: int, size: int) -> list[float]:
        """Returns the seconds to copy and commit the rows of a range, batch by batch."""
        return [self.copy_s(ledger, start, min(start + size - 1, last)) for start in range(first, last + 1, size)]

    def empty(self) -> None:
        for table in TABLES:
            self._connection.execute(sql.SQL("TRUNCATE {}").format(_raw(table)))
        self._connection.commit()

    def drop(self) -> None:
        """Drops the copies, for a database that is kept."""
        self._connection.rollback()
        for table in TABLES:
            self._connection.execute(sql.SQL("DROP TABLE {}").format(_raw(table)))
        self._connection.commit()

    def _encoded(self, table: str, ledger: str, first: int, last: int) -> bytes:
        query = sql.SQL(
            "COPY (SELECT * FROM {} WHERE ledger = {} AND position BETWEEN {} AND {} ORDER BY position)"
            " TO STDOUT (FORMAT BINARY)"
        ).format(sql.Identifier(table), ledger, first, last)
        with self._connection.cursor().copy(query) as copying:
            return b"".join(bytes(piece) for piece in copying)


class RawInsert:
    """The limit of one event at a time: a prepared single-row INSERT of an event's row, each with its own commit."""

    def __init__(self, connection: psycopg.Connection[Any], ledger: str) -> None:
        """``connection`` must be in autocommit mode."""
        self._connection = connection
        row = connection.execute("SELECT * FROM events WHERE ledger = %s ORDER BY position DESC LIMIT 1", (ledger,))
        names = [column.name for column in row.description or ()]
        self._row = dict(zip(names, row.fetchone() or (), strict=True)) | {"ledger": f"{ledger}-single"}
        self._query = sql.SQL("INSERT INTO {} ({}) VALUES ({})").format(
            _raw("events"),
            sql.SQL(", ").join(sql.Identifier(name) for name in names),
            sql.SQL(", ").join(sql.Placeholder(name) for name in names),
        )
        self._number = 0

    def __call__(self) -> None:
        self._number += 1
        self._row["position"], self._row["event_id"] = self._number, f"single-{self._number * 7919 % 1_000_003:012x}"
        self._connection.execute(self._query, self._row, prepare=True)


def _raw(table: str) -> sql.Identifier:
    return sql.Identifier(f"raw_{table}")
