"""The entries that a general ledger would book of each file: read with the standard library, by vendors' columns.

A document is its bookings: the account as the file names it, and the amount, debit positive. Oracle's accounts stand
where the settings that ship put them.
"""

from __future__ import annotations

import csv
import io
import json
import zipfile
from collections.abc import Callable, Iterable, Iterator
from decimal import Decimal
from itertools import groupby
from typing import Any
from xml.etree import ElementTree

Document = list[tuple[str, Decimal]]


def _csv(content: bytes, encoding: str = "utf-8-sig") -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(content.decode(encoding), newline=""), strict=True))


def _json(content: bytes) -> Any:
    return json.loads(content, parse_float=Decimal, parse_int=Decimal)


def _member(content: bytes, name: str) -> bytes:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return archive.read(name)


def _signed(debit: str | Decimal, credit: str | Decimal) -> Decimal:
    return Decimal(debit or 0) - Decimal(credit or 0)


def _by(rows: Iterable[dict[str, Any]], document: str, account: str, debit: str, credit: str) -> Iterator[Document]:
    """Rows of one document stand together."""
    for _, of_document in groupby(rows, key=lambda row: row[document]):
        yield [(row[account], _signed(row[debit], row[credit])) for row in of_document]


def netsuite_csv(content: bytes) -> Iterator[Document]:
    line = "Journal Entry - Line: "
    return _by(_csv(content), "External ID", f"{line}Account", f"{line}Debit", f"{line}Credit")


def netsuite_json(content: bytes) -> Iterator[Document]:
    return _journal_entries(_json(content))


def _journal_entries(bodies: Iterable[Any]) -> Iterator[Document]:
    for body in bodies:
        yield [
            (item["account"]["externalId"], _signed(item.get("debit", 0), item.get("credit", 0)))
            for item in body["line"]["items"]
        ]


def netsuite_deposits(content: bytes) -> Iterator[Document]:
    """NetSuite books a deposit and its application itself: customer deposits are 2000, receivables 1100."""
    made = _json(content)
    for deposit in made["customerDeposit"]:
        yield [(deposit["account"]["externalId"], deposit["payment"]), ("2000", -deposit["payment"])]
    for application in made["depositApplication"]:
        [applied] = application["apply"]["items"]
        yield [("2000", applied["amount"]), ("1100", -applied["amount"])]
    yield from _journal_entries(made["journalEntry"])


def intacct_csv(content: bytes) -> Iterator[Document]:
    document: Document = []
    for row in _csv(content):
        if row["JOURNAL"] and document:
            yield document
            document = []
        document.append((row["ACCT_NO"], _signed(row["DEBIT"], row["CREDIT"])))
    if document:
        yield document


def intacct_xml(content: bytes) -> Iterator[Document]:
    for batch in ElementTree.fromstring(content).iter("GLBATCH"):
        names = ("ACCOUNTNO", "TRX_AMOUNT", "TR_TYPE")
        cells = [[entry.findtext(name, "") for name in names] for entry in batch.iter("GLENTRY")]
        yield [(account, Decimal(amount) * int(side)) for account, amount, side in cells]


def quickbooks_csv(content: bytes) -> Iterator[Document]:
    return _by(_csv(content), "Journal No", "Account Name", "Debits", "Credits")


def quickbooks_json(content: bytes) -> Iterator[Document]:
    for body in _json(content):
        details = [(line["JournalEntryLineDetail"], line["Amount"]) for line in body["Line"]]
        yield [
            (detail["AccountRef"]["value"], amount if detail["PostingType"] == "Debit" else -amount)
            for detail, amount in details
        ]


def sap_csv(content: bytes) -> Iterator[Document]:
    """Blocks of rows below ``Header``; items below the row of their technical names, and of their labels."""
    document: Document | None = None
    names: list[str] = []
    for row in csv.reader(io.StringIO(content.decode("utf-8-sig"), newline=""), strict=True):
        if row[1] == "Header":
            if document is not None:
                yield document
            document, names = [], []
        elif "HKONT" in row:
            names = row
        elif names and any(row) and not row[names.index("HKONT")].startswith("G/L"):
            cells = dict(zip(names, row, strict=True))
            assert document is not None
            document.append((cells["HKONT"], _signed(cells["WRSOL"], cells["WRHAB"])))
    if document is not None:
        yield document


def sap_xml(content: bytes) -> Iterator[Document]:
    for entry in ElementTree.fromstring(content).iter("JournalEntry"):
        yield [
            (item.findtext("GLAccount", ""), Decimal(item.findtext("AmountInTransactionCurrency", "")))
            for item in entry.iter("Item")
        ]


def oracle_fbdi(content: bytes) -> Iterator[Document]:
    text = _member(content, "GlInterface.csv").decode()
    rows = [["", *row] for row in csv.reader(io.StringIO(text, newline=""), strict=True)]  # columns count from 1
    for _, of_journal in groupby(rows, key=lambda row: row[46]):
        yield [(row[9] if row[9].isdigit() else row[10], _signed(row[39], row[40])) for row in of_journal]


def dynamics_csv(content: bytes) -> Iterator[Document]:
    rows = _csv(_member(content, "General journal.csv"), "utf-16")
    return _by(rows, "VOUCHER", "ACCOUNTDISPLAYVALUE", "DEBITAMOUNT", "CREDITAMOUNT")


def dynamics_json(content: bytes) -> Iterator[Document]:
    rows = [line for journal in _json(content) for line in journal["lines"]]
    return _by(rows, "Voucher", "AccountDisplayValue", "DebitAmount", "CreditAmount")


READERS: dict[str, Callable[[bytes], Iterator[Document]]] = {
    "netsuite-csv": netsuite_csv, "netsuite-json": netsuite_json, "netsuite-deposits": netsuite_deposits,
    "intacct-csv": intacct_csv, "intacct-xml": intacct_xml, "quickbooks-csv": quickbooks_csv,
    "quickbooks-json": quickbooks_json, "sap-csv": sap_csv, "sap-xml": sap_xml, "oracle-fbdi": oracle_fbdi,
    "dynamics-csv": dynamics_csv, "dynamics-json": dynamics_json,
}  # fmt: skip
