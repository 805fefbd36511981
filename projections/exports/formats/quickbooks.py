"""QuickBooks Online: the journal entries import (CSV), and bodies of API ``JournalEntry`` records (JSON).

An entry has one currency, the company's home currency here, which is the ledger's functional one. The entry's number is
21 characters; the API takes one twice unless ``requestid`` repeats, so a delivery looks it up. Journal entries have no
custom fields: a line's reference begins its description, the export's id is in the private note. CSV names accounts,
classes and locations; JSON takes ids: so there are settings for both. An account of the type A/R or A/P needs a
customer or vendor on its line, and QuickBooks takes one such account an entry: map receivables to another type.

Sure: names of fields and columns, positive amounts with a posting type, 21 characters of a number, a date that becomes
today's where it is left out. Not sure, so choices of ours: 300 lines an entry, 11 digits. The import takes about 1,000
rows a file and does not say so: set ``level`` or use the API where there are more. Before an import turn account
numbers off, and the warning for duplicate journal numbers on: nothing else keeps a file from being taken twice.

Sources: Intuit's Finance.xsd (intuit/QuickBooks-V3-Java-SDK), developer.intuit.com (learn/limits-and-throttles,
learn/rest-api-features), QuickBooks help (Import journal entries).
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Final, Literal

import msgspec

from projections.exports.documents import Document, DocumentLine, TargetLimits, shortened
from projections.exports.formats import target
from subledger.accounts import Side

_Theirs = Literal["class", "location"]


class Settings(target.TargetSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``accounts``: ids by account number, for JSON; the numbers themselves as long as there are none, which is for a
    trial only, as an id of theirs is a number too. ``account_names``: full names (``Parent:Sub``) by account number,
    for CSV; the account's name of the mapping where there is none, else its number. ``dimensions``: our dimension to
    their class or location; ``class_ids``, ``location_ids``: ids by value, for JSON, likewise. ``customers``: ids of
    customers, for JSON; ``customer_names``: their names, for CSV, for lines by customer; others are in the text alone.
    ``adjustment``: whether entries are marked as adjusting. ``date_format``, ``delimiter``: what the import expects of
    a file, by the company's country.
    """

    accounts: dict[str, str] = msgspec.field(default_factory=dict)
    account_names: dict[str, str] = msgspec.field(default_factory=dict)
    dimensions: dict[str, _Theirs] = msgspec.field(default_factory=lambda: {"class": "class", "location": "location"})
    class_ids: dict[str, str] = msgspec.field(default_factory=dict)
    location_ids: dict[str, str] = msgspec.field(default_factory=dict)
    customers: dict[str, str] = msgspec.field(default_factory=dict)
    customer_names: dict[str, str] = msgspec.field(default_factory=dict)
    adjustment: bool = False
    date_format: target.DateFormat = "%m/%d/%Y"
    delimiter: Literal[",", ";"] = ","

    def check(self) -> None:
        target.check_one_to_one(self.dimensions)


TARGET: Final = target.Target(
    name="quickbooks", limits=TargetLimits(lines=300, text=4000, reference=21, digits=11), settings=Settings
)

_encoder = msgspec.json.Encoder(decimal_format="number")
_COLUMNS: Final = (
    "Journal No", "Journal Date", "Account Name", "Debits", "Credits", "Description", "Name", "Currency", "Location",
    "Class",
)  # fmt: skip


def csv_file(rendering: target.Rendering) -> bytes:
    """Rows for *Import data*, *Journal entries*: one a line, all of an entry with its number."""
    settings: Settings = rendering.settings
    day = rendering.journal.posting_date.strftime(settings.date_format)
    trial = "SANDBOX " if rendering.journal.sandbox else ""  # no other column takes a text of ours
    rows: list[tuple[str, ...]] = [_COLUMNS]
    for document in rendering.documents:
        for line in document.lines:
            named = _dimensions(settings, line)
            rows.append(
                (
                    document.reference,
                    day,
                    target.cell(_account_name(settings, line)),
                    *target.debit_and_credit(document, line, decimals=TARGET.limits.decimals),
                    shortened(f"{trial}{_description(line)}", TARGET.limits.text),
                    target.cell(settings.customer_names.get(line.customer, "")),
                    document.currency,
                    target.cell(named.get("location", "")),
                    target.cell(named.get("class", "")),
                )
            )
    return target.csv_bytes(rows, delimiter=settings.delimiter)


def json_file(rendering: target.Rendering) -> bytes:
    """A JSON array of bodies for ``POST /v3/company/{realmId}/journalentry``, one a document."""
    bodies = [body(rendering, document) for document in rendering.documents]
    return msgspec.json.format(_encoder.encode(bodies), indent=2) + b"\n"


def body(rendering: target.Rendering, document: Document) -> dict[str, Any]:
    """One ``JournalEntry``. Raises InvalidInput if others have an id, and this one none."""
    settings: Settings = rendering.settings
    suffix = f", subledger export={rendering.export_id} journal={document.name}"
    return {
        "DocNumber": document.reference,
        "TxnDate": rendering.journal.posting_date.isoformat(),
        "PrivateNote": target.text_within(TARGET.limits.text, rendering.title, suffix),
        "CurrencyRef": {"value": document.currency},
        "Adjustment": settings.adjustment,
        "Line": [_line(settings, document, line) for line in document.lines],
    }


def _line(settings: Settings, document: Document, line: DocumentLine) -> dict[str, Any]:
    detail: dict[str, Any] = {
        "PostingType": "Debit" if line.side is Side.DEBIT else "Credit",
        "AccountRef": {"value": target.id_of(settings.accounts, line.account.number, field="accounts")},
    }
    named = _dimensions(settings, line)
    if "class" in named:
        detail["ClassRef"] = {"value": target.id_of(settings.class_ids, named["class"], field="class_ids")}
    if "location" in named:
        detail["DepartmentRef"] = {
            "value": target.id_of(settings.location_ids, named["location"], field="location_ids")
        }
    if line.customer in settings.customers:
        detail["Entity"] = {"Type": "Customer", "EntityRef": {"value": settings.customers[line.customer]}}
    return {
        "DetailType": "JournalEntryLineDetail",
        "Amount": Decimal(target.amount_of(document, line, decimals=TARGET.limits.decimals)),
        "Description": _description(line),
        "JournalEntryLineDetail": detail,
    }


def _account_name(settings: Settings, line: DocumentLine) -> str:
    return settings.account_names.get(line.account.number) or line.account.name or line.account.number


def _description(line: DocumentLine) -> str:
    return shortened(f"{line.reference} {line.text}", TARGET.limits.text)


def _dimensions(settings: Settings, line: DocumentLine) -> dict[str, str]:
    return {settings.dimensions[name]: value for name, value in line.account.dimensions if name in settings.dimensions}
