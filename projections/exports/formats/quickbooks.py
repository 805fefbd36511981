"""QuickBooks Online: the journal entries import (CSV), and bodies of API ``JournalEntry`` records (JSON).

- Currency: each entry is in the home currency of the company. This must be the ledger's functional currency.
- Number: the number of an entry has at most 21 characters. A delivery by the API first looks up the entry's number,
  because it is not certain that QuickBooks refuses a number that exists.
- References: journal entries have no custom fields. So the description of each line begins with the line's reference.
  In JSON the private note contains the id of the export.
- Names and ids: CSV contains the names of accounts, classes and locations. JSON contains their ids. There are settings
  for both.
- Receivables and payables: a line on an account of the type A/R or A/P needs a customer or a vendor. QuickBooks accepts
  only one such account in an entry. So leave invoices and payments out (presets of ``projections/exports/presets``), or
  map receivables to an account of another type.

Intuit documents the names of fields and columns, positive amounts with a posting type, and the 21 characters of a
number. Two limits are our choice and not certain: 300 lines for each entry, and 11 digits for each amount.

Before you import a CSV file:

- Turn account numbers off in QuickBooks.
- Turn the warning for duplicate journal numbers on. Only this warning prevents a second import of the same file.
- Count the rows. The import reads about 1,000 rows of a file, and does not report the other rows. If there are more
  rows, set ``level``, or use the API.

The import gives an entry without a date the day of the import.

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

    For JSON:

    - ``accounts`` maps account numbers to QuickBooks ids. If it is empty, the account numbers are sent as ids. Use this
      in trials only, because QuickBooks ids are numbers too.
    - ``class_ids`` and ``location_ids`` map the values of our dimensions to QuickBooks ids.
    - ``customers`` maps our customers to QuickBooks ids.

    For CSV:

    - ``account_names`` maps account numbers to full names (``Parent:Sub``). For an account that is absent here, the
      file contains the account's name in the account mapping, or the number if the mapping has no name.
    - ``customer_names`` maps our customers to their names in QuickBooks.
    - ``date_format`` and ``delimiter`` are the formats that the import expects in the company's country.

    ``customers`` and ``customer_names`` are for lines by customer (``level``). If one of them is empty, its files name
    the customer only in the text of the line. If it is not empty, it must contain the customer of every line.

    For both: ``dimensions`` maps our dimensions to class or location. ``adjustment`` marks JSON entries as adjusting.
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
    """Returns a CSV file for *Import data*, *Journal entries*. Each row is one line of an entry."""
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
    """Returns a file with a JSON array. For each document it contains a body of the request
    ``POST /v3/company/{realmId}/journalentry``.
    """
    bodies = [body(rendering, document) for document in rendering.documents]
    return msgspec.json.format(_encoder.encode(bodies), indent=2) + b"\n"


def body(rendering: target.Rendering, document: Document) -> dict[str, Any]:
    """Returns one ``JournalEntry``.

    Raises InvalidInput if a setting has ids, but none for an account, value or customer of the document.
    """
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
