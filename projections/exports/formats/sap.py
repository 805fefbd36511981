"""SAP S/4HANA: the SOAP service *Journal Entry – Post*, and the file of the app *Upload General Journal Entries*.

A document has at most 999 items. Tax and document splitting need some of them, so 900 is the limit here. A document has
one currency. Items in a foreign currency also have the amount in company code currency, so SAP converts nothing. In the
message amounts are signed: debits are positive. SAP does not refuse a document because of a repeated reference, and
answers 200 even if it posts nothing. So the delivery looks the reference up, and reads the confirmation.

From the service's WSDL: the elements of the message, their order and lengths. A text has at least one character, so an
empty optional element is left out. Seen in several working integrations: the signs of amounts, the file's technical
names, the 999 (error F5 727). Not certain, and therefore settings: separator, dates and byte order mark of the file,
and the sign of its company code amounts. Accounts are posted as G/L items, which SAP does not allow on reconciliation
accounts. So map receivables to an account that is not one.

Sources: the WSDL of ``JournalEntryCreateRequestConfirmation_In``; SAP community, "Guidelines for API Journal Entry –
Post"; SAP knowledge base 1483198 and 1801529, note 2591291; the app's template (F2548).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Final, Literal
from xml.etree.ElementTree import Element, SubElement

from msgspec import Meta, field

from projections.exports.documents import Document, DocumentLine, TargetLimits, short_name
from projections.exports.formats import target
from subledger.accounts import Side

Assignment = Literal["ProfitCenter", "Segment", "CostCenter", "WBSElement", "FunctionalArea"]
_ASSIGNMENTS: Final[dict[Assignment, str]] = {
    "ProfitCenter": "PRCTR", "Segment": "SEGMENT", "CostCenter": "KOSTL", "WBSElement": "PS_POSID",
    "FunctionalArea": "FKBER",
}  # fmt: skip
"""Elements of an account assignment in the message's order, with their columns in the file."""


def _assigned() -> dict[str, Assignment]:
    return {
        "cost_center": "CostCenter",
        "department": "CostCenter",
        "profit_center": "ProfitCenter",
        "segment": "Segment",
        "functional_area": "FunctionalArea",
    }


