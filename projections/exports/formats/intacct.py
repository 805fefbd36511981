"""Sage Intacct: the CSV template of General Ledger journal entries, and ``GLBATCH`` records of the XML gateway.

A line has a currency and a rate, but no amount of its own in the base currency. So documents are in the functional
currency. Entities are locations. A document belongs to one, the ledger's, unless a dimension sets another. If lines do
not balance by entity, ``base_location`` names the entity with which the differences are settled.

If the request has ``uniqueid``, the gateway refuses to run a function twice by its ``controlid``. The same id is the
journal's reference number, by which it is looked up. Only a custom field can hold the export's id.

Documented: the order of elements and columns, positive amounts with ``TR_TYPE`` 1 or -1, header values only on a
journal's first row, 30 characters of description in CSV, time-outs for journals with thousands of lines. Not certain,
and chosen by us: 500 lines, 255 characters of a memo, 40 of a reference, 12 digits, a ``GLENTRY_`` column in CSV for
dimensions without an example. Download the company's own template, because its columns vary with the configuration.

Sources: Intacct/intacct-sdk-js (Functions/GeneralLedger, Xml/Request), developer.intacct.com (web-services/requests,
api/general-ledger/journal-entries), Intacct help (import-GL-journal-entries, example-line-numbers).
"""

from __future__ import annotations

import re
from datetime import date
from typing import Annotated, Final, Literal
from xml.etree import ElementTree

import msgspec

from projections.exports.documents import Document, DocumentLine, TargetLimits, shortened
from projections.exports.formats import target
from subledger.accounts import Side
from subledger.errors import InvalidInput

# Dimensions of a line in the gateway's order, with their columns in CSV. The customer is a field of the line, not one
# of these.
_DIMENSIONS: Final = {
    "LOCATION": "LOCATION_ID",
    "DEPARTMENT": "DEPT_ID",
    "PROJECTID": "GLENTRY_PROJECTID",
    "TASKID": "GLENTRY_TASKID",
    "COSTTYPEID": "GLENTRY_COSTTYPEID",
    "CUSTOMERID": "GLENTRY_CUSTOMERID",
    "VENDORID": "GLENTRY_VENDORID",
    "EMPLOYEEID": "GLENTRY_EMPLOYEEID",
    "ITEMID": "GLENTRY_ITEMID",
    "CLASSID": "GLENTRY_CLASSID",
    "CONTRACTID": "GLENTRY_CONTRACTID",
    "WAREHOUSEID": "GLENTRY_WAREHOUSEID",
}
_OWN_DIMENSION: Final = re.compile(r"GLDIM[A-Z0-9_]{1,60}", re.ASCII)
_XML_DATE: Final = "%m/%d/%Y"
_DESCRIPTION: Final = 30


