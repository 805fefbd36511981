"""The posting rules of adopted policies as rows, for the readers that are SQL: journal lines, journals, proofs.

Owns: writing them. Does not own: the rules (an event of the log states them, posting adds what is inherited).
"""

from __future__ import annotations

from typing import Final

import msgspec

from subledger.kinds import YOUNGER_KINDS, Rules
from subledger.posting import rules_from
from subledger.store.database import WriteConnection

SAVE_RULE: Final = """
-- One pair of one kind under a policy that is being adopted.
INSERT INTO posting_rules (ledger, policy, kind, pair, debit, credit) VALUES (%s, %s, %s, %s, %s, %s)
"""
INHERIT_RULE: Final = """
-- One pair of a kind that is younger than its policy; what an earlier writer has written stays as it is.
INSERT INTO posting_rules (ledger, policy, kind, pair, debit, credit) VALUES (%s, %s, %s, %s, %s, %s)
ON CONFLICT DO NOTHING
"""
ADOPTED_RULES: Final = """
-- The policies that a ledger has adopted, as their events state them.
SELECT p.policy, e.data FROM posting_policies p JOIN events e ON e.ledger = p.ledger AND e.position = p.position
WHERE p.ledger = %s ORDER BY p.policy
"""


def save_rules(connection: WriteConnection, ledger: str, policy: int, rules: Rules) -> None:
    """Writes the rules of a policy. Asks nothing, so that it can be sent in a pipeline."""
    with connection.cursor() as cursor:
        cursor.executemany(SAVE_RULE, _rows(ledger, policy, rules))


def save_inherited_rules(connection: WriteConnection, ledger: str) -> None:
    """Completes the rules of every policy of a ledger with those of kinds that came after its adoption.

    Called whenever a writer comes to a ledger, before it can post such a kind: entries without the rows of their rule
    would be missing from journals. Until then the rows are not there, and nobody needs them.
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
