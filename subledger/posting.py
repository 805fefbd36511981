"""Posting: policies as data, and a decision's movements as journal entries.

An adopted policy states a rule for every entry kind that existed then, and is never edited. For a newer kind it
inherits the rule of the shipped policy that treats deposits and revenue in the same way (``rules_from``). The inherited
rule is then part of the books. So a shipped policy may add rules for new kinds, but never changes a rule that others
inherit. A different treatment needs a new kind.

Owns: reading and checking policy files, the inheritance of rules, ``post``. Pure, except for reading the shipped files.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import date
from functools import lru_cache
from importlib import resources
from typing import Any, Final

import msgspec
import rfc8785

from subledger.accounts import ROLE_BY_NAME
from subledger.blocks import Block
from subledger.errors import IntegrityFault, InvalidInput, InvalidPolicy
from subledger.events.data import CreditsConsumed
from subledger.events.envelope import Event
from subledger.events.opened import BalanceOpened
from subledger.kinds import KIND_BY_NAME, KINDS, YOUNGER_KINDS, AccountPair, Dimensions, Entry, Kind, Rules, effect
from subledger.ledger import LedgerState
from subledger.own_dimensions import of_usage_alone, text_of
from subledger.text.toml_text import read_toml
from subledger.wallet import Decision, Movement, Wallet

DEFAULT_POLICY: Final = "customer_deposits"
SHIPPED_POLICIES: Final = ("contract_liability", "customer_deposits", "customer_deposits_arm")


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """A posting policy: for every entry kind the account pairs through which its amount moves.

    ``rules``: the rules that the policy states itself. ``complete_rules``: these and the inherited ones.
    """

    name: str
    version: int
    description: str
    rules: Mapping[str, tuple[AccountPair, ...]]

    @property
    def rules_document(self) -> dict[str, list[list[str]]]:
        """The rules as plain JSON, kinds and pairs in order."""
        return {kind: [[pair.debit, pair.credit] for pair in pairs] for kind, pairs in self.rules.items()}

    @property
    def complete_rules(self) -> Rules:
        """The rules of every entry kind: the policy's own, and the inherited ones of newer kinds."""
        return with_inherited(self.rules)

    @property
    def content_hash(self) -> str:
        """SHA-256 of the rules in canonical JSON, as ``policy.adopted`` states it."""
        return hashlib.sha256(rfc8785.dumps(self.rules_document)).hexdigest()


def own_rules(document: Mapping[str, list[list[str]]]) -> Rules:
    """The rules that a ``policy.adopted`` event states."""
    return {kind: tuple(AccountPair(debit, credit) for debit, credit in pairs) for kind, pairs in document.items()}


def rules_from(document: Mapping[str, list[list[str]]]) -> Rules:
    """The rules of a ``policy.adopted`` event, and the inherited rules of newer kinds."""
    return with_inherited(own_rules(document))


def stated_kinds(rules: Mapping[str, Any]) -> Iterator[Kind]:
    """The kinds for which a policy must state a rule itself: all kinds that existed when it was written.

    The version of the table at that time is the latest ``since`` of the kinds that the policy has rules for.
    """
    version = max((KIND_BY_NAME[name].since for name in rules if name in KIND_BY_NAME), default=1)
    return (kind for kind in KINDS if kind.since <= version)


def with_inherited(rules: Rules) -> Rules:
    """A policy's own rules, and for each newer kind the rule of the shipped policy that it is based on."""
    lacking = [kind.name for kind in YOUNGER_KINDS if kind.name not in rules]
    if not lacking:
        return rules
    stated = {kind.name for kind in stated_kinds(rules)}
    base = _shipped_rules(base_policy(rules))
    return {**rules, **{name: base[name] for name in lacking if name not in stated}}


def base_policy(rules: Rules) -> str:
    """The shipped policy from which books with these rules inherit the rules of new kinds.

    The rules decide, not the name of the policy, because a company's own policy can have any name.
    - contract_liability: books without the deposit pair, which must never get it.
    - customer_deposits: books with the pair. Every kind that moves the liability needs it.
    - customer_deposits_arm: consumption is released to the ERP's revenue module, and so are new kinds.

    A shipped policy is its own base.
    """
    if not keeps_the_pair(rules):
        return "contract_liability"
    releases = "consumption" in rules and effect("deferred_revenue", "consumption", rules) != 0
    return "customer_deposits_arm" if releases else "customer_deposits"


