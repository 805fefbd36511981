"""The documents of a journal for a general ledger, within the limits of that target.

A journal becomes one document or several. A target limits the lines of a document, its currencies, the length of texts
and the letters of ids. These limits are data of each target. A journal is split between pairs, so every document
balances. Every line knows its pairs, and through them its entries.

Owns: splitting, summing to lines, references. Does not own: writing documents for a target (formats).
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from base64 import b32encode
from collections.abc import Iterable, Sequence

import msgspec

from projections.account_mapping.mapping import AccountMapping, GLAccount
from projections.journals.journal import Journal, JournalPair
from projections.journals.pairs import Level
from subledger.accounts import CHART_ORDER, Side
from subledger.errors import IntegrityFault, NotRepresentable
from subledger.money import exponent, format_minor
from subledger.own_dimensions import pairs_of


class TargetLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Limits of a target.

    ``lines``: the most lines of a document. ``text``: the most characters of a line's text. ``reference``: the most
    characters of a document's id. ``alphabet``: a regular expression for one letter of this id. ``two_currencies``:
    True if a line has an amount in the document's currency and one in the functional currency. If False, documents are
    in the functional currency only, so that the general ledger agrees with the sub-ledger to the cent, at all rates.
    ``decimals`` and ``digits``: the most places of an amount after and before the point.
    """

    lines: int
    text: int
    reference: int
    alphabet: str = "[A-Za-z0-9_-]"
    two_currencies: bool = False
    decimals: int = 2
    digits: int = 15


