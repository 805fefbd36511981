"""Command: reversing a journal that was posted to the wrong accounts, and re-issuing its entries.

A journal keeps its accounts and dimensions for ever. If they are wrong, one command makes two journals of the same
entries: the *reversal* has the lines of the journal with their sides swapped, and the *re-issue* has the accounts of
the mapping in force. Entries, cuts and the books stay as they are, so a closed month stays closed. The numbers of
journals continue in the period. Both journals are posted on its last day, like adjustments.

Owns: the conditions for a reversal. Does not own: the journals in force and the checks of corrections (corrections),
storing journals (stored_journals), the files of a reversal (exports).
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from projections.journals.corrections import reversal_of
from projections.journals.journal import Journal, JournalCorrection, swapped
from projections.journals.making import new_journal
from projections.journals.stored_journals import add_journal, journals_of
from subledger.errors import JournalNotReversible, NothingToCorrect, UnknownExport
from subledger.events.envelope import Event
from subledger.ledger import LedgerState
from subledger.own_events import check_reason
from subledger.periods import Period
from subledger.persons import NOBODY
from subledger.store.database import WriteConnection
from subledger.store.writing.recorder import Recorder, now_of


class Reversed(msgspec.Struct, frozen=True, kw_only=True):
    """A reversed journal, its reversal and its re-issue."""

    journal: Journal
    reversal: Journal
    reissue: Journal


def reverse_journal(
    recorder: Recorder, ledger: str, period: Period, number: int, reason: str, *, by: str = NOBODY
) -> Reversed:
    """Reverses a journal and re-issues its entries, in one commit.

    Raises in this order: InvalidValue if the reason is empty, UnknownLedger, UnknownExport if the period has no such
    journal, JournalNotReversible, UnmappedRole if the mapping in force has no account for a role, NothingToCorrect if
    the re-issue would have the same lines.
    """
    check_reason(reason, "reversing a journal")
    made: list[Reversed] = []

    def plan(_connection: WriteConnection, _state: LedgerState, _position: int) -> list[Event]:
        return []  # no event is recorded: the books do not change

    def make(connection: WriteConnection, state: LedgerState) -> None:
        journals = journals_of(connection, ledger, period)
        journal = _reversible(journals, ledger, period, number)
        cuts, at, last = (journal.from_cut, journal.to_cut), now_of(connection), journals[-1].number
        again = new_journal(
            connection,
            state,
            period,
            number=last + 2,
            cuts=cuts,
            correction=JournalCorrection(reissues=number, reason=reason, made_by=by, made_at=at),
        )
        if again.lines == journal.lines:
            raise NothingToCorrect(
                f"account mapping {again.mapping} gives journal {journal.name} the same lines; adopt another one",
                field="mapping",
                expected="other accounts or dimensions",
                found=str(again.mapping),
            )
        reversal = msgspec.structs.replace(
            journal,
            number=last + 1,
            lines=swapped(journal.lines),
            correction=JournalCorrection(reverses=number, reason=reason, made_by=by, made_at=at),
        )
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
            f"journal {journal.name} is a reversal, and cannot be reversed",
            field="number",
            found=str(number),
            reverses=journal.corrects,
        )
    if not journal.lines:
        raise JournalNotReversible(f"journal {journal.name} has no lines to reverse", field="number", found=str(number))
    by = reversal_of(journals, journal)
    if by is not None:
        raise JournalNotReversible(
            f"journal {journal.name} was reversed by {by.name}; its entries are now in {period}-{by.number + 1}",
            field="number",
            expected=str(by.number + 1),
            found=str(number),
            reversed_by=by.name,
        )
    return journal
