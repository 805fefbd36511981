"""The posting policies of a ledger: which it has adopted, and adopting another one.

A policy holds for what is recorded after its adoption. What is recorded already keeps the policy it was posted under,
and a reversal mirrors what is stored; so a policy that has been adopted is never edited, a change is a new version.

Owns: what a policy must be to be adopted, when there is nothing to record. Does not own: the text of a policy file
(posting), what its rules must move (integrity/policies).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

import msgspec
from sqlalchemy import Connection

from projections.account_mapping.mapping import mappings_from
from projections.close.close import FIRST_ENTRY_ON
from projections.integrity.policies import rule_faults
from subledger.errors import InvalidPolicy, InvalidValue, PolicyExists, UnknownPolicy, UnmappedRole
from subledger.events.envelope import Event, own_event
from subledger.kinds import Rules
from subledger.ledger import LedgerState
from subledger.periods import Period
from subledger.persons import NOBODY
from subledger.posting import SHIPPED_POLICIES, Policy, keeps_the_pair, own_rules, rules_from, shipped_policy
from subledger.store.database import WriteConnection
from subledger.store.reading.queries import rows
from subledger.store.writing.recorder import OWN_SOURCE, Recorder, ledger_now, raise_first

_MOST_FAULTS: Final = 20
_MOST_POLICIES: Final = 32_767  # an entry names its policy in two bytes


class AdoptedPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """A policy as a ledger has adopted it, at a position: its ``number`` there, from 1, is what entries name.

    ``by`` is who asked; None where nobody was named, as in ledgers created before there were names. ``rules`` are
    complete; ``inherited`` names the kinds younger than the policy, whose rules are those of a shipped one, and which
    ``content_hash`` does not cover.
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


