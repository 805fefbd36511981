"""A stand-in of NetSuite's REST record service: journal entries by external id, unique, in periods that close."""

from __future__ import annotations

import re
from collections import defaultdict
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.general_ledgers.stand_in import Answer, Request, StandIn

RECORDS = "/services/rest/record/v1"
_EXTERNAL_ID = re.compile("[A-Za-z0-9_-]+")
QUERY = "/services/rest/query/v1/suiteql"
TOKEN = "/services/rest/auth/oauth2/v1/token"
KEY = rsa.generate_private_key(65537, 2048)
PEM = KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def problem(status: int, code: str, detail: str) -> Answer:
    return Answer.of({"status": status, "o:errorDetails": [{"detail": detail, "o:errorCode": code}]}, status)


class NetSuiteStandIn(StandIn):
    """``fields``: the custom fields that exist. ``moves_to``: the period into which journals of a closed period are
    silently put, if a preference says so. ``unique``: external ids are unique. If they are not, the stand-in is harder
    than the real service.
    """

    fields: frozenset[str] = frozenset()
    moves_to: str | None = None
    unique = True
    locked = False
    page = 3
    tokens = 0

    def answer(self, request: Request) -> Answer:
        if self.locked:
            return Answer(401, b'{"title": "the integration is blocked"}')
        if request.path == TOKEN:
            return self._token(request)
        if request.headers.get("Authorization") not in {f"Bearer token-{n + 1}" for n in range(self.tokens)}:
            return Answer(401, b'{"title": "invalid login"}')
        if request.path == QUERY:
            return self._queried(request)
        kind, _, reference = request.path.removeprefix(f"{RECORDS}/").partition("/eid:")
        if request.method == "GET":
            return self._found(kind, reference)
        refused = self._refused(request)
        if refused is not None:
            return refused
        create = {"journalEntry": self._create, "customerDeposit": self._deposit, "depositApplication": self._apply}
        return self.submitted(lambda: create[kind](request.json))

    def _refused(self, request: Request) -> Answer | None:
        """As NetSuite validates a record: names of properties, which a header asks for; types; external ids."""
        assert request.headers["X-NetSuite-PropertyNameValidation"] == "Error"
        record = request.json
        lines = record.get("line", {}).get("items", [])
        unknown = [name for part in (record, *lines) for name in part if name[:4] == "cust" and name not in self.fields]
        unknown = [name for name in unknown if name != "customer"]
        if unknown:
            return problem(400, "INVALID_CONTENT", f"Error while accessing resource: unknown property {unknown[0]}.")
        if not isinstance(record.get("undepFunds", {}), dict):
            return problem(400, "INVALID_CONTENT", "Error while accessing resource: undepFunds is not an object.")
        references = [record.get("customer", {}), *(line.get("entity", {}) for line in lines)]
        if any(not _EXTERNAL_ID.fullmatch(reference.get("externalId", "_")) for reference in references):
            return problem(400, "INVALID_KEY_OR_REF", "Invalid external id of a customer.")
        return None

    def _token(self, request: Request) -> Answer:
        form = dict(pair.split("=", 1) for pair in request.body.decode().split("&"))
        claims = jwt.decode(
            form["client_assertion"], KEY.public_key(), algorithms=["PS256"], audience=f"{self.url}{TOKEN}"
        )
        assert claims["iss"] == "client"
        self.tokens += 1
        return Answer.of({"access_token": f"token-{self.tokens}", "expires_in": "3600", "token_type": "bearer"})

    def _queried(self, request: Request) -> Answer:
        """Returns the movements of accounts in the months between two days. This is the only query that we send."""
        if request.headers.get("Prefer") != "transient":
            return problem(400, "INVALID_HEADER", "The Prefer header is required.")
        first, last = re.findall(r"TO_DATE\('(\d{4}-\d\d)-\d\d'", request.json["q"])
        sums: dict[tuple[str, str], list[float]] = defaultdict(lambda: [0.0, 0.0])
        with self.lock:
            for journal in [each for each in self.journals if each["kind"] == "journalEntry"]:
                record = journal["record"]
                month = record["postingPeriod"]["id"]
                for item in record["line"]["items"] if record["approved"] and first <= month <= last else ():
                    total = sums[item["account"]["externalId"], month]
                    total[0] += item.get("debit", 0)
                    total[1] += item.get("credit", 0)
        rows = [
            {"account": account, "period": month, "debit": f"{debit:.2f}", "credit": f"{credit:.2f}"}
            for (account, month), (debit, credit) in sorted(sums.items())
        ]
        start, size = int(request.query["offset"]), min(int(request.query["limit"]), self.page)
        return Answer.of({"items": rows[start : start + size], "hasMore": len(rows) > start + size})

    def _found(self, kind: str, reference: str) -> Answer:
        found = [journal for journal in self.named(reference) if journal["kind"] == kind]
        if not found:
            return problem(404, "NONEXISTENT_ID", "The record instance does not exist.")
        return Answer.of(found[0]["record"])

    def _deposit(self, record: dict[str, Any]) -> Answer:
        missing = {"customer", "currency", "exchangeRate", "payment"} - record.keys()
        if missing:
            return problem(400, "USER_ERROR", f"Please enter value(s) for: {', '.join(sorted(missing))}")
        return self._kept("customerDeposit", record, round(record["payment"] * 100))

    def _apply(self, record: dict[str, Any]) -> Answer:
        amount = sum(round(item["amount"] * 100) for item in record["apply"]["items"])
        deposits = [each for each in self.named(record["deposit"]["externalId"]) if each["kind"] == "customerDeposit"]
        if not deposits or amount > deposits[0]["debit"]:
            return problem(400, "INVALID_KEY_OR_REF", "Invalid deposit reference key.")
        return self._kept("depositApplication", record, amount)

    def _kept(self, kind: str, record: dict[str, Any], amount: int) -> Answer:
        if self.unique and any(journal["kind"] == kind for journal in self.named(record["externalId"])):
            return problem(400, "USER_ERROR", "This entity already exists.")
        number = len(self.journals) + 1
        self.journals.append(
            {
                "reference": record["externalId"],
                "debit": amount,
                "credit": amount,
                "posted": True,
                "kind": kind,
                "record": {**record, "id": str(number)},
            }
        )
        return Answer(204, b"", {"Location": f"{self.url}{RECORDS}/{kind}/{number}"})

    def _create(self, record: dict[str, Any]) -> Answer:
        if self.unique and self.named(record["externalId"]):
            return problem(400, "USER_ERROR", "This entity already exists.")
        items = record["line"]["items"]
        debit = sum(round(item.get("debit", 0) * 100) for item in items)
        credit = sum(round(item.get("credit", 0) * 100) for item in items)
        if debit != credit:
            return problem(400, "USER_ERROR", "The debits and credits must balance.")
        month = record["tranDate"][:7]
        period = {"id": month, "refName": month}
        if month in self.closed:
            if self.moves_to is None:
                return problem(400, "USER_ERROR", "The posting period is closed.")
            period = {"id": self.moves_to, "refName": self.moves_to}
        number = len(self.journals) + 1
        kept = {
            **record,
            "id": str(number),
            "postingPeriod": period,
            "approvalStatus": {"id": "2" if record["approved"] else "1"},
        }
        self.journals.append(
            {
                "reference": record["externalId"],
                "debit": debit,
                "credit": credit,
                "posted": record["approved"],
                "record": kept,
                "kind": "journalEntry",
            }
        )
        return Answer(204, b"", {"Location": f"{self.url}{RECORDS}/journalEntry/{number}"})
