"""NetSuite: the CSV Import Assistant's journal entries, and bodies of REST ``journalEntry`` records.

REST takes 1,000 lines of a journal in one call, but one help page says 200, so 200 is the limit here. A journal has one
currency, here the functional one, and one subsidiary. The external id consists of letters, digits, ``_`` and ``-``. It
is unique among journals, and a delivery is looked up by it.

CSV takes names and REST takes internal ids, so there are settings for both. Our own fields are custom fields, set by
their script ids. CSV columns are mapped on a screen. The import leaves out a column that is not mapped.

Documented: names and limits of fields, the alphabet of external ids, amounts of ten digits and two decimals in CSV. To
be tried in a sandbox: accounts, subsidiary and segments by external id, a currency by its name (``refName``), the
greatest length of a memo (999 here).

Sources: NetSuite help, REST journal entry (section_159886587653), references (section_1545142037), external ids
(section_156334828635), limits (section_N1469880), CSV line and header fields (section_1534492737, section_1534492479).
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Annotated, Any, Final

import msgspec

from projections.exports.deposits import APPLICATION, DEPOSIT, JOURNAL
from projections.exports.documents import Document, DocumentLine, TargetLimits, short_name, shortened
from projections.exports.formats import target
from subledger.accounts import Side
from subledger.errors import InvalidInput
from subledger.money import format_minor
from subledger.text.visible_text import visible

_SEGMENTS: Final = ("department", "class", "location")
_SEGMENT: Final = re.compile(r"department|class|location|(?:cseg|custcol)\w*", re.ASCII)
_EXTERNAL_ID: Final = re.compile("[A-Za-z0-9_-]+")
"""An external id: section_156334828635."""
_BodyField = Annotated[str, msgspec.Meta(pattern="^(custbody[a-z0-9_]*)?$")]
_LineField = Annotated[str, msgspec.Meta(pattern="^(custcol[a-z0-9_]*)?$")]


class Settings(target.TargetSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of a company in NetSuite.

    For both: ``dimensions``: our dimension to their segment. ``approved``: True if a journal is sent as approved.
    ``export_field``, ``line_field``, ``block_field``: script ids of custom fields for the export's id, the line's
    reference, and the block of a document; empty for none. Create the fields in NetSuite before you set them here,
    because NetSuite refuses records with unknown fields. Suggested: custbody_subledger_export, custcol_subledger_line,
    custbody_subledger_block.

    For CSV: ``subsidiary``: its name (if empty: the ledger's entity). ``currency``: the name of the functional currency
    (if empty: its ISO code). ``posting_period``: the name of a period, by ``strftime`` of its last day.
    ``customer_names``: names of customers (without one: our id). ``date_format``: of the importing user.

    For REST, internal ids: ``subsidiary_id`` (if empty: the ledger's entity is the external id). ``currency_id`` (if
    empty: the ISO code is the name). ``posting_period_ids``, by month (if empty: NetSuite chooses the period).
    ``accounts``, by account number (without one: the number is the external id). ``segment_ids``, by segment and value
    (a segment without ids: the value itself). ``customers`` (without one: our id is the external id; an id with other
    characters than letters, digits, _ and - needs an internal id).
    """

    subsidiary: str = ""
    subsidiary_id: str = ""
    currency: str = ""
    currency_id: str = ""
    posting_period: Annotated[str, msgspec.Meta(min_length=1, max_length=60)] = "%b %Y"
    posting_period_ids: dict[str, str] = msgspec.field(default_factory=dict)
    accounts: dict[str, str] = msgspec.field(default_factory=dict)
    dimensions: dict[str, str] = msgspec.field(default_factory=lambda: {name: name for name in _SEGMENTS})
    segment_ids: dict[str, dict[str, str]] = msgspec.field(default_factory=dict)
    customers: dict[str, str] = msgspec.field(default_factory=dict)
    customer_names: dict[str, str] = msgspec.field(default_factory=dict)
    approved: bool = False
    export_field: _BodyField = ""
    line_field: _LineField = ""
    block_field: _BodyField = ""
    date_format: target.DateFormat = "%m/%d/%Y"

    def check(self) -> None:
        for theirs in self.dimensions.values():
            if not _SEGMENT.fullmatch(theirs) or theirs == self.line_field:
                raise InvalidInput(
                    f"{theirs[:60]} is no segment of a journal's line",
                    field="dimensions",
                    expected="department, class, location, cseg… or custcol…",
                    found=theirs[:60],
                )
        target.check_one_to_one(self.dimensions)


