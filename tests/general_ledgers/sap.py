"""A stand-in of SAP S/4HANA: each SOAP message posts a journal entry, also a repeated one; OData reads items."""

from __future__ import annotations

import re
from base64 import b64encode
from collections import defaultdict
from collections.abc import Iterator
from decimal import Decimal
from typing import Any, ClassVar
from urllib.parse import parse_qs
from xml.etree.ElementTree import Element, SubElement, fromstring, tostring

from tests.general_ledgers.stand_in import Answer, Request, StandIn

POST = "/sap/bc/srt/scs_ext/sap/journalentrycreaterequestconfi"
ITEMS = "/sap/opu/odata/sap/API_OPLACCTGDOCITEMCUBE_SRV/A_OperationalAcctgDocItemCube"
SFIN = "{http://sap.com/xi/SAPSCORE/SFIN}"
SOAP = "{http://schemas.xmlsoap.org/soap/envelope/}"
USER, PASSWORD, TOKEN = "COM_USER", "s3cret <of> the & user", "bearer-of-sap"
TOKENS = "/sap/bc/sec/oauth2/token"
OAUTH_CLIENT, OAUTH_SECRET, SCOPE = "SUBLEDGER_CLIENT", "s3cret of the client", "API_OPLACCTGDOCITEMCUBE_SRV_0001"
_ASKED = re.compile(r"CompanyCode eq '([^']*)' and DocumentReferenceID eq '([^']*)'")
_SIZES = {"DocumentReferenceID": 16, "DocumentHeaderText": 25, "CompanyCode": 4, "CreatedByUser": 12}
_ITEM_SIZES = {"DocumentItemText": 50, "AssignmentReference": 18, "GLAccount": 10}

Reason = tuple[str, str]


