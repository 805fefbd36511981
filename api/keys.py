"""Keys of the HTTP API: creating, listing, rotating, revoking.

A key is shown once and stored as its SHA-256. Everywhere else its public id names it. The row of a key that has ended
stays, because a server with an empty table would serve calls without a key again.

Owns: the table ``api_keys``. Does not own: the check of a call's key (``access``).
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec

from api.access import EVERY_LEDGER, STATE, Access, hash_of
from subledger.errors import InvalidValue, KeyEnded, UnknownKey
from subledger.persons import NOBODY, is_somebody, is_unnamed, kept_name, person, same_person
from subledger.store.database import Database, WriteConnection
from subledger.store.tallies import count_one

LONGEST_GRACE_S: Final = 30 * 86_400


class Key(msgspec.Struct, frozen=True, kw_only=True):
    """A stored key. ``state``: active, ending (in the grace period of a rotation), expired or revoked."""

    key_id: str
    ledger: str
    role: str
    name: str
    state: str
    created_at: datetime
    created_by: str | None
    replaces: str | None
    expires_at: datetime | None
    revoked_at: datetime | None
    revoked_by: str | None
    last_used_at: datetime | None


class NewKey(msgspec.Struct, frozen=True, kw_only=True):
    """A new key: its secret, which is not stored, and its row."""

    secret: str
    key: Key


_COLUMNS: Final = f"""key_id, ledger, role, name, {STATE} AS state, created_at, created_by, replaces, expires_at,
       revoked_at, revoked_by, last_used_at"""
ADD: Final = """
INSERT INTO api_keys (key_hash, key_id, ledger, role, name, created_at, created_by, replaces, expires_at)
VALUES (%(hash)s, %(key_id)s, %(ledger)s, %(role)s, %(name)s, now(), %(by)s, %(replaces)s, %(expires_at)s)
"""
FIND: Final = f"""
SELECT {_COLUMNS} FROM api_keys WHERE key_id = %(key_id)s AND (%(scope)s = '*' OR ledger = %(scope)s) FOR UPDATE
"""
END: Final = "UPDATE api_keys SET revoked_at = %(at)s, revoked_by = %(by)s WHERE key_id = %(key_id)s"
PAGE: Final = f"""
SELECT {_COLUMNS} FROM api_keys
WHERE (%(scope)s = '*' OR ledger = %(scope)s) AND (created_at, key_id) > (%(at)s, %(id)s)
ORDER BY created_at, key_id LIMIT %(limit)s
"""
NAMES: Final = """
-- Every name with a key. First are the names that an admin of this ledger, or of every ledger, may see.
SELECT name, bool_or(%(scope)s = '*' OR ledger IN (%(scope)s, '*')) AS is_shown FROM api_keys
GROUP BY name ORDER BY is_shown DESC, name
"""
CREATED: Final = """
-- The creators of a key, and of the keys that it replaces.
WITH RECURSIVE replaced (created_by, replaces) AS (
    SELECT created_by, replaces FROM api_keys WHERE key_id = %(key_id)s
    UNION
    SELECT k.created_by, k.replaces FROM replaced r JOIN api_keys k ON k.key_id = r.replaces
)
SELECT DISTINCT created_by FROM replaced WHERE created_by IS NOT NULL
"""
CREATORS: Final = """
-- Every name with a key, and the creator of one of its keys. The last column is True if that key was valid at a moment.
SELECT DISTINCT name, created_by, created_at <= %(at)s AND (revoked_at IS NULL OR revoked_at > %(at)s)
    AND (expires_at IS NULL OR expires_at > %(at)s)
