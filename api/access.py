"""Who may call the HTTP API.

A key is shown once and kept as its SHA-256. With the embedded database and while no key exists, calls from this
machine alone are served, and need none; in every other case a key is needed.
"""

from __future__ import annotations

import hashlib
import secrets
from datetime import UTC, datetime
from enum import IntEnum
from typing import ClassVar

import sqlalchemy as sa

from subledger.errors import InvalidValue, SubledgerError
from subledger.store.database import Database
from subledger.store.tables import api_keys

EVERY_LEDGER = "*"


class Access(IntEnum):
    """What a key may do; each role may do what the ones before it may."""

    READER = 1
    WRITER = 2
    CONTROLLER = 3
    ADMIN = 4


class NotAuthenticated(SubledgerError):
    """The call needs a key."""

    code: ClassVar[str] = "not_authenticated"


class NotAllowed(SubledgerError):
    """The key does not allow this."""

    code: ClassVar[str] = "not_allowed"


def create_key(database: Database, *, ledger: str, role: str, name: str | None = None) -> str:
    """A new key, shown once. ``name`` says whose it is: keys of one name are one person, who cannot be the second
    one for what they ask. Raises InvalidValue for an unknown role."""
    if role.upper() not in Access.__members__:
        raise InvalidValue(
            f"no role {role}", field="role", expected=", ".join(a.name.lower() for a in Access), found=role
        )
    key = f"sl_{secrets.token_urlsafe(32)}"
    with database.engine.begin() as connection:
        connection.execute(
            sa.insert(api_keys).values(
                key_hash=_hash(key),
                ledger=ledger,
                role=role.lower(),
                name=name or f"key-{_hash(key).hex()[:12]}",
                created_at=datetime.now(UTC),
            )
        )
    return key


def _hash(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()


def any_key_exists(database: Database) -> bool:
    with database.engine.connect() as connection:
        return connection.execute(sa.select(sa.literal(1)).select_from(api_keys).limit(1)).first() is not None


def authorize(database: Database, key: str, *, ledger: str, needed: Access) -> str:
    """The name of the key's owner.

    Raises NotAuthenticated for an unknown key, NotAllowed where its ledger or role is another.
    """
    with database.engine.connect() as connection:
        row = connection.execute(
            sa.select(api_keys.c.ledger, api_keys.c.role, api_keys.c.name).where(api_keys.c.key_hash == _hash(key))
        ).one_or_none()
    if row is None:
        raise NotAuthenticated("this key is not known", expected="Authorization: Bearer KEY")
    if row.ledger not in (EVERY_LEDGER, ledger):
        raise NotAllowed(f"this key is for ledger {row.ledger}", expected=row.ledger, found=ledger)
    if Access[row.role.upper()] < needed:
        raise NotAllowed(f"this needs the role {needed.name.lower()}", expected=needed.name.lower(), found=row.role)
    name: str = row.name
    return name