class Adoption(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a wish to adopt: under which number the policy holds, and whether that is new.

    ``left_open`` counts the open blocks whose customer_deposits and credits_clearing will answer each other, and end
    at nothing no more: those that stood when the ledger went to a policy with the deposit pair from one without, or
    back.
    """

    number: int
    adopted: bool
    left_open: int = 0


HELD: Final = """
-- Every adoption of a policy of this name and version: an adoption never changes.
SELECT p.policy, e.data FROM posting_policies p JOIN events e ON e.ledger = p.ledger AND e.position = p.position
WHERE p.ledger = %(ledger)s AND p.name = %(name)s AND p.version = %(version)s
"""
PURCHASE_RULE: Final = """
-- The pairs that a purchase moves through under one policy.
SELECT debit, credit FROM posting_rules
WHERE ledger = %(ledger)s AND policy = %(policy)s AND kind = 'purchase' ORDER BY pair
"""
OPEN_BLOCKS: Final = """
-- How many blocks are open.
SELECT count(*) FROM blocks WHERE ledger = %(ledger)s AND is_open
"""
ADOPTED: Final = """
-- The policies that a ledger has adopted, in order, as their events tell them.
SELECT p.policy, p.position, e.data, e.occurred_at, b.recorded_at, p.policy = l.policy
FROM posting_policies p
JOIN ledgers l ON l.ledger = p.ledger
JOIN events e ON e.ledger = p.ledger AND e.position = p.position
JOIN LATERAL (SELECT recorded_at FROM batches b WHERE b.ledger = %(ledger)s AND b.last_position >= e.position
              ORDER BY b.last_position LIMIT 1) b ON true
WHERE p.ledger = %(ledger)s AND p.policy > %(after)s ORDER BY p.policy LIMIT %(limit)s
"""


def adopted_policies(connection: Connection, ledger: str, *, after: int = 0, limit: int = 100) -> list[AdoptedPolicy]:
    """The policies that a ledger has adopted, in order, from the one after a number on."""
    found = rows(connection, ADOPTED, {"ledger": ledger, "after": after, "limit": limit})
    return [_adopted(*row) for row in found]


def adopted_policy(connection: Connection, ledger: str, number: int) -> AdoptedPolicy:
    """One policy that a ledger has adopted. Raises UnknownPolicy."""
    for policy in adopted_policies(connection, ledger, after=number - 1, limit=1):
        if policy.number == number:
            return policy
    raise UnknownPolicy(
        f"ledger {ledger} has adopted no policy {number}", field="policy", expected="a number that policies lists",
        found=str(number),
    )  # fmt: skip


def _adopted(
    number: int, position: int, data: str, occurred_at: datetime, recorded_at: datetime, in_force: bool
) -> AdoptedPolicy:
    told: Mapping[str, Any] = msgspec.json.decode(data)
    rules = rules_from(told["rules"])
    return AdoptedPolicy(
        number=number, name=told["name"], version=told["version"], description=told.get("description"),
        content_hash=told["content_hash"], rules=rules,
        inherited=tuple(kind for kind in rules if kind not in told["rules"]), position=position,
        occurred_at=occurred_at, recorded_at=recorded_at, by=told.get("by"), in_force=in_force,
    )  # fmt: skip


# --- adopting -----------------------------------------------------------------------------------------------------


def check_policy(policy: Policy) -> None:
    """A policy that could put the books wrong is refused before anything is posted under it.

    Raises InvalidPolicy naming the first kind at fault and what its rule was expected to move; ``faults`` has them all.
    """
    faults = list(rule_faults(policy.complete_rules))
    if faults:
        first = faults[0]
        raise InvalidPolicy(
            f"{first.kind} {first.says}", field=first.kind, expected=first.expected, found=first.found,
            kind=first.kind, faults=[f"{fault.kind} {fault.says}" for fault in faults[:_MOST_FAULTS]],
        )  # fmt: skip
    if policy.name in SHIPPED_POLICIES:
        shipped = shipped_policy(policy.name)
        if shipped.version == policy.version and shipped.complete_rules != policy.complete_rules:
            raise _other_rules(policy, shipped.content_hash, "ships")


def policy_data(policy: Policy, *, number: int, by: str | None = None) -> dict[str, Any]:
    """The data of the ``policy.adopted`` event."""
    data: dict[str, Any] = {
        "policy": number, "name": policy.name, "version": policy.version, "content_hash": policy.content_hash,
        "rules": policy.rules_document,
    }  # fmt: skip
    if policy.description:
        data["description"] = policy.description
    return data if by is None else {**data, "by": by}


def adopt_policy(recorder: Recorder, ledger: str, policy: Policy, *, by: str = NOBODY) -> Adoption:
    """Makes this the policy of what is recorded from now on. Where it is in force already, nothing is recorded.

    Raises InvalidPolicy, PolicyExists where its name and version stand for other rules, UnmappedRole where the account
    mapping has no row for a role that it posts to, UnknownLedger.
    """
    check_policy(policy)
    check_person(by)
    left_open = 0

    def plan(connection: WriteConnection, state: LedgerState, _position: int) -> list[Event]:
        nonlocal left_open
        where = {"ledger": ledger, "policy": state.policy, "name": policy.name, "version": policy.version}
        for number, data in rows(connection, HELD, where):
            adopted = msgspec.json.decode(data)
            if rules_from(adopted["rules"]) != policy.complete_rules:
                raise _other_rules(policy, adopted["content_hash"], "was adopted before")
            if number == state.policy:
                return []
        if state.policy == _MOST_POLICIES:
            raise InvalidPolicy("this ledger has adopted as many policies as can be", field="policy")
        _check_mapped(connection, state, policy)
        purchase = {"purchase": [list(pair) for pair in rows(connection, PURCHASE_RULE, where)]}
        if keeps_the_pair(own_rules(purchase)) != keeps_the_pair(policy.rules):
            left_open = rows(connection, OPEN_BLOCKS, where)[0][0]
        number = state.policy + 1
        return [
            own_event(
                source=OWN_SOURCE,
                event_id=f"policy.adopted/{number}",
                type="policy.adopted",
                customer=None,
                occurred_at=ledger_now(connection, state),
                data=policy_data(policy, number=number, by=by),
            )
        ]

    numbers: list[int] = []
    outcomes = recorder.transact(ledger, plan, lambda _connection, state: numbers.append(state.policy))
    raise_first(outcomes)
    return Adoption(number=numbers[-1], adopted=bool(outcomes), left_open=left_open)


def _check_mapped(connection: WriteConnection, state: LedgerState, policy: Policy) -> None:
    """Every account mapping that an open month's journal can still be made with has the roles that the policy posts to.

    Else its months could not be closed. Raises UnmappedRole naming all roles that are missing.
    """
    roles = {role for pairs in policy.complete_rules.values() for pair in pairs for role in (pair.debit, pair.credit)}
    first = _first_open(connection, state)
    for number, mapping in mappings_from(connection, state.ledger, first):
        missing = sorted(roles - mapping.roles_mapped)
        if missing:
            raise UnmappedRole(
                f"policy {policy.name} posts to {', '.join(missing)}, and account mapping {number} of ledger "
                f"{state.ledger} has no row without narrower keys for {'them' if len(missing) > 1 else 'it'}: months "
                "could not be closed; adopt an account mapping with these roles first, then the policy",
                field="role", expected="a row for every role that the policy posts to",
                found=", ".join(sorted(mapping.roles_mapped))[:200], missing=missing, mapping=number,
            )  # fmt: skip


def _first_open(connection: WriteConnection, state: LedgerState) -> Period:
    if state.closed_through is not None:
        return Period.of(state.closed_through).next
    (first,) = rows(connection, FIRST_ENTRY_ON, {"ledger": state.ledger})[0]
    return Period.of(first or ledger_now(connection, state).date())


def _other_rules(policy: Policy, content_hash: str, what: str) -> PolicyExists:
    return PolicyExists(
        f"{policy.name} version {policy.version} {what}, with other rules: a change is a new version", field="version",
        expected="another version, or the same rules", found=str(policy.version), content_hash=content_hash,
    )  # fmt: skip


# --- what the ledger's own commands share -------------------------------------------------------------------------


def check_person(by: str) -> None:
    """Who asks is told in the event. Raises InvalidValue for what is no name."""
    if not (1 <= len(by) <= 200 and by.isprintable()):
        raise InvalidValue("who asks has a name", field="by", expected="1 to 200 characters", found=by[:60])