FROM api_keys WHERE created_by IS NOT NULL
"""
NOW: Final = "SELECT now()"
ANY_IN_FORCE: Final = f"SELECT 1 FROM api_keys WHERE {STATE} IN ('active', 'ending') LIMIT 1"


def create_key(
    database: Database,
    *,
    ledger: str,
    role: str,
    name: str,
    by: str = NOBODY,
    expires_at: datetime | None = None,
    scope: str = EVERY_LEDGER,
) -> NewKey:
    """Creates a key of a person.

    Raises InvalidValue for an unknown role, for a name that is no person's or looks like another key's, and for an end
    in the past.

    Keys with the same name are the same person. That person cannot be the second person for their own requests.
    ``scope``: the ledger whose keys the caller may see. Names of other ledgers' keys are not disclosed.
    """
    if role.upper() not in Access.__members__:
        raise InvalidValue(
            f"no role {role}", field="role", expected=", ".join(a.name.lower() for a in Access), found=role
        )
    stored_name = person(name, field="name")
    if not is_somebody(stored_name) or is_unnamed(stored_name):
        raise InvalidValue("a key needs the name of a person or a program", field="name", found=stored_name)
    with database.write() as connection:
        _check_name(connection, stored_name, scope)
        _check_expiry(connection, expires_at)
        row = {"ledger": ledger, "role": role.lower(), "name": stored_name, "by": by, "expires_at": expires_at}
        made = _add(connection, {**row, "replaces": None})
        count_one(connection, ledger, "api_keys")
        return made


def rotate_key(
    database: Database,
    key_id: str,
    *,
    by: str,
    grace_s: int = 0,
    expires_at: datetime | None = None,
    scope: str = EVERY_LEDGER,
) -> NewKey:
    """Creates a key that replaces another, with the same ledger, role and name. The old key ends at once or after a
    grace period.

    It expires when the old key would, unless another time is given. Raises UnknownKey, KeyEnded, InvalidValue.
    """
    if not 0 <= grace_s <= LONGEST_GRACE_S:
        raise InvalidValue(
            "the grace period is out of range", field="grace_s", expected=f"0 to {LONGEST_GRACE_S}", found=str(grace_s)
        )
    with database.write() as connection:
        # The end of the old key and the new key are one commit: a fault between two commits could leave the caller
        # without a key that works.
        old = _find(connection, key_id, scope)
        if old.state != "active":
            raise KeyEnded(
                f"key {key_id} is {old.state} and is not rotated; make a new key instead",
                field="key",
                found=old.state,
                expected="an active key",
            )
        _check_expiry(connection, expires_at)
        row = {"ledger": old.ledger, "role": old.role, "name": kept_name(old.name), "by": by, "replaces": key_id}
        made = _add(connection, {**row, "expires_at": expires_at or old.expires_at})
        at = _now(connection) + timedelta(seconds=grace_s)
        connection.execute(END, {"key_id": key_id, "at": at, "by": by})
        count_one(connection, old.ledger, "api_keys")
        return made


def revoke_key(database: Database, key_id: str, *, by: str, scope: str = EVERY_LEDGER) -> Key:
    """Revokes a key at once; its row stays. An earlier revocation does not change. Raises UnknownKey."""
    with database.write() as connection:
        found = _find(connection, key_id, scope)
        if found.state == "revoked":
            return found
        connection.execute(END, {"key_id": key_id, "at": _now(connection), "by": by})
        return _find(connection, key_id, scope)


def list_keys(
    database: Database, *, scope: str = EVERY_LEDGER, after: tuple[datetime, str] | None = None, limit: int = 100_000
) -> list[Key]:
    """Returns the keys of a ledger, or of all ledgers, oldest first."""
    start = after or (datetime(1, 1, 1, tzinfo=UTC), "")
    parameters = {"scope": scope, "at": start[0], "id": start[1], "limit": limit}
    with database.write() as connection:
        return [_key(row) for row in connection.execute(PAGE, parameters)]


def makers_of(database: Database, key_id: str) -> tuple[str, ...]:
    """Returns the names of the creators of a key, and of the creators of those persons' keys: each of them may have its
    secret, and could call in its name.
    """
    with database.write() as connection:
        made = {name for (name,) in connection.execute(CREATED, {"key_id": key_id})}
        return _with_makers(made, connection.execute(CREATORS, {"at": _now(connection)}).fetchall())


def makers_for(connection: WriteConnection, name: str, at: datetime) -> tuple[str, ...]:
    """Returns the persons who could call in a name at a moment.

    They are the creators of those of its keys that were valid then, and the creators of any key of these creators.
    """
    rows = connection.execute(CREATORS, {"at": at}).fetchall()
    return _with_makers({maker for of, maker, in_force in rows if in_force and same_person(of, name)}, rows)


def _with_makers(names: set[str], rows: Sequence[Sequence[Any]]) -> tuple[str, ...]:
    """Returns some creators, the creators of their keys, and so on. ``rows``: the result of ``CREATORS``.

    Names are compared as persons (``same_person``), because older names have different spellings.
    """
    found, pending = set(names), list(names)
    while pending:
        next_name = pending.pop()
        if not is_somebody(next_name):  # the open server's name is not a person's
            continue
        more = {maker for of, maker, _ in rows if is_somebody(of) and same_person(of, next_name)} - found
        found |= more
        pending += more
    return tuple(sorted(found))


def any_key_in_force(database: Database) -> bool:
    """True if there is a key that can be used now."""
    with database.write() as connection:
        return connection.execute(ANY_IN_FORCE).fetchone() is not None


def _add(connection: WriteConnection, row: dict[str, Any]) -> NewKey:
    secret = f"sl_{secrets.token_urlsafe(32)}"
    own: dict[str, Any] = {"hash": hash_of(secret), "key_id": f"key_{secrets.token_hex(10)}"}
    connection.execute(ADD, {**row, **own})
    return NewKey(secret=secret, key=_find(connection, own["key_id"], EVERY_LEDGER))


def _find(connection: WriteConnection, key_id: str, scope: str) -> Key:
    row = connection.execute(FIND, {"key_id": key_id, "scope": scope}).fetchone()
    if row is None:
        shown = key_id[:60]
        raise UnknownKey(f"there is no key {shown}", field="key", expected="an id that `keys list` shows", found=shown)
    return _key(row)


def _now(connection: WriteConnection) -> datetime:
    """The time of the database's clock, by which keys end."""
    moment: datetime
    [(moment,)] = connection.execute(NOW).fetchall()
    return moment


def _key(row: Sequence[Any]) -> Key:
    return Key(**dict(zip(Key.__struct_fields__, row, strict=True)))


def _check_name(connection: WriteConnection, name: str, scope: str) -> None:
    """Checks that a name has one spelling: people would take another spelling for another person."""
    for other, is_shown in connection.execute(NAMES, {"scope": scope}):
        if other == name or not is_somebody(other) or not same_person(other, name):
            continue
        if not is_shown:
            raise InvalidValue(
                f"the name {name} looks like one that has a key of another ledger; choose a name that cannot be taken "
                "for it, or write it as it is written there",
                field="name",
                expected="a name that looks like no other",
                found=name,
            )
        raise InvalidValue(
            f"the name {name} looks like {other}, who has a key; if it is the same person, write it as there",
            field="name",
            expected=other,
            found=name,
        )


def _check_expiry(connection: WriteConnection, expires_at: datetime | None) -> None:
    if expires_at is None:
        return
    if expires_at <= _now(connection):
        raise InvalidValue(
            "the key would expire in the past",
            field="expires_at",
            expected="a moment to come",
            found=expires_at.isoformat(),
        )
