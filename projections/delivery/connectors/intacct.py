"""Sage Intacct: ``create`` of ``GLBATCH`` at the XML gateway, one function for each document; found by its reference
number.

The gateway always answers HTTP 200. The result is a status in the answer: of the control, of the authentication, and of
the function. Only the word *success* means success.

A request has ``uniqueid``, so Intacct refuses a function whose ``controlid`` (our reference) was completed before. The
wording of this refusal is not documented, so every refused request is looked up before it counts as refused. After a
rejection the ``controlid`` is another one, because the journal may have been posted and deleted there.

Reference numbers are not unique: a journal that is there twice is a rejection that names both. A journal is posted
unless it was sent as a draft or needs approval; only a look-up shows this. A declined or reversed journal is not in the
books.

Documented: the request, its ``uniqueid`` and the session; ``readByQuery``, its paging, the fields and states; that
nothing ran if the control or the authentication failed; GW-0010 for too many requests; that a request may run on after
the sender's time-out of 15 minutes, hence ``settle_s``. To be tried in a sandbox: the waiting time that GW-0010
requests (``throttled_s`` is our choice); if the lines between entities that Intacct adds to a journal with a base
location are among its entries (for such a journal only lines with one of our references are summed); if a reversal has
the reference number of the reversed journal (an entry that says what it reverses is left out).

Sources: developer.intacct.com (web-services/requests, error-handling, queries, sync-vs-async, support/faq,
api/company-console/api-sessions, api/general-ledger/journal-entries), Intacct/intacct-sdk-js (Xml).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar, Final
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

import httpx

from projections.delivery.connectors import connector
from subledger.errors import InvalidInput
from subledger.external import credentials
from subledger.external.calls import NotAuthorised, NotSent, Throttled, Unclear
from subledger.external.credentials import Credential

_THROTTLED: Final = "GW-0010"
_NOT_AUTHORISED: Final = "XL03000006"
_PAGE: Final = 1_000
_PAGES: Final = 50
_BATCH_FIELDS: Final = "RECORDNO,REFERENCENO,STATE,REVERSEDFROM"
_ENTRY_FIELDS: Final = "RECORDNO,DOCUMENT,ACCOUNTNO,TR_TYPE,TRX_AMOUNT"
# Answers give a state by its label. Queries give it by its letter, and perhaps some answers do too.
_POSTED: Final = frozenset({"posted", "p"})
_THROWN_AWAY: Final = {
    "declined": "an approver has declined it",
    "r": "an approver has declined it",
    "reversed": "somebody has reversed it there",
    "z": "somebody has reversed it there",
}
_WAITING: Final = {
    "draft": "it is a draft there, to be posted",
    "i": "it is a draft there, to be posted",
    "submitted": "it waits for approval",
    "s": "it waits for approval",
    "partially approved": "it waits for more approvals",
    "x": "it waits for more approvals",
    "approved": "it is approved, and not posted yet",
    "a": "it is approved, and not posted yet",
    "reversal pending": "its reversal waits for approval",
    "l": "its reversal waits for approval",
}


class Settings(connector.ChannelSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of a channel to Intacct.

    ``sender_id``, ``sender_password``: of the Web Services licence, which the company must authorise. ``company_id``,
    ``user_id``, ``user_password``: of a Web Services user. ``entity``: the location in which journals are created and
    looked up; empty for the top level. ``throttled_s``: the wait after too many calls.
    """

    url: str = "https://api.intacct.com/ia/xml/xmlgw.phtml"
    sender_id: str
    sender_password: Credential
    company_id: str
    user_id: str
    user_password: Credential
    entity: str = ""
    throttled_s: float = 60.0
    settle_s: float = 1_800.0

    def check(self) -> None:
        connector.check_url(self.url)
        for field in ("sender_id", "sender_password", "company_id", "user_id", "user_password"):
            if not getattr(self, field):
                raise InvalidInput(f"{field} is empty", field=field, expected="as Intacct knows it")
        if self.throttled_s < 0:
            raise InvalidInput("throttled_s must not be negative", field="throttled_s", found=str(self.throttled_s))


