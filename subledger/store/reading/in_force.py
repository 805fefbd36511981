"""Settings, posting rules and account mapping of a ledger in force at a position.

An event adopts settings, rules or a mapping, which apply from this event on. An answer as known at a position uses
those adopted through that position, not the current ones, because a later adoption must not change an earlier answer.

Owns: these three reads, and the cache of posting rules. Does not own: changing any of them (recorder), the accounts in
a mapping (projections), points in time (views).
"""

from __future__ import annotations

from typing import Final

import msgspec
from sqlalchemy import Connection, text

from subledger.errors import IntegrityFault
from subledger.events.own_data import RESERVED_TYPES
from subledger.kinds import Rules
from subledger.ledger import LedgerState, evolve_ledger
from subledger.posting import rules_from
from subledger.store.columns import EVENTS, EventRow
from subledger.store.database import Database
from subledger.store.reading.queries import AnyConnection, rows

EVERYTHING: Final = (1 << 63) - 1
"""A position after all others: the end of the log in the snapshot."""

ADOPTED: Final = """
-- The policies that a ledger had adopted through a position: their numbers and content hashes, as a JSON object.
SELECT json_object_agg(p.policy, p.content_hash)::text AS policies FROM posting_policies p
WHERE p.ledger = %(ledger)s AND p.position <= %(through)s
"""
RULES: Final = """
-- The rules of every policy that a ledger has adopted, as they were recorded.
SELECT p.content_hash, e.data FROM posting_policies p JOIN events e ON e.ledger = p.ledger AND e.position = p.position
WHERE p.ledger = :ledger
"""
OWN_EVENTS: Final = f"""
-- The ledger's own events through a position, which make its settings. The last condition follows from the one
-- before it; it lets the planner use ix_events_type, which leaves usage out.
SELECT {EVENTS.selected("e")} FROM events e
WHERE e.ledger = :ledger AND e.position <= :through AND e.type = ANY(:types) AND e.type <> 'credits.consumed'
ORDER BY e.position
"""
MAPPING_FOR: Final = """
-- The account mapping of a period's journals at a position: the last mapping that was adopted by then and applies to
-- the period.
SELECT mapping, rows FROM account_mappings
WHERE ledger = %(ledger)s AND position <= %(through)s AND (valid_from IS NULL OR valid_from <= %(period)s)
ORDER BY mapping DESC LIMIT 1
"""

_hashes: Final = msgspec.json.Decoder(dict[int, str])


class AdoptedRules(dict[int, Rules]):
    """The posting rules of a ledger's policies by number. A policy without a row raises IntegrityFault."""

    def __init__(self, ledger: str, rules: dict[int, Rules]) -> None:
        super().__init__(rules)
        self._ledger = ledger

    def __missing__(self, policy: int) -> Rules:
        raise missing_policy(self._ledger, policy)


def missing_policy(ledger: str, policy: int) -> IntegrityFault:
    """Returns the error of a ledger whose table ``posting_policies`` lacks an adopted policy."""
    return IntegrityFault(
        f"table posting_policies has no row of policy {policy} of ledger {ledger}, which the ledger has adopted; "
        f"`subledger rebuild --ledger {ledger}` makes the row again from the log",
        ledger=ledger,
        policy=policy,
    )


def rules_of(database: Database, connection: Connection, ledger: str, *, through: int = EVERYTHING) -> dict[int, Rules]:
    """Returns the posting rules of every policy that the ledger had adopted through a position, by the policy's
    number.
    """
    adopted: str | None = connection.exec_driver_sql(ADOPTED, {"ledger": ledger, "through": through}).scalar_one()
    known = known_rules(database, ledger, adopted)
    if known is not None:
        return known
    for content_hash, data in connection.execute(text(RULES), {"ledger": ledger}):
        database.rules[content_hash] = rules_from(msgspec.json.decode(data)["rules"])
    hashes = _hashes.decode(adopted or "{}")
    return AdoptedRules(ledger, {policy: database.rules[content_hash] for policy, content_hash in hashes.items()})


def known_rules(database: Database, ledger: str, adopted: str | None) -> dict[int, Rules] | None:
    """Returns the rules of the policies in the answer of ``ADOPTED``; None if this process has not read all of them
    yet.
    """
    hashes = _hashes.decode(adopted or "{}")
    if not all(content_hash in database.rules for content_hash in hashes.values()):
        return None
    return AdoptedRules(ledger, {policy: database.rules[hash_] for policy, hash_ in sorted(hashes.items())})


def settings_at(connection: Connection, ledger: str, position: int) -> LedgerState:
    """Returns the ledger's settings after a position; for position 0, those of a ledger without configuration."""
    state = LedgerState(ledger=ledger)
    parameters = {"ledger": ledger, "through": position, "types": sorted(RESERVED_TYPES)}
    for row in connection.execute(text(OWN_EVENTS), parameters):
        state = evolve_ledger(state, EventRow(*row).read())
    return state


def mapping_rows(
    connection: AnyConnection, ledger: str, period: str, *, through: int = EVERYTHING
) -> tuple[int, str] | None:
    """Returns the account mapping of a period's journals at a position: its number, and its rows as JSON."""
    found = rows(connection, MAPPING_FOR, {"ledger": ledger, "period": period, "through": through})
    return (found[0][0], found[0][1]) if found else None
