"""Check of the posting rules of every adopted policy, and the accounts that an entry moves under its policy.

An entry is read under the policy under which it was posted, so a ledger may change its policy. Under every policy a
kind moves prepaid_liability by its column, and monetary accounts by its roles. So the sums of entries by block and
position equal the account balances, in every view. Revenue, concessions and expenses may be posted only to the accounts
in which the reports look for them. The same rules are checked before a policy is adopted (configuring/policies). Owns:
the conditions on posting rules.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Final

import msgspec
import rfc8785

from projections.replay.findings import Breach
from subledger.accounts import ROLE_BY_NAME, ROLES, AccountClass
from subledger.events.own_data import PolicyAdopted
from subledger.kinds import KIND_BY_NAME, MONETARY_ROLES, AccountPair, Entry, Kind, Result, Rules, effect
from subledger.posting import keeps_the_pair, rules_from, stated_kinds

LIABILITY: Final = "prepaid_liability"
CONTROL: Final = (LIABILITY, "customer_deposits", "credits_clearing")
RECOGNISED: Final = "breakage_recognized"
TRANSFERS: Final = "transfer_clearing"
ELSEWHERE: Final = "billed_elsewhere"
OPENED: Final = "opening_balances"
_ALSO: Final = (RECOGNISED, TRANSFERS, ELSEWHERE, OPENED)
"""Accounts besides the monetary roles that a kind may have to move."""


class Moves(msgspec.Struct, frozen=True, kw_only=True):
    """The accounts that an entry of one kind moves under one policy.

    Each of the first four is the debits less the credits of an account. ``sign`` is +1 if the kind adds to its block.
    ``functional_sign`` is the same for the functional amount; a remeasurement of the liability moves only this amount.
    ``sides`` are the monetary roles that the entry moves, debits +1. ``paired`` is True if the policy uses
    customer_deposits and credits_clearing beside the liability.
    """

    liability: int = 0
    deposits: int = 0
    clearing: int = 0
    recognised: int = 0
    pairs: int = 0
    column: str | None = None
    sign: int = 0
    functional_sign: int = 0
    sides: tuple[tuple[str, int], ...] = ()
    paired: bool = False


class Policies:
    """The policies adopted so far in the log."""

    def __init__(self) -> None:
        self.rules: dict[int, Rules] = {}
        self._moves: dict[tuple[int, str], Moves] = {}

    def moves(self, entry: Entry) -> Moves:
        key = (entry.policy, entry.kind)
        moves = self._moves.get(key)
        if moves is None:
            moves = self._moves[key] = _moves(entry.kind, self.rules.get(entry.policy, {}))
        return moves

    def adopt(self, adopted: PolicyAdopted) -> Iterator[Breach]:
        """Takes a policy's rules. Yields those that would make the books wrong."""
        rules = self.rules[adopted.policy] = rules_from(adopted.rules)
        name = f"policy {adopted.policy}"
        digest = hashlib.sha256(rfc8785.dumps(adopted.rules)).hexdigest()
        if digest != adopted.content_hash:
            yield _breach(name, f"the rules of {name} do not match its content hash", adopted.content_hash, digest)
        for kind in stated_kinds(adopted.rules):
            if kind.name not in adopted.rules:
                yield _breach(name, f"{kind.name} has no rule under {name}")
        for fault in rule_faults(rules):
            yield _breach(name, f"{fault.kind} under {name} {fault.statement}", fault.expected, fault.found)

    def entry_faults(self, entry: Entry, functional_currency: str) -> Iterator[Breach]:
        """Yields the faults of a single entry. Its lines always balance, because each pair has two equal sides."""
        description = f"entry of kind {entry.kind} under policy {entry.policy}"
        if entry.kind not in self.rules.get(entry.policy, {}):
            yield Breach(
                check="entry",
                message=f"there is no rule for an {description}",
                subject=entry.kind,
                expected="a rule of its policy",
            )
        elif (entry.amount_minor or entry.functional_minor) and not self.moves(entry).pairs:
            yield Breach(
                check="entry",
                message=f"an {description} has an amount, and moves no account",
                subject=entry.kind,
                expected=0,
                found=entry.amount_minor or entry.functional_minor,
            )
        if entry.currency == functional_currency and entry.amount_minor != entry.functional_minor:
            yield Breach(
                check="entry",
                message=f"an {description} has another functional amount, in the functional currency",
                subject=entry.block_id or entry.customer or entry.kind,
                expected=entry.amount_minor,
                found=entry.functional_minor,
            )


