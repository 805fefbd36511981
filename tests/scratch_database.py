"""A migrated database of its own, on a server that is there, for tests and benchmarks that disturb what others see."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import sqlalchemy as sa
from psycopg import sql

from subledger.store.migrate import migrate

_templates: dict[str, str] = {}
"""The name of this process's migrated template on each server. Copying it takes a tenth of the migrations' time."""


@contextmanager
def scratch_database(owner_url: str, *, copied: bool = True) -> Iterator[str]:
    """The owner's URL of a migrated database that is dropped at the end.

    It is copied from a template that stays on the server; not ``copied``: nothing stays, and it takes a second longer.
    """
    name = f"scratch_{uuid.uuid4().hex[:10]}"
    url = url_of(owner_url, name)
    create_database(owner_url, name, template=_template(owner_url) if copied else "template1")
    try:
        if not copied:
            migrate(url)
        yield url
    finally:
        drop_database(owner_url, name)


def _template(owner_url: str) -> str:
    server = url_of(owner_url, "postgres")
    if server not in _templates:
        name = f"template_{os.getpid()}_{uuid.uuid4().hex[:6]}"
        create_database(owner_url, name)
        migrate(url_of(owner_url, name))
        _templates[server] = name
    return _templates[server]


def url_of(owner_url: str, name: str) -> str:
    """The URL of another database of the same server."""
    return sa.make_url(owner_url).set(database=name).render_as_string(hide_password=False)


def create_database(owner_url: str, name: str, *, template: str = "template1") -> None:
    statement = sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(template))
    with psycopg.connect(owner_url, autocommit=True) as connection:
        connection.execute(statement)


def drop_database(owner_url: str, name: str) -> None:
    with psycopg.connect(owner_url, autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))
