"""Exports: journals in a format, with the bytes of their files.

The file of a summary is stored. A detail rendering can be as large as the log, so only its hash is stored. It is
rendered again from the log for each read, and must have the stored hash.

Owns: reading the table ``journal_exports``. Does not own: making an export (exporting), the formats.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
from sqlalchemy import Connection

from projections.account_mapping.mapping import AccountMapping, GLAccount
from projections.exports.documents import Document, DocumentLine, lines_of
from projections.exports.formats import Format, format_named
from projections.exports.formats.target import Rendering, Target, TargetSettings, read_settings
from projections.journals.detail import entries_of
from projections.journals.division import Division, LeftOut, left_out
from projections.journals.drill_down import EntryBehind, entries_behind, entries_behind_line
from projections.journals.journal import Journal, JournalPair
from projections.journals.pairs import Level
from projections.journals.stored_journals import journal_of
from subledger.accounts import Side
from subledger.closing import is_closed
from subledger.errors import IntegrityFault, UnknownExport
from subledger.periods import Period
from subledger.store.database import Database
from subledger.store.reading.ledgers import ledger_head
from subledger.store.reading.queries import AnyConnection, rows
from subledger.store.reading.views import Due, due_expiries

_CHUNK_BYTES: Final = 1 << 16
SANDBOX: Final = "SANDBOX"
"""Mark of a sandbox ledger's files. It is in their names, at the beginning, and in their content."""


class Export(msgspec.Struct, frozen=True, kw_only=True):
    """One journal in one format. ``content_hash`` is the SHA-256 of the file."""

    ledger: str
    export_id: str
    period: Period
    number: int
    format: str
    detail: bool
    filename: str
    media_type: str
    content_hash: str
    created_at: datetime
    created_by: str | None = None

    @property
    def is_marked(self) -> bool:
        """True if the file says that it is from a sandbox ledger. Files from before this mark existed do not say it."""
        return self.filename.startswith(f"{SANDBOX}-{self.export_id}.")


def filename_of(export_id: str, form: Format, *, sandbox: bool) -> str:
    """The name of an export's file: ``acme-2026-01-1-csv.csv``. A sandbox's file has ``SANDBOX-`` before it."""
    return f"{f'{SANDBOX}-' if sandbox else ''}{export_id}.{form.extension}"


class MonthState(msgspec.Struct, frozen=True, kw_only=True):
    """The state of a month's journals: interim while the month is open; for trials only if it is a sandbox's."""

    period: Period
    interim: bool
    sandbox: bool
    due: Due
    """Expiries through the end of the month that are due and not recorded. No journal of the month has them."""

    @property
    def notices(self) -> tuple[str, ...]:
        """Notices for the recipient of the files, each a sentence."""
        found = []
        if self.sandbox:
            found.append("SANDBOX: these journals are of a sandbox ledger, and no general ledger should take them.")
        if self.interim:
            found.append(
                f"{self.period} is open, so its journals are interim: what is recorded for it from now on becomes its "
                "next journal. Close the month first to have all of it in one."
            )
        if self.due.count:
            found.append(
                f"{self.due.count} expiries through {self.period} are due and not recorded: no journal has them yet."
            )
        return tuple(found)


_COLUMNS: Final = "ledger, export_id, period, number, format, detail, filename, media_type, content_hash, created_at, \
created_by"
FIND_EXPORT: Final = f"""
-- One export of a ledger, without its bytes.
SELECT {_COLUMNS} FROM journal_exports WHERE ledger = %(ledger)s AND export_id = %(export_id)s
"""
LIST_EXPORTS: Final = f"""
-- The exports of a ledger after one of them, in the order of their ids.
SELECT {_COLUMNS} FROM journal_exports
WHERE ledger = %(ledger)s AND export_id > %(after)s AND (%(period)s::text IS NULL OR period = %(period)s)
ORDER BY export_id LIMIT %(limit)s
"""
EXPORT_POSTINGS: Final = """
-- The documents of an export, with their pairs.
SELECT postings FROM journal_exports WHERE ledger = %(ledger)s AND export_id = %(export_id)s
"""
EXPORT_CONTENT: Final = """
-- The bytes of an export; NULL for detail.
SELECT content FROM journal_exports WHERE ledger = %(ledger)s AND export_id = %(export_id)s
"""


def month_state(database: Database, ledger: str, period: Period) -> MonthState:
    """The state of a month's journals now. Raises UnknownLedger."""
    with database.read() as connection:
        state = ledger_head(connection, ledger).state
        due = due_expiries(connection, state, now=datetime.now(UTC), as_of=period.last_day)
    return MonthState(period=period, interim=not is_closed(state, period), sandbox=state.sandbox, due=due)