def keeps_the_pair(rules: Rules) -> bool:
    """True if a policy moves customer_deposits and credits_clearing together with prepaid_liability."""
    return "purchase" in rules and effect("customer_deposits", "purchase", rules) != 0


def parse_policy(text: str) -> Policy:
    """A policy file: TOML with name, version, description and one list of ``debit / credit`` texts per entry kind.

    Kinds that are newer than the file may be missing. Their rules are inherited. Raises InvalidPolicy naming the
    member, kind or role that is unknown, missing or of a wrong type.
    """
    try:
        document = read_toml(text, name="policy file")
    except InvalidInput as error:
        raise InvalidPolicy(error.message, expected=error.expected, found=error.found) from None
    for member, (allowed, expected) in _MEMBERS.items():
        if member not in document or not allowed(document[member]):
            raise _invalid_member(member, expected, document.get(member))
    for member in document:
        if member not in _MEMBERS:
            raise InvalidPolicy(
                f"{member[:60]} is no member of a policy", field=member[:60], expected=", ".join(_MEMBERS)
            )
    rules = {kind: _pairs(kind, texts) for kind, texts in document["entries"].items()}
    for kind in stated_kinds(rules):
        if kind.name not in rules:
            raise InvalidPolicy(f"the policy has no rule for {kind.name}", field=kind.name, expected="a list of pairs")
    for name in rules:
        if name not in KIND_BY_NAME:
            raise InvalidPolicy(
                f"there is no entry kind {name[:60]}",
                field=name[:60],
                expected="an entry kind of subledger/README.md",
                found=name[:60],
            )
    return Policy(
        name=document["name"], version=document["version"], description=document["description"].strip(), rules=rules
    )


_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_MAX_PAIRS: Final = 12
_MEMBERS: Final[Mapping[str, tuple[Callable[[Any], bool], str]]] = {
    "name": (
        lambda value: isinstance(value, str) and _NAME.fullmatch(value) is not None,
        "1 to 64 letters, digits, dots, dashes and underscores",
    ),
    "version": (lambda value: type(value) is int and 1 <= value < 2**31, "a whole number, from 1"),
    "description": (
        lambda value: isinstance(value, str) and len(value) <= 2000 and "\x00" not in value,
        "text of at most 2000 characters",
    ),
    "entries": (lambda value: isinstance(value, dict), "a table: one list of pairs for each entry kind"),
}
"""The members of a policy file: the check of each, and its expected value in words."""


def _invalid_member(member: str, expected: str, found: object) -> InvalidPolicy:
    what = "nothing" if found is None else str(found)[:60] if isinstance(found, str | int) else type(found).__name__
    return InvalidPolicy(f"the policy's {member} is not {expected}", field=member, expected=expected, found=what)


def _pairs(kind: str, texts: Any) -> tuple[AccountPair, ...]:
    if not (isinstance(texts, list) and len(texts) <= _MAX_PAIRS and all(isinstance(text, str) for text in texts)):
        expected = f"a list of at most {_MAX_PAIRS} texts, debit / credit"
        raise InvalidPolicy(
            f"{kind[:60]} is not {expected}", field=kind[:60], expected=expected, found=type(texts).__name__
        )
    return tuple(_pair(kind, text) for text in texts)


def _pair(kind: str, text: str) -> AccountPair:
    debit, _, credit = (part.strip() for part in text.partition("/"))
    for role in (debit, credit):
        if role not in ROLE_BY_NAME:
            raise InvalidPolicy(
                f"{kind[:60]}: there is no account role {role[:60]!r}",
                field=kind[:60],
                expected="debit / credit, two roles",
                found=text[:120],
            )
    return AccountPair(debit, credit)