class Settings(target.TargetSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of a company in SAP.

    ``company_code``: if empty, the ledger's entity. ``user``: the creator of the documents in the message.
    ``dimensions``: our dimension to their account assignment. ``title``: at most 16 letters, because a header has 25
    and the month is added. For the file: ``separator``, ``date_format`` and ``byte_order_mark`` as in the uploading
    user's template, and ``signed_company_amounts``: True if a credit in company code currency is negative. A line
    without an amount in the transaction currency always has this sign, because its columns do not show the side.
    """

    title: Annotated[str, Meta(max_length=16)] = "Prepaid credits"
    company_code: Annotated[str, Meta(max_length=4)] = ""
    document_type: Annotated[str, Meta(min_length=2, max_length=2)] = "SA"
    user: Annotated[str, Meta(min_length=1, max_length=12)] = "SUBLEDGER"
    dimensions: dict[str, Assignment] = field(default_factory=_assigned)
    separator: Literal[",", ";"] = ","
    date_format: str = "%Y%m%d"
    byte_order_mark: bool = False
    signed_company_amounts: bool = False


_TEXT: Final = 50
_HEADER_TEXT: Final = 24  # of 25: in the file an apostrophe may be added before it

TARGET: Final = target.Target(
    name="sap",
    # SAP's screens convert searched reference numbers to upper case, so ours are upper case.
    limits=TargetLimits(lines=900, text=_TEXT, reference=16, alphabet="[A-Z0-9_-]", two_currencies=True, decimals=3),
    settings=Settings,
)

_MESSAGE_IDS: Final = TargetLimits(lines=0, text=0, reference=35)
_HEADER: Final = {
    "BUKRS": "*Company Code (4)", "BLART": "*Journal Entry Type (2)", "BLDAT": "*Journal Entry Date",
    "BUDAT": "*Posting Date", "MONAT": "Fiscal Period (2)", "BKTXT": "Document Header Text (25)",
    "WAERS": "*Transaction Currency (5)", "LDGRP": "Ledger Group (4)", "KURSF_EXT": "Exchange Rate (12)",
    "WWERT": "Currency Translation Date", "XBLNR": "Reference Document Number (16)",
    "PARGB_HDR": "Trading Partner Business Area (4)", "XMWST": "Calculate Tax Automatically (1)",
}  # fmt: skip
_ITEM: Final = {
    "BUKRS": "Company Code (4)", "HKONT": "G/L Account (10)", "SGTXT": "Item Text (50)", "WRSOL": "Debit",
    "WRHAB": "Credit", "DMBTR": "Amount in Company Code Currency", "DMBE2": "Amount in Second Local Currency",
    "MWSKZ": "Tax Code (2)", "TXJCD": "Tax Jurisdiction (15)", "KOSTL": "Cost Center (10)",
    "PRCTR": "Profit Center (10)", "AUFNR": "Order Number (12)", "PS_POSID": "WBS Element (24)", "VALUT": "Value Date",
    "HBKID": "House Bank (5)", "HKTID": "House Bank Account (5)", "ZUONR": "Assignment Reference (18)",
    "VBUND": "Trading Partner (6)", "SEGMENT": "Segment (10)", "FKBER": "Functional Area (16)",
}  # fmt: skip
_WIDTH: Final = 1 + len(_ITEM)


def csv_file(rendering: target.Rendering) -> bytes:
    """Returns the upload file: a header and a table of items for each document. SAP reads the technical names; the
    second row is for people.
    """
    settings: Settings = rendering.settings
    rows: list[Sequence[str]] = [
        ("Upload General Journal Entry",),
        (f"// {rendering.title}",),
        (f"// {rendering.export_id}",),
        ("Batch ID",),
    ]
    for document in rendering.documents:
        header = _header_cells(rendering, document)
        rows += [
            (),
            (str(document.part), "Header"),
            ("", *_HEADER),
            ("", *_HEADER.values()),
            ("", *(header.get(name, "") for name in _HEADER)),
            (),
            ("", "Line Items"),
            ("", "", "", "", "Transaction Currency"),
            ("", *_ITEM),
            ("", *_ITEM.values()),
        ]
        for line in document.lines:
            item = _item_cells(rendering, document, line)
            rows.append(("", *(item.get(name, "") for name in _ITEM)))
    return target.csv_bytes(
        ((*row, *("",) * (_WIDTH - len(row))) for row in rows),
        encoding="utf-8-sig" if settings.byte_order_mark else "utf-8",
        delimiter=settings.separator,
    )


def _header_cells(rendering: target.Rendering, document: Document) -> dict[str, str]:
    settings: Settings = rendering.settings
    day = rendering.journal.posting_date.strftime(settings.date_format)
    return {
        "BUKRS": target.cell(_company(rendering)),
        "BLART": settings.document_type,
        "BLDAT": day,
        "BUDAT": day,
        "BKTXT": target.cell(rendering.title_within(_HEADER_TEXT)),
        "WAERS": document.currency,
        "XBLNR": document.reference,
    }


def _item_cells(rendering: target.Rendering, document: Document, line: DocumentLine) -> dict[str, str]:
    debit, credit = target.debit_and_credit(document, line)
    cells = {
        "BUKRS": target.cell(_company(rendering)),
        "HKONT": target.cell(line.account.number),
        "SGTXT": target.cell(line.text)[:_TEXT],
        "WRSOL": debit,
        "WRHAB": credit,
        "ZUONR": line.reference,
    }
    if _is_foreign(rendering, document):
        # The app may read 0.00 as empty. Then only the sign shows the side.
        signed = rendering.settings.signed_company_amounts or not line.amount_minor
        functional = target.functional_of(rendering, line)
        cells["DMBTR"] = _signed(line, functional) if signed else functional
    for name, value in _assignments(rendering, line).items():
        cells[_ASSIGNMENTS[name]] = target.cell(value)
    return cells


def xml_file(rendering: target.Rendering) -> bytes:
    """Returns an envelope for ``JournalEntryCreateRequestConfirmation_In``, with one request for each document.

    SAP posts or refuses each document separately. Message ids and times are derived from the journal; the confirmation
    refers to them.
    """
    envelope = Element(
        "soapenv:Envelope",
        {"xmlns:soapenv": "http://schemas.xmlsoap.org/soap/envelope/", "xmlns:sfin": "http://sap.com/xi/SAPSCORE/SFIN"},
    )
    SubElement(envelope, "soapenv:Header")
    bulk = SubElement(SubElement(envelope, "soapenv:Body"), "sfin:JournalEntryBulkCreateRequest")
    _message_header(bulk, rendering, short_name(rendering.export_id, _MESSAGE_IDS))
    for document in rendering.documents:
        request = SubElement(bulk, "JournalEntryCreateRequest")
        _message_header(request, rendering, document.reference)
        _journal_entry(SubElement(request, "JournalEntry"), rendering, document)
    return target.xml_bytes(envelope)


def _message_header(parent: Element, rendering: target.Rendering, message_id: str) -> None:
    created = f"{rendering.journal.posting_date.isoformat()}T00:00:00Z"
    _add(SubElement(parent, "MessageHeader"), ID=message_id, CreationDateTime=created)


def _journal_entry(entry: Element, rendering: target.Rendering, document: Document) -> None:
    settings: Settings = rendering.settings
    day = rendering.journal.posting_date.isoformat()
    _add(
        entry,
        # SAP fills in the number, because we send no OriginalReferenceDocument. An empty one would be invalid.
        OriginalReferenceDocumentType="BKPFF",
        BusinessTransactionType="RFBU",
        AccountingDocumentType=settings.document_type,
        DocumentReferenceID=document.reference,
        DocumentHeaderText=rendering.title_within(_HEADER_TEXT),
        CreatedByUser=settings.user,
        CompanyCode=_company(rendering),
        DocumentDate=day,
        PostingDate=day,
    )
    for item_number, line in enumerate(document.lines, start=1):
        item = SubElement(entry, "Item")
        number = line.account.number
        _add(
            item,
            ReferenceDocumentItem=str(item_number),
            CompanyCode=_company(rendering),
            GLAccount=number.zfill(10) if number.isdecimal() else number,
        )
        _add_amount(
            item, "AmountInTransactionCurrency", document.currency, _signed(line, target.amount_of(document, line))
        )
        if _is_foreign(rendering, document):
            functional = _signed(line, target.functional_of(rendering, line))
            _add_amount(item, "AmountInCompanyCodeCurrency", rendering.journal.functional_currency, functional)
        _add(
            item,
            DebitCreditCode="S" if line.side is Side.DEBIT else "H",
            DocumentItemText=line.text,
            AssignmentReference=line.reference,
        )
        assigned = _assignments(rendering, line)
        if assigned:
            _add(SubElement(item, "AccountAssignment"), **assigned)


def _add(parent: Element, **texts: str) -> None:
    for name, text in texts.items():
        SubElement(parent, name).text = text


def _add_amount(item: Element, name: str, currency: str, amount: str) -> None:
    SubElement(item, name, {"currencyCode": currency}).text = amount


def _signed(line: DocumentLine, amount: str) -> str:
    """Adds the sign: a credit is negative. An empty amount stays empty."""
    return f"-{amount}" if line.side is Side.CREDIT and amount.strip("0.") else amount


def _is_foreign(rendering: target.Rendering, document: Document) -> bool:
    return document.currency != rendering.journal.functional_currency


def _company(rendering: target.Rendering) -> str:
    company: str = rendering.settings.company_code or rendering.journal.entity
    return company


def _assignments(rendering: target.Rendering, line: DocumentLine) -> dict[Assignment, str]:
    settings: Settings = rendering.settings
    given = {settings.dimensions[name]: value for name, value in line.account.dimensions if name in settings.dimensions}
    return {name: given[name] for name in _ASSIGNMENTS if name in given}
