"""Command: adopting a posting policy.

A policy holds for events recorded after its adoption. Recorded events keep the policy of their posting, and a reversal
mirrors the stored entries. So an adopted policy is never edited; a change is a new version.

Owns: the conditions for adopting a policy. Does not own: the text of a policy file (posting), the movements that its
rules must make (integrity/policies), the list of adopted policies (reads/policies).
"""

from __future__ import annotations

from typing import Final

import msgspec

from projections.account_mapping.mapping import mappings_from
from projections.close.period_history import first_entry_on
from projections.integrity.policies import rule_faults
from subledger.errors import InvalidPolicy, PolicyExists, UnmappedRole
from subledger.events.envelope import Event
from subledger.ledger import LedgerState
from subledger.own_events import policy_adopted
from subledger.periods import Period
from subledger.persons import NOBODY, check_requester
from subledger.posting import SHIPPED_POLICIES, Policy, keeps_the_pair, own_rules, rules_from, shipped_policy
from subledger.store.database import WriteConnection
from subledger.store.reading.queries import rows
from subledger.store.writing.recorder import Recorder, ledger_now, raise_first

_MOST_FAULTS: Final = 20
_MOST_POLICIES: Final = 32_767  # an entry names its policy in two bytes


class Adoption(msgspec.Struct, frozen=True, kw_only=True):
    """The result of the command: the number of the policy in force, and whether it was adopted by this command.

    ``left_open`` is not zero if the ledger changed between policies with and without the deposit pair. It counts the
    blocks open at that time: their customer_deposits and credits_clearing stay equal, but do not end at zero.
    """

    number: int
    adopted: bool
    left_open: int = 0


SAME_VERSION: Final = """
-- The adoptions of a policy by its name and version. An adoption never changes.
SELECT p.policy, e.data FROM posting_policies p JOIN events e ON e.ledger = p.ledger AND e.position = p.position
WHERE p.ledger = %(ledger)s AND p.name = %(name)s AND p.version = %(version)s
"""
PURCHASE_RULE: Final = """
-- The account pairs of a purchase under one policy.
SELECT debit, credit FROM posting_rules
WHERE ledger = %(ledger)s AND policy = %(policy)s AND kind = 'purchase' ORDER BY pair
"""
OPEN_BLOCKS: Final = """
-- The number of open blocks.
SELECT count(*) FROM blocks WHERE ledger = %(ledger)s AND is_open
"""


def check_policy(policy: Policy) -> None:
    """Refuses a policy under which the books could be wrong, or that has the version of another that ships.

    Raises InvalidPolicy naming the first kind at fault and the expected movement, with all faults in ``faults``;
    PolicyExists.
    """
    faults = list(rule_faults(policy.complete_rules))
    if faults:
        first = faults[0]
        raise InvalidPolicy(
            f"{first.kind} {first.statement}",
            field=first.kind,
            expected=first.expected,
            found=first.found,
            kind=first.kind,
            faults=[f"{fault.kind} {fault.statement}" for fault in faults[:_MOST_FAULTS]],
        )
    if policy.name in SHIPPED_POLICIES:
        shipped = shipped_policy(policy.name)
        if shipped.version == policy.version and shipped.complete_rules != policy.complete_rules:
            raise _other_rules(policy, shipped.content_hash, "ships")


def adopt_policy(recorder: Recorder, ledger: str, policy: Policy, *, by: str = NOBODY) -> Adoption:
    """Puts a policy in force for events recorded from now on. Records nothing if it is in force already.

    Raises InvalidPolicy, PolicyExists if its name and version were adopted with other rules, UnmappedRole if the
    account mapping has no row for a role that it posts to, UnknownLedger.
    """
    check_policy(policy)
    check_requester(by)
    left_open = 0

    def plan(connection: WriteConnection, state: LedgerState, _position: int) -> list[Event]:
        nonlocal left_open
        left_open = 0  # also if the recorder plans again: another caller may have adopted the policy by then
        parameters = {"ledger": ledger, "policy": state.policy, "name": policy.name, "version": policy.version}
        for number, data in rows(connection, SAME_VERSION, parameters):
            adopted = msgspec.json.decode(data)
            if rules_from(adopted["rules"]) != policy.complete_rules:
                raise _other_rules(policy, adopted["content_hash"], "was adopted before")
            if number == state.policy:
                return []
        if state.policy == _MOST_POLICIES:
            raise InvalidPolicy(
                f"ledger {ledger} has adopted {_MOST_POLICIES} policies, the most that a ledger can have",
                field="policy",
            )
        _check_mapped(connection, state, policy)
        purchase = {"purchase": [list(pair) for pair in rows(connection, PURCHASE_RULE, parameters)]}
        if keeps_the_pair(own_rules(purchase)) != keeps_the_pair(policy.rules):
            left_open = rows(connection, OPEN_BLOCKS, parameters)[0][0]
        return [policy_adopted(policy, number=state.policy + 1, at=ledger_now(connection, state), by=by)]

    numbers: list[int] = []
    outcomes = recorder.transact(ledger, plan, lambda _connection, state: numbers.append(state.policy))
    raise_first(outcomes)
    return Adoption(number=numbers[-1], adopted=bool(outcomes), left_open=left_open)


def _check_mapped(connection: WriteConnection, state: LedgerState, policy: Policy) -> None:
    """Refuses a policy that posts to roles without a GL account: its months could not be closed.

    The account mappings in question are those that the next journal of any open month is made with. Raises UnmappedRole
    naming all missing roles.
    """
    roles = {role for pairs in policy.complete_rules.values() for pair in pairs for role in (pair.debit, pair.credit)}
    for number, mapping in mappings_from(connection, state.ledger, _first_open(connection, state)):
        missing = sorted(roles - mapping.roles_mapped)
        if missing:
            raise UnmappedRole(
                f"policy {policy.name} posts to {', '.join(missing)}, and account mapping {number} of ledger "
                f"{state.ledger} has no row without narrower keys for {'them' if len(missing) > 1 else 'it'}: months "
                "could not be closed; adopt an account mapping with these roles first, then the policy",
                field="role",
                expected="a row for every role that the policy posts to",
                found=", ".join(sorted(mapping.roles_mapped))[:200],
                missing=missing,
                mapping=number,
            )


def _first_open(connection: WriteConnection, state: LedgerState) -> Period:
    if state.closed_through is not None:
        return Period.of(state.closed_through).next
    first = first_entry_on(connection, state.ledger)
    return Period.of(first or ledger_now(connection, state).date())


def _other_rules(policy: Policy, content_hash: str, found: str) -> PolicyExists:
    return PolicyExists(
        f"{policy.name} version {policy.version} {found}, with other rules: a change is a new version",
        field="version",
        expected="another version, or the same rules",
        found=str(policy.version),
        content_hash=content_hash,
    )
