"""Dynamics 365 Finance: a data package of the *General journal* entity, and bodies of OData journals.

The vendor recommends at most ten lines for a voucher, and about 10,000 for a journal. So a document is a voucher, and a
batch of vouchers is a journal. Amounts are in the accounting currency.

Numbers of journals and vouchers are placeholders that Dynamics replaces (set *Number allocation at posting* on the
journal name). Our own numbers are in the document column and in the journal's description. If a placeholder is the
number of an open journal, the import adds to that journal; so our placeholders end with a hash. An import posts
nothing. Dynamics does not refuse a file that was imported before.

Documented: the entity's columns, the sizes, the voucher rules. From a package that was imported: its manifest, which
must map every column, UTF-16 with a byte order mark, CRLF. Not certain, and therefore settings: the format of dates,
the company's order of dimensions and tags. The source format's text qualifier must be the double quote. Lengths of 60
and 20 are common knowledge, without a source.

Sources: Microsoft, "General journal entity" (entity-general-journal), "Importing vouchers by using the General journal
entity" (tips-tricks-import-general-journal-entity), "Data management package REST API" (data-management-api).
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Annotated, Any, Final, Literal
from xml.etree.ElementTree import Element, SubElement

import msgspec
from msgspec import Meta

from projections.exports.documents import Document, DocumentLine, TargetLimits, lines_of, short_name
from projections.exports.formats import target
from subledger.accounts import Side
from subledger.errors import InvalidInput
from subledger.money import format_minor

ENTITY: Final = "General journal"
MANIFEST: Final = "Manifest.xml"
PACKAGE_HEADER: Final = "PackageHeader.xml"

_ACCOUNT: Final = "account"
Tag = Literal["line", "document", "export", "customer", "block_id", "product", "pool", "processor"]


class Settings(target.TargetSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of a company in Dynamics.

    ``company``: the legal entity; if empty, the ledger's entity. ``journal_name``: of new journals. ``account_format``:
    the parts of a ledger account in their order (``account`` or one of our dimensions), with ``delimiter`` between
    them, as in *Financial dimension configuration for integrating applications*. ``tags``: the values of the financial
    tags in their order, with ``tag_delimiter`` between them; empty if the company has none. ``batch_lines``: the most
    lines of a journal. ``date_format``: of the package's file. ``definition_group``: of the import.
    """

    company: Annotated[str, Meta(max_length=4)] = ""
    journal_name: Annotated[str, Meta(min_length=1, max_length=10)] = "GenJrn"
    account_format: Annotated[tuple[str, ...], Meta(min_length=1)] = (_ACCOUNT, "department", "class", "location")
    delimiter: Literal["-", ".", "_", "|"] = "-"
    tags: tuple[Tag, ...] = ()
    tag_delimiter: Annotated[str, Meta(min_length=1, max_length=1)] = "|"
    batch_lines: Annotated[int, Meta(ge=10, le=10_000)] = 10_000
    date_format: str = "%Y-%m-%d"
    definition_group: Annotated[str, Meta(min_length=1, max_length=60)] = "SUBLEDGER-GENJRN"

    def __post_init__(self) -> None:
        if self.account_format.count(_ACCOUNT) != 1:
            raise InvalidInput(
                "one place of a ledger account is the main account",
                field="account_format",
                expected=f"{_ACCOUNT} once",
                found=", ".join(self.account_format),
            )


_TEXT: Final = 60
_LINE_REFERENCE: Final = 8

TARGET: Final = target.Target(
    name="dynamics",
    limits=TargetLimits(lines=10, text=_TEXT - _LINE_REFERENCE, reference=20, decimals=3),
    settings=Settings,
)

_PLACEHOLDERS: Final = TargetLimits(lines=0, text=0, reference=10, alphabet="[A-Z0-9]")
_NAME_DESCRIBED: Final = 40
_COLUMNS: Final = (
    "JOURNALBATCHNUMBER", "LINENUMBER", "JOURNALNAME", "DESCRIPTION", "ACCOUNTTYPE", "ACCOUNTDISPLAYVALUE",
    "TRANSDATE", "VOUCHER", "CURRENCYCODE", "DEBITAMOUNT", "CREDITAMOUNT", "TEXT", "DOCUMENT",
)  # fmt: skip
_TAGS: Final = "FINTAGDISPLAYVALUE"
_NAMESPACES: Final = {
    "xmlns:i": "http://www.w3.org/2001/XMLSchema-instance",
    "xmlns": "http://schemas.microsoft.com/dynamics/2015/01/DataManagement",
}
_MANIFEST_TYPE: Final = (
    "Microsoft.Dynamics.AX.Framework.Tools.DataManagement.Serialization.DataManagementPackageManifest"
)
_encoder = msgspec.json.Encoder(decimal_format="number")


