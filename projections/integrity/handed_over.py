"""Check of exported journals, their files, and approvals against the log.

A journal equals the sum of its entries. The journals of a period follow each other without a gap. A reversal reverses
exactly one journal, and is followed by a re-issue. So every entry of a cut that has ended is in exactly one journal in
force. Every file has the bytes that were exported. An approved request equals the event that was recorded for it.

An export of an open month ends a cut, which the log records (``period.cut``). So a missing journal is found even if all
rows about it were deleted. A closed month is different: its journal is made by its first export, which is not an event.
So if a month was exported only after its close, an owner of the database can remove every trace of the export here. The
books lose nothing, because the next export makes the same journal from the log. The general ledger still has the first
journal.

Owns: these tables against the log. For a detail file only the hash is stored. It is compared when somebody downloads
the file, not here.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container, Iterable, Iterator
from typing import Any, Final

import msgspec
import sqlalchemy as sa

from projections.account_mapping.mapping import mapping_of
from projections.exports.exports import SANDBOX, document_set_of, export_id, filename_of, get_export, incomplete
from projections.exports.formats import FORMATS
from projections.integrity.journal_customers import customer_faults, journal_breach
from projections.journals.corrections import correction_faults
from projections.journals.journal import Journal
from projections.journals.stored_journals import journals_of
from projections.replay.findings import Breach
from projections.replay.totals import TotalKey, Totals
from subledger.errors import IntegrityFault
from subledger.kinds import Rules
from subledger.periods import Period
from subledger.store.writing.approvals import APPROVED

PERIODS: Final = "SELECT DISTINCT period FROM journals WHERE ledger = :ledger ORDER BY period"
CUTS: Final = """
-- The events that ended a cut, in order: the first one ended cut 1.
SELECT type, data FROM events
WHERE ledger = :ledger AND type IN ('period.closed', 'period.cut') AND type <> 'credits.consumed' ORDER BY position
"""
EXPORTS: Final = """
-- Exported files, with the hash of the stored bytes (NULL: a detail file, of which no bytes are stored).
SELECT export_id, period, number, format, detail, filename, media_type, content_hash,
       encode(sha256(content), 'hex') AS kept,
       postings_hash, encode(sha256(convert_to(postings, 'UTF8')), 'hex') AS postings_kept
