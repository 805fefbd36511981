"""The application's role may change only what it must change: every right is listed with its reason.

The rows that it may change freely are checked by ``verify`` against the log, or are settings or caches that prove
nothing.
"""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from subledger.store.tables import APP_ROLE, APPEND_ONLY, HANDED_OVER, ONLY_FORWARD, metadata
from tests.conftest import NewLedger

PRIVILEGES = ("SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER")
ALL = "every column"

UPDATED: dict[str, tuple[str, tuple[str, ...] | str]] = {
    "blocks": ("a batch writes the block as it is then; verify replays it", ALL),
    "documents": ("a batch writes the document as it is then; verify replays it", ALL),
    "ledger_days": ("a batch adds to the day's totals; verify adds them up from the entries", ALL),
    "ledgers": (
        "head and settings move with each batch; verify derives them from the log. What was answered goes forward; a"
        " trigger refuses a moment that has not come", ALL,
    ),
    "wallets": ("a batch writes the wallet as it is then; verify replays it", ALL),
    "wallet_parts": ("a batch writes the part as it is then; verify replays it", ALL),
    "api_keys": ("a key ends, and its last use is noted; a trigger lets both go forward", ONLY_FORWARD["api_keys"]),
    "approvals": ("what waits is decided once; a trigger refuses all else", ONLY_FORWARD["approvals"]),
    "cleared_blocks": ("a cache: how far a monitor has looked", ("position", "uncleared")),
    "credential_grants": ("a grant ends once; a trigger refuses all else", ONLY_FORWARD["credential_grants"]),
    "customer_attributes": (
        "an attribute is set; a journal keeps what it went by", ("attributes", "changed_at", "changed_by"),
    ),
    "deliveries": ("a delivery goes forward; a trigger refuses all else", ONLY_FORWARD["deliveries"]),
    "delivery_channels": (
        "a channel is set, waits for its turn, is taken away; deliveries keep where they went",
        (
            "connector", "format", "settings", "changed_at", "changed_by", "free_at", "dropped_at", "dropped_by",
        ),
    ),
    "export_targets": ("settings are set; an export keeps its own", ("settings", "changed_at", "changed_by")),
    "journals": ("whoever puts a journal into the outbox locks its row; a trigger refuses the change", ("number",)),
    "monitor_notices": ("a notice is sent or put off", ("attempts", "due_at", "sent_at", "failure")),
    "monitor_settings": ("settings are set", ("settings", "changed_at", "changed_by")),
    "monitor_states": ("what was told last", ("looked_at", "ringing")),
    "rejected_events": ("refused again, or dismissed; a trigger refuses all else", ONLY_FORWARD["rejected_events"]),
    "snapshots": ("whoever adds to snapshots locks the last one; verify compares them with the entries", ("entries",)),
    "tallies": ("one more row is counted", ("rows",)),
    "verifications": (
        "what the last verification found: for monitors, and proves nothing",
        ("verified_at", "position", "since", "differences", "clean_at"),
    ),
}  # fmt: skip
"""Tables of which the role may update columns, with the reason."""
DELETED = {
    **dict.fromkeys(
        (
            "account_mappings", "blocks", "dimension_sets", "documents", "ledger_days", "merkle_nodes",
            "other_currencies", "posting_policies", "posting_rules", "wallets",
        ),
        "a rebuild takes out what does not follow from the log; verify finds what is missing",
    ),
    "wallet_parts": "a batch takes out what is finished; verify finds what is missing",
    "customer_attributes": "what is personal can be erased; the erasure is kept",
    "monitor_notices": "old ones are taken away as they are sent",
    "monitor_states": "other settings begin anew: what was told is told again",
    "snapshots": "a rebuild drops wrong ones; a cache, that verify compares with the entries",
}  # fmt: skip
"""Tables from which the role may delete rows, with the reason."""
READ_ONLY = {"alembic_version"}


def test_every_right_of_the_application_is_one_that_it_needs(owner: psycopg.Connection[Any]) -> None:
    # All rights of the role: granted directly, through PUBLIC, or through membership.
    for table in (*metadata.tables, *READ_ONLY):
        held = {
            privilege
            for privilege in PRIVILEGES
            for (has,) in owner.execute("SELECT has_table_privilege(%s, %s, %s)", (APP_ROLE, table, privilege))
            if has
        }
        needed = {"SELECT"} if table in READ_ONLY else {"SELECT", "INSERT"}
        needed |= {"UPDATE"} if UPDATED.get(table, ("", ()))[1] == ALL else set()
        needed |= {"DELETE"} if table in DELETED else set()
        assert held == needed, table


