"""NetSuite: the CSV Import Assistant's journal entries, and bodies of REST ``journalEntry`` records.

REST takes 1,000 lines a journal in one call, and a help page names 200: so 200 is the limit here. A journal has one
currency and one subsidiary; it is in the functional currency. The external id is letters, digits, ``_`` and ``-``, and
unique among journals: it is what a delivery is looked up by. Line fields of ours are a custom column, set by name.

Sources: NetSuite help, REST journal entry (section_159886587653), external ids (section_156334828635), limits
(section_N1469880), CSV line and header fields (section_1534492737, section_1534492479).
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Final

import msgspec

from projections.journals.deposits import APPLICATION, DEPOSIT, JOURNAL
from projections.journals.formats.target import (
    Rendering,
    Target,
    TargetSettings,
    amount_of,
    cell,
    csv_bytes,
    debit_and_credit,
)
from projections.journals.postings import Limits, Posting, PostingLine, short_name
from subledger.accounts import Side
from subledger.money import format_minor

_SEGMENTS: Final = ("department", "class", "location")


class Settings(TargetSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``subsidiary``: its internal id (REST) or name (CSV); the ledger's entity where empty. ``currency``: NetSuite's
    id (REST) or name (CSV) of the functional currency; its ISO code where empty. ``posting_period``: how a period is
    named, by ``strftime`` of its last day; ``posting_period_ids``: internal ids by month, for REST. ``accounts``:
    internal ids by account number; the number itself is sent as an external id where there is none. ``dimensions``:
    our dimension to their segment. ``customers``: internal ids of customers, for lines by customer.
    ``approved``: whether a journal is sent as approved. ``export_field``, ``line_field``, ``block_field``: script ids
    of custom fields for the export's id, the line's reference, and the block of a document; empty for none.
    ``date_format``: of the importing user, for CSV.
    """

    subsidiary: str = ""
    currency: str = ""
    posting_period: str = "%b %Y"
    posting_period_ids: dict[str, str] = msgspec.field(default_factory=dict)
    accounts: dict[str, str] = msgspec.field(default_factory=dict)
    dimensions: dict[str, str] = msgspec.field(default_factory=lambda: {name: name for name in _SEGMENTS})
    customers: dict[str, str] = msgspec.field(default_factory=dict)
    approved: bool = False
    export_field: str = "custbody_subledger_export"
    line_field: str = "custcol_subledger_line"
    block_field: str = "custbody_subledger_block"
    date_format: str = "%m/%d/%Y"


TARGET: Final = Target(
    name="netsuite",
    limits=Limits(lines=200, text=999, reference=60, digits=10),
    settings=Settings,
)

_encoder = msgspec.json.Encoder(decimal_format="number")
_LINE: Final = "Journal Entry - Line: "
_COLUMNS: Final = (
    "External ID", "Date", "Posting Period", "Subsidiary", "Currency", "Exchange Rate", "Memo",
    *(f"{_LINE}{name}" for name in ("Account", "Debit", "Credit", "Memo", "Name", "Department", "Class", "Location")),
)  # fmt: skip


def csv_file(rendering: Rendering) -> bytes:
    """Rows for the Import Assistant: one a line, the header's values in each; import them with *Add*, never update."""
    settings: Settings = rendering.settings
    rows: list[tuple[str, ...]] = [_COLUMNS]
    for posting in rendering.postings:
        header = (
            posting.reference,
            rendering.journal.posting_date.strftime(settings.date_format),
            rendering.journal.posting_date.strftime(settings.posting_period),
            cell(settings.subsidiary or rendering.journal.entity),
            cell(settings.currency or posting.currency),
            "1",
            cell(_memo(rendering, posting)),
        )
        for line in posting.lines:
            segments = _segments(settings, line)
            rows.append(
                (
                    *header,
                    cell(line.account.number),
                    *debit_and_credit(posting, line),
                    cell(f"{line.reference} {line.text}"),
                    cell(line.customer),
                    *(cell(segments.get(name, "")) for name in _SEGMENTS),
                )
            )
    return csv_bytes(rows)


def json_file(rendering: Rendering) -> bytes:
    """A JSON array of bodies for ``POST /services/rest/record/v1/journalEntry``, one a document."""
    bodies = [body(rendering, posting) for posting in rendering.postings]
    return msgspec.json.format(_encoder.encode(bodies), indent=2) + b"\n"


