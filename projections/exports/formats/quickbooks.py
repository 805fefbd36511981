"""QuickBooks Online: the journal entries import (CSV), and bodies of API ``JournalEntry`` records (JSON).

An entry has one currency. Here it is the home currency of the company, which must be the ledger's functional currency.
The number of an entry has at most 21 characters. The API accepts the same number twice, unless ``requestid`` is the
same, so a delivery looks the number up. Journal entries have no custom fields. So the description of a line begins with
its reference, and the private note has the id of the export. CSV has names of accounts, classes and locations, and JSON
has their ids, so there are settings for both. An account of the type A/R or A/P needs a customer or vendor on its line,
and QuickBooks accepts only one such account in an entry. So leave invoices and payments out (presets of
``projections/exports/presets``), or map receivables to an account of another type.

Documented: names of fields and columns, positive amounts with a posting type, 21 characters of a number. A missing date
becomes the day of the import. Not certain, and chosen by us: 300 lines for an entry, 11 digits. The import reads about
1,000 rows of a file and does not report the rest. For more rows set ``level``, or use the API. Before an import, turn
account numbers off, and turn the warning for duplicate journal numbers on. Nothing else prevents a second import of a
file.

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
    """Settings of a company in QuickBooks Online.

    For JSON: ``accounts`` has the ids of accounts by account number. Without it the numbers are sent as ids, which is
    for a trial only, because ids of QuickBooks are numbers too. ``class_ids`` and ``location_ids`` have the ids by
    value. ``customers`` has the ids of customers.

    For CSV: ``account_names`` has the full names (``Parent:Sub``) by account number. An account without one has its
    name in the mapping, or else its number. ``customer_names`` has the names of customers.

    Lines by customer (``level``) name their customers by these ids or names. If some are set, each customer of a line
    needs one. If none is set, only the text of the line names the customer.

    ``dimensions`` maps our dimensions to class or location. ``adjustment`` marks entries as adjusting. ``date_format``
    and ``delimiter`` are those that the import expects in the company's country.
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
    """Returns the rows for *Import data*, *Journal entries*: one for each line, with the number of its entry."""
    settings: Settings = rendering.settings
    day = rendering.journal.posting_date.strftime(settings.date_format)
    trial = "SANDBOX " if rendering.journal.sandbox else ""  # this is the only column that takes a text of ours
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
                    target.cell(target.customer_of(settings.customer_names, line.customer, field="customer_names")),
                    document.currency,
                    target.cell(named.get("location", "")),
                    target.cell(named.get("class", "")),
                )
            )
    return target.csv_bytes(rows, delimiter=settings.delimiter)


def json_file(rendering: target.Rendering) -> bytes:
    """Returns a JSON array of bodies for ``POST /v3/company/{realmId}/journalentry``, one for each document."""
    bodies = [body(rendering, document) for document in rendering.documents]
    return msgspec.json.format(_encoder.encode(bodies), indent=2) + b"\n"


def body(rendering: target.Rendering, document: Document) -> dict[str, Any]:
    """Returns one ``JournalEntry``. Raises InvalidInput if an account or value has no id and others do."""
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
    if customer := target.customer_of(settings.customers, line.customer, field="customers"):
        detail["Entity"] = {"Type": "Customer", "EntityRef": {"value": customer}}
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
