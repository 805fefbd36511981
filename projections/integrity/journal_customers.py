"""Check of journals under an account mapping that uses customer attributes: the stored attributes, and the lines.

Owns: the table ``journal_customers`` against the journals; the lines of such journals, with GL accounts, against the
entries. Does not own: the sequence of journals, their files (handed_over). The current attributes of customers are not
read here: they may change and be erased.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

import sqlalchemy as sa

from projections.account_mapping.mapping import AccountMapping, mapping_of
from projections.journals.journal import Journal, lines_from
from projections.journals.journal_customers import stored_hash
from projections.journals.pairs import sum_pairs
from projections.replay.findings import Breach

KEPT_OF: Final = """
-- The journals with stored attributes.
SELECT DISTINCT period, number FROM journal_customers WHERE ledger = :ledger ORDER BY period, number
"""


def customer_faults(connection: sa.Connection, ledger: str, journals: Iterable[Journal]) -> Iterator[Breach]:
    """Checks the journals that could be read. A journal with attributes needs a pass over its entries."""
    mappings: dict[int, AccountMapping] = {}
    went_by = set()
    for journal in journals:
        subject = f"{journal.period}-{journal.number}"
        try:
            if journal.mapping not in mappings:
                mappings[journal.mapping] = mapping_of(connection, ledger, journal.mapping)
            mapping = mappings[journal.mapping]
            if bool(mapping.attributes) != bool(journal.customers_hash):
                yield journal_breach(
                    subject,
                    f"journal {journal.name} did not use the attributes that its account mapping uses",
                    list(mapping.attributes),
                    journal.customers_hash,
                )
            elif journal.customers_hash:
                went_by.add((str(journal.period), journal.customers_number))
                yield from _faults(connection, journal, mapping)
        except Exception as error:  # a changed row may fail in any way
            yield journal_breach(subject, f"journal {journal.name} cannot be computed again", None, repr(error))
    for row in connection.execute(sa.text(KEPT_OF), {"ledger": ledger}):
        if (row.period, row.number) not in went_by:
            yield journal_breach(
                f"{row.period}-{row.number}", "attributes are stored for a journal that used none", None, "rows"
            )


def _faults(connection: sa.Connection, journal: Journal, mapping: AccountMapping) -> Iterator[Breach]:
    subject = f"{journal.period}-{journal.number}"
    found = stored_hash(connection, ledger=journal.ledger, period=str(journal.period), number=journal.customers_number)
    if found != journal.customers_hash:
        yield journal_breach(
            subject,
            f"the stored customer attributes of journal {journal.name} have been changed",
            journal.customers_hash,
            found,
        )
    if journal.reverses is not None:
        return  # its lines are the swapped lines of the reversed journal: see reversing
    expected_lines = lines_from(sum_pairs(connection, journal, mapping), mapping)
    if expected_lines != journal.lines:
        at = next(
            (n for n, both in enumerate(zip(expected_lines, journal.lines, strict=False)) if both[0] != both[1]), -1
        )
        expected, stored = (repr(lines[at]) if lines else "no lines" for lines in (expected_lines, journal.lines))
        yield journal_breach(
            subject, f"journal {journal.name} differs from its entries and customer attributes", expected, stored
        )


def journal_breach(subject: str, message: str, expected: object, found: object) -> Breach:
    """Returns the breach of a journal that differs from the log."""
    return Breach(check="journals", message=message, subject=subject, expected=expected, found=found)
