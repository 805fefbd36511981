"""The customer-deposit pattern, block by block, for a general ledger with deposits and applications of its own.

The amount that a purchase adds to customer deposits is a deposit of the customer. The amount that consumption or expiry
takes from deposits against receivables is an application of that deposit. Every other movement of a block is in a
journal of that block. All three have the block's id as their key. Together they are the whole journal: a company sends
either these documents or the summary, never both.

Deposits and applications are made once. Reversing a journal moves amounts between accounts, and does not undo these
records. So all documents of a reversal or re-issue are journals.

Owns: the document of each pair. Does not own: pairs (journals), lines (documents), writing documents (formats).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from typing import Final

from projections.account_mapping.mapping import AccountMapping
from projections.exports.documents import Document, TargetLimits, check_document, short_name, summed_lines
from projections.journals.interval import interval_of, with_positions
from projections.journals.journal import Journal, JournalPair
from projections.journals.pairs import Level
from subledger.errors import present
from subledger.store.reading.queries import AnyConnection, rows

DEPOSIT, JOURNAL, APPLICATION = KINDS = ("deposit", "journal", "application")
"""Kinds of a block's documents, in the order in which they are made."""

_OF_PAIRS: Final = {
    ("credits_clearing", "customer_deposits"): DEPOSIT,
    ("customer_deposits", "accounts_receivable"): APPLICATION,
}
_PREFIXES: Final = {DEPOSIT: "DEP", JOURNAL: "JE", APPLICATION: "APP"}

OPENED: Final = """
-- The blocks whose purchase is in a journal. The purchase makes their first deposit.
SELECT b.block_id FROM blocks b
JOIN entries e ON e.ledger = b.ledger AND e.position = b.opened_at_position AND e.block_id = b.block_id
WHERE b.ledger = %(ledger)s AND e.accounting_date BETWEEN %(first_day)s AND %(last_day)s
  AND e.cut > %(from_cut)s AND e.cut <= %(to_cut)s
  AND e.position BETWEEN %(first_position)s AND %(last_position)s
GROUP BY b.block_id
"""


def opened_in(connection: AnyConnection, journal: Journal) -> set[str]:
    """The blocks whose purchase is in a journal."""
    parameters = with_positions(connection, interval_of(journal))
    return {block_id for (block_id,) in rows(connection, OPENED, parameters)}


def deposit_name(block_id: str, journal: Journal, opened: Collection[str]) -> str:
    """Name of a block's deposit: the block's id if this journal has the purchase; else the name also names this
    journal.
    """
    return f"DEP-{block_id}" if block_id in opened else f"DEP-{block_id}-{journal.period}-{journal.number}"


def block_documents(
    journal: Journal,
    pairs: Sequence[JournalPair],
    mapping: AccountMapping,
    *,
    limits: TargetLimits,
    opened: Collection[str],
) -> tuple[Document, ...]:
    """Returns the documents of a journal, block by block: deposits, then journals, then applications of each.

    ``pairs`` are by block; pairs without a block are a journal of their own. Documents are in the functional currency.
    Raises UnmappedRole, NotRepresentable.
    """
    functional_currency = journal.functional_currency
    groups: dict[_Group, list[int]] = {}
    for index, pair in enumerate(pairs):
        if pair.functional_minor and not pair.native:
            groups.setdefault(_group(journal, pair, mapping), []).append(index)
    documents: list[Document] = []
    names: Counter[str] = Counter()
    number = 0
    for (block_id, customer, rank, *_), places in sorted(groups.items()):
        kind = KINDS[rank]
        for chunk in _chunks(places, limits.lines):
            name = _name(journal, kind, block_id, customer, opened)
            names[name] += 1
            name += f"-{names[name]}" if names[name] > 1 else ""
            level: Level = "block" if kind == JOURNAL else "account"
            lines = summed_lines(number, chunk, pairs, mapping, level, functional_currency, functional_currency, limits)
            document = Document(
                name=name,
                reference=short_name(name, limits),
                currency=functional_currency,
                part=1,
                parts=1,
                lines=lines,
                kind=kind,
                customer=customer,
                block_id=block_id,
            )
            check_document(document, functional_currency, limits)
            number += len(lines)
            documents.append(document)
    return tuple(documents)


_Group = tuple[str, str, int, str, str]
"""Block, customer, index of the kind; for a deposit or an application also its two accounts."""


def _group(journal: Journal, pair: JournalPair, mapping: AccountMapping) -> _Group:
    own = pair.block_id and journal.reissues is None
    kind = _OF_PAIRS.get((pair.debit, pair.credit), JOURNAL) if own else JOURNAL
    if kind == JOURNAL:
        return pair.block_id, pair.customer, KINDS.index(kind), "", ""
    debit, credit = (pair.account(role, mapping).number for role in (pair.debit, pair.credit))
    return pair.block_id, pair.customer, KINDS.index(kind), debit, credit


def _name(journal: Journal, kind: str, block_id: str, customer: str, opened: Collection[str]) -> str:
    if not block_id:
        return f"{journal.name}-{customer}" if customer else journal.name
    if kind == DEPOSIT:
        return deposit_name(block_id, journal, opened)
    return f"{_PREFIXES[kind]}-{block_id}-{journal.period}-{journal.number}"


def reversal_name(journal: Journal, document: Document) -> str:
    """Name of the document that reverses another one.

    If the other one had its journal's name, the name is that of the reversal. Documents of a block or customer are
    reversed once, so their reversals are named after them.
    """
    corrects = present(journal.corrects, f"journal {journal.name} takes none back")
    if document.name in {corrects, f"{corrects}-p{document.part}"}:
        return journal.name + document.name.removeprefix(corrects)
    return f"REV-{document.name}"


def _chunks(places: Sequence[int], lines: int) -> list[Sequence[int]]:
    """Splits pairs for documents; each pair adds at most two lines."""
    size = max(lines // 2, 1)
    return [places[start : start + size] for start in range(0, len(places), size)]