FIRST_EXPORTS: Final = """
-- The first export of each journal of a period: person and time.
SELECT DISTINCT ON (number) number, created_by, created_at FROM journal_exports
WHERE ledger = %(ledger)s AND period = %(period)s ORDER BY number, created_at, export_id
"""


def handed_over(connection: AnyConnection, ledger: str, period: Period) -> dict[int, tuple[str | None, datetime]]:
    """Person and time of each journal's first export, by number. The first export makes a journal, unless the journal
    is a correction.
    """
    found = rows(connection, FIRST_EXPORTS, {"ledger": ledger, "period": str(period)})
    return {number: (by, at) for number, by, at in found}


def export_id(journal: Journal, format: str, *, detail: bool) -> str:
    """The id of an export: ``acme-us-2026-01-1-beancount-detail``."""
    return f"{journal.name}-{format}" + ("-detail" if detail else "")


# --- the documents of a general ledger's format -----------------------------------------------------------------


class DocumentSet(msgspec.Struct, frozen=True, kw_only=True):
    """The documents of an export to a general ledger, and the pairs to which their lines refer by index.

    ``entity`` is the ledger's entity at the time of the export. It is empty in exports made before it was stored.
    """

    entity: str = ""
    level: Level
    settings: dict[str, Any]
    documents: tuple[Document, ...]
    pairs: tuple[JournalPair, ...]

    def settings_as(self, target: Target | None, *, sandbox: bool) -> TargetSettings | None:
        """The settings of the export. For a sandbox, the title of its documents says that it is one."""
        if target is None:
            return None
        settings = read_settings(target.settings, self.settings)
        return msgspec.structs.replace(settings, title=f"{SANDBOX} {settings.title}") if sandbox else settings

    @property
    def division(self) -> Division:
        """The division of work under which the documents were made."""
        return Division.of_settings(self.settings)

    @property
    def left_out(self) -> tuple[LeftOut, ...]:
        """The amounts that the documents leave out. Together with the documents, they are the journal."""
        return left_out(self.pairs)

    def as_exported(self, journal: Journal) -> Journal:
        """The journal with the entity of the export; the ledger's current entity may be another one."""
        return msgspec.structs.replace(journal, entity=self.entity) if self.entity else journal

    def line(self, number: int) -> DocumentLine:
        """Returns a line by its number. Raises UnknownExport."""
        for _, line in lines_of(self.documents):
            if line.number == number:
                return line
        count = sum(len(document.lines) for document in self.documents)
        raise UnknownExport(
            f"the export has no line {number}", field="line", expected=f"1 to {count}", found=str(number)
        )


def incomplete(journal: Journal, posted: DocumentSet, mapping: AccountMapping) -> str | None:
    """The first account of which documents and left-out amounts together are not the journal, in words; None if all
    are.

    Compared in the functional currency, by account and side: the only measure that every target has.
    """
    documents: Counter[tuple[GLAccount, Side]] = Counter()
    for _, line in lines_of(posted.documents):
        documents[line.account, line.side] += line.functional_minor
    for pair in posted.pairs:
        if pair.native:
            for side, role in pair.sides:
                documents[pair.account(role, mapping), side] += pair.functional_minor
    whole: Counter[tuple[GLAccount, Side]] = Counter()
    for own in journal.lines:
        whole[own.account, own.side] += own.functional_minor
    for account, side in documents | whole:
        found, expected = documents[account, side], whole[account, side]
        if found != expected:
            return f"{side.value} of account {account.number}: {found} minor units instead of {expected}"
    return None


def check_complete(journal: Journal, posted: DocumentSet, mapping: AccountMapping) -> None:
    """Raises IntegrityFault if the documents and what they leave out are not the journal."""
    account = incomplete(journal, posted, mapping)
    if account is not None:
        raise IntegrityFault(f"the documents of journal {journal.name} and what they leave out are not it: {account}")


_posted_decoder = msgspec.json.Decoder(DocumentSet)


def document_set_of(connection: AnyConnection, export: Export) -> DocumentSet | None:
    """Returns the documents of an export to a general ledger. Returns None for other formats: their lines are the
    journal's.
    """
    parameters = {"ledger": export.ledger, "export_id": export.export_id}
    [(text,)] = rows(connection, EXPORT_POSTINGS, parameters)
    return None if text is None else _posted_decoder.decode(text)


