"""Access to the HTTP API: roles, and the check of a call's key.

A call without a key is served only if all of this is true: the database is embedded, the server listens on a loopback
address, no key was ever created, and the call is from this machine. In every other case a call needs a key. Does not
own: the keys (``keys``).
"""

from __future__ import annotations

import asyncio
import copy
import hashlib
from collections.abc import Mapping
from contextlib import suppress
from enum import IntEnum
from typing import Final

import msgspec
import sqlalchemy as sa
from starlette.concurrency import run_in_threadpool

from subledger.errors import KeyExpired, KeyRevoked, NotAllowed, NotAuthenticated, Unavailable
from subledger.store.database import Database
from subledger.store.tables import EVERY_LEDGER as EVERY_LEDGER
from subledger.store.tables import api_keys

IN_FORCE: Final = ("active", "ending")
STATE: Final = """CASE WHEN revoked_at <= now() THEN 'revoked' WHEN expires_at <= now() THEN 'expired'
            WHEN revoked_at IS NOT NULL THEN 'ending' ELSE 'active' END"""


class Access(IntEnum):
    """Rights of a key; each role includes the rights of the ones before it."""

    READER = 1
    WRITER = 2
    CONTROLLER = 3
    ADMIN = 4


def hash_of(secret: str) -> bytes:
    """SHA-256 of a key's secret. Only this hash is stored."""
    return hashlib.sha256(secret.encode()).digest()


def any_key_exists(database: Database) -> bool:
    """True if a key was ever created, even if it has ended."""
    with database.engine.connect() as connection:
        return connection.execute(sa.select(sa.literal(1)).select_from(api_keys).limit(1)).first() is not None


def authorize(found: KnownKey | None, *, ledger: str | None, needed: Access) -> KnownKey:
    """Returns the key if it allows the call. ``ledger``: None for a call that a key of any ledger may make.

    Raises NotAuthenticated for an unknown key, KeyExpired and KeyRevoked for a key that has ended, NotAllowed if the
    key is for another ledger or its role has too few rights.
    """
    if found is None:
        raise NotAuthenticated("this key is not known", expected="Authorization: Bearer KEY")
    if found.state == "revoked":
        raise KeyRevoked(f"key {found.key_id} was revoked; ask for another one", expected="a key in force")
    if found.state == "expired":
        raise KeyExpired(f"key {found.key_id} has expired; ask for another one", expected="a key in force")
    if ledger is not None and found.ledger not in (EVERY_LEDGER, ledger):
        raise NotAllowed(f"this key is for ledger {found.ledger}", expected=found.ledger, found=ledger)
    if Access[found.role.upper()] < needed:
        raise NotAllowed(f"this needs the role {needed.name.lower()}", expected=needed.name.lower(), found=found.role)
    return found


class KnownKey(msgspec.Struct, frozen=True):
    """A stored key: its ledger, role, name and state. ``is_fresh``: its last use was recorded within a minute."""

    key_id: str
    ledger: str
    role: str
    name: str
    state: str
    is_fresh: bool


class Found(msgspec.Struct, frozen=True):
    """Result of a look-up: keys by hash, and ``True`` if any key exists."""

    keys: Mapping[bytes, KnownKey]
    any_key_exists: bool


class KeyDesk:
    """Looks keys up in one query for all calls that arrived while the previous look-up was running.

    Nothing is cached: each look-up begins after its calls. So a revoked key is refused at once, whichever server
    revoked it. An instance belongs to one event loop.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting: dict[asyncio.Future[Found], bytes | None] = {}
        self._busy: asyncio.Task[None] | None = None
        self._noted: set[str] = set()
        self._noting: asyncio.Task[None] | None = None

    async def find(self, key: str | None) -> tuple[KnownKey | None, bool]:
        """Returns the key if it is known, and True if any key exists."""
        future: asyncio.Future[Found] = asyncio.get_running_loop().create_future()
        hashed = self._waiting[future] = None if key is None else hash_of(key)
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
        used = {key.key_id for key in found.keys.values() if key.state in IN_FORCE and not key.is_fresh} - self._noted
        if used:
            self._noted |= used
            self._noting = asyncio.create_task(self._note(used))

    async def _note(self, key_ids: set[str]) -> None:
        """Stores the time at which keys were last used, beside the calls. Nobody waits for it, and it may fail."""
        try:
            with suppress(Unavailable):
                await run_in_threadpool(self._write_use, list(key_ids))
        finally:
            self._noted -= key_ids

    def _write_use(self, key_ids: list[str]) -> None:
        with self._database.write() as connection:
            [(at, before)] = connection.execute("SELECT now(), now() - interval '1 minute'").fetchall()
            connection.execute(NOTE_USE, {"key_ids": key_ids, "at": at, "before": before})

    def _look_up(self, hashes: list[bytes]) -> Found:
        with self._database.read() as connection:
            rows = connection.exec_driver_sql(FIND_KEYS, (hashes,)).all()
        keys = {bytes(row[0]): KnownKey(*row[1:]) for row in rows if row[0] is not None}
        return Found(keys, bool(rows))


FIND_KEYS: Final = f"""
-- The keys with these hashes. If none of them is known but some key exists, one row of nulls.
SELECT k.key_hash, k.key_id, k.ledger, k.role, k.name, {STATE},
       coalesce(k.last_used_at > now() - interval '1 minute', false)
FROM (SELECT 1 FROM api_keys LIMIT 1) AS existing
LEFT JOIN api_keys k ON k.key_hash = ANY(%b)
"""
NOTE_USE: Final = """
-- At most once a minute for each key, over all servers.
UPDATE api_keys SET last_used_at = %(at)s
WHERE key_id = ANY(%(key_ids)s) AND (last_used_at IS NULL OR last_used_at <= %(before)s)
"""


def _own(error: Exception) -> Exception:
    """Returns a separate error for each call, because raising an error changes it."""
    copied = copy.copy(error)
    copied.__cause__ = error
    return copied