TARGET: Final = target.Target(
    name="netsuite", limits=TargetLimits(lines=200, text=999, reference=60, digits=10), settings=Settings
)

_encoder = msgspec.json.Encoder(decimal_format="number")
_LINE: Final = "Journal Entry - Line: "
_HEADER: Final = (
    "External ID", "Date", "Posting Period", "Subsidiary", "Currency", "Exchange Rate", "Memo", "Approved",
)  # fmt: skip
_OF_A_LINE: Final = ("Account", "Debit", "Credit", "Memo", "Name", "Department", "Class", "Location")


def csv_file(rendering: target.Rendering) -> bytes:
    """Returns rows for the Import Assistant: one for each line, with the header's values in each. Import them with
    *Add*, never with update.

    After the standard fields there is a column for each custom field and segment of the settings.
    """
    settings: Settings = rendering.settings
    journal = rendering.journal
    further = sorted(set(settings.dimensions.values()) - set(_SEGMENTS))
    own = [settings.line_field] if settings.line_field else []
    body_fields = [settings.export_field] if settings.export_field else []
    rows: list[tuple[str, ...]] = [
        (*_HEADER, *body_fields, *(f"{_LINE}{name}" for name in (*_OF_A_LINE, *own, *further)))
    ]
    for document in rendering.documents:
        header = (
            document.reference,
            journal.posting_date.strftime(settings.date_format),
            target.cell(journal.posting_date.strftime(settings.posting_period)),
            target.cell(settings.subsidiary or journal.entity),
            target.cell(settings.currency or document.currency),
            "1",
            _memo(rendering, document, target.cell(rendering.title)),
            "Yes" if settings.approved else "No",
            *(target.cell(rendering.export_id) for _ in body_fields),
        )
        for line in document.lines:
            segments = _segments(settings, line)
            rows.append(
                (
                    *header,
                    target.cell(line.account.number),
                    *target.debit_and_credit(document, line, decimals=TARGET.limits.decimals),
                    _referred(line),
                    target.cell(settings.customer_names.get(line.customer, line.customer)),
                    *(target.cell(segments.get(name, "")) for name in _SEGMENTS),
                    *(line.reference for _ in own),
                    *(target.cell(segments.get(name, "")) for name in further),
                )
            )
    return target.csv_bytes(rows)


def json_file(rendering: target.Rendering) -> bytes:
    """Returns a JSON array of bodies for ``POST /services/rest/record/v1/journalEntry``, one for each document."""
    bodies = [body(rendering, document) for document in rendering.documents]
    return msgspec.json.format(_encoder.encode(bodies), indent=2) + b"\n"


def deposits_file(rendering: target.Rendering) -> bytes:
    """The customer-deposit pattern, block by block: a JSON object of the records, in the order in which they must be
    created.

    ``customerDeposit`` records raise the deposits of customers. ``journalEntry`` records have all other movements of
    each block. ``depositApplication`` records apply the block's deposit to the receivable from the block's journal.
    NetSuite posts deposits and applications itself, so their two lines are its own postings, and are not in the
    journals. A deposit debits a bank account, and always credits the system account *Customer Deposits*
    (section_N1296669). So map credits_clearing to an account of type Bank, and customer_deposits to the system account.
    The fields of an application are from memory, not from NetSuite's schema: check them in a sandbox.
    """
    settings: Settings = rendering.settings
    made: dict[str, list[dict[str, Any]]] = {"customerDeposit": [], "journalEntry": [], "depositApplication": []}
    known = (*rendering.others, *rendering.documents)
    journals = {document.block_id: document.reference for document in known if document.kind == JOURNAL}
    for document in rendering.documents:
        if document.kind == DEPOSIT:
            made["customerDeposit"].append(_deposit(rendering, document))
        elif document.kind == APPLICATION:
            made["depositApplication"].append(_application(rendering, document, journals.get(document.block_id)))
        else:
            record = body(rendering, document)
            if document.block_id and settings.block_field:
                record[settings.block_field] = document.block_id
            made["journalEntry"].append(record)
    return msgspec.json.format(_encoder.encode(made), indent=2) + b"\n"


def _deposit(rendering: target.Rendering, document: Document) -> dict[str, Any]:
    """Returns a deposit into an account. ``undepFunds`` is left out: the account decides (section_N1296669)."""
    [clearing] = [line for line in document.lines if line.side is Side.DEBIT]
    return {
        **_of_block(rendering, document),
        "account": _account(rendering.settings, clearing.account.number),
        "payment": Decimal(format_minor(document.total_minor, document.currency)),
    }


