"""A stand-in of QuickBooks Online: journal entries, repeated answers to repeated requests, tokens that are replaced."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Callable
from typing import Any, Literal
from urllib.parse import parse_qs

from tests.general_ledgers.stand_in import Answer, Journal, Request, StandIn

TOKEN = "/oauth2/v1/tokens/bearer"
COMPANY = "/v3/company/4620816365"
SECRET = "the app's secret"


def fault(code: str, message: str, detail: str, kind: str = "ValidationFault", status: int = 400) -> Answer:
    error = {"Message": message, "Detail": f"{message} : {detail}", "code": code, "element": ""}
    return Answer.of({"Fault": {"Error": [error], "type": kind}, "time": "2026-02-01T00:00:00.000-08:00"}, status)


class QuickBooksStandIn(StandIn):
    """``numbers``: the effect of the company's settings on a number that was sent. ``warns``: a number is accepted only
    once. ``forgets``: it does not store its answers. ``unseen``: number of look-ups that do not find a new entry yet.
    ``receivables``: the ids of accounts of the type A/R. ``says``: an answer to a submission that replaces the real
    one. ``meddle``: a person's change of an entry as soon as
    it is there.
    """

    numbers: Literal["kept", "dropped", "own"] = "kept"
    warns = False
    forgets = False
    unseen = 0
    receivables: frozenset[str] = frozenset()
    says: Answer | None = None
    tokens = 0

    def __init__(self) -> None:
        super().__init__()
        self.meddle: Callable[[Journal], object] = lambda _: None
        self.answered: dict[str, Answer] = {}

    @property
    def refresh_token(self) -> str:
        """The token that is valid now."""
        return f"refresh-{self.tokens}"

    def answer(self, request: Request) -> Answer:
        if request.path == TOKEN:
            return self._token(request)
        if request.headers.get("Authorization") not in {f"Bearer access-{n + 1}" for n in range(self.tokens)}:
            return fault("3200", "message=AuthenticationFailed", "Token expired", "AUTHENTICATION", 401)
        assert request.query["minorversion"] == "75"
        assert request.headers.get("Accept") == "application/json"
        if (request.method, request.path) == ("GET", f"{COMPANY}/query"):
            return self._query(request.query["query"])
        assert (request.method, request.path) == ("POST", f"{COMPANY}/journalentry")
        return self.submitted(lambda: self._once(request.query["requestid"], request.json))

    def _token(self, request: Request) -> Answer:
        basic = b64encode(f"app:{SECRET}".encode()).decode()
        if request.headers.get("Authorization") != f"Basic {basic}":
            return Answer.of({"error": "invalid_client"}, 401)
        form = parse_qs(request.body.decode())
        assert form["grant_type"] == ["refresh_token"]
        if form["refresh_token"][0] not in (self.refresh_token, f"refresh-{self.tokens - 1}"):  # valid for a day
            return Answer.of({"error": "invalid_grant"}, 400)
        self.tokens += 1
        return Answer.of(
            {
                "access_token": f"access-{self.tokens}",
                "refresh_token": self.refresh_token,
                "token_type": "bearer",
                "expires_in": 3600,
                "x_refresh_token_expires_in": 8726400,
            }
        )

    def _query(self, query: str) -> Answer:
        asked = re.fullmatch(
            r"select \* from JournalEntry where (DocNumber|TxnDate) = '([^']+)' startposition (\d+) maxresults (\d+)",
            query,
        )
        assert asked is not None, query
        name, value, start, count = asked[1], asked[2], int(asked[3]) - 1, int(asked[4])
        with self.lock:
            if self.unseen:
                self.unseen -= 1
                return Answer.of({"QueryResponse": {}, "time": ""})
            entries = [journal["entry"] for journal in self.journals if journal["entry"].get(name) == value]
        page = entries[start : start + count]
        found = {"JournalEntry": page, "startPosition": start + 1, "maxResults": len(page)} if page else {}
        return Answer.of({"QueryResponse": found, "time": ""})

    def _once(self, request_id: str, record: dict[str, Any]) -> Answer:
        assert 0 < len(request_id) <= 50
        if request_id not in self.answered or self.forgets:
            self.answered[request_id] = self._create(record)
        return self.says or self.answered[request_id]

    def _create(self, record: dict[str, Any]) -> Answer:
        number = record.get("DocNumber", "")
        if len(number) > 21:
            return fault("2050", "String length is either shorter or longer than supported", "DocNumber: Max 21")
        if record["TxnDate"][:7] in self.closed:
            return fault(
                "6210",
                "Account Period Closed",
                "The account period has closed and the account books cannot be updated through the QBO Services API.",
            )
        if self.warns and any(journal["entry"].get("DocNumber") == number for journal in self.journals):
            return fault("6140", "Duplicate Document Number Error", "You must specify a different number.")
        # Intuit, Import journal entries: a line on an A/R account names its customer, and an entry has one such line.
        # The first message is of recorded answers of the API; the wording of the second one is ours.
        details = [line["JournalEntryLineDetail"] for line in record["Line"]]
        receivable = [detail for detail in details if detail["AccountRef"]["value"] in self.receivables]
        if any("Entity" not in detail for detail in receivable):
            reason = "When you use Accounts Receivable, you must choose a customer in the Name field."
            return fault("6000", "A business validation error has occurred while processing your request", reason)
        if len(receivable) > 1:
            reason = "You can have only one accounts receivable or accounts payable account in a transaction."
            return fault("6000", "A business validation error has occurred while processing your request", reason)
        sums = {"Debit": 0, "Credit": 0}
        for line in record["Line"]:
            assert line["Amount"] > 0
            sums[line["JournalEntryLineDetail"]["PostingType"]] += round(line["Amount"] * 100)
        if sums["Debit"] != sums["Credit"] or len(record["Line"]) < 2:
            return fault("6000", "A business validation error has occurred", "Debits and credits must be equal.")
        entry_id = str(len(self.journals) + 1)
        entry = {**record, "Id": entry_id, "SyncToken": "0", "domain": "QBO", "TotalAmt": 0}
        entry["Line"] = [*record["Line"], {"Id": "99", "Description": "a note", "DetailType": "DescriptionOnly"}]
        if self.numbers == "dropped":
            del entry["DocNumber"]
        elif self.numbers == "own":
            entry["DocNumber"] = f"10{entry_id}"
        journal = {"reference": number, "posted": True, "entry": entry, **sums}
        self.journals.append(journal)
        answer = Answer.of({"JournalEntry": entry, "time": ""})
        self.meddle(journal)
        return answer
