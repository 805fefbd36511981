"""Rows of a query, in a reader's snapshot or in a writer's transaction.

Some queries run in both. For example, the sums of a journal are read under the ledger's lock when the journal is made,
and in a snapshot when it is shown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection

from subledger.store.database import WriteConnection

AnyConnection = Connection | WriteConnection


def rows(connection: AnyConnection, query: str, parameters: Mapping[str, Any]) -> Sequence[Sequence[Any]]:
    """Returns all rows as tuples. ``query`` names its parameters ``%(name)s``."""
    if isinstance(connection, Connection):
        return connection.exec_driver_sql(query, dict(parameters)).all()
    return connection.execute(query, parameters).fetchall()