class Intacct(connector.Connector):
    """See the module."""

    name: ClassVar[str] = "intacct"
    formats: ClassVar[tuple[str, ...]] = ("intacct-xml",)
    settings_type: ClassVar[type[connector.ChannelSettings]] = Settings
    destination_fields: ClassVar[tuple[str, ...]] = ("url", "company_id", "entity")

    def look_up(self, shipment: connector.Shipment) -> connector.Found | None:
        batches = [
            batch
            for batch in self._read("GLBATCH", _BATCH_FIELDS, f"REFERENCENO = '{shipment.reference}'")
            if _text_at(batch, "REFERENCENO") == shipment.reference and not batch.findtext("REVERSEDFROM")
        ]
        if not batches:
            return None
        numbers = sorted(_text_at(batch, "RECORDNO") for batch in batches)
        if len(batches) > 1:
            twice = f"Intacct has it {len(batches)} times, as {', '.join(numbers)}: delete all but one there"
            return connector.Found(erp_id=numbers[0], state="discarded", reason=twice)
        entries = self._read("GLENTRY", _ENTRY_FIELDS, f"BATCHNO = '{numbers[0]}'")
        return _found(shipment, batches[0], entries)

    def submit(self, shipment: connector.Shipment) -> connector.Accepted | connector.Rejected:
        content = ElementTree.fromstring(shipment.payload)
        if shipment.rejections:
            next(content.iter("function")).set("controlid", f"{shipment.reference}-{shipment.rejections}")
        result = self._run(shipment.reference, content, once=True)
        if result.findtext("status") != "success":
            self._check_not_there(shipment, _refusal(result))
            return connector.Rejected(reason=_refusal(result))
        return connector.Accepted(erp_id=_text_at(result, ".//RECORDNO"), posted=content.find(".//STATE") is None)

    def _check_not_there(self, shipment: connector.Shipment, refusal: str) -> None:
        """Looks a refused request up: it may have been refused because it ran before. Raises Unclear if it is there."""
        try:
            found = self.look_up(shipment)
        except NotSent as error:
            raise Unclear(f"Intacct refuses it, and does not say whether it has it: {refusal}; {error}") from error
        if found is not None:
            raise Unclear(f"Intacct refuses it, and has it already: {refusal}")

    # --- functions ------------------------------------------------------------------------------------------------

    def _read(self, kind: str, fields: str, query: str) -> list[Element]:
        """All records of a kind that a query finds."""
        arguments = {"object": kind, "fields": fields, "query": query, "pagesize": str(_PAGE)}
        function, found = _function("readByQuery", arguments), list[Element]()
        for _ in range(_PAGES):
            result = self._run(f"look up {query}", function, once=False)
            data = result.find("data")
            if result.findtext("status") != "success" or data is None:
                raise Unclear(f"Intacct gave no clear answer: {_refusal(result)}")
            found.extend(data)
            if int(data.get("numremaining") or 0) == 0:
                return found
            function = _function("readMore", {"resultId": data.get("resultId") or ""})
        raise Unclear(f"Intacct has more than {_PAGES} pages of {kind} for {query}")

    def _run(self, controlid: str, content: Element, *, once: bool) -> Element:
        """Runs one function and returns its ``result``, whether it succeeded or failed."""
        session, endpoint = self._session()
        authentication = Element("authentication")
        SubElement(authentication, "sessionid").text = session
        return self._post(endpoint, controlid, authentication, content, once=once)

    def _session(self) -> tuple[str, str]:
        """Returns a session, and the address for its calls."""
        if "session" not in self.session:
            settings: Settings = self.settings
            authentication = Element("authentication")
            login = SubElement(authentication, "login")
            SubElement(login, "userid").text = settings.user_id
            SubElement(login, "companyid").text = settings.company_id
            SubElement(login, "password").text = self.calls.hide(credentials.read(settings.user_password))
            if settings.entity:
                SubElement(login, "locationid").text = settings.entity
            result = self._post(settings.url, "session", authentication, _function("getAPISession", {}), once=False)
            if result.findtext("status") != "success":
                raise NotAuthorised(f"Intacct gives no session: {_refusal(result)}")
            session = self.calls.hide(_text_at(result, ".//sessionid"))
            self.session["session"] = (session, _endpoint(_text_at(result, ".//endpoint"), settings.url))
        session, endpoint = self.session["session"]
        return self.calls.hide(session), endpoint

    def _post(self, url: str, controlid: str, authentication: Element, content: Element, *, once: bool) -> Element:
        """Posts one request with one function.

        Raises Throttled, NotAuthorised or NotSent if the gateway says that it was not run, Unclear if it does not
        say.
        """
        settings: Settings = self.settings
        request = Element("request")
        control = SubElement(request, "control")
        SubElement(control, "senderid").text = settings.sender_id
        SubElement(control, "password").text = self.calls.hide(credentials.read(settings.sender_password))
        SubElement(control, "controlid").text = controlid
        SubElement(control, "uniqueid").text = "true" if once else "false"
        SubElement(control, "dtdversion").text = "3.0"
        SubElement(control, "includewhitespace").text = "false"
        operation = SubElement(request, "operation", transaction="true")
        operation.extend((authentication, content))
        answer = self.calls.send(
            "POST",
            url,
            headers={"Content-Type": "application/xml"},
            content=ElementTree.tostring(request, encoding="UTF-8", xml_declaration=True),
        )
        return self._result(ElementTree.fromstring(answer.content))

    def _result(self, response: Element) -> Element:
        numbers = {number.text or "" for number in response.iter("errorno")}
        if response.findtext("control/status") != "success":
            if _THROTTLED in numbers:
                wait_s = self.settings.throttled_s
                raise Throttled(f"Intacct takes no more calls for {wait_s:.0f} s", wait_s=wait_s)
            if _NOT_AUTHORISED in numbers:
                raise NotAuthorised(f"Intacct does not take the sender: {_refusal(response)}")
            # The gateway stands in front of the part that runs requests. So its other errors do not show how far the
            # request came.
            if not numbers or any(number.startswith("GW") for number in numbers):
                raise Unclear(f"Intacct's gateway failed: {_refusal(response)}")
            raise NotSent(f"Intacct does not take the request: {_refusal(response)}")
        if response.findtext("operation/authentication/status") != "success":
            self.session.pop("session", None)
            raise NotAuthorised(f"Intacct does not take the user: {_refusal(response)}")
        result = response.find("operation/result")
        if result is None or result.findtext("status") not in ("success", "failure", "aborted"):
            raise Unclear(f"Intacct does not report the result: {_refusal(response)}")
        return result


