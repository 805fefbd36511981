"""Reversing a journal that went to the wrong accounts: what was posted is not edited, it is taken back and issued anew.

A journal keeps the accounts and dimensions it was made with. Where they were wrong, one act makes two journals of the
same entries: the *reversal*, whose lines are the journal's own with their sides swapped, and the *re-issue*, under the
account mapping that holds now. Entries, cuts and the books stay as they are, so a closed month stays closed. Numbers
follow on in the period, and both are posted on its last day, as adjustments are.

Owns: when a journal can be reversed, which journals are in force, what ``verify`` asks of corrections. Does not own:
keeping journals, their lines (summary), how a reversal is written down (exports).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from projections.journals.journal import Journal, JournalCorrection, JournalLine, swapped
from projections.journals.making import new_journal
from projections.journals.stored_journals import add_journal, journals_of
from subledger.errors import JournalNotReversible, NothingToCorrect, UnknownExport, present
from subledger.events.envelope import Event
from subledger.ledger import LedgerState
from subledger.own_events import check_reason
from subledger.periods import Period
from subledger.persons import NOBODY
from subledger.store.database import WriteConnection
from subledger.store.writing.recorder import Recorder, now_of


class Reversed(msgspec.Struct, frozen=True, kw_only=True):
    """A journal that was reversed, and the two that this made."""

    journal: Journal
    reversal: Journal
    reissue: Journal


def reverse_journal(
    recorder: Recorder, ledger: str, period: Period, number: int, reason: str, *, by: str = NOBODY
) -> Reversed:  # fmt: skip
    """Reverses a journal and issues its entries anew, under the ledger's lock: both, or nothing.

    Refused in this order: InvalidValue for an empty reason, UnknownLedger, UnknownExport where the period has no such
    journal, JournalNotReversible, UnmappedRole where the mapping has no account by now, NothingToCorrect where it
    gives the same lines.
    """
    check_reason(reason, "reversing a journal")
    made: list[Reversed] = []

    def plan(_connection: WriteConnection, _state: LedgerState, _position: int) -> list[Event]:
        return []  # the books do not move

    def make(connection: WriteConnection, state: LedgerState) -> None:
        journals = journals_of(connection, ledger, period)
        journal = _reversible(journals, ledger, period, number)
        cuts, at, last = (journal.from_cut, journal.to_cut), now_of(connection), journals[-1].number
        again = new_journal(
            connection, state, period, number=last + 2, cuts=cuts,
            correction=JournalCorrection(reissues=number, reason=reason, made_by=by, made_at=at),
        )  # fmt: skip
        if again.lines == journal.lines:
            raise NothingToCorrect(
                f"account mapping {again.mapping} gives journal {journal.name} the lines that it has",
                field="mapping", expected="other accounts or dimensions", found=str(again.mapping),
            )  # fmt: skip
        reversal = msgspec.structs.replace(
            journal, number=last + 1, lines=swapped(journal.lines),
            correction=JournalCorrection(reverses=number, reason=reason, made_by=by, made_at=at),
        )  # fmt: skip
        for one in (reversal, again):
            add_journal(connection, one)
        made.append(Reversed(journal=journal, reversal=reversal, reissue=again))

    recorder.transact(ledger, plan, make)
    return made[-1]


def _reversible(journals: Sequence[Journal], ledger: str, period: Period, number: int) -> Journal:
    found = [journal for journal in journals if journal.number == number]
    if not found:
        raise UnknownExport(
            f"ledger {ledger} has no journal {period}-{number}", field="number", found=f"{period}-{number}"
        )
    [journal] = found
    if journal.reverses is not None:
        raise JournalNotReversible(
            f"journal {journal.name} is a reversal itself", field="number", found=str(number), reverses=journal.corrects
        )
    if not journal.lines:
        raise JournalNotReversible(f"journal {journal.name} is empty", field="number", found=str(number))
    by = reversal_of(journals, journal)
    if by is not None:
        raise JournalNotReversible(
            f"journal {journal.name} is reversed by {by.name}; its entries are in {period}-{by.number + 1} since",
            field="number", expected=str(by.number + 1), found=str(number), reversed_by=by.name,
        )  # fmt: skip
    return journal


def reversal_of(journals: Sequence[Journal], journal: Journal) -> Journal | None:
    """What reverses a journal, among those of its ledger."""
    for other in journals:
        if (other.period, other.reverses) == (journal.period, journal.number):
            return other
    return None


def in_force(journals: Sequence[Journal]) -> tuple[Journal, ...]:
    """Those of a ledger's journals that are neither reversals nor reversed: each entry of theirs is in one of them."""
    reversed_ones = {(journal.period, journal.reverses) for journal in journals}
    return tuple(
        journal
        for journal in journals
        if journal.reverses is None and (journal.period, journal.number) not in reversed_ones
    )


def correction_faults(journal: Journal, before: Sequence[Journal]) -> Iterator[tuple[str, object, object]]:
    """What is wrong about a reversal or a re-issue, given the journals before it: a message, expected, found."""
    correction = present(journal.correction, f"journal {journal.name} corrects none")
    corrected = {other.number: other for other in before}.get(correction.number)
    if corrected is None or corrected.reverses is not None or not corrected.lines:
        yield "corrects a journal that cannot be reversed", "an earlier one with lines", correction.number
        return
    for what in ("period", "from_cut", "to_cut"):
        if getattr(journal, what) != getattr(corrected, what):
            yield f"is of other entries than what it corrects: {what}", getattr(corrected, what), getattr(journal, what)
    if journal.reverses is None:
        reversal = before[-1]
        if reversal.reverses != journal.reissues:
            yield "takes the place of one that was not reversed just before", journal.reissues, reversal.reverses
        elif reversal.correction != msgspec.structs.replace(
            correction, reverses=journal.reissues, reissues=None
        ):  # fmt: skip
            yield "has another reason than its reversal", reversal.correction, correction
        return
    if reversal_of(before, corrected) is not None:
        yield "reverses a journal a second time", None, journal.reverses
    if (journal.lines, journal.mapping) != (swapped(corrected.lines), corrected.mapping):
        yield "does not take back what it reverses", *_differing(swapped(corrected.lines), journal.lines)
    if journal.customers_hash != corrected.customers_hash:
        yield "went by other customers than what it reverses", corrected.customers_hash, journal.customers_hash


def _differing(expected: Sequence[JournalLine], found: Sequence[JournalLine]) -> tuple[object, object]:
    """The first lines that differ."""
    for one, other in zip(expected, found, strict=False):
        if one != other:
            return one, other
    return len(expected), len(found)
