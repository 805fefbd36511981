"""Corrections of journals: the journals in force, and the checks of reversals and re-issues.

Owns: both. Does not own: making a reversal and a re-issue (reversing).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from projections.journals.journal import Journal, JournalLine, swapped
from subledger.errors import present


def reversal_of(journals: Sequence[Journal], journal: Journal) -> Journal | None:
    """Returns the reversal of a journal from the journals of its ledger; None if there is none."""
    for other in journals:
        if (other.period, other.reverses) == (journal.period, journal.number):
            return other
    return None


def in_force(journals: Sequence[Journal]) -> tuple[Journal, ...]:
    """The journals that are neither reversals nor reversed. Each entry is in one of them."""
    reversed_ones = {(journal.period, journal.reverses) for journal in journals}
    return tuple(
        journal
        for journal in journals
        if journal.reverses is None and (journal.period, journal.number) not in reversed_ones
    )


def correction_faults(journal: Journal, before: Sequence[Journal]) -> Iterator[tuple[str, object, object]]:
    """Yields the faults of a reversal or a re-issue, given the journals before it, as (message, expected, found)."""
    correction = present(journal.correction, f"journal {journal.name} is no correction")
    corrected = {other.number: other for other in before}.get(correction.number)
    if corrected is None or corrected.reverses is not None or not corrected.lines:
        yield "corrects a journal that cannot be reversed", "an earlier one with lines", correction.number
        return
    for field in ("period", "from_cut", "to_cut"):
        if getattr(journal, field) != getattr(corrected, field):
            yield (
                f"has other entries than the journal that it corrects: {field}",
                getattr(corrected, field),
                getattr(journal, field),
            )
    if journal.reverses is None:
        reversal = before[-1]
        if reversal.reverses != journal.reissues:
            yield "re-issues a journal that was not reversed just before", journal.reissues, reversal.reverses
        elif reversal.correction != msgspec.structs.replace(correction, reverses=journal.reissues, reissues=None):
            yield "has another reason than its reversal", reversal.correction, correction
        return
    if reversal_of(before, corrected) is not None:
        yield "reverses a journal a second time", None, journal.reverses
    if (journal.lines, journal.mapping) != (swapped(corrected.lines), corrected.mapping):
        yield (
            "does not have the swapped lines of the journal that it reverses",
            *_differing(swapped(corrected.lines), journal.lines),
        )
    if journal.customers_hash != corrected.customers_hash:
        yield (
            "has other attributes of customers than the journal that it reverses",
            corrected.customers_hash,
            journal.customers_hash,
        )


def _differing(expected: Sequence[JournalLine], found: Sequence[JournalLine]) -> tuple[object, object]:
    """Returns the first two lines that differ."""
    for one, other in zip(expected, found, strict=False):
        if one != other:
            return one, other
    return len(expected), len(found)