def _function(name: str, arguments: dict[str, str]) -> Element:
    """Returns the ``content`` with a function that only reads."""
    content = Element("content")
    called = SubElement(SubElement(content, "function", controlid=name), name)
    for argument, value in arguments.items():
        SubElement(called, argument).text = value
    return content


def _endpoint(given: str, url: str) -> str:
    """Returns the address of a session. It must be in the domain of the same host, because our credentials are sent
    there. Raises NotAuthorised.
    """
    found, configured = httpx.URL(given), httpx.URL(url)
    if found.scheme != configured.scheme or found.host.split(".")[-2:] != configured.host.split(".")[-2:]:
        raise NotAuthorised(f"Intacct's session is for {found.host}, which is not of {configured.host}: check the url")
    return given


def _found(shipment: connector.Shipment, batch: Element, entries: list[Element]) -> connector.Found:
    state, erp_id = _text_at(batch, "STATE"), _text_at(batch, "RECORDNO")
    if state.lower() in _THROWN_AWAY:
        return connector.Found(erp_id=erp_id, state="discarded", reason=_THROWN_AWAY[state.lower()])
    compared = _accounts(shipment, entries)
    total = connector.Total(
        debit_minor=sum(each.debit_minor for each in compared.found.values()),
        credit_minor=sum(each.credit_minor for each in compared.found.values()),
    )
    totals, accounts = {shipment.reference: total}, {shipment.reference: compared}
    if state.lower() in _POSTED:
        return connector.Found(erp_id=erp_id, state="posted", totals=totals, accounts=accounts)
    if state.lower() in _WAITING:
        reason = _WAITING[state.lower()]
        return connector.Found(erp_id=erp_id, state="accepted", totals=totals, accounts=accounts, reason=reason)
    raise Unclear(f"Intacct shows the journal in the unknown state {state[:60]!r}")


def _accounts(shipment: connector.Shipment, entries: list[Element]) -> connector.Accounts:
    """Adds up the entries of a journal by account. A journal without lines, for example one that is still being
    created, has no accounts, and so differs from ours.
    """
    [document] = shipment.documents
    sent = ElementTree.fromstring(shipment.payload)
    if sent.find(".//BASELOCATION_NO") is not None:
        ours = {line.reference for line in document.lines}
        entries = [entry for entry in entries if entry.findtext("DOCUMENT") in ours]

    def moved(lines: Iterable[Element]) -> dict[str, connector.Total]:
        return connector.by_account(
            (
                _text_at(line, "ACCOUNTNO"),
                {"1": True, "-1": False}[_text_at(line, "TR_TYPE")],
                connector.minor_of(_text_at(line, "TRX_AMOUNT"), document.currency),
            )
            for line in lines
        )

    return connector.Accounts(sent=moved(sent.iter("GLENTRY")), found=moved(entries))


def _text_at(element: Element, path: str) -> str:
    """Returns a text that an answer must have. Raises ValueError."""
    text = element.findtext(path)
    if not text:
        raise ValueError(f"<{element.tag}> has no {path}")
    return text


def _refusal(element: Element) -> str:
    """Returns Intacct's errors, with their numbers."""
    messages = [
        " ".join(
            text for name in ("errorno", "description", "description2", "correction") if (text := error.findtext(name))
        )
        for error in element.iter("error")
    ]
    return "; ".join(messages)[:2_000] or "it gives no reason"
