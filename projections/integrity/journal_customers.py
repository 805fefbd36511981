"""Is what journals went by of their customers what it was, and do their lines follow from it?

Owns: the table ``journal_customers`` against the journals; the lines of such a journal, accounts and all, against the
entries. Does not own: that journals follow each other, their files (handed_over). What customers have of attributes
now is looked at by nobody here: it may change, and be erased.
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
-- The journals that something is kept of.
SELECT DISTINCT period, number FROM journal_customers WHERE ledger = :ledger ORDER BY period, number
"""


def customer_faults(connection: sa.Connection, ledger: str, journals: Iterable[Journal]) -> Iterator[Breach]:
    """Of journals that could be read. A journal that went by customers costs a pass over its entries."""
    mappings: dict[int, AccountMapping] = {}
    went_by = set()
    for journal in journals:
        place = f"{journal.period}-{journal.number}"
        try:
            if journal.mapping not in mappings:
                mappings[journal.mapping] = mapping_of(connection, ledger, journal.mapping)
            mapping = mappings[journal.mapping]
            if bool(mapping.attributes) != bool(journal.customers_hash):
                yield _breach(place, f"journal {journal.name} did not go by what its mapping goes by",
                              list(mapping.attributes), journal.customers_hash)  # fmt: skip
            elif journal.customers_hash:
                went_by.add((str(journal.period), journal.customers_number))
                yield from _faults(connection, journal, mapping)
        except Exception as error:  # a changed row may fail in any way
            yield _breach(place, f"journal {journal.name} cannot be made again", None, repr(error))
    for row in connection.execute(sa.text(KEPT_OF), {"ledger": ledger}):
        if (row.period, row.number) not in went_by:
            yield _breach(
                f"{row.period}-{row.number}", "customers are kept of a journal that went by none", None, "rows"
            )


def _faults(connection: sa.Connection, journal: Journal, mapping: AccountMapping) -> Iterator[Breach]:
    place = f"{journal.period}-{journal.number}"
    found = stored_hash(connection, ledger=journal.ledger, period=str(journal.period), number=journal.customers_number)
    if found != journal.customers_hash:
        yield _breach(place, f"what journal {journal.name} went by of its customers is not what it was",
                      journal.customers_hash, found)  # fmt: skip
    if journal.reverses is not None:
        return  # its lines are those of what it reverses, swapped: see reversing
    made = lines_from(sum_pairs(connection, journal, mapping), mapping)
    if made != journal.lines:
        at = next((n for n, both in enumerate(zip(made, journal.lines, strict=False)) if both[0] != both[1]), -1)
        expected, kept = (repr(lines[at]) if lines else "no lines" for lines in (made, journal.lines))
        yield _breach(place, f"journal {journal.name} is not what its entries and customers make it", expected, kept)


def _breach(subject: str, message: str, expected: object, found: object) -> Breach:
    return Breach(check="journals", message=message, subject=subject, expected=expected, found=found)
