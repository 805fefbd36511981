"""A stand-in of Sage Intacct's XML gateway: HTTP 200 for everything, functions that run once, journals with states."""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal
from xml.etree import ElementTree
from xml.etree.ElementTree import Element
from xml.sax.saxutils import escape

from tests.general_ledgers.stand_in import Answer, Journal, Request, StandIn

PATH = "/ia/xml/xmlgw.phtml"
SENDER_PASSWORD = "pass & word <of> the sender"
USER_PASSWORD = 'the user\'s "password"'


def errors(number: str, text: str) -> str:
    text = f"{text} [Support ID: x~y]".replace("&", "&amp;").replace("<", "&lt;")
    return (
        f"<errormessage><error><errorno>{number}</errorno><description></description>"
        f"<description2>{text}</description2><correction></correction></error></errormessage>"
    )


def response(control: str, operation: str = "", after: str = "") -> Answer:
    body = (
        f'<?xml version="1.0" encoding="UTF-8"?><response><control><status>{control}</status></control>'
        f"{f'<operation>{operation}</operation>' if operation else ''}{after}</response>"
    )
    return Answer(200, body.encode(), {"Content-Type": "text/xml"})


def result(status: str, function: str, more: str) -> Answer:
    authentication = "<authentication><status>success</status></authentication>"
    return response(
        "success", f"{authentication}<result><status>{status}</status><function>{function}</function>{more}</result>"
    )


def refused(function: str, text: str, number: str = "BL01001973") -> Answer:
    return result("failure", function, errors(number, text))