class DocumentLine(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Document line. ``number`` counts through all documents of an export, from 1.

    Amounts are positive minor units, of the document's currency and of the functional one. Fields that are not in the
    line's key are empty. ``pairs``: the indexes of the summed pairs among the journal's pairs.
    """

    number: int
    account: GLAccount
    side: Side
    amount_minor: int
    functional_minor: int
    text: str
    pairs: tuple[int, ...]
    role: str = ""
    currency: str = ""
    product: str = ""
    credit_kind: str = ""
    pool: str = ""
    processor: str = ""
    refundable: str = ""
    own: str = ""
    customer: str = ""
    block_id: str = ""

    @property
    def reference(self) -> str:
        """Name of the line in every target: L1, L2, …"""
        return f"L{self.number}"


class Document(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Document: balanced lines in one currency. ``part`` counts from 1 through the documents of the journal.

    ``name`` is unique over all ledgers. ``reference`` is the document's name in the target. ``kind`` is journal, unless
    the target has deposits and applications of its own (deposits).
    """

    name: str
    reference: str
    currency: str
    part: int
    parts: int
    lines: tuple[DocumentLine, ...]
    kind: str = "journal"
    customer: str = ""
    block_id: str = ""

    @property
    def total_minor(self) -> int:
        """The sum of the debits in the document's currency. The credits have the same sum."""
        return sum(line.amount_minor for line in self.lines if line.side is Side.DEBIT)


def documents_of(
    journal: Journal,
    pairs: Sequence[JournalPair],
    mapping: AccountMapping,
    *,
    limits: TargetLimits,
    level: Level = "dimension",
) -> tuple[Document, ...]:
    """Returns the documents of a journal for a target, without the pairs that are left out; none if nothing remains.

    Raises UnmappedRole, and NotRepresentable if an amount does not fit.
    """
    functional_currency = journal.functional_currency
    chunks: list[tuple[str, list[int]]] = []
    used: dict[str, set[_LineKey]] = {}
    for index, pair in enumerate(pairs):
        currency = pair.currency if limits.two_currencies else functional_currency
        if pair.native or not (pair.functional_minor or (limits.two_currencies and pair.amount_minor)):
            continue
        keys = {_key(pair, side, mapping, level, currency) for side in Side}
        lines = used.get(currency)
        if lines is None or len(lines | keys) > limits.lines:
            chunks.append((currency, []))
            lines = used[currency] = set()
        lines |= keys
        next(chunk for chunk in reversed(chunks) if chunk[0] == currency)[1].append(index)
    chunks.sort(key=lambda chunk: chunk[0] != functional_currency)  # stable: the functional currency first
    documents: list[Document] = []
    number = 0
    for part, (currency, places) in enumerate(chunks, start=1):
        name = journal.name if len(chunks) == 1 else f"{journal.name}-p{part}"
        lines_of_it = summed_lines(number, places, pairs, mapping, level, currency, functional_currency, limits)
        document = Document(
            name=name,
            reference=short_name(name, limits),
            currency=currency,
            part=part,
            parts=len(chunks),
            lines=lines_of_it,
        )
        check_document(document, functional_currency, limits)
        number += len(lines_of_it)
        documents.append(document)
    return tuple(documents)


_LineKey = tuple[object, ...]


def _key(pair: JournalPair, side: Side, mapping: AccountMapping, level: Level, currency: str) -> _LineKey:
    """The key by which pairs are summed to a line. Lines are in the order of their keys."""
    role = pair.debit if side is Side.DEBIT else pair.credit
    account = pair.account(role, mapping)
    if level == "account":
        return (account.number, account.dimensions, account.name, side is Side.CREDIT, currency)
    key = (
        CHART_ORDER[role],
        side is Side.CREDIT,
        account.number,
        account.dimensions,
        account.name,
        role,
        pair.currency,
        pair.product,
        pair.credit_kind,
        pair.pool,
        pair.processor,
        pair.refundable,
        pair.own_of(role),
    )
    return (*key, pair.customer, pair.block_id) if level in ("customer", "block") else key


def summed_lines(
    before: int,
    indexes: Sequence[int],
    pairs: Sequence[JournalPair],
    mapping: AccountMapping,
    level: Level,
    currency: str,
    functional_currency: str,
    limits: TargetLimits,
) -> tuple[DocumentLine, ...]:
    """Sums pairs to lines, numbered from ``before`` + 1."""
    summed: dict[_LineKey, list[int]] = {}
    for index in indexes:
        for side in Side:
            summed.setdefault(_key(pairs[index], side, mapping, level, currency), []).append(index)
    lines = []
    for number, (key, members) in enumerate(sorted(summed.items()), start=before + 1):
        first = pairs[members[0]]
        side = Side.CREDIT if key[3 if level == "account" else 1] else Side.DEBIT
        role = first.debit if side is Side.DEBIT else first.credit
        account = first.account(role, mapping)
        functional = sum(pairs[index].functional_minor for index in members)
        own = sum(pairs[index].amount_minor for index in members)
        line = DocumentLine(
            number=number,
            account=account,
            side=side,
            pairs=tuple(members),
            functional_minor=functional,
            amount_minor=own if limits.two_currencies else functional,
            text=account.name or role,
        )
        if level != "account":
            line = msgspec.structs.replace(
                line,
                role=role,
                currency=first.currency,
                product=first.product,
                credit_kind=first.credit_kind,
                pool=first.pool,
                processor=first.processor,
                refundable=first.refundable,
                own=first.own_of(role),
                customer=first.customer,
                block_id=first.block_id,
                text=_text(line, role, first, own if first.currency != functional_currency else None),
            )
        lines.append(msgspec.structs.replace(line, text=shortened(line.text, limits.text)))
    return tuple(lines)


def _text(line: DocumentLine, role: str, pair: JournalPair, own: int | None) -> str:
    """Returns the account's name, then the dimensions that tell this line from the others."""
    parts = [pair.block_id, pair.customer, pair.product, pair.pool, pair.processor]
    if pair.credit_kind not in ("", "paid"):
        parts.append(pair.credit_kind)
    if pair.refundable:
        parts.append("refundable")
    parts += [value for _, value in pairs_of(pair.own_of(role))]
    if own is not None:
        parts.append(f"{format_minor(own, pair.currency)} {pair.currency}")
    return ", ".join([line.account.name or role, *(part for part in parts if part)])


def shortened(text: str, limit: int) -> str:
    """Shortens a text to ``limit`` characters. An ellipsis marks a shortened text."""
    return text if len(text) <= limit else text[: limit - 1].rstrip() + "…" if limit > 1 else text[: max(limit, 0)]


def check_document(document: Document, functional_currency: str, limits: TargetLimits) -> None:
    """Checks that debit equals credit in both currencies, and that every amount fits the target."""
    for currency, amounts in (
        (document.currency, [(line.side, line.amount_minor) for line in document.lines]),
        (functional_currency, [(line.side, line.functional_minor) for line in document.lines]),
    ):
        balance = sum(amount if side is Side.DEBIT else -amount for side, amount in amounts)
        if balance:
            raise IntegrityFault(f"document {document.name} is out of balance by {balance} minor units of {currency}")
        places = exponent(currency)
        for _, amount in amounts:
            if places > limits.decimals and amount % 10 ** (places - limits.decimals):
                raise NotRepresentable(
                    f"{format_minor(amount, currency)} {currency} has more decimals than the target takes",
                    field="amount",
                    expected=f"at most {limits.decimals} decimals",
                    found=format_minor(amount, currency),
                )
            if amount >= 10 ** (limits.digits + places):
                raise NotRepresentable(
                    f"{format_minor(amount, currency)} {currency} is larger than the target takes",
                    field="amount",
                    expected=f"at most {limits.digits} digits before the point",
                    found=format_minor(amount, currency),
                )


# --- texts and ids within limits --------------------------------------------------------------------------------------


def short_name(name: str, limits: TargetLimits) -> str:
    """Returns a document's name within a target's length and alphabet: unchanged if it fits, else shortened with a
    hash.

    The hash is 40 bits of the whole name, so that names with the same beginning stay different.
    """
    # A spreadsheet would take a name that begins with a minus for a formula. An apostrophe before it would change the
    # id.
    fits = len(name) <= limits.reference and name[:1].isalnum()
    if fits and re.fullmatch(f"(?:{limits.alphabet})+", name, re.ASCII):
        return name
    digest = b32encode(hashlib.sha256(name.encode()).digest()[:5]).decode()
    allowed = "".join(letter if re.fullmatch(limits.alphabet, letter, re.ASCII) else "" for letter in name)
    room = limits.reference - len(digest)
    return allowed[-room:].lstrip("-_") + digest if room > 0 else digest[: limits.reference]


def ascii_text(text: str) -> str:
    """Returns a text in ASCII, for targets that import nothing else: letters lose their marks, other characters become
    ``?``.
    """
    plain = unicodedata.normalize("NFKD", text.replace("…", "...").replace("ß", "ss"))
    return "".join(letter if letter.isascii() else "" if unicodedata.combining(letter) else "?" for letter in plain)


def lines_of(documents: Iterable[Document]) -> Iterable[tuple[Document, DocumentLine]]:
    """Yields every line with its document."""
    return ((document, line) for document in documents for line in document.lines)
