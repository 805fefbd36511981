"""A database that was recorded under version 1 of the accounting rules.

``golden/version_1.jsonl`` has every row of a database in which the last release under version 1 (commit 97dfce1, schema
0033) recorded 16 events: blocks with and without a pool, some of which expire at midnight, reversed usage and usage
recorded after an expiry, an estimate, a payment. The file is never written again.
"""

from __future__ import annotations

import json
from pathlib import Path

import psycopg
from alembic import command
from psycopg import sql

from subledger.store.migrate import _config

VERSION_1 = Path(__file__).parents[1] / "golden" / "version_1.jsonl"
SCHEMA = "0033"
EVENTS = 16


def load_version_1(url: str) -> None:
    """Fills an empty database with the recorded rows, as that release left them."""
    command.upgrade(_config(url), SCHEMA)
    insert = sql.SQL("INSERT INTO {0} SELECT * FROM jsonb_populate_record(NULL::{0}, %s)")
    with psycopg.connect(url) as connection:
        connection.execute("SET session_replication_role = replica")  # without triggers: seals stay as they are
        for line in VERSION_1.read_text("utf-8").splitlines():
            row = json.loads(line)
            connection.execute(insert.format(sql.Identifier(row["table"])), (json.dumps(row["row"]),))
