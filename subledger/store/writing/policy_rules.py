"""Posting rules of adopted policies as rows, for queries: journal lines, journals, proofs.

Owns: writing the rows. Does not own: the rules (they are in an event of the log, and posting adds the inherited ones).
"""

from __future__ import annotations

from typing import Final

import msgspec

from subledger.kinds import YOUNGER_KINDS, Rules
from subledger.posting import rules_from
from subledger.store.database import WriteConnection

SAVE_RULE: Final = """
-- One pair of one kind under a newly adopted policy.
INSERT INTO posting_rules (ledger, policy, kind, pair, debit, credit) VALUES (%s, %s, %s, %s, %s, %s)
"""
INHERIT_RULE: Final = """
-- One pair of a kind that is younger than its policy. Rows of an earlier writer do not change.
INSERT INTO posting_rules (ledger, policy, kind, pair, debit, credit) VALUES (%s, %s, %s, %s, %s, %s)
ON CONFLICT DO NOTHING
"""
ADOPTED_RULES: Final = """
-- The policies that a ledger has adopted, from its events.
SELECT p.policy, e.data FROM posting_policies p JOIN events e ON e.ledger = p.ledger AND e.position = p.position
WHERE p.ledger = %s ORDER BY p.policy
"""


def save_rules(connection: WriteConnection, ledger: str, policy: int, rules: Rules) -> None:
    """Writes the rules of a policy. It needs no answer of the database, so it can be part of a pipeline (psycopg)."""
    with connection.cursor() as cursor:
        cursor.executemany(SAVE_RULE, _rows(ledger, policy, rules))


def save_inherited_rules(connection: WriteConnection, ledger: str) -> None:
    """Adds to every policy of a ledger the rules of entry kinds that are newer than the policy.

    A writer calls this when it takes over a ledger, before it can post such a kind. Otherwise entries whose rule has no
    rows would be missing from journals.
    """
    if not YOUNGER_KINDS:
        return
    younger = {kind.name for kind in YOUNGER_KINDS}
    for policy, data in connection.execute(ADOPTED_RULES, (ledger,)).fetchall():
        own = msgspec.json.decode(data)["rules"]
        inherited = {kind: pairs for kind, pairs in rules_from(own).items() if kind in younger and kind not in own}
        with connection.cursor() as cursor:
            cursor.executemany(INHERIT_RULE, _rows(ledger, policy, inherited))


def _rows(ledger: str, policy: int, rules: Rules) -> list[tuple[str, int, str, int, str, str]]:
    return [
        (ledger, policy, kind, number, pair.debit, pair.credit)
        for kind, pairs in rules.items()
        for number, pair in enumerate(pairs, start=1)
    ]