def deposits_file(rendering: Rendering) -> bytes:
    """The customer-deposit pattern, block by block: a JSON object of the records to make, in the order to make them.

    ``customerDeposit`` records raise what customers have on deposit, ``journalEntry`` records are everything else of
    each block, ``depositApplication`` records take from the deposit of the block against the receivable that the
    block's journal has made. NetSuite posts deposits and applications itself: their two lines are what it does then,
    and are nowhere in the journals. The fields of an application are from memory, not from NetSuite's schema: check
    them in a sandbox.
    """
    settings: Settings = rendering.settings
    made: dict[str, list[dict[str, Any]]] = {"customerDeposit": [], "journalEntry": [], "depositApplication": []}
    journals = {posting.block_id: posting.reference for posting in rendering.postings if posting.kind == JOURNAL}
    for posting in rendering.postings:
        if posting.kind == DEPOSIT:
            made["customerDeposit"].append(_deposit(rendering, posting))
        elif posting.kind == APPLICATION:
            made["depositApplication"].append(_application(rendering, posting, journals.get(posting.block_id)))
        else:
            record = body(rendering, posting)
            if posting.block_id and settings.block_field:
                record[settings.block_field] = posting.block_id
            made["journalEntry"].append(record)
    return msgspec.json.format(_encoder.encode(made), indent=2) + b"\n"


def _deposit(rendering: Rendering, posting: Posting) -> dict[str, Any]:
    [clearing] = [line for line in posting.lines if line.side is Side.DEBIT]
    return {
        **_of_block(rendering, posting),
        "account": _account(rendering.settings, clearing.account.number),
        "undepFunds": False,
        "payment": Decimal(format_minor(posting.total_minor, posting.currency)),
    }


def _application(rendering: Rendering, posting: Posting, journal: str | None) -> dict[str, Any]:
    amount = Decimal(format_minor(posting.total_minor, posting.currency))
    applied: dict[str, Any] = {"apply": True, "amount": amount}
    if journal is not None:
        applied["doc"] = {"externalId": journal}
    return {
        **_of_block(rendering, posting),
        "deposit": {"externalId": short_name(f"DEP-{posting.block_id}", TARGET.limits)},
        "apply": {"items": [applied]},
    }


def _of_block(rendering: Rendering, posting: Posting) -> dict[str, Any]:
    settings: Settings = rendering.settings
    record: dict[str, Any] = {
        "externalId": posting.reference,
        "customer": _customer(settings, posting.customer),
        "currency": {"id": settings.currency} if settings.currency else {"refName": posting.currency},
        "exchangeRate": 1,
        "tranDate": rendering.journal.posting_date.isoformat(),
        "memo": f"{rendering.title}, block {posting.block_id}",
    }
    if settings.block_field:
        record[settings.block_field] = posting.block_id
    if settings.export_field:
        record[settings.export_field] = rendering.export_id
    return record


def body(rendering: Rendering, posting: Posting) -> dict[str, Any]:
    """One ``journalEntry`` record."""
    settings: Settings = rendering.settings
    journal = rendering.journal
    result: dict[str, Any] = {
        "externalId": posting.reference,
        "subsidiary": {"id": settings.subsidiary or journal.entity},
        "currency": {"id": settings.currency} if settings.currency else {"refName": posting.currency},
        "exchangeRate": 1,
        "tranDate": journal.posting_date.isoformat(),
        "memo": _memo(rendering, posting),
        "approved": settings.approved,
        "line": {"items": [_item(settings, posting, line) for line in posting.lines]},
    }
    period = settings.posting_period_ids.get(str(journal.period))
    if period is not None:
        result["postingPeriod"] = {"id": period}
    if settings.export_field:
        result[settings.export_field] = rendering.export_id
    return result


def _item(settings: Settings, posting: Posting, line: PostingLine) -> dict[str, Any]:
    number = line.account.number
    item: dict[str, Any] = {
        "account": _account(settings, number),
        "debit" if line.side is Side.DEBIT else "credit": Decimal(amount_of(posting, line)),
        "memo": line.text,
    }
    for name, value in _segments(settings, line).items():
        item[name] = {"id": value}
    if line.customer:
        item["entity"] = _customer(settings, line.customer)
    if settings.line_field:
        item[settings.line_field] = line.reference
    return item


def _segments(settings: Settings, line: PostingLine) -> dict[str, str]:
    return {settings.dimensions[name]: value for name, value in line.account.dimensions if name in settings.dimensions}


def _memo(rendering: Rendering, posting: Posting) -> str:
    part = f", part {posting.part} of {posting.parts}" if posting.parts > 1 else ""
    return f"{rendering.title}, {rendering.journal.name}{part}"


def _account(settings: Settings, number: str) -> dict[str, str]:
    return {"id": settings.accounts[number]} if number in settings.accounts else {"externalId": number}


def _customer(settings: Settings, customer: str) -> dict[str, str]:
    known = settings.customers.get(customer)
    return {"externalId": customer} if known is None else {"id": known}
