"""Command: exporting the journals of a period in a format.

The file of a summary is stored. For the format of a general ledger, its documents are stored too, with their pairs and
the settings. For a detail rendering, which can be as large as the log, only the hash is stored.

Owns: making an export. Does not own: reading exports (exports), making journals (journals/making), the formats.
"""

from __future__ import annotations

import hashlib
from typing import Final

import msgspec
from sqlalchemy import Connection

from projections.account_mapping.mapping import AccountMapping, mapping_of
from projections.exports.deposits import JOURNAL, block_documents, opened_in, reversal_name
from projections.exports.documents import check_document, documents_of, short_name
from projections.exports.exports import (
    DocumentSet,
    Export,
    check_complete,
    document_set_of,
    export_id,
    filename_of,
    find_export,
    get_export,
    render_detail,
)
from projections.exports.formats import Format, format_named
from projections.exports.formats.target import Rendering, Target, read_settings
from projections.exports.targets import settings_of
from projections.journals.division import Division
from projections.journals.journal import Journal
from projections.journals.making import ensure_journals
from projections.journals.pairs import Level, pairs_of
from projections.journals.stored_journals import journal_of
from subledger.errors import IntegrityFault
from subledger.periods import Period
from subledger.store.database import Database
from subledger.store.tallies import count_one
from subledger.store.writing.recorder import Recorder

_encoder = msgspec.json.Encoder(order="sorted")

ADD_EXPORT: Final = """
INSERT INTO journal_exports (ledger, export_id, period, number, format, detail, filename, media_type, content,
                             content_hash, created_at, created_by, postings, postings_hash)
VALUES (%(ledger)s, %(export_id)s, %(period)s, %(number)s, %(format)s, %(detail)s, %(filename)s, %(media_type)s,
        %(content)s, %(content_hash)s, now(), %(by)s, %(postings)s, %(postings_hash)s)
ON CONFLICT (ledger, export_id) DO NOTHING RETURNING export_id
"""


def export(
    recorder: Recorder,
    database: Database,
    ledger: str,
    period: Period,
    format: str,
    *,
    detail: bool = False,
    by: str | None = None,
) -> tuple[Export, ...]:
    """Exports every journal of a period in a format. First it makes the journal of the entries that are in none.

    A second call returns the same exports with the same bytes, and one more if entries were recorded meanwhile. ``by``
    is the person who exports; an export stores the first one. Raises UnknownFormat, NotSupportedYet, UnknownLedger,
    UnmappedRole.
    """
    form = format_named(format, detail=detail)
    return tuple(
        _exported(database, journal, form, detail, by)
        for journal in ensure_journals(recorder, database, ledger, period, by=by)
    )


class _File(msgspec.Struct, frozen=True, kw_only=True):
    """The stored part of a rendering: its bytes (None for a detail rendering), their hash, its documents as text."""

    content: bytes | None
    content_hash: str
    postings: bytes | None = None


def _exported(database: Database, journal: Journal, form: Format, detail: bool, by: str | None) -> Export:
    name = export_id(journal, form.name, detail=detail)
    with database.read() as connection:
        found = find_export(connection, journal.ledger, name)
    if found is not None:
        return found
    # The file is rendered outside a write transaction. Rendering can take minutes, and a lock for so long would stop
    # others. Two callers may render the same file. The primary key lets one of them store it, and both return the
    # stored row.
    made = _detail_hashed(database, journal, form) if detail else _rendered(database, journal, form, name)
    with database.write() as writing:
        added = writing.execute(
            ADD_EXPORT,
            {
                "ledger": journal.ledger,
                "export_id": name,
                "period": str(journal.period),
                "number": journal.number,
                "format": form.name,
                "detail": detail,
                "filename": filename_of(name, form, sandbox=journal.sandbox),
                "media_type": form.media_type,
                "content": made.content,
                "content_hash": made.content_hash,
                "by": by,
                "postings": made.postings and made.postings.decode(),
                "postings_hash": made.postings and hashlib.sha256(made.postings).hexdigest(),
            },
        ).fetchone()
        # The count and the row commit together. `verify` reports a difference between them as a deleted or an added
        # export.
        if added is not None:
            count_one(writing, journal.ledger, "journal_exports")
        found = find_export(writing, journal.ledger, name)
    # Two callers render the same bytes, unless the settings changed between them. The first stored export counts.
    if found is None or (form.target is None and found.content_hash != made.content_hash):
        raise IntegrityFault(f"export {name} was rendered twice with different content", export_id=name)
    return found


