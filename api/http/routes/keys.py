"""Keys of this API. An admin of a ledger sees and changes the keys of that ledger, an admin of every ledger all
keys.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import Body, Path
from pydantic import BaseModel, ConfigDict, Field

from api import keys
from api.access import EVERY_LEDGER, Access
from api.http.routes.dependencies import Caller, Cursor, Limit, Scope, Service, needs_in_its_ledger
from api.http.routes.guarded import Router
from api.shapes import answers
from api.shapes import keys as key_answers
from subledger.errors import NotAllowed
from subledger.events.fields import parse_time
from subledger.store.reading.ledgers import ledger_head

router = Router(prefix="/v1/keys", tags=["keys"], dependencies=[needs_in_its_ledger(Access.ADMIN)])

KeyId = Annotated[
    str, Path(description="The key's id", examples=["key_0123456789abcdef0123"], max_length=60, pattern=r"^[^\x00]+$")
]
_EXAMPLE = {"ledger": "acme", "role": "writer", "name": "billing", "expires_at": "2027-12-31T00:00:00Z"}


class NewKey(BaseModel):
    """A key to create."""

    model_config = ConfigDict(extra="forbid", strict=True)

    ledger: str = Field(max_length=64, pattern=r"^[^\x00]+$", description="The ledger, or * for every ledger")
    role: Literal["reader", "writer", "controller", "admin"]
    name: str | None = Field(
        default=None,
        max_length=200,
        description="The name of a person or program, by default the caller's: one name is one person",
    )
    expires_at: str | None = Field(default=None, description="The key ends at this moment; by default it never ends")


class Rotation(BaseModel):
    """The options of a key's rotation."""

    model_config = ConfigDict(extra="forbid", strict=True)

    grace_s: int = Field(
        default=0, ge=0, le=keys.LONGEST_GRACE_S, description="Seconds for which the old secret still works; 0: none"
    )
    expires_at: str | None = Field(default=None, description="The new key's expiry; by default the old one's")


@router.get("")
def every(service: Service, scope: Scope, limit: Limit = 100, cursor: Cursor = None) -> dict[str, Any]:
    """Keys, oldest first, including those that have ended. Their secrets are not stored."""
    after = answers.decode_cursor(cursor, (str, str))
    start = None if after is None else (parse_time(after[0], field="cursor"), after[1])
    found = keys.list_keys(service.database, scope=scope, after=start, limit=limit)
    last = [key_answers.moment(found[-1].created_at), found[-1].key_id] if len(found) == limit else None
    return answers.page([key_answers.key(key) for key in found], last)


@router.post("", status_code=201)
def create(
    service: Service, scope: Scope, caller: Caller, body: Annotated[NewKey, Body(examples=[_EXAMPLE])]
) -> dict[str, Any]:
    """Creates a key. Only this answer shows its secret, `key`."""
    if scope not in (EVERY_LEDGER, body.ledger):
        raise NotAllowed(f"this key can create only keys of ledger {scope}", expected=scope, found=body.ledger)
    if body.ledger != EVERY_LEDGER:
        with service.database.read() as connection:
            ledger_head(connection, body.ledger)
    made = keys.create_key(
        service.database,
        ledger=body.ledger,
        role=body.role,
        by=caller,
        expires_at=_moment(body.expires_at),
        name=caller if body.name is None else body.name,
        scope=scope,
    )
    return key_answers.new_key(made)


@router.post("/{key}/rotate", status_code=201)
def rotate(
    service: Service,
    scope: Scope,
    caller: Caller,
    key: KeyId,
    body: Annotated[Rotation, Body(examples=[{"grace_s": 3600}])] = Rotation(),
) -> dict[str, Any]:
    """Creates a key that replaces this one. The old key ends at once or after the grace period."""
    made = keys.rotate_key(
        service.database, key, by=caller, grace_s=body.grace_s, expires_at=_moment(body.expires_at), scope=scope
    )
    return key_answers.new_key(made)


@router.delete("/{key}")
def revoke(service: Service, scope: Scope, caller: Caller, key: KeyId) -> dict[str, Any]:
    """Revokes a key at once. It stays in the list, with the person who revoked it."""
    return key_answers.key(keys.revoke_key(service.database, key, by=caller, scope=scope))


def _moment(text: str | None) -> datetime | None:
    return None if text is None else parse_time(text, field="expires_at")
