"""Are the posting rules of every adopted policy sound, and what does an entry move under its own?

An entry is read under the policy that it was posted under, so that a ledger may change its policy. Whatever the
policy, a kind moves prepaid_liability by its column and money owed or held by its roles: then what the entries say of
blocks and positions is what the accounts say, in every view. What is earned, conceded or lost may go where the reports
look for it. The same rules are asked before a policy is adopted (projections/policies). Owns: these rules about rules.
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


class Moves(msgspec.Struct, frozen=True, kw_only=True):
    """What an entry of one kind moves under one policy.

    The first four count debits less credits of an account. ``sign`` is +1 where the kind adds to its block;
    ``functional_sign`` the same for the functional amount, which a remeasurement of the liability moves alone.
    ``sides`` are the monetary roles it moves, debits +1. ``paired`` says that the policy keeps customer_deposits and
    credits_clearing beside the liability.
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
    """The policies that the log has adopted so far."""

    def __init__(self) -> None:
        self.rules: dict[int, Rules] = {}
        self._moves: dict[tuple[int, str], Moves] = {}

    def moves(self, entry: Entry) -> Moves:
        key = (entry.policy, entry.kind)
        held = self._moves.get(key)
        if held is None:
            held = self._moves[key] = _moves(entry.kind, self.rules.get(entry.policy, {}))
        return held

    def adopt(self, adopted: PolicyAdopted) -> Iterator[Breach]:
        """Takes a policy's rules, and says what of them could put the books wrong."""
        rules = self.rules[adopted.policy] = rules_from(adopted.rules)
        name = f"policy {adopted.policy}"
        digest = hashlib.sha256(rfc8785.dumps(adopted.rules)).hexdigest()
        if digest != adopted.content_hash:
            yield _breach(name, f"the rules of {name} are not those of its content hash", adopted.content_hash, digest)
        for kind in stated_kinds(adopted.rules):
            if kind.name not in adopted.rules:
                yield _breach(name, f"{kind.name} has no rule under {name}")
        for fault in rule_faults(rules):
            yield _breach(name, f"{fault.kind} under {name} {fault.says}", fault.expected, fault.found)

    def entry_faults(self, entry: Entry, functional_currency: str) -> Iterator[Breach]:
        """What is wrong with an entry by itself. Its lines balance: each pair debits what it credits."""
        place = f"entry of kind {entry.kind} under policy {entry.policy}"
        if entry.kind not in self.rules.get(entry.policy, {}):
            yield Breach(check="entry", message=f"there is no rule for an {place}", subject=entry.kind,
                         expected="a rule of its policy")  # fmt: skip
        elif (entry.amount_minor or entry.functional_minor) and not self.moves(entry).pairs:
            yield Breach(check="entry", message=f"an {place} has an amount, and moves no account", subject=entry.kind,
                         expected=0, found=entry.amount_minor or entry.functional_minor)  # fmt: skip
        if entry.currency == functional_currency and entry.amount_minor != entry.functional_minor:
            yield Breach(
                check="entry", message=f"an {place} has another functional amount, in the functional currency",
                subject=entry.block_id or entry.customer or entry.kind, expected=entry.amount_minor,
                found=entry.functional_minor,
            )  # fmt: skip


def _breach(policy: str, message: str, expected: object = None, found: object = None) -> Breach:
    return Breach(check="policy", message=message, subject=policy, expected=expected, found=found)


# --- what a policy's rules must be -------------------------------------------------------------------------------


def _of_class(*classes: AccountClass) -> tuple[str, ...]:
    return tuple(role.name for role in ROLES if role.account_class in classes)


_RELEASED: Final = ("deferred_revenue",)
_REVENUE: Final = _of_class(AccountClass.REVENUE)
_CONTRA: Final = _of_class(AccountClass.CONTRA_REVENUE)
_EXPENSES: Final = _of_class(AccountClass.EXPENSE)
_RESULT: Final = (*_REVENUE, *_CONTRA, *_EXPENSES, *_RELEASED)
"""Where a policy has a choice: what is earned, conceded or lost, and what is handed to the ERP's revenue module."""
_RESULT_ROLES: Final = {
    Result.REVENUE: (*_REVENUE, *_RELEASED),
    Result.SHARE: _RELEASED,
    Result.CONCESSION: (*_CONTRA, *_RELEASED, *_EXPENSES),
    Result.LOSS: (*_CONTRA, *_EXPENSES),
    Result.EXPENSE: _EXPENSES,
}
"""The accounts, of those, on which a kind of each class may end: the reports tell them apart so."""