def _detail_hashed(database: Database, journal: Journal, form: Format) -> _File:
    """Reads a detail rendering as a stream, and returns its hash."""
    digest = hashlib.sha256()
    for piece in render_detail(database, journal, form):
        digest.update(piece)
    return _File(content=None, content_hash=digest.hexdigest())


def _rendered(database: Database, journal: Journal, form: Format, name: str) -> _File:
    """Renders a summary; for the format of a general ledger with its documents, pairs and settings."""
    posted: DocumentSet | None = None
    if form.target is not None:
        with database.read() as connection:
            posted = _posted(connection, journal, form, form.target)
    content = form.render(
        Rendering(
            export_id=name,
            journal=posted.as_exported(journal) if posted else journal,
            documents=posted.documents if posted else (),
            settings=posted and posted.settings_as(form.target, sandbox=journal.sandbox),
        )
    )
    return _File(
        content=content,
        content_hash=hashlib.sha256(content).hexdigest(),
        postings=None if posted is None else _encoder.encode(posted),
    )


def _posted(connection: Connection, journal: Journal, form: Format, target: Target) -> DocumentSet:
    if journal.reverses is not None:
        mapping = mapping_of(connection, journal.ledger, journal.mapping)
        return _reversed(journal, _posted_of_reversed(connection, journal, form), target, mapping)
    division = _division_of_month(connection, journal, form)
    settings = settings_of(connection, journal.ledger, target)
    if division is None:
        division = settings.division
        if form.by_block:
            division = msgspec.structs.replace(division, pass_through=True)
    settings = msgspec.structs.replace(settings, **msgspec.structs.asdict(division))
    limits = target.limits_for(settings)
    level: Level = "block" if form.by_block else settings.level
    pairs = pairs_of(connection, journal, level, division)
    mapping = mapping_of(connection, journal.ledger, journal.mapping)
    if form.by_block:
        opened = opened_in(connection, journal)
        documents = block_documents(journal, pairs, mapping, limits=limits, opened=opened)
    else:
        documents = documents_of(journal, pairs, mapping, limits=limits, level=level)
    posted = DocumentSet(
        entity=journal.entity, level=level, settings=msgspec.to_builtins(settings), documents=documents, pairs=pairs
    )
    check_complete(journal, posted, mapping)
    return posted


def _division_of_month(connection: Connection, journal: Journal, form: Format) -> Division | None:
    """The division under which the first journal of the period was exported in this format; None if it was not.

    Adjustments and re-issues keep it: what one journal left out, another one must not post.
    """
    first = msgspec.structs.replace(journal, number=1)
    found = find_export(connection, journal.ledger, export_id(first, form.name, detail=False))
    posted = None if found is None else document_set_of(connection, found)
    return None if posted is None else posted.division


def _posted_of_reversed(connection: Connection, journal: Journal, form: Format) -> DocumentSet:
    """Returns the documents of the journal that another one reverses, as they were handed over in a format.

    They exist, because the journals of a period are exported in order. Raises UnknownExport if they were deleted.
    """
    original = journal_of(connection, journal.ledger, journal.period, journal.reverses or 0)
    found = document_set_of(
        connection, get_export(connection, journal.ledger, export_id(original, form.name, detail=False))
    )
    if found is None:
        raise IntegrityFault(f"journal {original.name} was handed over without documents", format=form.name)
    return found


def _reversed(journal: Journal, posted: DocumentSet, target: Target, mapping: AccountMapping) -> DocumentSet:
    """Returns the documents that reverse others, line by line.

    They have the settings and accounts of the originals, not the current ones. Deposits and applications are reversed
    by journals that name their customer.
    """
    limits = target.limits_for(read_settings(target.settings, posted.settings))
    documents = []
    for document in posted.documents:
        name = reversal_name(journal, document)
        lines = tuple(
            msgspec.structs.replace(
                line,
                side=line.side.opposite,
                customer=line.customer or document.customer,
                block_id=line.block_id or document.block_id,
            )
            for line in document.lines
        )
        mirror = msgspec.structs.replace(
            document, name=name, reference=short_name(name, limits), lines=lines, kind=JOURNAL
        )
        check_document(mirror, journal.functional_currency, limits)
        documents.append(mirror)
    made = msgspec.structs.replace(
        posted, documents=tuple(documents), pairs=tuple(pair.mirrored for pair in posted.pairs)
    )
    check_complete(journal, made, mapping)
    return made
