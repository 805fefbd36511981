"""A migrated database of its own, on a server that is there, for tests and benchmarks that disturb what others see."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import sqlalchemy as sa
from psycopg import sql

from subledger.store.migrate import migrate


@contextmanager
def scratch_database(owner_url: str) -> Iterator[str]:
    """The owner's URL of a migrated database that is dropped at the end."""
    name = f"scratch_{uuid.uuid4().hex[:10]}"
    create_database(owner_url, name)
    try:
        url = url_of(owner_url, name)
        migrate(url)
        yield url
    finally:
        drop_database(owner_url, name)


def url_of(owner_url: str, name: str) -> str:
    """The URL of another database of the same server."""
    return sa.make_url(owner_url).set(database=name).render_as_string(hide_password=False)


def create_database(owner_url: str, name: str) -> None:
    with psycopg.connect(owner_url, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))


def drop_database(owner_url: str, name: str) -> None:
    with psycopg.connect(owner_url, autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))