def _breach(policy: str, message: str, expected: object = None, found: object = None) -> Breach:
    return Breach(check="policy", message=message, subject=policy, expected=expected, found=found)


# --- conditions on posting rules ---------------------------------------------------------------------------------


def _of_class(*classes: AccountClass) -> tuple[str, ...]:
    return tuple(role.name for role in ROLES if role.account_class in classes)


_RELEASED: Final = ("deferred_revenue",)
_REVENUE: Final = _of_class(AccountClass.REVENUE)
_CONTRA: Final = _of_class(AccountClass.CONTRA_REVENUE)
_EXPENSES: Final = _of_class(AccountClass.EXPENSE)
_RESULT: Final = (*_REVENUE, *_CONTRA, *_EXPENSES, *_RELEASED)
"""Accounts among which a policy can choose: revenue, concessions, expenses, and amounts released to the ERP."""
_RESULT_ROLES: Final = {
    Result.REVENUE: (*_REVENUE, *_RELEASED),
    Result.SHARE: _RELEASED,
    Result.CONCESSION: (*_CONTRA, *_RELEASED, *_EXPENSES),
    Result.LOSS: (*_CONTRA, *_EXPENSES),
    Result.EXPENSE: _EXPENSES,
}
"""For each class, the accounts among these to which a kind may post. The reports rely on it."""


class RuleFault(msgspec.Struct, frozen=True, kw_only=True):
    """A fault of the rule of one kind. ``statement`` is a sentence without its subject, which is the kind."""

    kind: str
    statement: str
    expected: str | None = None
    found: str | None = None


def rule_faults(rules: Rules) -> Iterator[RuleFault]:
    """Yields the rules of a policy that would make the books wrong, in the order of kinds."""
    paired = keeps_the_pair(rules)
    for name, pairs in rules.items():
        strangers = [role for pair in pairs for role in (pair.debit, pair.credit) if role not in ROLE_BY_NAME]
        for role in strangers:
            yield RuleFault(kind=name, statement="names an account that is not in the chart", found=role)
        kind = KIND_BY_NAME.get(name)
        if kind is not None:
            found = list(_faults(kind, rules, paired))
            yield from found
            if not found and not strangers:
                yield from _result_faults(kind, rules, paired)


def _faults(kind: Kind, rules: Rules, paired: bool) -> Iterator[RuleFault]:
    """Yields the accounts that the rule of a kind moves wrongly, among those in which a policy has no choice."""
    pairs = rules[kind.name]
    if not (kind.has_amount and pairs):
        if bool(pairs) != kind.has_amount:
            statement = "never has an amount and moves an account" if pairs else "has an amount and moves no account"
            yield RuleFault(
                kind=kind.name,
                statement=statement,
                expected="no pair" if pairs else "a list of pairs",
                found=_written(pairs),
            )
        return
    expected = _expected(kind, paired)
    found = {role: effect(role, kind.name, rules) for role in expected}

    def fault(statement: str, *roles: str) -> RuleFault:
        return RuleFault(
            kind=kind.name,
            statement=statement,
            expected=", ".join(_moved(role, expected[role]) for role in roles),
            found=", ".join(_moved(role, found[role]) for role in roles),
        )

    liability, deposits, clearing = (found[role] for role in CONTROL)
    if paired and not liability == deposits == -clearing:
        yield fault("moves only some of prepaid_liability and the deposit accounts, which move together", *CONTROL)
    elif not paired and (deposits or clearing):
        yield fault("moves customer_deposits or credits_clearing, but the rule of purchase does not", *CONTROL[1:])
    if liability != expected[LIABILITY]:
        yield fault("does not move prepaid_liability as its column requires", LIABILITY)
    for role in (*MONETARY_ROLES, *_ALSO):
        if found[role] != expected[role]:
            yield fault(f"does not move {role} as its roles require", role)