class IntacctStandIn(StandIn):
    """``approvals``: journals wait for an approval. ``page``: maximum number of records in an answer. ``unseen``:
    number of look-ups that do not find a new journal yet. ``between_entities``: lines that are added to a journal with
    a base location. ``meddle``: a person's change of a journal as soon as it is there.
    """

    approvals = False
    page = 1_000
    unseen = 0
    sessions = 0
    between_entities: tuple[tuple[int, str], ...] = ()

    def __init__(self) -> None:
        super().__init__()
        self.meddle: Callable[[Journal], object] = lambda _: None
        self.completed: set[str] = set()
        self.left: dict[str, list[str]] = {}

    def answer(self, request: Request) -> Answer:
        assert (request.method, request.path) == ("POST", PATH)
        asked = ElementTree.fromstring(request.body)
        control = asked.find("control")
        assert control is not None
        assert control.findtext("dtdversion") == "3.0"
        if (control.findtext("senderid"), control.findtext("password")) != ("sender", SENDER_PASSWORD):
            return response("failure", after=errors("XL03000006", "Incorrect Intacct XML Partner ID or password."))
        [function] = asked.findall("operation/content/function")
        [called] = function
        login = asked.find("operation/authentication/login")
        if login is not None:
            given = [login.findtext(name) for name in ("companyid", "userid", "password")]
            if given != ["company", "user", USER_PASSWORD]:
                return self._not_signed_in()
            assert called.tag == "getAPISession"
            return self._session()
        if asked.findtext("operation/authentication/sessionid") not in {
            f"session-{n + 1}" for n in range(self.sessions)
        }:
            return self._not_signed_in()
        once = control.findtext("uniqueid") != "false"
        doing: dict[str, Callable[[], Answer]] = {
            "readByQuery": lambda: self._query(called),
            "readMore": lambda: self._more(called.findtext("resultId") or ""),
            "create": lambda: self.submitted(lambda: self._create(function, once), self._throttled),
        }
        return doing[called.tag]()

    def _not_signed_in(self) -> Answer:
        failed = "<authentication><status>failure</status></authentication>"
        return response("success", failed + errors("XL03000006", "Sign-in information is incorrect"))

    def _throttled(self) -> Answer:
        return response("failure", after=errors("GW-0010", "Too many requests"))

    def _session(self) -> Answer:
        self.sessions += 1
        data = f"<api><sessionid>session-{self.sessions}</sessionid><endpoint>{self.url}{PATH}</endpoint></api>"
        return result("success", "getAPISession", f"<data>{data}</data>")

    # --- reading --------------------------------------------------------------------------------------------------

    def _query(self, called: Element) -> Answer:
        kind, query = called.findtext("object"), called.findtext("query") or ""
        found = re.fullmatch(r"(\w+) = '([^']*)'", query)
        assert found is not None, query
        with self.lock:
            if kind == "GLBATCH":
                assert found[1] == "REFERENCENO"
                seen = [] if self.unseen else self.journals
                self.unseen = max(self.unseen - 1, 0)
                records = [_batch(journal) for journal in seen if journal["reference"] == found[2]]
            else:
                assert (kind, found[1]) == ("GLENTRY", "BATCHNO")
                entries = [
                    entry for journal in self.journals if journal["number"] == found[2] for entry in journal["entries"]
                ]
                records = [f"<glentry>{entry}</glentry>" for entry in entries]
        return self._page(records)

    def _more(self, name: str) -> Answer:
        return self._page(self.left.pop(name))

    def _page(self, records: list[str]) -> Answer:
        page, left = records[: self.page], records[self.page :]
        name = f"result-{self.calls}"
        if left:
            self.left[name] = left
        counted = f'count="{len(page)}" numremaining="{len(left)}" resultId="{name}"'
        return result("success", "readByQuery", f'<data listtype="x" {counted}>{"".join(page)}</data>')

    # --- writing --------------------------------------------------------------------------------------------------

    def _create(self, function: Element, once: bool) -> Answer:
        controlid = function.get("controlid") or ""
        if once and controlid in self.completed:
            return refused("create", f"The function {controlid} was run before")
        batch = function.find("create/GLBATCH")
        assert batch is not None
        wrong = self._wrong(batch)
        if wrong is not None:
            return refused("create", wrong)
        self.completed.add(controlid)
        number = str(len(self.journals) + 100)
        lines = [
            _entry(
                number,
                entry.findtext("DOCUMENT") or "",
                entry.findtext("ACCOUNTNO") or "",
                int(entry.findtext("TR_TYPE") or 0),
                _amount(entry),
            )
            for entry in batch.iter("GLENTRY")
        ]
        if batch.find("BASELOCATION_NO") is not None:
            lines += [_entry(number, "", "1900", side, amount) for side, amount in self.between_entities]
        state = batch.findtext("STATE") or "Posted"
        journal = {
            "reference": batch.findtext("REFERENCENO"),
            "number": number,
            "entries": lines,
            "state": "Submitted" if self.approvals and state == "Posted" else state,
            "reversed_from": "",
        }
        self.journals.append(journal)
        self.meddle(journal)
        data = f'<data listtype="objects" count="1"><glbatch><RECORDNO>{number}</RECORDNO></glbatch></data>'
        return result("success", "create", data)

    def _wrong(self, batch: Element) -> str | None:
        for name in ("JOURNAL", "BATCH_DATE", "BATCH_TITLE"):
            if not batch.findtext(name):
                return f"Required field {name} is missing"
        month, _, year = str(batch.findtext("BATCH_DATE")).split("/")
        if f"{year}-{month}" in self.closed:
            return (
                f"Periods are closed. Your transaction date ({batch.findtext('BATCH_DATE')}) is within a period that's "
                "been closed."
            )
        entries = list(batch.iter("GLENTRY"))
        sums = {
            side: sum(_cents(entry) for entry in entries if entry.findtext("TR_TYPE") == side) for side in ("1", "-1")
        }
        if len(entries) < 2 or sums["1"] != sums["-1"]:
            return f"Transactions do not balance: {sums}"
        return None


def _amount(entry: Element) -> str:
    return entry.findtext("TRX_AMOUNT") or ""


def _cents(entry: Element) -> int:
    amount = Decimal(_amount(entry)) * 100
    assert amount >= 0
    assert amount == int(amount)
    return int(amount)


def _entry(number: str, document: str, account: str, side: int, amount: str) -> str:
    return (
        f"<RECORDNO>{number}{document}</RECORDNO><DOCUMENT>{document}</DOCUMENT><ACCOUNTNO>{escape(account)}</ACCOUNTNO>"
        f"<TR_TYPE>{side}</TR_TYPE>"
        f"<TRX_AMOUNT>{amount.removesuffix('.00')}</TRX_AMOUNT>"
    )


def _batch(journal: dict[str, str]) -> str:
    return (
        f"<glbatch><RECORDNO>{journal['number']}</RECORDNO><REFERENCENO>{journal['reference']}</REFERENCENO>"
        f"<STATE>{journal['state']}</STATE><REVERSEDFROM>{journal['reversed_from']}</REVERSEDFROM></glbatch>"
    )
