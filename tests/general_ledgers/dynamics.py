"""A stand-in of Dynamics 365 Finance: packages are uploaded, and imported by executions that end later. An import does
not post. Journals are read by OData.

It does not refuse a package, or an execution's id, because it was used before.
"""

from __future__ import annotations

import csv
import io
import json
import re
import time
import zipfile
from base64 import urlsafe_b64encode
from collections.abc import Iterable
from typing import Any
from urllib.parse import parse_qsl
from xml.etree import ElementTree

import jwt
from cryptography.hazmat.primitives.hashes import SHA256

from tests.general_ledgers.certificates import CERTIFICATE, KEY
from tests.general_ledgers.stand_in import Answer, Journal, Request, StandIn

ACTIONS = "/data/DataManagementDefinitionGroups/Microsoft.Dynamics.DataEntities."
SIGNATURE = "c2ln/bmF0+dXJl="
NAMESPACE = "{http://schemas.microsoft.com/dynamics/2015/01/DataManagement}"
Row = dict[str, str]


def problem(status: int, message: str) -> Answer:
    return Answer.of(
        {"error": {"code": "", "message": "An error has occurred.", "innererror": {"message": message}}}, status
    )


class DynamicsStandIn(StandIn):
    """``posts``: somebody posts imported journals into open months. ``checks_periods``: an import checks that the
    period is open. ``loses``: the documents that an import leaves out. ``maps``: the import project maps columns.
    """

    tenant, client, secret = "tenant-1", "client-1", "client-secret"
    company = ""
    posts = True
    checks_periods = True
    maps = True
    takes_s = 0.05
    page = 30
    elsewhere: str | None = None
    """The address in its links, if it is not its own."""
    tokens = 0

    def __init__(self) -> None:
        super().__init__()
        self.blobs: dict[str, bytes] = {}
        self.assertions: list[str] = []
        self.uploads: list[int] = []
        """The answers to uploads before they are accepted."""
        self.loses: set[str] = set()
        self.executions: list[dict[str, Any]] = []
        self.headers: dict[str, dict[str, Any]] = {}

    @property
    def taken(self) -> int:
        return len(self.executions)

    def answer(self, request: Request) -> Answer:
        with self.lock:
            self._run()
        if request.path.endswith("/oauth2/v2.0/token"):
            return self._token(request)
        if request.path.startswith("/blob/"):
            return self._upload(request)
        if request.headers.get("Authorization") not in {f"Bearer access-{n + 1}" for n in range(self.tokens)}:
            return Answer(401)
        if request.method == "GET":
            with self.lock:
                return self._read(request)
        action = request.path.removeprefix(ACTIONS)
        if action == "ImportFromPackage":
            return self.submitted(lambda: self._import(request.json))
        if action == "GetAzureWriteUrl":
            address = f"{self.url}/blob/{request.json['uniqueFileName']}?sv=2022&sig={SIGNATURE}"
            inner = json.dumps({"BlobId": "{1}", "BlobUrl": address}).replace("&", "\\u0026")
            return Answer.of({"value": inner})
        return self._told(action, request.json["executionId"])

    def _check(self, assertion: str, kind: str) -> None:
        """Checks an assertion as Microsoft's *certificate credentials* describe it."""
        assert kind == "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
        thumbprint = urlsafe_b64encode(CERTIFICATE.fingerprint(SHA256())).decode().rstrip("=")
        assert jwt.get_unverified_header(assertion) == {"alg": "PS256", "typ": "JWT", "x5t#S256": thumbprint}
        audience = f"{self.url}/{self.tenant}/oauth2/v2.0/token"
        claims = jwt.decode(assertion, KEY.public_key(), algorithms=["PS256"], audience=audience, issuer=self.client)
        assert claims["sub"] == self.client
        assert claims["jti"] not in self.assertions
        self.assertions.append(claims["jti"])

    def _token(self, request: Request) -> Answer:
        form = dict(parse_qsl(request.body.decode()))
        assert request.path == f"/{self.tenant}/oauth2/v2.0/token"
        assert (form["grant_type"], form["client_id"]) == ("client_credentials", self.client)
        assertion = form.get("client_assertion")
        if assertion is not None:
            self._check(assertion, form["client_assertion_type"])
        elif form["client_secret"] != self.secret:
            said = "AADSTS7000215: Invalid client secret provided."
            return Answer.of({"error": "invalid_client", "error_description": said}, 400)
        self.tokens += 1
        return Answer.of({"token_type": "Bearer", "expires_in": 3599, "access_token": f"access-{self.tokens}"})

    def _upload(self, request: Request) -> Answer:
        assert request.headers["x-ms-blob-type"] == "BlockBlob"
        assert "Authorization" not in request.headers, "the token is not for the storage"
        if self.uploads:
            return Answer(self.uploads.pop(0))
        self.blobs[request.path] = request.body
        return Answer(201)

    # --- imports --------------------------------------------------------------------------------------------------

    def _import(self, body: dict[str, Any]) -> Answer:
        assert (body["execute"], body["overwrite"]) == (True, True)
        path = body["packageUrl"].partition("?")[0].removeprefix(self.url)
        if path not in self.blobs:
            return problem(400, "The package does not exist.")
        self.executions.append(
            {
                "id": body["executionId"],
                "status": "Executing",
                "due": time.monotonic() + self.takes_s,
                "package": self.blobs[path],
                "company": body["legalEntityId"],
                "errors": [],
            }
        )
        return Answer.of({"value": body["executionId"]})

    def _told(self, action: str, name: str) -> Answer:
        found = [execution for execution in self.executions if execution["id"] == name]
        if not found:
            return problem(400, f"The records for execution {name} were not found.")
        if action == "GetExecutionSummaryStatus":
            return Answer.of({"value": found[-1]["status"]})
        assert action == "GetExecutionErrors"
        errors = [{"RecordId": "", "Field": "", "ErrorMessage": text} for text in found[-1]["errors"]]
        return Answer.of({"value": json.dumps(errors)})

    def _run(self) -> None:
        for execution in self.executions:
            if execution["status"] == "Executing" and execution["due"] <= time.monotonic():
                execution["status"] = self._imported(execution)

    def _imported(self, execution: dict[str, Any]) -> str:
        rows = list(rows_of(execution["package"])) if self.maps else []
        late = sorted({row["TRANSDATE"] for row in rows if row["TRANSDATE"][:7] in self.closed})
        if late and self.checks_periods:
            execution["errors"] = [f"Fiscal period for {day} is not open." for day in late]
            return "Failed"
        kept = [row for row in rows if row["DOCUMENT"] not in self.loses]
        numbers: dict[str, str] = {}
        for row in kept:
            if row["JOURNALBATCHNUMBER"] not in numbers:
                numbers[row["JOURNALBATCHNUMBER"]] = self._header(row, execution["company"])
        for document in dict.fromkeys(row["DOCUMENT"] for row in kept):
            lines = [row for row in kept if row["DOCUMENT"] == document]
            self.journals.append(self._voucher(numbers[lines[0]["JOURNALBATCHNUMBER"]], lines))
        if self.posts and not late:
            for header in self.headers.values():
                header["IsPosted"] = "Yes"
        execution["errors"] = [f"Voucher of {document} is not valid." for document in sorted(self.loses)]
        return "PartiallySucceeded" if self.loses else "Succeeded"

    def _header(self, row: Row, company: str) -> str:
        """Returns an open journal with that number, or a new one."""
        asked = row["JOURNALBATCHNUMBER"]
        if asked in self.headers and self.headers[asked]["IsPosted"] == "No":
            return asked
        number = f"GJ-{len(self.headers) + 1:06}"
        self.headers[number] = {
            "dataAreaId": company,
            "JournalBatchNumber": number,
            "JournalName": row["JOURNALNAME"],
            "Description": row["DESCRIPTION"],
            "IsPosted": "No",
        }
        return number

    def _voucher(self, number: str, rows: list[Row]) -> Journal:
        return {
            "reference": rows[0]["DOCUMENT"],
            "batch": number,
            "posted": self.posts,
            "debit": sum(round(float(row["DEBITAMOUNT"]) * 100) for row in rows),
            "credit": sum(round(float(row["CREDITAMOUNT"]) * 100) for row in rows),
            "lines": [
                {
                    "dataAreaId": self.headers[number]["dataAreaId"],
                    "JournalBatchNumber": number,
                    "Document": row["DOCUMENT"],
                    "AccountDisplayValue": row["ACCOUNTDISPLAYVALUE"],
                    "DebitAmount": float(row["DEBITAMOUNT"]),
                    "CreditAmount": float(row["CREDITAMOUNT"]),
                }
                for row in rows
            ],
        }

    # --- OData ----------------------------------------------------------------------------------------------------

    def _read(self, request: Request) -> Answer:
        assert request.query["cross-company"] == "true"
        given = dict(re.findall(r"(\w+) eq '((?:[^']|'')*)'", request.query["$filter"]))
        given = {name: value.replace("''", "'") for name, value in given.items()}
        if request.path == "/data/LedgerJournalHeaders":
            records = list(self.headers.values())
        else:
            assert request.path == "/data/LedgerJournalLines"
            records = [line for journal in self.journals for line in journal["lines"]]
        found = [record for record in records if all(record[name] == value for name, value in given.items())]
        start = int(request.query.get("$skiptoken", "0"))
        page: dict[str, Any] = {"value": found[start : start + self.page]}
        if len(found) > start + self.page:
            only = request.query["$filter"].replace(" ", "%20")
            page["@odata.nextLink"] = (
                f"{self.elsewhere or self.url}{request.path}?cross-company=true&$filter={only}"
                f"&$skiptoken={start + self.page}"
            )
        return Answer.of(page)


def rows_of(package: bytes) -> Iterable[Row]:
    """Yields the rows of a package, with the columns that its manifest maps."""
    with zipfile.ZipFile(io.BytesIO(package)) as archive:
        manifest = ElementTree.fromstring(archive.read("Manifest.xml"))
        mapped = {found.text for found in manifest.iter(f"{NAMESPACE}EntityField")}
        text = archive.read("General journal.csv").decode("utf-16")
    assert text.count("\n") == text.count("\r\n")
    for row in csv.DictReader(io.StringIO(text)):
        yield {name: value for name, value in row.items() if name in mapped}
