"""The table of journals: storing a journal, and reading a ledger's journals with a check of their hashes.

Owns: the table ``journals``. Does not own: the content of a journal (journal), making one (making).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from projections.journals.journal import Journal, JournalCorrection, JournalLine
from subledger.errors import IntegrityFault, UnknownExport
from subledger.periods import Period
from subledger.store.database import WriteConnection
from subledger.store.reading.queries import AnyConnection, rows
from subledger.store.tallies import count_one

ADD_JOURNAL: Final = """
INSERT INTO journals (ledger, period, number, from_cut, to_cut, mapping, lines, content_hash, customers_hash, reverses,
                      reissues, reason, made_by, made_at)
VALUES (%(ledger)s, %(period)s, %(number)s, %(from_cut)s, %(to_cut)s, %(mapping)s, %(lines)s, %(content_hash)s,
        %(customers_hash)s, %(reverses)s, %(reissues)s, %(reason)s, %(made_by)s, %(made_at)s)
"""
JOURNALS: Final = """
-- The journals of a ledger, or of one of its periods, in order.
SELECT j.period, l.entity, l.functional_currency, l.sandbox, j.number, j.from_cut, j.to_cut, j.mapping,
       coalesce(j.customers_hash, ''), j.lines, j.content_hash, j.reverses, j.reissues, j.reason, j.made_by, j.made_at
FROM journals j JOIN ledgers l ON l.ledger = j.ledger
WHERE j.ledger = %(ledger)s AND (%(period)s::text IS NULL OR j.period = %(period)s)
ORDER BY j.period, j.number
"""

_lines_decoder = msgspec.json.Decoder(tuple[JournalLine, ...], strict=False)


def add_journal(connection: WriteConnection, journal: Journal) -> None:
    """Stores a journal. The caller must have the ledger's lock."""
    nothing: dict[str, Any] = dict.fromkeys(JournalCorrection.__struct_fields__)
    correction = nothing if journal.correction is None else msgspec.structs.asdict(journal.correction)
    connection.execute(
        ADD_JOURNAL,
        {
            "ledger": journal.ledger,
            "period": str(journal.period),
            "number": journal.number,
            "from_cut": journal.from_cut,
            "to_cut": journal.to_cut,
            "mapping": journal.mapping,
            "lines": journal.lines_text,
            "content_hash": journal.content_hash,
            "customers_hash": journal.customers_hash or None,
            **correction,
        },
    )
    count_one(connection, journal.ledger, "journals")


def journals_of(connection: AnyConnection, ledger: str, period: Period | None = None) -> tuple[Journal, ...]:
    """Returns the journals of a period, or of every period, in order. Raises IntegrityFault if one was changed."""
    parameters = {"ledger": ledger, "period": None if period is None else str(period)}
    return tuple(_journal(ledger, row) for row in rows(connection, JOURNALS, parameters))


def _journal(ledger: str, row: Sequence[Any]) -> Journal:
    (
        name,
        entity,
        currency,
        sandbox,
        number,
        from_cut,
        to_cut,
        mapping,
        customers_hash,
        lines,
        content_hash,
        *correction,
    ) = row
    journal = Journal(
        ledger=ledger,
        entity=entity,
        functional_currency=currency,
        sandbox=sandbox,
        period=Period.parse(name),
        number=number,
        from_cut=from_cut,
        to_cut=to_cut,
        mapping=mapping,
        customers_hash=customers_hash,
        lines=_lines_decoder.decode(lines),
        correction=_correction(correction),
    )
    if journal.content_hash != content_hash:
        raise IntegrityFault(
            f"journal {journal.name} was changed after it was made", expected=content_hash, found=journal.content_hash
        )
    return journal


def _correction(columns: Sequence[Any]) -> JournalCorrection | None:
    if all(value is None for value in columns):
        return None
    return JournalCorrection(**dict(zip(JournalCorrection.__struct_fields__, columns, strict=True)))


def journal_of(connection: AnyConnection, ledger: str, period: Period, number: int) -> Journal:
    """Returns one journal. Raises UnknownExport."""
    for journal in journals_of(connection, ledger, period):
        if journal.number == number:
            return journal
    raise UnknownExport(f"ledger {ledger} has no journal {period}-{number}", field="number", found=f"{period}-{number}")
