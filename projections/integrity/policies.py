"""Are the posting rules of every adopted policy sound, and what does an entry move under its own?

An entry is read under the policy that it was posted under, so that a ledger may change its policy. Whatever the
policy, a kind moves prepaid_liability by its column and money owed or held by its roles: then what the entries say of
blocks and positions is what the accounts say, in every view. Owns: these rules about rules.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Final

import msgspec
import rfc8785

from projections.integrity.findings import Breach
from subledger.accounts import ROLE_BY_NAME
from subledger.event_data import PolicyAdopted
from subledger.journal import KIND_BY_NAME, KINDS, MONETARY_ROLES, Entry, Kind, Rules, effect
from subledger.posting import rules_from

LIABILITY: Final = "prepaid_liability"
CONTROL: Final = (LIABILITY, "customer_deposits", "credits_clearing")
RECOGNISED: Final = "breakage_recognized"


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
        for kind in KINDS:
            if kind.name not in rules:
                yield _breach(name, f"{name} has no rule for {kind.name}")
        for kind_name, pairs in rules.items():
            for pair in pairs:
                for role in (pair.debit, pair.credit):
                    if role not in ROLE_BY_NAME:
                        yield _breach(name, f"{kind_name} under {name} names an account that is not in the chart",
                                      None, role)  # fmt: skip
            kind_or_none = KIND_BY_NAME.get(kind_name)
            if kind_or_none is not None and pairs:
                yield from _faults(name, kind_or_none, rules)

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


def keeps_the_pair(rules: Rules) -> bool:
    """Whether a policy keeps customer_deposits and credits_clearing beside prepaid_liability."""
    return "purchase" in rules and effect("customer_deposits", "purchase", rules) != 0


def _breach(policy: str, message: str, expected: object = None, found: object = None) -> Breach:
    return Breach(check="policy", message=message, subject=policy, expected=expected, found=found)


def _faults(policy: str, kind: Kind, rules: Rules) -> Iterator[Breach]:
    liability, deposits, clearing = (effect(account, kind.name, rules) for account in CONTROL)
    if keeps_the_pair(rules) and not liability == deposits == -clearing:
        yield _breach(policy, f"{kind.name} under {policy} moves prepaid_liability without its companion",
                      (liability, liability, -liability), (liability, deposits, clearing))  # fmt: skip
    if liability != -_functional_sign(kind):
        yield _breach(policy, f"{kind.name} under {policy} does not move prepaid_liability as its column says",
                      -_functional_sign(kind), liability)  # fmt: skip
    for role in MONETARY_ROLES:
        expected, found = (kind.debits == role) - (kind.credits == role), effect(role, kind.name, rules)
        if expected != found:
            yield _breach(policy, f"{kind.name} under {policy} does not move {role} as it must", expected, found)


def _functional_sign(kind: Kind) -> int:
    return -1 if kind.debits == LIABILITY else kind.sign


def _moves(name: str, rules: Rules) -> Moves:
    kind = KIND_BY_NAME.get(name)
    known = name in rules
    liability, deposits, clearing, recognised = (
        effect(account, name, rules) if known else 0 for account in (*CONTROL, RECOGNISED)
    )
    sides = () if kind is None else ((kind.debits, 1), (kind.credits, -1))
    return Moves(
        liability=liability, deposits=deposits, clearing=clearing, recognised=recognised,
        pairs=len(rules[name]) if known else 0,
        column=None if kind is None else kind.column,
        sign=0 if kind is None else kind.sign,
        functional_sign=0 if kind is None else _functional_sign(kind),
        sides=tuple((role, sign) for role, sign in sides if role is not None and role != LIABILITY),
        paired=keeps_the_pair(rules),
    )  # fmt: skip