class Batch(msgspec.Struct, frozen=True, kw_only=True):
    """Vouchers that become one journal. ``number`` is the placeholder of the number that Dynamics assigns."""

    number: str
    description: str
    vouchers: tuple[Document, ...]


def batches(rendering: target.Rendering) -> tuple[Batch, ...]:
    """Returns the journals of a rendering: whole vouchers, in their order, as many as fit."""
    settings: Settings = rendering.settings
    filled: list[list[Document]] = []
    room = 0
    for document in rendering.documents:
        if len(document.lines) > room:
            filled.append([])
            room = settings.batch_lines
        filled[-1].append(document)
        room -= len(document.lines)
    result = []
    for ordinal, vouchers in enumerate(filled, start=1):
        name = rendering.journal.name if len(filled) == 1 else f"{rendering.journal.name}-b{ordinal}"
        room = min(_NAME_DESCRIBED, _TEXT - len(rendering.subject) - 1)
        named = short_name(name, TargetLimits(lines=0, text=0, reference=room))
        description = named + target.text_within(_TEXT - len(named), f" {settings.title}", f" {rendering.subject}")
        # Even a short name gets a hash: an open journal of somebody else may have the name as its number.
        number = short_name(f"{name} {rendering.export_id}", _PLACEHOLDERS)
        result.append(Batch(number=number, description=description, vouchers=tuple(vouchers)))
    return tuple(result)


# --- the data package ---------------------------------------------------------------------------------------------


def zip_file(rendering: target.Rendering) -> bytes:
    """Returns the package: manifest, header and the entity's file, all at its root."""
    return target.zip_bytes(package(rendering))


def package(rendering: target.Rendering) -> dict[str, bytes]:
    """Returns the members of the package by name."""
    columns = (*_COLUMNS, _TAGS) if rendering.settings.tags else _COLUMNS
    return {
        MANIFEST: target.xml_bytes(_manifest(rendering, columns), line_end="\r\n"),
        PACKAGE_HEADER: target.xml_bytes(_package_header(rendering), line_end="\r\n"),
        f"{ENTITY}.csv": _csv(rendering, columns),
    }


def _csv(rendering: target.Rendering, columns: Iterable[str]) -> bytes:
    settings: Settings = rendering.settings
    day = rendering.journal.posting_date.strftime(settings.date_format)
    rows = [tuple(columns)]
    for batch in batches(rendering):
        for number, (document, line) in enumerate(lines_of(batch.vouchers), start=1):
            zero = format_minor(0, document.currency)
            debit, credit = target.debit_and_credit(document, line)
            row = (
                batch.number,
                str(number),
                target.cell(settings.journal_name),
                target.cell(batch.description),
                "Ledger",
                target.cell(_account(settings, line)),
                day,
                document.reference,
                document.currency,
                debit or zero,
                credit or zero,
                target.cell(_line_text(line)),
                document.reference,
            )
            rows.append((*row, target.cell(_tags(rendering, document, line))) if settings.tags else row)
    return b"\xff\xfe" + target.csv_bytes(rows, encoding="utf-16-le")


def _manifest(rendering: target.Rendering, columns: Iterable[str]) -> Element:
    """Returns the manifest.

    Every column is mapped, because an import without a mapping succeeds and imports nothing. No column is
    auto-generated, because Dynamics would then make a journal of every line.
    """
    root = Element("DataManagementPackageManifest", _NAMESPACES)
    _add(root, DefinitionGroupName=rendering.settings.definition_group, Description=rendering.export_id)
    entity = SubElement(SubElement(root, "PackageEntityList"), "DataManagementPackageEntityData")
    _add(entity, DefaultRefreshType="FullPush", Disable="false")
    maps = SubElement(entity, "EntityMapList")
    for column in columns:
        each = SubElement(maps, "EntityMap")
        _add(each, ArrayIndex="0", EntityField=column)
        SubElement(each, "EntityFieldConversionList", {"i:nil": "true"})
        _add(
            each,
            IsAutoDefault="false",
            IsAutoGenerated="false",
            IsDefaultValueEqualNull="false",
            UseTextQualifier="false",
            XMLField=column,
        )
    _add(
        entity,
        EntityName=ENTITY,
        ExecutionUnit="1",
        InputFilePath=f"{ENTITY}.csv",
        LevelInExecutionUnit="1",
        SequenceInLevel="1",
        SkipStaging="false",
        SourceFormat="CSV-Unicode",
    )
    return root


