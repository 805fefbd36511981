"""A database that is restored from a backup while processes work on it."""

from __future__ import annotations

import uuid

import psycopg
from sqlalchemy import make_url

from api.service import Subledger
from subledger.store.database import Database


class Restorable:
    """A migrated database, its backup, and processes on it: each is a Subledger with its own Database."""

    def __init__(self, url: str, server_url: str) -> None:
        self._url, self._server_url = url, server_url
        self._live, self._backup = make_url(url).database, f"backup_{uuid.uuid4().hex[:12]}"
        self._processes: list[Database] = []

    def process(self) -> Subledger:
        self._processes.append(Database(self._url))
        return Subledger(self._processes[-1])

    def back_up(self) -> None:
        self._copy(self._live, self._backup)

    def restore(self) -> None:
        """Restores the backup. The processes continue: they lose their connections, but keep their memory."""
        self._copy(self._backup, self._live)

    def _copy(self, of: str | None, to: str | None) -> None:
        with psycopg.connect(self._server_url, autocommit=True) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = ANY(%s)", ([of, to],)
            )
            connection.execute(f"DROP DATABASE IF EXISTS {to}")
            connection.execute(f"CREATE DATABASE {to} TEMPLATE {of}")

    def end(self) -> None:
        for database in self._processes:
            database.close()
        with psycopg.connect(self._server_url, autocommit=True) as connection:
            connection.execute(f"DROP DATABASE IF EXISTS {self._backup} WITH (FORCE)")
