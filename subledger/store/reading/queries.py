"""Rows of a named query, asked on a reader's snapshot or inside a writer's transaction.

What a journal is made from is read twice: under the ledger's lock, when it is made, and in a snapshot, when it is
shown. One text per query serves both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection

from subledger.store.database import WriteConnection

AnyConnection = Connection | WriteConnection


def rows(connection: AnyConnection, query: str, parameters: Mapping[str, Any]) -> Sequence[Sequence[Any]]:
    """All rows, as tuples. ``query`` names its parameters ``%(name)s``."""
    if isinstance(connection, Connection):
        return connection.exec_driver_sql(query, dict(parameters)).all()
    return connection.execute(query, parameters).fetchall()