class Settings(target.TargetSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of a company in Intacct.

    ``journal``: the journal's symbol. ``state``: the state in which a journal is sent; *Submitted* if the company uses
    approvals. ``location``: the location of lines that have none from a dimension (if absent: the ledger's entity; if
    empty: none). ``base_location``: the entity with which lines are balanced (*BASELOCATION_NO*, *SOURCEENTITY*); empty
    for none. ``multi_currency``: True if the company has several currencies, so that lines name theirs. ``rate_type``:
    the exchange rate type of these lines; empty for a rate of 1. ``dimensions``: our dimension to theirs, by the
    gateway's name, also *GLDIM…*. ``customers``: their ids of customers, for lines by customer. If some are set, each
    customer of a line needs one; if none is set, customers are only in the text. ``export_field``: the id of a custom
    field of journals for the export's id, for XML; empty for none. ``date_format``: the format that was chosen on the
    import's screen, for CSV.
    """

    journal: Annotated[str, msgspec.Meta(min_length=1, max_length=40)] = "GJ"
    state: Literal["Draft", "Submitted", "Posted"] = "Draft"
    location: str | None = None
    base_location: str = ""
    multi_currency: bool = False
    rate_type: str = "Intacct Daily Rate"
    dimensions: dict[str, str] = msgspec.field(
        default_factory=lambda: {
            "location": "LOCATION",
            "department": "DEPARTMENT",
            "project": "PROJECTID",
            "class": "CLASSID",
            "item": "ITEMID",
        }
    )
    customers: dict[str, str] = msgspec.field(default_factory=dict)
    export_field: Annotated[str, msgspec.Meta(pattern="^([A-Z][A-Z0-9_]*)?$", max_length=60)] = ""
    date_format: target.DateFormat = "%m/%d/%Y"

    def check(self) -> None:
        for theirs in self.dimensions.values():
            if theirs == "CUSTOMERID" or not (theirs in _DIMENSIONS or _OWN_DIMENSION.fullmatch(theirs)):
                raise InvalidInput(
                    f"{theirs[:60]} is no dimension of a journal's line",
                    field="dimensions",
                    expected=", ".join((*(name for name in _DIMENSIONS if name != "CUSTOMERID"), "GLDIM…")),
                    found=theirs[:60],
                )
        target.check_one_to_one(self.dimensions)
        if self.export_field in _OF_A_JOURNAL:
            raise InvalidInput(
                f"{self.export_field} is a field of every journal",
                field="export_field",
                expected="the id of a custom field",
                found=self.export_field,
            )


TARGET: Final = target.Target(
    name="intacct", limits=TargetLimits(lines=500, text=255, reference=40, digits=12), settings=Settings
)

_OF_A_JOURNAL: Final = (
    "JOURNAL", "BATCH_DATE", "REVERSEDATE", "BATCH_TITLE", "HISTORY_COMMENT", "REFERENCENO", "BASELOCATION_NO",
    "SUPDOCID", "STATE", "ENTRIES",
)  # fmt: skip
_COLUMNS: Final = (
    "DONOTIMPORT", "JOURNAL", "DATE", "REVERSEDATE", "DESCRIPTION", "REFERENCE_NO", "LINE_NO", "ACCT_NO", "LOCATION_ID",
    "DEPT_ID", "DOCUMENT", "MEMO", "DEBIT", "CREDIT", "SOURCEENTITY", "CURRENCY", "EXCH_RATE_DATE", "EXCH_RATE_TYPE_ID",
    "EXCHANGE_RATE", "STATE", "ALLOCATION_ID", "BILLABLE", "GLENTRY_PROJECTID", "GLENTRY_CUSTOMERID",
    "GLENTRY_VENDORID", "GLENTRY_ITEMID", "GLENTRY_CLASSID", "GLENTRY_EMPLOYEEID",
)  # fmt: skip


# --- CSV ----------------------------------------------------------------------------------------------------------


def csv_file(rendering: target.Rendering) -> bytes:
    """Returns rows for *General Ledger journal entries*: one for each line. The journal's own values are only on its
    first row.

    After the columns of every template there is one for each further dimension of the settings.
    """
    settings: Settings = rendering.settings
    used = {_column(theirs) for theirs in settings.dimensions.values()}
    columns = (*_COLUMNS, *sorted(used - set(_COLUMNS)))
    rows: list[tuple[str, ...]] = [columns]
    for document in rendering.documents:
        for number, line in enumerate(document.lines, start=1):
            cells = {"LINE_NO": str(number), **_line_cells(rendering, document, line)}
            if number == 1:
                cells |= {
                    "JOURNAL": target.cell(settings.journal),
                    "DATE": rendering.journal.posting_date.strftime(settings.date_format),
                    "DESCRIPTION": _description(rendering, document),
                    "REFERENCE_NO": document.reference,
                    "STATE": settings.state,
                }
            rows.append(tuple(cells.get(column, "") for column in columns))
    return target.csv_bytes(rows)


def _line_cells(rendering: target.Rendering, document: Document, line: DocumentLine) -> dict[str, str]:
    settings: Settings = rendering.settings
    debit, credit = target.debit_and_credit(document, line, decimals=TARGET.limits.decimals)
    cells = {
        "ACCT_NO": target.cell(line.account.number),
        "DOCUMENT": line.reference,
        "MEMO": shortened(target.cell(line.text), TARGET.limits.text),
        "DEBIT": debit,
        "CREDIT": credit,
        "SOURCEENTITY": target.cell(settings.base_location),
    }
    if settings.multi_currency:
        rate_date = rendering.journal.posting_date.strftime(settings.date_format)
        cells |= {"CURRENCY": document.currency, "EXCH_RATE_DATE": rate_date, **_rate(settings)}
    return cells | {_column(name): target.cell(value) for name, value in _dimensions(rendering, line).items()}


def _column(dimension: str) -> str:
    return _DIMENSIONS.get(dimension, dimension)


def _description(rendering: target.Rendering, document: Document) -> str:
    part = f" {document.part}/{document.parts}" if document.parts > 1 else ""
    return target.text_within(_DESCRIPTION, target.cell(rendering.settings.title), f" {rendering.subject}{part}")


# --- XML ----------------------------------------------------------------------------------------------------------


def xml_file(rendering: target.Rendering) -> bytes:
    """Returns the ``content`` of a request to the gateway: one ``function`` for each document. Its ``controlid`` makes
    it run once.

    The delivery adds ``control`` and ``authentication``, because a file must not contain credentials.
    """
    content = ElementTree.Element("content")
    content.extend(function(rendering, document) for document in rendering.documents)
    return target.xml_bytes(content)


def function(rendering: target.Rendering, document: Document) -> ElementTree.Element:
    """Returns one document: ``function`` with ``create`` of a ``GLBATCH``. Empty elements are left out."""
    settings: Settings = rendering.settings
    journal = rendering.journal
    result = ElementTree.Element("function", controlid=document.reference)
    batch = ElementTree.SubElement(ElementTree.SubElement(result, "create"), "GLBATCH")
    part = f", part {document.part} of {document.parts}" if document.parts > 1 else ""
    _add(batch, "JOURNAL", settings.journal)
    _add(batch, "BATCH_DATE", _date(journal.posting_date))
    _add(batch, "BATCH_TITLE", target.text_within(TARGET.limits.text, settings.title, f" {rendering.subject}{part}"))
    _add(batch, "REFERENCENO", document.reference)
    _add(batch, "BASELOCATION_NO", settings.base_location)
    _add(batch, "STATE", "" if settings.state == "Posted" else settings.state)  # a journal without a state is posted
    if settings.export_field:
        _add(batch, settings.export_field, rendering.export_id)
    entries = ElementTree.SubElement(batch, "ENTRIES")
    for line in document.lines:
        _add_line(entries, rendering, document, line)
    return result


def _add_line(
    entries: ElementTree.Element, rendering: target.Rendering, document: Document, line: DocumentLine
) -> None:
    """Adds a line, with its elements in the gateway's order."""
    settings: Settings = rendering.settings
    entry = ElementTree.SubElement(entries, "GLENTRY")
    _add(entry, "DOCUMENT", line.reference)
    _add(entry, "ACCOUNTNO", line.account.number)
    _add(entry, "TR_TYPE", "1" if line.side is Side.DEBIT else "-1")
    _add(entry, "TRX_AMOUNT", target.amount_of(document, line, decimals=TARGET.limits.decimals))
    if settings.multi_currency:
        _add(entry, "CURRENCY", document.currency)
        _add(entry, "EXCH_RATE_DATE", _date(rendering.journal.posting_date))
        for name, value in _rate(settings).items():
            _add(entry, name, value)
    dimensions = _dimensions(rendering, line)
    for name in (*_DIMENSIONS, *sorted(dimensions.keys() - _DIMENSIONS.keys())):
        _add(entry, name, dimensions.get(name, ""))
    _add(entry, "DESCRIPTION", line.text)


def _add(parent: ElementTree.Element, name: str, text: str) -> None:
    if text:
        ElementTree.SubElement(parent, name).text = text


def _date(day: date) -> str:
    return day.strftime(_XML_DATE)


# --- both ---------------------------------------------------------------------------------------------------------


def _rate(settings: Settings) -> dict[str, str]:
    return {"EXCH_RATE_TYPE_ID": settings.rate_type} if settings.rate_type else {"EXCHANGE_RATE": "1"}


def _dimensions(rendering: target.Rendering, line: DocumentLine) -> dict[str, str]:
    """Returns the dimensions of a line in Intacct, by the gateway's names."""
    settings: Settings = rendering.settings
    named = {"LOCATION": rendering.journal.entity if settings.location is None else settings.location}
    for ours, value in line.account.dimensions:
        if ours in settings.dimensions:
            named[settings.dimensions[ours]] = value
    if customer := target.customer_of(settings.customers, line.customer, field="customers"):
        named["CUSTOMERID"] = customer
    return {name: value for name, value in named.items() if value}