def _application(rendering: target.Rendering, document: Document, journal: str | None) -> dict[str, Any]:
    amount = Decimal(format_minor(document.total_minor, document.currency))
    applied: dict[str, Any] = {"apply": True, "amount": amount}
    if journal is not None:
        applied["doc"] = {"externalId": journal}
    return {
        **_of_block(rendering, document),
        "deposit": {"externalId": short_name(f"DEP-{document.block_id}", TARGET.limits)},
        "apply": {"items": [applied]},
    }


def _of_block(rendering: target.Rendering, document: Document) -> dict[str, Any]:
    settings: Settings = rendering.settings
    record: dict[str, Any] = {
        "externalId": document.reference,
        "customer": _customer(settings, document.customer),
        "currency": _currency(settings, document),
        "exchangeRate": 1,
        "tranDate": rendering.journal.posting_date.isoformat(),
        "memo": target.text_within(TARGET.limits.text, rendering.title, f", block {document.block_id}"),
    }
    if settings.block_field:
        record[settings.block_field] = document.block_id
    if settings.export_field:
        record[settings.export_field] = rendering.export_id
    return record


def body(rendering: target.Rendering, document: Document) -> dict[str, Any]:
    """Returns one ``journalEntry`` record. Raises InvalidInput if this one has no id and others have one."""
    settings: Settings = rendering.settings
    journal = rendering.journal
    subsidiary = {"id": settings.subsidiary_id} if settings.subsidiary_id else {"externalId": journal.entity}
    result: dict[str, Any] = {
        "externalId": document.reference,
        "subsidiary": subsidiary,
        "currency": _currency(settings, document),
        "exchangeRate": 1,
        "tranDate": journal.posting_date.isoformat(),
        "memo": _memo(rendering, document, rendering.title),
        "approved": settings.approved,
        "line": {"items": [_item(settings, document, line) for line in document.lines]},
    }
    # Without an id NetSuite chooses a period by the date, and may silently take the next open one.
    if settings.posting_period_ids:
        period = target.id_of(settings.posting_period_ids, str(journal.period), field="posting_period_ids")
        result["postingPeriod"] = {"id": period}
    if settings.export_field:
        result[settings.export_field] = rendering.export_id
    return result


def _item(settings: Settings, document: Document, line: DocumentLine) -> dict[str, Any]:
    amount = target.amount_of(document, line, decimals=TARGET.limits.decimals)
    item: dict[str, Any] = {
        "account": _account(settings, line.account.number),
        "debit" if line.side is Side.DEBIT else "credit": Decimal(amount),
        "memo": line.text if settings.line_field else _referred(line),
    }
    for name, value in _segments(settings, line).items():
        item[name] = {"id": target.id_of(settings.segment_ids.get(name, {}), value, field="segment_ids")}
    if line.customer:
        item["entity"] = _customer(settings, line.customer)
    if settings.line_field:
        item[settings.line_field] = line.reference
    return item


def _segments(settings: Settings, line: DocumentLine) -> dict[str, str]:
    return {settings.dimensions[name]: value for name, value in line.account.dimensions if name in settings.dimensions}


def _referred(line: DocumentLine) -> str:
    """Returns a line's reference and text as one text, for lines that have no field for the reference."""
    return shortened(f"{line.reference} {line.text}", TARGET.limits.text)


def _memo(rendering: target.Rendering, document: Document, title: str) -> str:
    part = f", part {document.part} of {document.parts}" if document.parts > 1 else ""
    return target.text_within(TARGET.limits.text, title, f", {rendering.journal.name}{part}")


def _currency(settings: Settings, document: Document) -> dict[str, str]:
    return {"id": settings.currency_id} if settings.currency_id else {"refName": document.currency}


def _account(settings: Settings, number: str) -> dict[str, str]:
    return {"id": settings.accounts[number]} if number in settings.accounts else {"externalId": number}


def _customer(settings: Settings, customer: str) -> dict[str, str]:
    """Returns the reference to a customer. Raises InvalidInput if it needs an internal id and has none."""
    known = settings.customers.get(customer)
    if known is not None:
        return {"id": known}
    if not _EXTERNAL_ID.fullmatch(customer):
        raise InvalidInput(
            f"customer {visible(customer[:60])} cannot be an external id of NetSuite; set its internal id",
            field="customers",
            expected="an internal id, or an id of letters, digits, _ and -",
            found=visible(customer[:60]),
        )
    return {"externalId": customer}
