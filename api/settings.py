"""Where we work: the home, and the database.

``SUBLEDGER_DATABASE_URL`` names a PostgreSQL to use; without it an embedded one is started, or joined, under
``SUBLEDGER_HOME`` (default ``.subledger``).
"""

from __future__ import annotations

import os
from pathlib import Path

from api.service import Subledger
from subledger.errors import Refused
from subledger.store import embedded
from subledger.store.database import Database
from subledger.store.migrate import is_current, migrate


class SchemaOutOfDate(Refused):
    """The database does not have this version's schema."""

    code = "schema_out_of_date"


def home() -> Path:
    return Path(os.environ.get("SUBLEDGER_HOME", ".subledger")).absolute()


def is_embedded() -> bool:
    return not os.environ.get("SUBLEDGER_DATABASE_URL")


def owner_url() -> str:
    """The database's URL; starts the embedded server where none is configured."""
    return os.environ.get("SUBLEDGER_DATABASE_URL") or embedded.ensure_running(home())


def connect() -> Subledger:
    """The service on the configured database. The embedded one is migrated; another one is only looked at."""
    url = owner_url()
    if not is_current(url):
        if not is_embedded():
            raise SchemaOutOfDate("the database has another schema: run `subledger init`", expected="subledger init")
        migrate(url)
    return Subledger(Database(url))
