"""The posting policies that a ledger has adopted.

Owns: reading them. Does not own: adopting one (configuring/policies), the policy in force in a view (reading/in_force).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

import msgspec
from sqlalchemy import Connection

from subledger.errors import UnknownPolicy
from subledger.kinds import Rules
from subledger.posting import rules_from
from subledger.store.reading.queries import rows


class AdoptedPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """A policy as a ledger adopted it, at a position of the log. Entries name it by its ``number``, counted from 1.

    ``by`` is the person who adopted it; None in ledgers created before names were recorded. ``rules`` are complete;
    ``inherited`` lists the kinds younger than the policy: their rules come from a policy that ships, and
    ``content_hash`` does not cover them.
    """

    number: int
    name: str
    version: int
    description: str | None
    content_hash: str
    rules: Rules
    inherited: tuple[str, ...]
    position: int
    occurred_at: datetime
    recorded_at: datetime
    by: str | None
    in_force: bool


ADOPTED: Final = """
-- The policies that a ledger has adopted, in order, with the data of their events.
SELECT p.policy, p.position, e.data, e.occurred_at, b.recorded_at, p.policy = l.policy
FROM posting_policies p
JOIN ledgers l ON l.ledger = p.ledger
JOIN events e ON e.ledger = p.ledger AND e.position = p.position
JOIN LATERAL (SELECT recorded_at FROM batches b WHERE b.ledger = %(ledger)s AND b.last_position >= e.position
              ORDER BY b.last_position LIMIT 1) b ON true
WHERE p.ledger = %(ledger)s AND p.policy > %(after)s ORDER BY p.policy LIMIT %(limit)s
"""


def adopted_policies(connection: Connection, ledger: str, *, after: int = 0, limit: int = 100) -> list[AdoptedPolicy]:
    """The policies with a number greater than ``after``, in order of their numbers."""
    found = rows(connection, ADOPTED, {"ledger": ledger, "after": after, "limit": limit})
    return [_adopted(*row) for row in found]


def adopted_policy(connection: Connection, ledger: str, number: int) -> AdoptedPolicy:
    """The policy with a number. Raises UnknownPolicy."""
    for policy in adopted_policies(connection, ledger, after=number - 1, limit=1):
        if policy.number == number:
            return policy
    raise UnknownPolicy(
        f"ledger {ledger} has adopted no policy {number}",
        field="policy",
        expected="a number that policies lists",
        found=str(number),
    )


def _adopted(
    number: int, position: int, data_text: str, occurred_at: datetime, recorded_at: datetime, in_force: bool
) -> AdoptedPolicy:
    data: Mapping[str, Any] = msgspec.json.decode(data_text)
    rules = rules_from(data["rules"])
    return AdoptedPolicy(
        number=number,
        name=data["name"],
        version=data["version"],
        description=data.get("description"),
        content_hash=data["content_hash"],
        rules=rules,
        inherited=tuple(kind for kind in rules if kind not in data["rules"]),
        position=position,
        occurred_at=occurred_at,
        recorded_at=recorded_at,
        by=data.get("by"),
        in_force=in_force,
    )