class SapStandIn(StandIn):
    """``page``: number of items in an answer. ``parks``: documents wait for a person. ``shrugs``: it posts nothing, and
    answers without an error. ``faults``: the code of a SOAP fault that it answers without posting. ``faults_after``:
    the code of a fault that it answers after posting. ``faults_by``: the HTTP status of both. ``names``: the content of
    a confirmation's header. ``converts``: it uses its own rate for the amounts in company code currency.
    """

    page = 5_000
    parks = False
    shrugs = False
    faults: str | None = None
    faults_after: str | None = None
    faults_by = 500
    names: dict[str, str] | None = None
    converts: Decimal | None = None
    home: ClassVar[str] = "USD"
    client = ""
    tokens = 0
    lasts_s = 3_600
    valid: frozenset[str] | set[str] = frozenset()

    def answer(self, request: Request) -> Answer:
        basic = "Basic " + b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        if request.path == TOKENS:
            return self._token(request)
        known = {basic, f"Bearer {TOKEN}", *(f"Bearer {token}" for token in self.valid)}
        if request.headers.get("Authorization") not in known:
            return Answer(401, b"<html>Anmeldung fehlgeschlagen</html>")
        if request.query.get("sap-client", "") != self.client:
            return Answer(403, b"no such client")
        if request.method == "GET" and request.path == ITEMS:
            return self._items(request.query)
        if request.method == "POST" and request.path == POST:
            if self.faults is not None:
                words = "Error in deserializing the message: element GLAccont unexpected"
                return _fault(self.faults, words, self.faults_by)
            answer = self.submitted(lambda: self._post(fromstring(request.body)))
            if self.faults_after is not None:
                return _fault(self.faults_after, "Web service processing error", self.faults_by)
            return answer
        return Answer(404, b"<html>Service cannot be reached</html>")

    def _token(self, request: Request) -> Answer:
        """Answers the grant client credentials: RFC 6749, section 4.4."""
        client = "Basic " + b64encode(f"{OAUTH_CLIENT}:{OAUTH_SECRET}".encode()).decode()
        form = parse_qs(request.body.decode())
        if request.headers.get("Authorization") != client:
            return Answer.of({"error": "invalid_client", "error_description": "no such client"}, 400)
        if form != {"grant_type": ["client_credentials"], "scope": [SCOPE]}:
            return Answer.of({"error": "invalid_scope", "error_description": "no such scope"}, 400)
        self.tokens += 1
        self.valid = {f"token-of-sap-{self.tokens}"}
        given = {"access_token": f"token-of-sap-{self.tokens}", "token_type": "Bearer", "expires_in": self.lasts_s}
        return Answer.of(given)

    # --- posting ------------------------------------------------------------------------------------------------

    def _post(self, envelope: Element) -> Answer:
        [bulk] = envelope.findall(f"{SOAP}Body/{SFIN}JournalEntryBulkCreateRequest")
        answer = Element(f"{SOAP}Envelope")
        confirmation = SubElement(SubElement(answer, f"{SOAP}Body"), f"{SFIN}JournalEntryBulkCreateConfirmation")
        _texts(SubElement(confirmation, "MessageHeader"), ReferenceID=bulk.findtext("MessageHeader/ID", ""))
        for request in bulk.findall("JournalEntryCreateRequest"):
            [entry] = request.findall("JournalEntry")
            reasons = list(self._reasons(entry))
            number = "0000000000" if reasons or self.shrugs else self._take(entry)
            message = SubElement(confirmation, "JournalEntryCreateConfirmation")
            # A refused document's confirmation has an id of its own and no reference, as seen in S/4HANA 2020.
            named = (
                {"UUID": "00163e0a-4e1b-1edc"} if reasons else {"ReferenceID": request.findtext("MessageHeader/ID", "")}
            )
            _texts(SubElement(message, "MessageHeader"), **(self.names or named))
            _texts(
                SubElement(message, "JournalEntryCreateConfirmation"),
                AccountingDocument=number,
                CompanyCode=entry.findtext("CompanyCode", "") if number.strip("0") else "",
                FiscalYear=entry.findtext("PostingDate", "")[:4] if number.strip("0") else "0000",
            )
            log = SubElement(message, "Log")
            _texts(log, MaximumLogItemSeverityCode="3" if reasons else "1")
            for kind, note in reasons or [("605(RW)", f"Document posted successfully: BKPFF {number}")]:
                _texts(SubElement(log, "Item"), TypeID=kind, SeverityCode="3" if reasons else "1", Note=note)
        SubElement(confirmation, "Log")
        return Answer(200, tostring(answer), {"Content-Type": "text/xml; charset=utf-8"})

    def _reasons(self, entry: Element) -> Iterator[Reason]:
        wrong = ("609(RW)", "Error in document: BKPFF $ 0M4SMVI")
        for element in entry.iter():  # the WSDL: every text has a minLength of 1
            if not len(element) and not (element.text or "").strip():
                yield "101(CX)", f"Element {element.tag} is empty"
        for name, size in _SIZES.items():
            if not 1 <= len(entry.findtext(name, "")) <= size:
                yield "101(CX)", f"Field {name} is missing or too long"
        items = entry.findall("Item")
        if len(items) > 999:
            yield "727(F5)", "Maximum number of items in FI reached"
        for item in items:
            if any(len(item.findtext(name, "")) > size for name, size in _ITEM_SIZES.items()):
                yield "101(CX)", "A field of an item is too long"
        date = entry.findtext("PostingDate", "")
        if date[:7] in self.closed:
            yield wrong
            yield "201(F5)", f"Posting period {date[5:7]} {date[:4]} is not open"
        for name in ("AmountInTransactionCurrency", "AmountInCompanyCodeCurrency"):
            sums: dict[str, Decimal] = defaultdict(Decimal)
            for amount in entry.iter(name):
                sums[amount.attrib["currencyCode"]] += Decimal(amount.text or "")
            if any(sums.values()):
                yield wrong
                yield "702(F5)", "Balance in transaction currency"

    def _take(self, entry: Element) -> str:
        number = f"{100_000_000 + len(self.journals):010}"
        items = [self._kept(entry, number, place, item) for place, item in enumerate(entry.findall("Item"), start=1)]
        sums = {
            code: sum(Decimal(i["AmountInTransactionCurrency"]) for i in items if i["DebitCreditCode"] == code)
            for code in "SH"
        }
        self.journals.append(
            {
                "reference": entry.findtext("DocumentReferenceID", ""),
                "debit": str(sums["S"]),
                "credit": str(-sums["H"]),
                "posted": not self.parks,
                "items": items,
            }
        )
        return number

    def _kept(self, entry: Element, number: str, place: int, item: Element) -> dict[str, Any]:
        [amount] = item.findall("AmountInTransactionCurrency")
        at_home = item.find("AmountInCompanyCodeCurrency")
        if self.converts is not None:
            home = str(Decimal(amount.text or "") * self.converts)
        elif at_home is not None:
            home = at_home.text or ""
        else:
            assert amount.attrib["currencyCode"] == self.home, "an amount in a foreign currency that SAP would convert"
            home = amount.text or ""
        return {
            "CompanyCode": entry.findtext("CompanyCode"),
            "FiscalYear": entry.findtext("PostingDate", "")[:4],
            "AccountingDocument": number,
            "AccountingDocumentItem": f"{place:03}",
            "DocumentReferenceID": entry.findtext("DocumentReferenceID"),
            "AccountingDocumentCategory": "V" if self.parks else "",
            "GLAccount": item.findtext("GLAccount"),
            "DebitCreditCode": item.findtext("DebitCreditCode"),
            "TransactionCurrency": amount.attrib["currencyCode"],
            "AmountInTransactionCurrency": amount.text,
            "CompanyCodeCurrency": self.home,
            "AmountInCompanyCodeCurrency": home,
            "IsReversal": False,
            "IsReversed": False,
            "ReverseDocument": "",
        }

    def reverse(self, place: int) -> None:
        """Reverses a document as a person does in SAP: it stays, and another one reverses it."""
        before = self.journals[place]["items"]
        number = f"{100_000_000 + len(self.journals):010}"
        after = [
            {
                **item,
                "AccountingDocument": number,
                "IsReversal": True,
                "ReverseDocument": item["AccountingDocument"],
                "DebitCreditCode": "H" if item["DebitCreditCode"] == "S" else "S",
                "AmountInTransactionCurrency": str(-Decimal(item["AmountInTransactionCurrency"])),
                "AmountInCompanyCodeCurrency": str(-Decimal(item["AmountInCompanyCodeCurrency"])),
            }
            for item in before
        ]
        for item in before:
            item.update(IsReversed=True, ReverseDocument=number)
        self.journals.append({"reference": "", "debit": "0", "credit": "0", "posted": True, "items": after})

    # --- reading ------------------------------------------------------------------------------------------------

    def _items(self, query: dict[str, str]) -> Answer:
        asked = _ASKED.fullmatch(query["$filter"])
        if asked is None:
            return Answer.of({"error": {"code": "005056A509B11EE1", "message": {"value": "Invalid filter"}}}, 400)
        with self.lock:
            found = [
                item
                for journal in self.journals
                for item in journal["items"]
                if (item["CompanyCode"], item["DocumentReferenceID"]) == asked.groups()
            ]
        fields, skip = query["$select"].split(","), int(query["$skip"])
        shown = found[skip : skip + min(int(query["$top"]), self.page)]
        results = [{name: item[name] for name in fields} for item in shown]
        return Answer.of({"d": {"__count": str(len(found)), "results": results}})


def _texts(parent: Element, **texts: str) -> None:
    for name, text in texts.items():
        SubElement(parent, name).text = text


def _fault(code: str, words: str, status: int) -> Answer:
    envelope = Element(f"{SOAP}Envelope")
    fault = SubElement(SubElement(envelope, f"{SOAP}Body"), f"{SOAP}Fault")
    _texts(fault, faultcode=f"soap-env:{code}", faultstring=words)
    return Answer(status, tostring(envelope), {"Content-Type": "text/xml"})