FROM journal_exports WHERE ledger = :ledger ORDER BY export_id
"""
APPROVALS: Final = """
-- Approval requests with their decisions.
SELECT approval_id, source, event_id, type, customer, occurred_at, data, attributes, maker, state, checker, decided_at
FROM approvals WHERE ledger = :ledger ORDER BY approval_id
"""

_Line = tuple[str, str, str, str, str, str, str, str, str]
"""Role, side, currency, product, credit kind, pool, processor."""


STREAMED: Final = {"yield_per": 1_000}


def journal_faults(
    connection: sa.Connection, ledger: str, open_cut: int, totals: Totals, rules: dict[int, Rules]
) -> Iterator[Breach]:
    """Yields the journals and files that differ from the entries."""
    known: dict[tuple[str, int], Journal] = {}
    broken = set()
    months = _by_month(totals)
    for name in connection.execute(sa.text(PERIODS), {"ledger": ledger}).scalars().all():
        try:
            period = Period.parse(name)
            journals = journals_of(connection, ledger, period)
        except IntegrityFault as fault:
            broken.add(name)
            yield journal_breach(name, str(fault), fault.expected, fault.found)
            continue
        except Exception as error:  # a changed row may fail in any way
            broken.add(name)
            yield journal_breach(name, f"the journals of {name} cannot be read", None, repr(error))
            continue
        known |= {(name, journal.number): journal for journal in journals}
        yield from _intervals(name, journals, open_cut)
        for journal in journals:
            yield from _lines(journal, _sums(journal, months[journal.period], totals, rules))
    yield from _cut_and_gone(connection, ledger, known.values(), broken)
    yield from customer_faults(connection, ledger, known.values())
    for row in connection.execute(sa.text(EXPORTS), {"ledger": ledger}, execution_options=STREAMED):
        if row.period not in broken:
            behind = known.get((row.period, row.number))
            yield from _file(row, behind)
            if behind is not None and row.postings_hash is not None and row.postings_hash == row.postings_kept:
                yield from _documents(connection, row.export_id, behind)


def _intervals(period: str, journals: tuple[Journal, ...], open_cut: int) -> Iterator[Breach]:
    """Checks that journals follow each other from cut 0 on, and that none contains a cut that has not ended.

    A correction has the cuts of the corrected journal, and a reversal is followed by its re-issue.
    """
    before = 0
    for number, journal in enumerate(journals, start=1):
        if journal.correction is not None:
            yield from _correction(journal, number, journals)
            continue
        if (journal.number, journal.from_cut) != (number, before):
            yield journal_breach(
                f"{period}-{journal.number}",
                f"journal {journal.name} does not follow the one before it",
                f"number {number} after cut {before}",
                f"number {journal.number} after cut {journal.from_cut}",
            )
        if journal.to_cut >= open_cut:
            yield journal_breach(
                f"{period}-{journal.number}",
                f"journal {journal.name} contains a cut that has not ended",
                f"below {open_cut}",
                journal.to_cut,
            )
        before = journal.to_cut


def _cut_and_gone(
    connection: sa.Connection, ledger: str, journals: Iterable[Journal], broken: Container[str]
) -> Iterator[Breach]:
    """Yields the cuts of interim exports without a journal. A cut and its journal are written in one commit."""
    ends = {(str(journal.period), journal.to_cut) for journal in journals if journal.correction is None}
    for cut, (type, data) in enumerate(connection.execute(sa.text(CUTS), {"ledger": ledger}), start=1):
        period = msgspec.json.decode(data)["period"]
        if type == "period.cut" and period not in broken and (period, cut) not in ends:
            yield journal_breach(
                period,
                f"{period} was exported through cut {cut} according to the log, but no journal of it ends there",
                f"a journal of {period} through cut {cut}",
                None,
            )


def _correction(journal: Journal, number: int, journals: tuple[Journal, ...]) -> Iterator[Breach]:
    subject = f"{journal.period}-{journal.number}"
    if journal.number != number:
        yield journal_breach(
            subject, f"journal {journal.name} does not follow the one before it", number, journal.number
        )
    for message, expected, found in correction_faults(journal, journals[: number - 1]):
        yield journal_breach(subject, f"journal {journal.name} {message}", expected, found)
    following = journals[number] if number < len(journals) else None
    if journal.reverses is not None and (following is None or following.reissues != journal.reverses):
        yield journal_breach(
            subject,
            f"the journal that {journal.name} reverses has no re-issue",
            f"a re-issue of {journal.corrects}",
            following and following.name,
        )


def _lines(journal: Journal, expected: dict[_Line, tuple[int, int]]) -> Iterator[Breach]:
    found: dict[_Line, tuple[int, int]] = {}
    for line in journal.lines:
        key = (line.role, line.side.value, line.currency, *line.dimensions, line.own)
        before = found.get(key, (0, 0))
        found[key] = (before[0] + line.amount_minor, before[1] + line.functional_minor)
    for key in sorted(expected.keys() | found.keys()):
        if expected.get(key) != found.get(key):
            key_text = " ".join(part for part in key if part)
            yield journal_breach(
                f"{journal.period}-{journal.number}",
                f"a line of journal {journal.name} differs from its entries: {key_text}",
                expected.get(key),
                found.get(key),
            )


def _by_month(totals: Totals) -> defaultdict[Period, list[TotalKey]]:
    months: defaultdict[Period, list[TotalKey]] = defaultdict(list)
    for key in totals.days:
        months[Period.of(key[0])].append(key)
    return months


def _sums(
    journal: Journal, month: list[TotalKey], totals: Totals, rules: dict[int, Rules]
) -> dict[_Line, tuple[int, int]]:
    """Returns the lines of a month and an interval of cuts, from the log's totals; sides swapped for a reversal."""
    debit, credit = ("debit", "credit") if journal.reverses is None else ("credit", "debit")
    sums: defaultdict[_Line, list[int]] = defaultdict(lambda: [0, 0])
    for key in month:
        (_, _, cut, currency, policy, kind, dimensions, _), total = key, totals.days[key]
        if not journal.from_cut < cut <= journal.to_cut:
            continue
        product, credit_kind, pool, processor, _, refundable, *_ = msgspec.structs.astuple(dimensions)
        apart = (currency, product, credit_kind, pool, processor, refundable)
        written, mirrored, f_written, f_mirrored = (int(value) for value in total[:4])
        for pair in rules.get(policy, {}).get(kind, ()):
            for role, side, amount, functional in (
                (pair.debit, debit, written, f_written),
                (pair.credit, credit, written, f_written),
                (pair.credit, debit, mirrored, f_mirrored),
                (pair.debit, credit, mirrored, f_mirrored),
            ):
                line = (role, side, *apart, dimensions.own_of(role))
                sums[line][0] += amount
                sums[line][1] += functional
    return {key: (amount, functional) for key, (amount, functional) in sums.items() if amount or functional}