def _result_faults(kind: Kind, rules: Rules, paired: bool) -> Iterator[RuleFault]:
    """Yields the faults in the part of a rule that a policy can choose: revenue, concessions, expenses."""
    if not kind.has_amount:
        return
    moved = {role: times for role in _RESULT if (times := effect(role, kind.name, rules))}
    due = -sum(_expected(kind, paired).values())
    allowed = _RESULT_ROLES[kind.result] if due else ()
    if moved and not due:
        yield RuleFault(
            kind=kind.name,
            statement="moves an account of revenue, concessions or expenses, and must not",
            expected="none of it moved",
            found=_moved_all(moved),
        )
    elif due and (len(moved) != 1 or set(moved.values()) != {due} or not set(moved) <= set(allowed)):
        yield RuleFault(
            kind=kind.name,
            statement="does not end on exactly one of the accounts allowed for it",
            expected=f"{_side(due)} one of {', '.join(allowed)}",
            found=_moved_all(moved),
        )
    elif kind.name == "reinstatement" and "breakage" in rules:
        expected = {role: times for role in _RESULT if (times := -effect(role, "breakage", rules))}
        if moved != expected:
            yield RuleFault(
                kind=kind.name,
                statement="is not the mirror of breakage",
                expected=_moved_all(expected),
                found=_moved_all(moved),
            )


def _expected(kind: Kind, paired: bool) -> dict[str, int]:
    """Returns debits less credits of every account in which a policy has no choice."""
    liability = -kind.value_sign
    pair = liability if paired else 0
    return {
        LIABILITY: liability,
        "customer_deposits": pair,
        "credits_clearing": -pair,
        **{role: (kind.debit_role == role) - (kind.credit_role == role) for role in MONETARY_ROLES},
        **{role: (kind.debits_also == role) - (kind.credits_also == role) for role in _ALSO},
    }


def _moved(role: str, times: int) -> str:
    return f"{role} {_side(times)}" + (f" {abs(times)} times" if abs(times) > 1 else "")


def _side(times: int) -> str:
    return "debited" if times > 0 else "credited" if times < 0 else "not moved"


def _moved_all(moved: dict[str, int]) -> str:
    return ", ".join(_moved(role, times) for role, times in moved.items()) or "none of them moved"


def _written(pairs: tuple[AccountPair, ...]) -> str:
    return ", ".join(f"{pair.debit} / {pair.credit}" for pair in pairs) or "no pair"


def _moves(name: str, rules: Rules) -> Moves:
    kind = KIND_BY_NAME.get(name)
    known = name in rules
    liability, deposits, clearing, recognised = (
        effect(account, name, rules) if known else 0 for account in (*CONTROL, RECOGNISED)
    )
    sides = () if kind is None else ((kind.debit_role, 1), (kind.credit_role, -1))
    return Moves(
        liability=liability,
        deposits=deposits,
        clearing=clearing,
        recognised=recognised,
        pairs=len(rules[name]) if known else 0,
        column=None if kind is None else kind.column,
        sign=0 if kind is None else kind.sign,
        functional_sign=0 if kind is None else kind.value_sign,
        sides=tuple((role, sign) for role, sign in sides if role is not None and role != LIABILITY),
        paired=keeps_the_pair(rules),
    )
