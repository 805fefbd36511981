"""SAP S/4HANA: the SOAP service *Journal Entry – Post (Synchronous)*, one call for each document; looked up through
OData.

SAP answers 200 even if it does not post. A document is posted if its confirmation has a number. It is refused if the
confirmation has no number and the log has an error. A SOAP fault, of status 500, refuses the document too: usually the
message is wrong, and would fail again. If the fault is the server's, the document is looked up first. After any other
answer it is looked up later. SAP accepts the same document any number of times: neither the message's id nor the
reference prevents a second posting. Only the look-up prevents it.

The look-up uses company code and reference alone. The company code decides the fiscal year of a posting date, and a
look-up in a wrong year would find nothing. SAP reverses documents and never deletes them. A reversed document counts as
absent, so a wrong document is corrected by reversing it and retrying. Two documents that are not reversed are a
rejection. Sums are compared in the document's currency and in company code currency, because SAP converts missing
amounts itself.

Seen in several working integrations: the service's path in the cloud, the message, its confirmation and log, a number
of zeros for a document that was not posted, a rejection (S/4HANA 2020) whose header has a UUID and no reference. From
SAP's generated client: fields and key of the look-up's entity. To be tried: if credits have a sign there (the sign is
taken from the debit/credit code); if the lines of document splitting are absent (otherwise the sums differ, and that is
a rejection); how a parked document is shown (it is recognised by its category); paths on premise, which are settings.
``API_JOURNALENTRYITEMBASIC_SRV`` is not suitable: its items do not name their document. Another service is suitable,
also with a custom view, if it has the fields of ``_FIELDS``.

Sources: SAP community, "Guidelines for API Journal Entry – Post" (13421397), "Troubleshooting Common Journal Entry API
Errors" (13720456: status 500 is usually an issue of the XML format); SAP Cloud SDK,
operational-accounting-document-item-cube-service (its communication scenario is SAP_COM_0303); SOAP 1.1, sections 4.4
and 6.2; OData 2.0 URI conventions.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Annotated, Any, ClassVar, Final
from xml.etree import ElementTree

import httpx
from msgspec import Meta

from projections.delivery.connectors import connector
from projections.delivery.connectors.bearer import BearerCalls, OAuthSettings, Token, fixed_token
from projections.exports.documents import Document
from subledger.accounts import Side
from subledger.errors import InvalidInput
from subledger.external import credentials
from subledger.external.calls import NotSent, Unclear
from subledger.external.credentials import Credential
from subledger.money import format_minor

_ACTION: Final = (
    "http://sap.com/xi/SAPSCORE/SFIN/JournalEntryCreateRequestConfirmation_In/"
    "JournalEntryCreateRequestConfirmation_InRequest"
)
# The fields include the whole key: a service over a cube adds up rows that the requested fields do not distinguish.
_KEY: Final = ("CompanyCode", "FiscalYear", "AccountingDocument", "AccountingDocumentItem")
_FIELDS: Final = (
    *_KEY, "DocumentReferenceID", "AccountingDocumentCategory", "DebitCreditCode", "TransactionCurrency",
    "GLAccount", "AmountInTransactionCurrency", "CompanyCodeCurrency", "AmountInCompanyCodeCurrency",
    "IsReversal", "IsReversed", "ReverseDocument",
)  # fmt: skip
_PARKED: Final = frozenset({"V", "W"})
_ITEMS_A_CALL: Final = 2_000
_CALLS: Final = 5
_FAULT: Final = 500
"""The status of an answer with a fault: SOAP 1.1, section 6.2."""
_ERROR: Final = 3
"""The lowest severity at which an item of a log is an error: 1 is information, 2 a warning."""

Item = dict[str, Any]
Sums = tuple[int, int, int, int]
"""Debit and credit in the document's currency, then in company code currency."""