def _file(row: Any, journal: Journal | None) -> Iterator[Breach]:
    def breach(message: str, expected: object, found: object) -> Breach:
        return Breach(check="journal_exports", message=message, subject=row.export_id, expected=expected, found=found)

    if journal is None:
        yield breach(f"export {row.export_id} has no journal behind it", f"{row.period}-{row.number}", None)
        return
    name = export_id(journal, row.format, detail=row.detail)
    form = FORMATS.get(row.format)
    marked = journal.sandbox and row.filename.startswith(f"{SANDBOX}-")
    if row.export_id != name or not row.filename.startswith(f"{SANDBOX}-{name}." if marked else f"{name}."):
        yield breach(f"export {row.export_id} belongs to another journal than its file name", name, row.filename)
    elif form is not None and (row.filename, row.media_type) != (
        filename_of(name, form, sandbox=marked),
        form.media_type,
    ):
        yield breach(
            f"the file name or media type of export {row.export_id} is not that of its format",
            f"{name}.{form.extension}, {form.media_type}",
            f"{row.filename}, {row.media_type}",
        )
    if row.detail == (row.kept is not None):
        finding = "has stored bytes, but it is a detail file" if row.detail else "has no stored bytes"
        yield breach(f"export {row.export_id} {finding}", not row.detail, row.detail)
    elif row.kept is not None and row.kept != row.content_hash:
        yield breach(
            f"the stored bytes of export {row.export_id} are not the exported ones", row.content_hash, row.kept
        )
    if row.postings_hash != row.postings_kept:
        yield breach(
            f"the documents of export {row.export_id} are not the exported ones", row.postings_hash, row.postings_kept
        )


def _documents(connection: sa.Connection, name: str, journal: Journal) -> Iterator[Breach]:
    """Checks that the documents of an export, and what they leave out, are its journal."""
    posted = document_set_of(connection, get_export(connection, journal.ledger, name))
    account = None
    if posted is not None:
        account = incomplete(journal, posted, mapping_of(connection, journal.ledger, journal.mapping))
    if account is not None:
        yield Breach(
            check="journal_exports",
            message=f"the documents of export {name} and what they leave out are not its journal: {account}",
            subject=name,
            expected=journal.name,
            found=account,
        )


def approval_faults(connection: sa.Connection, ledger: str, recorded: dict[str, tuple[Any, ...]]) -> Iterator[Breach]:
    """Compares approved requests with the events that were recorded for them (``recorded``, by the id of the approval).

    Requests that wait or were refused have no event in the log.
    """
    allowed = dict(recorded)

    def breach(subject: str, message: str, expected: object = None, found: object = None) -> Breach:
        return Breach(check="approvals", message=message, subject=subject, expected=expected, found=found)

    for row in connection.execute(sa.text(APPROVALS), {"ledger": ledger}, execution_options=STREAMED):
        name = row.approval_id
        expected_event = allowed.pop(name, None)
        if expected_event is None:
            if row.state == APPROVED:
                yield breach(name, f"{name} is approved, but no event in the log has this approval", None, row.state)
            continue
        found = tuple(row)[1:]
        for column, expected, value in zip(row._fields[1:], expected_event, found, strict=True):
            if expected != value:
                yield breach(name, f"{column} of approval {name} differs from the recorded event", expected, value)
    for name in allowed:
        yield breach(name, f"the log has an event with approval {name}, but there is no such request", name)
