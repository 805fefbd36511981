"""The division of work with the general ledger: the account pairs that it posts by itself, and those of our documents.

A company's ERP or its billing connector often posts invoices, payments or deposits already. If a journal posts them
too, receivables, tax and cash are in the books twice. So a target's setting ``native`` names these documents. Each word
stands for account pairs of entry kinds. These pairs are left out of the documents of an export, and the export keeps
them. A journal is therefore its documents and what was left out.

Under the deposit policies, consumption and breakage pass through accounts_receivable: one pair of the entry enters it,
another one leaves it. Only a general ledger with customer deposits has a use for this. All others get one pair between
the other two accounts, and the receivable's own pair (``pass_through``) is left out.

Owns: the words, and the pairs of a rule for a division. Does not own: the kinds' own words (kinds), a company's
settings (exports/targets), the amounts (pairs).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple, Protocol

import msgspec

from subledger.errors import InvalidInput
from subledger.kinds import KIND_BY_NAME, AccountPair, Kind
from subledger.store.reading.queries import AnyConnection, rows

WORDS: Final[dict[str, str]] = {
    "invoices": "invoices of purchases and of billed overage, with their tax",
    "credit_memos": "credit memos: voids, refunds and price concessions, with their tax",
    "payments": "customers' payments and their application; exchange differences of receivables that are paid",
    "refunds": "refunds that are paid out",
    "fees": "fees and adjustments of payment processors and banks",
    "payouts": "payouts of processors to the bank, and money that changes its currency",
    "disputes": "disputes and chargebacks",
    "usage_invoices": "an invoice for what is consumed or expires, paid from the customer's deposit",
    "deposits": "customer deposits for purchases",
    "deposit_applications": "applications of customer deposits to invoices",
    "revenue": "usage, overage and breakage revenue, posted by a revenue module",
}
"""The documents that a general ledger or a billing connector may post by itself, and what each stands for."""

PASS_THROUGH: Final = "pass_through"
"""The word of what enters and leaves the receivable in the same entry."""

_RECEIVABLE: Final = "accounts_receivable"
_DEPOSIT: Final = {"credits_clearing", "customer_deposits"}
_REVENUE: Final = {"usage_revenue", "overage_revenue", "breakage_revenue"}


class Division(msgspec.Struct, frozen=True, kw_only=True):
    """A division of work. ``native``: the words of the documents that we leave out.

    ``pass_through``: True if documents have what passes through the receivable.
    """

    native: tuple[str, ...] = ()
    pass_through: bool = True

    @classmethod
    def of_settings(cls, settings: Mapping[str, object]) -> Division:
        """The division of an export, by its stored settings. Exports from before it existed have the whole journal."""
        return msgspec.convert({name: settings[name] for name in cls.__struct_fields__ if name in settings}, cls)


UNDIVIDED: Final = Division()
"""Our documents are the whole journal."""


class DividedPair(NamedTuple):
    """A pair of a rule for a division. ``native`` is the word for which it is left out; empty if it is not."""

    debit: str
    credit: str
    native: str


def check_words(words: Sequence[str]) -> None:
    """Raises InvalidInput if a word is unknown, or is there twice."""
    for word in words:
        if word not in WORDS:
            raise InvalidInput(
                f"no document has the name {word[:60]}", field="native", expected=", ".join(WORDS), found=word[:60]
            )
    twice = sorted({word for word in words if words.count(word) > 1})
    if twice:
        raise InvalidInput(f"{twice[0]} is named twice", field="native", expected="each once", found=", ".join(words))


def words_of(kind: Kind, pair: AccountPair, pairs: Sequence[AccountPair]) -> tuple[str, ...]:
    """The words that stand for a pair of a kind's rule, in their order. ``pairs`` are all pairs of the rule."""
    sides, through = {pair.debit, pair.credit}, passing_through(pairs)
    found = {kind.native} if kind.native and sides & {kind.debit_role, kind.credit_role} else set()
    if sides == _DEPOSIT and kind.native == "invoices":
        found.add("deposits")
    if pair in through:
        found.add("deposit_applications" if "customer_deposits" in sides else "usage_invoices")
    if sides & _REVENUE:
        found.add("revenue")
    return tuple(word for word in WORDS if word in found)