class Settings(OAuthSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of a channel to SAP.

    ``url``: of the system's APIs. ``user`` with ``password``: of a communication user. Or ``token_url``, ``client_id``,
    ``client_secret`` and ``scope``: of an OAuth client, whose tokens are renewed; on premise the token's address ends
    with /sap/bc/sec/oauth2/token. Or ``token``: a bearer token that another program renews in its file. ``client``: on
    premise, if it is not the default one. ``post_path``: of the service that posts. ``items_path``: of the entity set
    in which items are looked up.

    Posting and looking up are two services. In the cloud the user or client needs the communication scenarios of both:
    SAP_COM_0002 (Finance – Posting Integration) to post, and SAP_COM_0303 for ``API_OPLACCTGDOCITEMCUBE_SRV``. With the
    first alone every look-up is refused, and nothing is sent.
    """

    url: str
    user: Annotated[str, Meta(max_length=100)] = ""
    password: Credential = ""
    token: Credential = ""
    client: Annotated[str, Meta(pattern="^([0-9]{3})?$")] = ""
    post_path: Annotated[str, Meta(pattern="^/[^\\s?#]+$")] = "/sap/bc/srt/scs_ext/sap/journalentrycreaterequestconfi"
    items_path: Annotated[str, Meta(pattern="^/[^\\s?#]+$")] = (
        "/sap/opu/odata/sap/API_OPLACCTGDOCITEMCUBE_SRV/A_OperationalAcctgDocItemCube"
    )
    timeout_s: float = 120.0
    settle_s: float = 3_600.0

    def check(self) -> None:
        connector.check_url(self.url)
        if bool(self.user) != bool(self.password):
            missing = "password" if self.user else "user"
            raise InvalidInput("a user needs a password", field=missing, expected="both, or neither")
        self.check_client()
        if sum(map(bool, (self.user, self.client_id, self.token))) != 1:
            raise InvalidInput(
                "a channel to SAP needs a user with a password, an OAuth client, or a token",
                field="token",
                expected="one of them",
            )


class Sap(connector.Connector):
    """See the module."""

    name: ClassVar[str] = "sap"
    formats: ClassVar[tuple[str, ...]] = ("sap-xml",)
    settings_type: ClassVar[type[connector.ChannelSettings]] = Settings
    destination_fields: ClassVar[tuple[str, ...]] = ("url", "client")

    def look_up(self, shipment: connector.Shipment) -> connector.Found | None:
        [document] = shipment.documents
        entry = next(ElementTree.fromstring(shipment.payload).iter("JournalEntry"))
        company = entry.findtext("CompanyCode")
        found: dict[str, list[Item]] = defaultdict(list)
        for item in self._items(company or "", document.reference):
            if not (item.get("IsReversal") or item.get("IsReversed") or item.get("ReverseDocument")):
                found[f"{item['CompanyCode']}-{item['AccountingDocument']}-{item['FiscalYear']}"].append(item)
        if not found:
            return None
        if len(found) > 1:
            numbers = ", ".join(sorted(found))
            reason = f"SAP has {document.reference} {len(found)} times, as {numbers}: reverse all but one, then retry"
            return connector.Found(erp_id=min(found), state="discarded", reason=reason)
        [(erp_id, items)] = found.items()
        return _found(erp_id, items, entry, document, shipment.journal.functional_currency)

    def submit(self, shipment: connector.Shipment) -> connector.Accepted | connector.Rejected:
        headers = {"Content-Type": "text/xml; charset=utf-8", "Accept": "text/xml", "SOAPAction": f'"{_ACTION}"'}
        try:
            answer = self._call("POST", self.settings.post_path, {}, headers, shipment.payload)
        except Unclear as error:
            fault = _fault_of(error.answer)
            if fault is None:
                raise
            code, message = fault
            # Gateways in front of SAP also answer with faults (502 to 504), while SAP may still be at work.
            if error.status != _FAULT:
                raise Unclear(
                    f"{error}: {message}", answer=error.answer, status=error.status, wait_s=error.wait_s
                ) from error
            if code not in ("Client", "Sender"):  # these two say that the message was at fault, and not processed
                self._check_not_there(shipment, message)
            return connector.Rejected(reason=message)
        if answer.status_code >= 400:
            message = (_fault_of(answer.text) or ("", answer.text[:500]))[1]
            unclear = answer.status_code == 408
            raise (Unclear if unclear else NotSent)(
                f"{self.settings.post_path} answered {answer.status_code}: {message}"
            )
        return _confirmed(ElementTree.fromstring(answer.content), shipment.reference)

    def _check_not_there(self, shipment: connector.Shipment, fault: str) -> None:
        """Looks the document up after a fault of the server. Raises Unclear if it is there, or if SAP does not say.

        The service is synchronous, so its answer ends the request: a document that is not there now does not arrive
        later.
        """
        try:
            found = self.look_up(shipment)
        except NotSent as error:
            raise Unclear(f"SAP failed, and does not show if it has the document: {fault}; {error}") from error
        if found is not None:
            raise Unclear(f"SAP failed, and has the document: {fault}")

    def _items(self, company: str, reference: str) -> list[Item]:
        """Returns every item of the documents with a reference. Raises Unclear if SAP does not show them all."""
        items: list[Item] = []
        for _ in range(_CALLS):
            query = {
                "$filter": f"CompanyCode eq {_quoted(company)} and DocumentReferenceID eq {_quoted(reference)}",
                "$select": ",".join(_FIELDS),
                "$orderby": ",".join(_KEY),
                "$inlinecount": "allpages",
                "$skip": str(len(items)),
                "$top": str(_ITEMS_A_CALL),
                "$format": "json",
            }
            answer = self._call("GET", self.settings.items_path, query, {"Accept": "application/json"}, None)
            if answer.status_code != 200:
                raise Unclear(f"SAP does not say what it has: {answer.status_code} {_odata_error(answer)}")
            told = answer.json()["d"]
            if "__count" not in told:
                raise Unclear(f"{self.settings.items_path} does not say how many items there are")
            items += told["results"]
            if len(items) == int(told["__count"]):
                break
        else:
            raise Unclear(f"SAP has shown {len(items)} of {told['__count']} items of {reference}")
        if any(item["DocumentReferenceID"] != reference for item in items):
            raise Unclear(f"{self.settings.items_path} ignores the filter: it returns other references")
        return items

    def _call(
        self, method: str, path: str, query: dict[str, str], headers: dict[str, str], content: bytes | None
    ) -> httpx.Response:
        settings: Settings = self.settings
        if settings.client:
            query = {**query, "sap-client": settings.client}
        url = settings.url.rstrip("/") + path
        if query:
            url = str(httpx.URL(url, params=query))
        if settings.user:
            auth = (settings.user, self.calls.hide(credentials.read(settings.password)))
            return self.calls.send(method, url, headers=headers, content=content, auth=auth)
        calls = BearerCalls(self.calls, self.session, self._new_token)
        return calls.send(method, url, headers=headers, content=content)

    def _new_token(self) -> Token:
        settings: Settings = self.settings
        return settings.client_token(self.calls, "SAP") if settings.client_id else fixed_token(settings.token)


# --- documents in SAP -----------------------------------------------------------------------------------------------


def _found(
    erp_id: str, items: list[Item], entry: ElementTree.Element, document: Document, functional: str
) -> connector.Found:
    currencies = {(item["TransactionCurrency"], item["CompanyCodeCurrency"]) for item in items}
    if currencies != {(document.currency, functional)}:
        shown = ", ".join(sorted("/".join(pair) for pair in currencies))
        return connector.Found(
            erp_id=erp_id,
            state="discarded",
            reason=f"SAP has {erp_id} in {shown} instead of {document.currency}/{functional}: reverse it, then retry",
        )
    debit, credit, functional_debit, functional_credit = _sums(items, document.currency, functional)
    total = connector.Total(debit_minor=debit, credit_minor=credit)
    expected = sum(line.functional_minor for line in document.lines if line.side is Side.DEBIT)
    sent = (document.total_minor, document.total_minor)
    if (functional_debit, functional_credit) != (expected, expected) and (debit, credit) == sent:
        amounts = (
            f"{format_minor(functional_debit, functional)} debit, {format_minor(functional_credit, functional)} credit"
        )
        return connector.Found(
            erp_id=erp_id,
            state="discarded",
            totals={document.reference: total},
            reason=f"SAP has {erp_id} at {amounts} in {functional}; "
            f"it should be {format_minor(expected, functional)} each: reverse it, then retry",
        )
    parked = any(item.get("AccountingDocumentCategory") in _PARKED for item in items)
    return connector.Found(
        erp_id=erp_id,
        state="accepted" if parked else "posted",
        totals={document.reference: total},
        accounts=_accounts(items, entry, document),
        reason="it is parked: post it there" if parked else None,
    )


def _accounts(items: list[Item], entry: ElementTree.Element, document: Document) -> dict[str, connector.Accounts]:
    """Returns the sums by account. There are none for a document with other items than those of G/L accounts, because
    SAP chooses the accounts of customers' items.
    """
    if {node.tag for node in entry if node.tag.endswith("Item")} != {"Item"}:
        return {}
    sent = [
        (node.findtext("GLAccount", ""), node.findtext("DebitCreditCode"), node.findtext("AmountInTransactionCurrency"))
        for node in entry.iter("Item")
    ]
    found = [(item["GLAccount"], item["DebitCreditCode"], item["AmountInTransactionCurrency"]) for item in items]
    sums = [
        connector.by_account(
            (account.lstrip("0"), code == "S", abs(connector.minor_of(amount, document.currency)))
            for account, code, amount in lines
        )
        for lines in (sent, found)
    ]
    return {document.reference: connector.Accounts(sent=sums[0], found=sums[1])}


def _sums(items: list[Item], currency: str, functional: str) -> Sums:
    sums = {"S": [0, 0], "H": [0, 0]}
    for item in items:
        side = sums[item["DebitCreditCode"]]
        side[0] += abs(connector.minor_of(item["AmountInTransactionCurrency"], currency))
        side[1] += abs(connector.minor_of(item["AmountInCompanyCodeCurrency"], functional))
    return sums["S"][0], sums["H"][0], sums["S"][1], sums["H"][1]


# --- SAP's answers --------------------------------------------------------------------------------------------------


def _confirmed(envelope: ElementTree.Element, reference: str) -> connector.Accepted | connector.Rejected:
    """Returns the result for our document. Raises Unclear if a confirmation neither posts nor refuses it."""
    bulk = next((node for node in envelope.iter() if _name(node) == "JournalEntryBulkCreateConfirmation"), None)
    if bulk is None:
        raise Unclear("SAP has answered without a confirmation")
    messages = bulk.findall("JournalEntryCreateConfirmation")
    named = {message.findtext("MessageHeader/ReferenceID") or "" for message in messages}
    # A call has one document, so one confirmation that names none is that document's. Rejections name none.
    own_name = "" if len(messages) == 1 and named == {""} else reference
    own = [message for message in messages if (message.findtext("MessageHeader/ReferenceID") or "") == own_name]
    for entry in (entry for message in own for entry in message.findall("JournalEntryCreateConfirmation")):
        company, number, year = (
            entry.findtext(name, "").strip() for name in ("CompanyCode", "AccountingDocument", "FiscalYear")
        )
        if number.strip("0"):
            return connector.Accepted(erp_id=f"{company}-{number}-{year}", posted=True)
    notes = [note for node in (bulk, *own) for log in node.findall("Log") for note in _errors(log)]
    if not notes:
        raise Unclear("SAP has answered with neither a document number nor an error")
    return connector.Rejected(reason="; ".join(notes))


def _errors(log: ElementTree.Element) -> list[str]:
    return [
        f"{item.findtext('TypeID', '')} {item.findtext('Note', '')}".strip()
        for item in log.findall("Item")
        if int(item.findtext("SeverityCode") or 0) >= _ERROR
    ]


def _fault_of(text: str) -> tuple[str, str] | None:
    """Returns the code, without its prefix, and the words of a SOAP fault, 1.1 or 1.2; None for another answer."""
    try:
        fault = next((n for n in ElementTree.fromstring(text).iter() if _name(n) == "Fault"), None)
    except ElementTree.ParseError:
        return None
    if fault is None:
        return None
    said = {_name(node): (node.text or "").strip() for node in fault.iter()}
    code = said.get("faultcode") or said.get("Value", "")
    return code.rpartition(":")[2].partition(".")[
        0
    ], f"{code} {said.get('faultstring') or said.get('Text', '')}".strip()


def _name(node: ElementTree.Element) -> str:
    return node.tag.rpartition("}")[2]


def _odata_error(answer: httpx.Response) -> str:
    try:
        error = answer.json()["error"]
        return f"{error['code']}: {error['message']['value']}"
    except (ValueError, KeyError, TypeError):
        return answer.text[:500]


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