def shipped_policy(name: str) -> Policy:
    """One of the policies that ship. Raises InvalidPolicy."""
    if name not in SHIPPED_POLICIES:
        raise InvalidPolicy(f"no policy {name} ships", field="policy", expected=", ".join(SHIPPED_POLICIES), found=name)
    return parse_policy((resources.files("subledger") / "policies" / f"{name}.toml").read_text("utf-8"))


@lru_cache(maxsize=len(SHIPPED_POLICIES))  # parsed once, because every reading of a policy's rules needs them
def _shipped_rules(name: str) -> Rules:
    return shipped_policy(name).rules


_dimensions = lru_cache(maxsize=4_096)(Dimensions)  # few different values, read often


def post(event: Event, decision: Decision, *, before: LedgerState, wallets: Mapping[str, Wallet]) -> tuple[Entry, ...]:
    """The journal entries of a decision: one per movement, in order.

    ``before``: the ledger before the event. ``wallets``: the customers' wallets after it. Only terms of blocks and
    overages are read. They never change, so the wallets before the event would give the same entries.
    """
    if not decision.movements:
        return ()
    effective = before.effective_date_of(event)
    return tuple(
        _entry(number, movement, event, decision, before, wallets, effective)
        for number, movement in enumerate(decision.movements, start=1)
    )


def _block_of(block_id: str, customer: str, event: Event, decision: Decision, wallets: Mapping[str, Wallet]) -> Block:
    """The terms of the block of a movement. If the wallet of its customer is missing, a transfer has them."""
    wallet = wallets.get(customer)
    if wallet is not None:
        return wallet.state_of_block(block_id)
    for restored in decision.restored:
        if restored.customer == customer and (block := restored.block(block_id)) is not None:
            return block
    if decision.new_block is not None:
        return decision.new_block
    own = wallets[event.customer or ""]
    for movement in decision.movements:
        block = None if movement.block_id is None else own.block(movement.block_id)
        if block is not None and (block.origin == block_id or block_id in dict(block.handed)):
            return block
    raise IntegrityFault(f"block {block_id} of customer {customer} has no state", block_id=block_id)


def _entry(
    number: int,
    movement: Movement,
    event: Event,
    decision: Decision,
    before: LedgerState,
    wallets: Mapping[str, Wallet],
    effective: date,
) -> Entry:
    customer = movement.customer or (event.customer if movement.kind != "breakage_estimate" else None)
    wallet = wallets.get(customer) if customer is not None else None
    usage = event.data if isinstance(event.data, CreditsConsumed) else None
    counted = event.data if isinstance(event.data, CreditsConsumed | BalanceOpened) else None
    unit, credit_kind, refundable, own = None, "", "", ""
    if movement.block_id is not None and customer is not None:
        block = _block_of(movement.block_id, customer, event, decision, wallets)
        credit_kind, refundable, own = block.credit_kind, block.refundable_dimension, block.dimensions
        unit = block.unit if movement.credits else None
    elif movement.credits and wallet is not None:
        overage = wallet.overage(movement.overage_position) if movement.overage_position is not None else None
        unit = overage.unit if overage is not None else counted.unit if counted is not None else None
    functional = movement.amount_minor if movement.functional_minor is None else movement.functional_minor
    if movement.amount_minor * functional < 0:
        raise IntegrityFault(
            f"{movement.kind} of {movement.amount_minor} cannot be {functional} in the functional currency"
        )
    product = movement.product or (usage.product if usage is not None else None)
    of_usage = movement.dimensions or ""
    if usage is not None and usage.dimensions and KIND_BY_NAME[movement.kind].is_usage:
        of_usage = of_usage_alone(own, text_of(usage.dimensions))
    return Entry(
        number=number,
        policy=movement.policy or decision.policy,
        kind=movement.kind,
        customer=customer,
        block_id=movement.block_id,
        unit=unit,
        credits=movement.credits,
        amount_minor=movement.amount_minor,
        currency=movement.currency or before.functional_currency,
        functional_minor=functional,
        accounting_date=movement.accounting_date,
        effective_date=effective,
        cut=before.open_cut,
        dimensions=_dimensions(
            product or "",
            credit_kind,
            movement.pool or "",
            movement.processor or "",
            movement.cohort or "",
            refundable,
            own,
            of_usage if of_usage != own else "",
        ),
    )