class RuleFault(msgspec.Struct, frozen=True, kw_only=True):
    """What is wrong with the rule of one kind, as the rest of a sentence that begins with the kind."""

    kind: str
    says: str
    expected: str | None = None
    found: str | None = None


def rule_faults(rules: Rules) -> Iterator[RuleFault]:
    """What of a policy's rules could put the books wrong, kind by kind in their order; nothing for a sound policy."""
    paired = keeps_the_pair(rules)
    for name, pairs in rules.items():
        strangers = [role for pair in pairs for role in (pair.debit, pair.credit) if role not in ROLE_BY_NAME]
        for role in strangers:
            yield RuleFault(kind=name, says="names an account that is not in the chart", found=role)
        kind = KIND_BY_NAME.get(name)
        if kind is not None:
            found = list(_faults(kind, rules, paired))
            yield from found
            if not found and not strangers:
                yield from _result_faults(kind, rules, paired)


def _faults(kind: Kind, rules: Rules, paired: bool) -> Iterator[RuleFault]:
    """Where a kind does not move the accounts that the books rely on as it must."""
    pairs = rules[kind.name]
    if not (kind.has_amount and pairs):
        if bool(pairs) != kind.has_amount:
            says = "never has an amount and moves an account" if pairs else "has an amount and moves no account"
            yield RuleFault(kind=kind.name, says=says, expected="no pair" if pairs else "a list of pairs",
                            found=_written(pairs))  # fmt: skip
        return
    expected = _expected(kind, paired)
    found = {role: effect(role, kind.name, rules) for role in expected}

    def fault(says: str, *roles: str) -> RuleFault:
        return RuleFault(
            kind=kind.name, says=says,
            expected=", ".join(_moved(role, expected[role]) for role in roles),
            found=", ".join(_moved(role, found[role]) for role in roles),
        )  # fmt: skip

    liability, deposits, clearing = (found[role] for role in CONTROL)
    if paired and not liability == deposits == -clearing:
        yield fault("moves prepaid_liability without its companion", *CONTROL)
    elif not paired and (deposits or clearing):
        yield fault("moves the deposit accounts, and purchase does not", *CONTROL[1:])
    if liability != expected[LIABILITY]:
        yield fault("does not move prepaid_liability as its column says", LIABILITY)
    for role in (*MONETARY_ROLES, RECOGNISED, TRANSFERS):
        if found[role] != expected[role]:
            yield fault(f"does not move {role} as it must", role)


def _result_faults(kind: Kind, rules: Rules, paired: bool) -> Iterator[RuleFault]:
    """Where what is left for revenue, concessions and expenses is not what the kind stands for."""
    if not kind.has_amount:
        return
    moved = {role: times for role in _RESULT if (times := effect(role, kind.name, rules))}
    due = -sum(_expected(kind, paired).values())
    allowed = _RESULT_ROLES[kind.result] if due else ()
    if moved and not due:
        yield RuleFault(kind=kind.name, says="moves what is earned or lost, and must not", expected="none of it moved",
                        found=_moved_all(moved))  # fmt: skip
    elif due and (len(moved) != 1 or set(moved.values()) != {due} or not set(moved) <= set(allowed)):
        yield RuleFault(kind=kind.name, says="does not end on one account of the kinds it may end on",
                        expected=f"{_side(due)} one of {', '.join(allowed)}", found=_moved_all(moved))  # fmt: skip
    elif kind.name == "reinstatement" and "breakage" in rules:
        taken = {role: times for role in _RESULT if (times := -effect(role, "breakage", rules))}
        if moved != taken:
            yield RuleFault(kind=kind.name, says="is not the mirror of breakage", expected=_moved_all(taken),
                            found=_moved_all(moved))  # fmt: skip


def _expected(kind: Kind, paired: bool) -> dict[str, int]:
    """Debits less credits of every account in which a policy has no choice; a mirror for a negative amount."""
    liability = -kind.value_sign
    pair = liability if paired else 0
    return {
        LIABILITY: liability, "customer_deposits": pair, "credits_clearing": -pair,
        **{role: (kind.debit_role == role) - (kind.credit_role == role) for role in MONETARY_ROLES},
        **{role: (kind.debits_also == role) - (kind.credits_also == role) for role in (RECOGNISED, TRANSFERS)},
    }  # fmt: skip


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
        liability=liability, deposits=deposits, clearing=clearing, recognised=recognised,
        pairs=len(rules[name]) if known else 0,
        column=None if kind is None else kind.column,
        sign=0 if kind is None else kind.sign,
        functional_sign=0 if kind is None else kind.value_sign,
        sides=tuple((role, sign) for role, sign in sides if role is not None and role != LIABILITY),
        paired=keeps_the_pair(rules),
    )  # fmt: skip
