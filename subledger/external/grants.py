"""Grants of credentials to ledgers, for their channels and webhooks.

A credential belongs to the installation, but the person who sets up a ledger's channel decides its receiver. So a
channel uses only credentials of its ledger: files in the ledger's folder, ``SUBLEDGER_CREDENTIALS/ledgers/LEDGER/…``,
and credentials that the operator has granted on the command line. The HTTP API cannot grant credentials.

Owns: the table ``credential_grants``. Does not own: reading credentials (``credentials``).
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from datetime import datetime
from typing import Final

import msgspec

from subledger.errors import CredentialNotGranted, InvalidValue
from subledger.external.credentials import belongs_to
from subledger.store.database import Database
from subledger.store.reading.queries import AnyConnection, rows
from subledger.store.tallies import count_one
from subledger.store.writing.recorder import now_of

SHARED: Final = "SUBLEDGER_CREDENTIALS_SHARED"
"""If it is 1, every ledger may use every credential. This is for ledgers that have the same administrators."""

FIND: Final = """
-- Returns a row if a ledger may use a credential.
SELECT 1 FROM credential_grants
WHERE ledger = %(ledger)s AND credential = %(credential)s AND revoked_at IS NULL
"""
GRANT: Final = """
INSERT INTO credential_grants (ledger, credential, granted_at, granted_by)
VALUES (%(ledger)s, %(credential)s, %(at)s, %(by)s)
ON CONFLICT (ledger, credential) WHERE revoked_at IS NULL DO NOTHING
"""
REVOKE: Final = """
UPDATE credential_grants SET revoked_at = %(at)s, revoked_by = %(by)s
WHERE ledger = %(ledger)s AND credential = %(credential)s AND revoked_at IS NULL
"""
LIST: Final = """
-- All grants of a ledger, including revoked ones.
SELECT ledger, credential, granted_at, granted_by, revoked_at, revoked_by FROM credential_grants
WHERE ledger = %(ledger)s ORDER BY credential, granted_at
"""


class Grant(msgspec.Struct, frozen=True, kw_only=True):
    """A credential that a ledger may use; after ``revoked_at``, one that it could use before."""

    ledger: str
    credential: str
    granted_at: datetime
    granted_by: str
    revoked_at: datetime | None
    revoked_by: str | None


def check_granted(connection: AnyConnection, ledger: str, credentials: Iterable[str]) -> None:
    """Raises CredentialNotGranted for the first credential that the ledger may not use."""
    if os.environ.get(SHARED) == "1":
        return
    for credential in credentials:
        if belongs_to(credential, ledger) or rows(connection, FIND, {"ledger": ledger, "credential": credential}):
            continue
        raise CredentialNotGranted(
            f"ledger {ledger} may not use the credential {credential}; the operator can grant it with "
            f"`subledger credentials grant {credential} --ledger {ledger}`, or store it in the ledger's folder",
            field="credential",
            expected="a credential of this ledger",
            found=credential,
        )


def grant(database: Database, ledger: str, credential: str, *, by: str) -> None:
    """Grants a credential to a ledger. A repetition changes nothing; after a revocation it makes a new grant."""
    if not credential.startswith(("env:", "file:/")):
        raise InvalidValue(
            "the credential is not a reference to an environment variable or a file",
            field="credential",
            expected="env:NAME or file:/PATH",
            found=credential[:200],
        )
    with database.write() as connection:
        row = {"ledger": ledger, "credential": credential, "at": now_of(connection), "by": by}
        if connection.execute(GRANT, row).rowcount:
            count_one(connection, ledger, "credential_grants")


def revoke(database: Database, ledger: str, credential: str, *, by: str) -> bool:
    """Ends a grant, from the next attempt of a delivery on. Returns False if there was none."""
    with database.write() as connection:
        parameters = {"ledger": ledger, "credential": credential, "at": now_of(connection), "by": by}
        return connection.execute(REVOKE, parameters).rowcount > 0


def list_grants(connection: AnyConnection, ledger: str) -> list[Grant]:
    """All grants of a ledger in order of name and time, revoked ones included."""
    return [
        Grant(**dict(zip(Grant.__struct_fields__, row, strict=True)))
        for row in rows(connection, LIST, {"ledger": ledger})
    ]