def render_document(connection: AnyConnection, export: Export, number: int) -> bytes:
    """Renders one document of an export, counted from 1, as a file of its own, with the settings of the export.

    Raises UnknownExport if there is no such document.
    """
    form, posted = format_named(export.format), document_set_of(connection, export)
    if posted is None or not 1 <= number <= len(posted.documents):
        raise UnknownExport(f"export {export.export_id} has no document {number}", field="part", found=str(number))
    return form.render(
        Rendering(
            export_id=export.export_id,
            journal=posted.as_exported(journal_behind(connection, export)),
            documents=posted.documents[number - 1 : number],
            settings=posted.settings_as(form.target, sandbox=export.is_marked),
            others=posted.documents,
        )
    )


def entries_of_line(
    connection: Connection, export: Export, line: int, *, after: tuple[int, int] | None = None, limit: int = 100
) -> list[EntryBehind]:
    """Returns the entries behind a line of an export, after (position, number). Their amounts add up to the line's
    amount.

    Raises UnknownExport if there is no such line.
    """
    journal, posted = journal_behind(connection, export), document_set_of(connection, export)
    if posted is None:
        return entries_behind_line(connection, journal, line, after=after, limit=limit)
    pairs = [posted.pairs[index] for index in posted.line(line).pairs]
    return entries_behind(connection, journal, pairs, posted.level, posted.division, after=after, limit=limit)


def render_detail(database: Database, journal: Journal, form: Format) -> Iterator[bytes]:
    """Renders the detail of a journal from the log, piece by piece."""
    if form.render_detail is None:  # ``format_named`` has refused such a format
        raise IntegrityFault(f"the format {form.name} has no detail rendering")
    with database.read() as connection:
        buffer = bytearray()
        for piece in form.render_detail(journal, entries_of(database, connection, journal)):
            buffer += piece.encode()
            if len(buffer) >= _CHUNK_BYTES:
                yield bytes(buffer)
                buffer.clear()
        yield bytes(buffer)


def _export(row: Any) -> Export:
    ledger, name, period, number, format, detail, filename, media_type, content_hash, created_at, by = row
    return Export(
        ledger=ledger,
        export_id=name,
        period=Period.parse(period),
        number=number,
        format=format,
        detail=detail,
        filename=filename,
        media_type=media_type,
        content_hash=content_hash,
        created_at=created_at,
        created_by=by,
    )


def find_export(connection: AnyConnection, ledger: str, name: str) -> Export | None:
    """Returns an export by its id; None if it does not exist."""
    found = rows(connection, FIND_EXPORT, {"ledger": ledger, "export_id": name})
    return _export(found[0]) if found else None


def get_export(connection: AnyConnection, ledger: str, export_id: str) -> Export:
    """Returns an export. Raises UnknownExport."""
    found = find_export(connection, ledger, export_id)
    if found is None:
        raise UnknownExport(
            f"ledger {ledger} has no export {export_id[:300]}", field="export_id", found=export_id[:300]
        )
    return found


def list_exports(
    connection: Connection, ledger: str, *, period: Period | None = None, after: str = "", limit: int = 100
) -> list[Export]:
    """Returns exports of a ledger, or of one period, in the order of their ids, after a given one."""
    parameters = {"ledger": ledger, "period": None if period is None else str(period), "after": after, "limit": limit}
    return [_export(row) for row in rows(connection, LIST_EXPORTS, parameters)]


def journal_behind(connection: AnyConnection, export: Export) -> Journal:
    """The journal of an export."""
    return journal_of(connection, export.ledger, export.period, export.number)


def content_of(database: Database, export: Export) -> Iterator[bytes]:
    """Yields the file, piece by piece.

    Raises IntegrityFault if it is not the file that was handed over. For a detail rendering this is known only after
    the last piece, so a caller should write to a temporary name and rename the file at the end.
    """
    digest = hashlib.sha256()
    for piece in _pieces(database, export):
        digest.update(piece)
        yield piece
    if digest.hexdigest() != export.content_hash:
        raise IntegrityFault(
            f"export {export.export_id} is not the file that was handed over",
            expected=export.content_hash,
            found=digest.hexdigest(),
            export_id=export.export_id,
        )


def _pieces(database: Database, export: Export) -> Iterator[bytes]:
    with database.read() as connection:
        if not export.detail:
            parameters = {"ledger": export.ledger, "export_id": export.export_id}
            yield bytes(rows(connection, EXPORT_CONTENT, parameters)[0][0])
            return
        journal = msgspec.structs.replace(journal_behind(connection, export), sandbox=export.is_marked)
    yield from render_detail(database, journal, format_named(export.format, detail=True))
