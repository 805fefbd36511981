"""Who may call the HTTP API.

A key is shown once and kept as its SHA-256. With the embedded database and while no key exists, calls from this
machine alone are served, and need none; in every other case a key is needed.
"""

from __future__ import annotations

import asyncio
import copy
import hashlib
import secrets
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import IntEnum
from typing import ClassVar, Final

import msgspec
import sqlalchemy as sa
from fastapi.concurrency import run_in_threadpool

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


def any_key_in_force(database: Database) -> bool:
    """True if there is a key that is let in."""
    return any_key_exists(database)


def authorize(found: Key | None, *, ledger: str, needed: Access) -> str:
    """The name of the key's owner.

    Raises NotAuthenticated for an unknown key, NotAllowed where its ledger or role is another.
    """
    if found is None:
        raise NotAuthenticated("this key is not known", expected="Authorization: Bearer KEY")
    if found.ledger not in (EVERY_LEDGER, ledger):
        raise NotAllowed(f"this key is for ledger {found.ledger}", expected=found.ledger, found=ledger)
    if Access[found.role.upper()] < needed:
        raise NotAllowed(f"this needs the role {needed.name.lower()}", expected=needed.name.lower(), found=found.role)
    return found.name


class Key(msgspec.Struct, frozen=True):
    """What a key allows, and whose it is."""

    ledger: str
    role: str
    name: str


class Found(msgspec.Struct, frozen=True):
    """What a look-up found: keys by hash, and whether any key exists at all."""

    keys: Mapping[bytes, Key]
    any_key_exists: bool


class KeyDesk:
    """Looks keys up for all calls that came while the last look-up was on its way, in one query.

    Nothing is remembered: each look-up begins after the call it is for, so a key that is revoked is refused at once,
    whichever server it was revoked through. Belongs to one event loop.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting: dict[asyncio.Future[Found], bytes | None] = {}
        self._busy: asyncio.Task[None] | None = None

    async def find(self, key: str | None) -> tuple[Key | None, bool]:
        """What a key allows, if it is known; and whether any key exists."""
        future: asyncio.Future[Found] = asyncio.get_running_loop().create_future()
        hashed = self._waiting[future] = None if key is None else _hash(key)
        if self._busy is None:
            self._busy = asyncio.create_task(self._serve())
        found = await future
        return (None if hashed is None else found.keys.get(hashed)), found.any_key_exists

    async def _serve(self) -> None:
        try:
            while self._waiting:
                waiting, self._waiting = self._waiting, {}
                await self._answer(waiting)
        finally:
            self._busy = None

    async def _answer(self, waiting: Mapping[asyncio.Future[Found], bytes | None]) -> None:
        try:
            found = await run_in_threadpool(self._look_up, list({h for h in waiting.values() if h is not None}))
        except Exception as error:
            for future in waiting:
                if not future.done():
                    future.set_exception(_own(error))
            return
        for future in waiting:
            if not future.done():
                future.set_result(found)

    def _look_up(self, hashes: list[bytes]) -> Found:
        with self._database.read() as connection:
            rows = connection.exec_driver_sql(FIND_KEYS, (hashes,)).all()
        keys = {bytes(row[0]): Key(*row[1:]) for row in rows if row[0] is not None}
        return Found(keys, bool(rows))


FIND_KEYS: Final = """
-- The keys of these hashes; one row of nulls where none of them is known, but some key exists.
SELECT k.key_hash, k.ledger, k.role, k.name
FROM (SELECT 1 FROM api_keys LIMIT 1) AS existing
LEFT JOIN api_keys k ON k.key_hash = ANY(%b)
"""


def _own(error: Exception) -> Exception:
    """For each call an error of its own: raising writes into it."""
    copied = copy.copy(error)
    copied.__cause__ = error
    return copied
