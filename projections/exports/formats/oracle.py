"""Oracle Fusion: journals for the file-based import (FBDI), ``GlInterface.csv`` in a zip.

The file has no header; each of its 149 columns is known only by its place. Texts are escaped for spreadsheets, because
people do open the file. Segment values never need escaping, and in a reference the apostrophe is visible. Rows with the
same batch and journal name become one journal, whose name contains our reference. Journal Import uses the first 25
characters of a journal's name, and the first 50 of a batch's name. Journals in a foreign currency have the converted
amounts beside the entered ones (conversion type *User*), so Oracle converts nothing. The references of a line are
copied to GL_IMPORT_REFERENCES.

Documented: columns 1 to 95 (four sources agree); the format of dates; a file with a blank creation date loads nothing,
silently. Columns 96 to 149 are in two sources. Line ends are LF, because the loader would take a CR for part of the
last column, which is a number, unless the column ``END`` is last. Not certain, and therefore settings: the column
``END``; the conversion rate beside converted amounts (a working extract has 1). Oracle does not refuse a file that it
has already loaded.

Sources: Oracle, "Tables and Views for Financials", GL_INTERFACE (24D); CCS–ERP data mapping guide (22C); Oracle General
Ledger user guide on REFERENCE1 and REFERENCE4.
"""

from __future__ import annotations

import hashlib
from typing import Annotated, Final

from msgspec import Meta, field

from projections.exports.documents import Document, DocumentLine, TargetLimits, short_name
from projections.exports.formats import target
from projections.journals.journal import Journal
from subledger.accounts import Side
from subledger.errors import InvalidInput

FILE: Final = "GlInterface.csv"
COLUMNS: Final = 149

_ACCOUNT: Final = "account"
_ENTITY: Final = "entity"


class Settings(target.TargetSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of a company in Oracle.

    ``ledger_id``: a number. If empty, ``ledger_name`` is used; if that is empty too, the ledger's entity is the name.
    ``source`` and ``category``: as in Oracle; the import names the same source. ``segments``: the content of each
    segment of the chart of accounts, in order: ``account``, ``entity``, or one of our dimensions. ``entity_segment``:
    the value of ``entity``; if empty, the ledger's. ``defaults``: by segment, for lines without a value. ``default``:
    for all other segments. ``period_name``: the name of a period, by ``strftime`` of its last day; empty for none.
    ``group_id``: the interface group; 0 derives it from the export's id. ``conversion_rate``: beside converted amounts;
    empty for none. ``end_column``: True if rows end with ``END``.
    """

    ledger_id: Annotated[str, Meta(pattern="^[0-9]{0,18}$")] = ""
    ledger_name: Annotated[str, Meta(max_length=30)] = ""
    source: Annotated[str, Meta(min_length=1, max_length=25)] = "Prepaid credits"
    category: Annotated[str, Meta(min_length=1, max_length=25)] = "Prepaid credits"
    segments: Annotated[tuple[str, ...], Meta(min_length=1, max_length=30)] = (
        _ENTITY,
        _ACCOUNT,
        "department",
        "class",
        "location",
    )
    entity_segment: str = ""
    defaults: dict[str, str] = field(default_factory=dict)
    default: str = "000"
    period_name: str = "%b-%y"
    group_id: Annotated[int, Meta(ge=0, lt=10**18)] = 0
    conversion_rate: Annotated[str, Meta(pattern=r"^([0-9]+(\.[0-9]+)?)?$")] = "1"
    end_column: bool = False

    def __post_init__(self) -> None:
        if self.segments.count(_ACCOUNT) != 1:
            raise InvalidInput(
                "one segment of the chart of accounts is the account",
                field="segments",
                expected=f"{_ACCOUNT} once",
                found=", ".join(self.segments),
            )


_TEXT: Final = 240

TARGET: Final = target.Target(
    name="oracle",
    limits=TargetLimits(lines=10_000, text=_TEXT, reference=25, two_currencies=True, decimals=3),
    settings=Settings,
)

_BATCHES: Final = TargetLimits(lines=0, text=0, reference=50)
_EXTERNAL_REFERENCES: Final = TargetLimits(lines=0, text=0, reference=80)
_GROUPS: Final = 10**15


def zip_file(rendering: target.Rendering) -> bytes:
    """Returns the zip that ``importBulkData`` takes."""
    return target.zip_bytes({FILE: csv_file(rendering)})


def csv_file(rendering: target.Rendering) -> bytes:
    """Returns the only file of the zip. It has no rows if nothing moved."""
    rows = []
    for document in rendering.documents:
        of_document = _document(rendering, document)
        for line in document.lines:
            columns = {**of_document, **_line(rendering, document, line)}
            row = [columns.get(column, "") for column in range(1, COLUMNS + 1)]
            rows.append([*row, "END"] if rendering.settings.end_column else row)
    return target.csv_bytes(rows, line_end="\n")


def group_id(rendering: target.Rendering) -> int:
    """The interface group of a rendering; the import names the same group.

    It is derived from the export's id, so that the file is always the same. Before a second try, the rest of the first
    one must be deleted from the interface.
    """
    settings: Settings = rendering.settings
    if settings.group_id:
        return settings.group_id
    digest = hashlib.sha256(rendering.export_id.encode()).digest()
    return int.from_bytes(digest[:8]) % (_GROUPS - 1) + 1


def batch_name(journal: Journal) -> str:
    """Prefix of a journal's batch name in Oracle. The import extends it."""
    return short_name(journal.name, _BATCHES)


def _document(rendering: target.Rendering, document: Document) -> dict[int, str]:
    """Returns the columns with the same value in all lines of a document, by their places from 1."""
    settings: Settings = rendering.settings
    journal = rendering.journal
    day = journal.posting_date.strftime("%Y/%m/%d")
    columns = {
        1: "NEW",
        2: settings.ledger_id,
        3: day,
        4: settings.source,
        5: settings.category,
        6: document.currency,
        7: day,
        8: "A",
        43: batch_name(journal),
        44: f"{rendering.export_id}, {rendering.title}"[: _TEXT - 1],
        46: document.reference,
        47: f"{document.name}, {rendering.title}"[: _TEXT - 1],
        48: short_name(rendering.export_id, _EXTERNAL_REFERENCES),
        67: str(group_id(rendering)),
        95: journal.posting_date.strftime(settings.period_name) if settings.period_name else "",
    }
    if not settings.ledger_id:
        columns[92] = settings.ledger_name or journal.entity
    if document.currency != journal.functional_currency:
        columns |= {64: "User", 65: day, 66: settings.conversion_rate}
    return columns


def _line(rendering: target.Rendering, document: Document, line: DocumentLine) -> dict[int, str]:
    columns = dict(enumerate(_segments(rendering, line), start=9))
    columns[39], columns[40] = target.debit_and_credit(document, line)
    if document.currency != rendering.journal.functional_currency:
        columns[41 if line.side is Side.DEBIT else 42] = target.functional_of(rendering, line)
    columns |= {
        52: line.text[: _TEXT - 1],
        53: line.reference,
        54: document.reference,
        55: rendering.export_id,
        56: line.customer,
        57: line.block_id,
    }
    return columns


def _segments(rendering: target.Rendering, line: DocumentLine) -> list[str]:
    settings: Settings = rendering.settings
    values = {
        **dict(line.account.dimensions),
        _ACCOUNT: line.account.number,
        _ENTITY: settings.entity_segment or rendering.journal.entity,
    }
    return [values.get(name) or settings.defaults.get(name, settings.default) for name in settings.segments]