def _package_header(rendering: target.Rendering) -> Element:
    root = Element("DataManagementPackageHeader", _NAMESPACES)
    _add(
        root,
        Description=rendering.export_id,
        ManifestType=_MANIFEST_TYPE,
        PackageType="DefinitionGroup",
        PackageVersion="2",
    )
    return root


def _add(parent: Element, **texts: str) -> None:
    for name, text in texts.items():
        SubElement(parent, name).text = text


# --- OData --------------------------------------------------------------------------------------------------------


def json_file(rendering: target.Rendering) -> bytes:
    """Returns a JSON array of journals.

    Each has the body for ``POST /data/LedgerJournalHeaders``, and the bodies for ``POST /data/LedgerJournalLines``. The
    sender adds the number from the first answer to the lines.
    """
    journals = [
        {"header": _header_body(rendering, batch), "lines": _line_bodies(rendering, batch)}
        for batch in batches(rendering)
    ]
    return msgspec.json.format(_encoder.encode(journals), indent=2) + b"\n"


def _header_body(rendering: target.Rendering, batch: Batch) -> dict[str, Any]:
    return {
        "dataAreaId": company(rendering),
        "JournalName": rendering.settings.journal_name,
        "Description": batch.description,
    }


def _line_bodies(rendering: target.Rendering, batch: Batch) -> list[dict[str, Any]]:
    settings: Settings = rendering.settings
    bodies = []
    for number, (document, line) in enumerate(lines_of(batch.vouchers), start=1):
        amount, zero = Decimal(target.amount_of(document, line)), Decimal(format_minor(0, document.currency))
        debit = line.side is Side.DEBIT
        body = {
            "dataAreaId": company(rendering),
            "LineNumber": number,
            "AccountType": "Ledger",
            "AccountDisplayValue": _account(settings, line),
            "CurrencyCode": document.currency,
            "DebitAmount": amount if debit else zero,
            "CreditAmount": zero if debit else amount,
            # Noon is the same day in the company's time zone.
            "TransDate": f"{rendering.journal.posting_date.isoformat()}T12:00:00Z",
            "Voucher": document.reference,
            "Text": _line_text(line),
            "Document": document.reference,
        }
        if settings.tags:
            body["FinTagDisplayValue"] = _tags(rendering, document, line)
        bodies.append(body)
    return bodies


# --- accounts and texts of a line ---------------------------------------------------------------------------------


def company(rendering: target.Rendering) -> str:
    """The legal entity, in lower case as in OData."""
    name: str = rendering.settings.company or rendering.journal.entity
    return name.lower()


def _line_text(line: DocumentLine) -> str:
    """Returns the text of a line. The reference comes first, so that it is never cut off."""
    return f"{line.reference} {line.text}"[:_TEXT]


def _account(settings: Settings, line: DocumentLine) -> str:
    """Returns a ledger account. Delimiters stay if a value is empty.

    Raises InvalidInput if a value contains a delimiter, because Dynamics would read another account.
    """
    values = {**dict(line.account.dimensions), _ACCOUNT: line.account.number}
    parts = [values.get(name, "") for name in settings.account_format]
    for name, part in zip(settings.account_format, parts, strict=True):
        if settings.delimiter in part:
            raise InvalidInput(
                f"the delimiter of ledger accounts is part of a value of {name}",
                field="delimiter",
                expected="one that is in no value",
                found=part,
            )
    return settings.delimiter.join(parts)


def _tags(rendering: target.Rendering, document: Document, line: DocumentLine) -> str:
    settings: Settings = rendering.settings
    values: dict[str, str] = {
        "line": line.reference,
        "document": document.reference,
        "export": rendering.export_id,
        "customer": line.customer,
        "block_id": line.block_id,
        "product": line.product,
        "pool": line.pool,
        "processor": line.processor,
    }
    return settings.tag_delimiter.join(values[name].replace(settings.tag_delimiter, " ") for name in settings.tags)