def test_every_column_that_the_application_may_update_is_one_that_it_needs(owner: psycopg.Connection[Any]) -> None:
    found = owner.execute(
        "SELECT c.relname, a.attname FROM pg_class c"
        " JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped"
        " WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'v')"
        " AND has_column_privilege(%s, c.oid, a.attnum, 'UPDATE')",
        (APP_ROLE,),
    ).fetchall()
    needed = {
        (table, column)
        for table, (_, columns) in UPDATED.items()
        for column in (metadata.tables[table].columns.keys() if columns == ALL else columns)
    }
    assert set(found) == needed


def test_what_is_a_record_is_never_deleted_by_the_application() -> None:
    assert not {*APPEND_ONLY, *HANDED_OVER} & {*UPDATED, *DELETED} - {"journals"}
    assert not ONLY_FORWARD.keys() & DELETED.keys()


KEY = (
    "INSERT INTO api_keys (key_hash, key_id, ledger, role, name, created_at, last_used_at, revoked_at, revoked_by)"
    " VALUES ('k', 'k', 'of-rights', 'admin', 'ann', now(), now(), now() + interval '1 hour', 'ann')"
)
GRANT = (
    "INSERT INTO credential_grants (ledger, credential, granted_at, granted_by, revoked_at, revoked_by)"
    " VALUES ('of-rights', 'env:X', now(), 'ann', {}, {})"
)
REFUSED = {
    "UPDATE api_keys SET role = 'reader'": KEY,
    "UPDATE api_keys SET ledger = '*'": KEY,
    "UPDATE api_keys SET expires_at = now()": KEY,
    "UPDATE api_keys SET revoked_at = NULL, revoked_by = NULL": KEY,
    "UPDATE api_keys SET revoked_at = revoked_at + interval '1 s'": KEY,
    "UPDATE api_keys SET revoked_by = 'bob'": KEY,
    "UPDATE api_keys SET last_used_at = NULL": KEY,
    "DELETE FROM api_keys": KEY,
    "TRUNCATE api_keys": KEY,
    "UPDATE credential_grants SET granted_by = 'bob'": GRANT.format("NULL", "NULL"),
    "UPDATE credential_grants SET credential = 'env:Y'": GRANT.format("NULL", "NULL"),
    "UPDATE credential_grants SET revoked_at = NULL, revoked_by = NULL": GRANT.format("now()", "'ann'"),
    "UPDATE credential_grants SET revoked_by = 'bob'": GRANT.format("now()", "'ann'"),
    "DELETE FROM credential_grants": GRANT.format("NULL", "NULL"),
    "TRUNCATE credential_grants": GRANT.format("NULL", "NULL"),
}


def _of_ours(statement: str) -> bytes:
    """Returns the statement for the row that was just added, because other tests have keys and grants too."""
    return (statement if "TRUNCATE" in statement else f"{statement} WHERE ledger = 'of-rights'").encode()


@pytest.mark.parametrize("statement", REFUSED)
def test_keys_and_grants_are_not_rewritten_by_the_owner_either(owner: psycopg.Connection[Any], statement: str) -> None:
    owner.execute(REFUSED[statement].encode())
    with pytest.raises(psycopg.errors.RestrictViolation):
        owner.execute(_of_ours(statement))


@pytest.mark.parametrize(
    ("before", "statement"),
    [
        (KEY, "UPDATE api_keys SET revoked_at = now(), revoked_by = 'bob', last_used_at = now()"),
        (GRANT.format("NULL", "NULL"), "UPDATE credential_grants SET revoked_at = now(), revoked_by = 'bob'"),
    ],
)
def test_keys_and_grants_end(owner: psycopg.Connection[Any], before: str, statement: str) -> None:
    owner.execute(before.encode())
    assert owner.execute(_of_ours(statement)).rowcount == 1


@pytest.mark.parametrize(
    "moment", ["now() + interval '1 hour'", "'infinity'", "now() - interval '1 hour'", "NULL"], ids=str
)
def test_the_moment_that_was_answered_is_never_one_that_has_not_come_and_goes_forward(
    owner: psycopg.Connection[Any], new_ledger: NewLedger, moment: str
) -> None:
    """A moment ahead of the clock would date all later batches after it, and make answers about the future final."""
    ledger = new_ledger()
    owner.execute(f"SET ROLE {APP_ROLE}")
    owner.execute("UPDATE ledgers SET answered_through = now() WHERE ledger = %s", (ledger,))
    with pytest.raises(psycopg.errors.RestrictViolation):
        owner.execute(f"UPDATE ledgers SET answered_through = {moment} WHERE ledger = '{ledger}'".encode())
