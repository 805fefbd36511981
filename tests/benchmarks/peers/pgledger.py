"""pgledger: double entry in PL/pgSQL. ``pgledger.py URL SOURCE CUSTOMERS EVENTS TRANSFERS``

SOURCE is its checkout, or its SQL in one file.

It does: lock, update and check the accounts' balances, and write transfers and entries with the balances before and
after. One call and one durable commit have 100 events, its fastest batch size. With TRANSFERS = 3 an event moves the
amount through the three account pairs that usage has here; with 1, through one.

It does not: look up if an event was recorded before, know blocks, prices or expiry, hash, store totals by day.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import psycopg
from in_turns import answer

CALL = 100


def main(url: str, source: str, customers: int, events: int, transfers: int) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        for file in _sql_files(Path(source)):
            connection.execute(file.read_text("utf-8"))
        shared = {name: _account(connection, name) for name in ("usage_revenue", "receivable", "clearing")}
        theirs = [
            tuple(_account(connection, f"{name}-{n}") for name in ("liability", "deposits")) for n in range(customers)
        ]
        done = 0

        def work() -> Callable[[], object]:
            nonlocal done
            numbers = range(done, done + events)
            done += events
            calls = []
            for first in range(0, events, CALL):
                rows = []
                for n in numbers[first : first + CALL]:
                    liability, deposits = theirs[n * 7919 % customers]
                    pairs = (
                        (liability, shared["clearing" if transfers == 3 else "usage_revenue"]),
                        (shared["receivable"], shared["usage_revenue"]),
                        (deposits, shared["receivable"]),
                    )
                    rows += [f'("{debit}","{credit}",0.06)' for debit, credit in pairs[:transfers]]
                calls.append(rows)

            def do() -> None:
                for rows in calls:
                    connection.execute(
                        "SELECT count(*) FROM pgledger_create_transfers(%s::transfer_request[])", (rows,)
                    ).fetchone()

            return do

        answer(work)


def _sql_files(source: Path) -> list[Path]:
    """Returns its SQL files, those of its vendored functions first."""
    return [source] if source.is_file() else [*sorted(source.glob("vendor/*/*.sql")), source / "pgledger.sql"]


def _account(connection: psycopg.Connection, name: str) -> str:
    return connection.execute("SELECT id FROM pgledger_create_account(%s, 'USD')", (name,)).fetchone()[0]


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], *map(int, sys.argv[3:]))