def passing_through(pairs: Sequence[AccountPair]) -> tuple[AccountPair, ...]:
    """The two pairs of a rule that enter and leave the receivable: none, or the one that enters it first."""
    enter = [pair for pair in pairs if pair.debit == _RECEIVABLE]
    leave = [pair for pair in pairs if pair.credit == _RECEIVABLE]
    return (enter[0], leave[0]) if enter and leave else ()


def divided(kind: Kind, pairs: Sequence[AccountPair], division: Division) -> tuple[DividedPair, ...]:
    """The pairs of a kind's rule under a division. Each side of each role has the same amount as without it."""
    found = []
    for pair in _joined(pairs, division):
        words = (PASS_THROUGH,) if pair.debit == pair.credit else words_of(kind, pair, pairs)
        left_out = next((word for word in words if word == PASS_THROUGH or word in division.native), "")
        found.append(DividedPair(pair.debit, pair.credit, left_out))
    return tuple(found)


def _joined(pairs: Sequence[AccountPair], division: Division) -> Sequence[AccountPair]:
    """The pairs; the two that pass through the receivable become one, unless one of them is a document of its own."""
    through = passing_through(pairs)
    of_documents = {"usage_invoices", "deposit_applications"} & {*division.native}
    if division.pass_through or of_documents or not through:
        return pairs
    enters, leaves = through
    joined = AccountPair(debit=leaves.debit, credit=enters.credit)
    receivable = AccountPair(debit=_RECEIVABLE, credit=_RECEIVABLE)
    others = [pair for pair in pairs if pair not in through]
    return (joined, receivable, *others)


RULES: Final = """
-- The pairs of every kind, under every policy of a ledger.
SELECT policy, kind, debit, credit FROM posting_rules WHERE ledger = %(ledger)s ORDER BY policy, kind, pair
"""


def rules_for(connection: AnyConnection, ledger: str, division: Division) -> dict[str, list[object]]:
    """The rules of a ledger under a division, as the columns of an SQL table: of_policy, of_kind, of_debit, …"""
    rules: dict[tuple[int, str], list[AccountPair]] = {}
    for policy, kind, debit, credit in rows(connection, RULES, {"ledger": ledger}):
        rules.setdefault((policy, kind), []).append(AccountPair(debit=debit, credit=credit))
    found: list[tuple[object, ...]] = [
        (policy, kind, *pair)
        for (policy, kind), pairs in rules.items()
        for pair in divided(KIND_BY_NAME[kind], pairs, division)
    ]
    names = ("of_policy", "of_kind", "of_debit", "of_credit", "of_native")
    return {name: [row[column] for row in found] for column, name in enumerate(names)}


RULES_TABLE: Final = """
    (SELECT * FROM unnest(%(of_policy)s::int[], %(of_kind)s::text[], %(of_debit)s::text[], %(of_credit)s::text[],
                          %(of_native)s::text[])) AS r (policy, kind, debit, credit, native)
"""
"""The rules as a table of a query, with the parameters of ``rules_for``."""


class LeftOut(NamedTuple):
    """An amount that was left out of documents: of a word, from a role to a role, in minor units of a currency."""

    word: str
    debit: str
    credit: str
    currency: str
    amount_minor: int
    functional_minor: int


class _Pair(Protocol):
    """A journal's pair (journal.JournalPair), as far as it is summed here."""

    @property
    def native(self) -> str: ...
    @property
    def debit(self) -> str: ...
    @property
    def credit(self) -> str: ...
    @property
    def currency(self) -> str: ...
    @property
    def amount_minor(self) -> int: ...
    @property
    def functional_minor(self) -> int: ...


def left_out(pairs: Iterable[_Pair]) -> tuple[LeftOut, ...]:
    """The amounts of a journal's pairs that its documents leave out, by word, roles and currency."""
    sums: dict[tuple[str, str, str, str], list[int]] = {}
    for pair in pairs:
        if pair.native:
            total = sums.setdefault((pair.native, pair.debit, pair.credit, pair.currency), [0, 0])
            total[0] += pair.amount_minor
            total[1] += pair.functional_minor
    order = [*WORDS, PASS_THROUGH]
    return tuple(LeftOut(*key, *sums[key]) for key in sorted(sums, key=lambda key: (order.index(key[0]), *key[1:])))
