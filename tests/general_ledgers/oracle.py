"""A stand-in of Oracle Fusion: a file is loaded and imported by requests that end later, whatever the call answered.

It does not refuse a file because it was loaded before. The lines of a group that was held back stay in ``interface``,
and are imported again with later lines of the same group.
"""

from __future__ import annotations

import base64
import csv
import io
import json
import re
import time
import zipfile
from collections.abc import Iterable
from datetime import date
from typing import Any, NamedTuple
from urllib.parse import parse_qs

import jwt
from cryptography.hazmat.primitives.hashes import SHA1

from tests.general_ledgers import certificates
from tests.general_ledgers.stand_in import Answer, Journal, Request, StandIn

REST = "/fscmRestApi/resources/11.13.18.05"
PARAMETERS = 7
COLUMNS = 149
KEY = """
=============== Error Key ===============
EP01  This date is not in any open or future enterable period.
EU02  The journal entry is unbalanced and suspense posting isn't allowed in the ledger.
"""


class Line(NamedTuple):
    """A row of GL_INTERFACE."""

    day: date
    source: str
    category: str
    currency: str
    debit: int
    credit: int
    batch: str
    journal: str
    group: str
    period: str

    @classmethod
    def of(cls, row: list[str]) -> Line:
        assert len(row) == COLUMNS
        assert row[0] == "NEW"
        assert row[6], "a blank creation date loads nothing"
        year, month, day = (int(part) for part in row[2].split("/"))
        debit, credit = (round(float(amount or 0) * 100) for amount in row[38:40])
        return cls(date(year, month, day), row[3], row[4], row[5], debit, credit, row[42], row[45], row[66], row[94])


class Load(NamedTuple):
    """A request that loads a file, and imports its group when ``due``."""

    request: int
    due: float
    lines: list[Line]
    source: str
    group: str
    options: str


class OracleStandIn(StandIn):
    """``autoposts``: imported journals are posted at once. ``imports``: False if the import does nothing, as for a
    group that is not the file's. ``loads_nothing``: the loader's message about a file that it does not accept.
    ``takes_s``: duration of requests. ``tells``: the call returns the id of the request that loads the file.
    """

    user, password, token = "integration", "secret", "bearer-1"
    autoposts = True
    imports = True
    loads_nothing: str | None = None
    takes_s = 0.05
    refuses: str | None = None
    tells = True
    tokens = 0
    moves_to: str | None = None

    def __init__(self) -> None:
        super().__init__()
        self.interface: list[Line] = []
        self.loads: list[Load] = []
        self.signed: set[str] = set()
        self.ended: dict[int, list[tuple[int, str, str, str]]] = {}
        """By load: its jobs, as request, name, status and report."""

    @property
    def taken(self) -> int:
        return len(self.loads)

    def reopen(self, month: str) -> None:
        super().reopen(month)
        self.delete_interface()

    def delete_interface(self) -> None:
        """Executes *Delete Journal Import Data*."""
        with self.lock:
            self.interface.clear()

    def answer(self, request: Request) -> Answer:
        if request.path == "/oauth2/v1/token":
            return self._token(request)
        basic = base64.b64encode(f"{self.user}:{self.password}".encode()).decode()
        given = request.headers.get("Authorization") or ""
        known = {f"Basic {basic}", f"Bearer {self.token}", *(f"Bearer issued-{n + 1}" for n in range(self.tokens))}
        if given not in known and not self._is_signed(given.removeprefix("Bearer ")):
            return Answer(401, b"Unauthorized")
        with self.lock:
            self._run()
        path = request.path.removeprefix(REST)
        if request.method == "POST" and path == "/erpintegrations":
            return self.submitted(lambda: self._load(request.json))
        if path == "/erpintegrations":
            return self._asked(request.query["finder"])
        assert request.headers["REST-Framework-Version"] == "4"
        with self.lock:
            return self._listed(path, request.query)

    def _token(self, request: Request) -> Answer:
        """Answers as an identity domain of OCI does to the grant client credentials."""
        assert request.headers["Authorization"] == f"Basic {base64.b64encode(b'app:of the app').decode()}"
        form = parse_qs(request.body.decode())
        assert form == {"grant_type": ["client_credentials"], "scope": ["urn:opc:resource:fusion:test:boss"]}
        self.tokens += 1
        return Answer.of({"access_token": f"issued-{self.tokens}", "token_type": "Bearer", "expires_in": 3600})

    def _is_signed(self, token: str) -> bool:
        """Checks a token as *Use JSON Web Token for Authorization* describes it."""
        try:
            header = jwt.get_unverified_header(token)
            claims = jwt.decode(token, certificates.KEY.public_key(), algorithms=["RS256"], issuer="subledger-issuer")
        except jwt.PyJWTError:
            return False
        thumbprint = base64.urlsafe_b64encode(certificates.CERTIFICATE.fingerprint(SHA1())).decode().rstrip("=")
        assert header == {"alg": "RS256", "typ": "JWT", "x5t": thumbprint}
        self.signed.add(token)
        return bool(claims["prn"] == claims["sub"] == self.user and claims["exp"] > claims["iat"])

    # --- requests -------------------------------------------------------------------------------------------------

    def _load(self, body: dict[str, Any]) -> Answer:
        assert body["OperationName"] == "importBulkData"
        assert body["JobName"].endswith(",JournalImportLauncher")
        if self.refuses is not None:
            return Answer.of({"OperationName": "importBulkData", "ReqstId": "-1", "RequestStatus": self.refuses}, 201)
        _, source, _, group, *flags = next(csv.reader([body["ParameterList"]]))
        assert flags == ["N", "N", "N"]
        with zipfile.ZipFile(io.BytesIO(base64.b64decode(body["DocumentContent"], validate=True))) as archive:
            rows = list(csv.reader(io.StringIO(archive.read("GlInterface.csv").decode())))
        request = 10_000 + 10 * len(self.loads)
        due = time.monotonic() + self.takes_s
        self.loads.append(Load(request, due, [Line.of(row) for row in rows], source, group, body["JobOptions"]))
        told = str(request) if self.tells else None
        return Answer.of({"OperationName": "importBulkData", "ReqstId": told, "RequestStatus": None}, 201)

    def _run(self) -> None:
        for load in self.loads:
            if load.request in self.ended or load.due > time.monotonic():
                continue
            if self.loads_nothing is not None:
                self.ended[load.request] = [(load.request + 1, "Load File to Interface", "ERROR", self.loads_nothing)]
            else:
                self.interface += load.lines
                self.ended[load.request] = [
                    (load.request + 1, "Load File to Interface", "SUCCEEDED", ""),
                    *self._import(load),
                ]

    def _import(self, load: Load) -> Iterable[tuple[int, str, str, str]]:
        child = load.request + 3
        taken = [line for line in self.interface if (line.source, line.group) == (load.source, load.group)]
        late = [line for line in taken if f"{line.day:%Y-%m}" in self.closed]
        if not self.imports or not taken:
            return [(child, "Import Journals: Child", "SUCCEEDED", "No journal entry lines were selected.")]
        if late:  # one bad line makes the import hold back the whole group
            report = "".join(f"EP01   {line.source}   {line.day}   {line.currency}\n" for line in late)
            return [(child, "Import Journals: Child", "WARNING", report + KEY)]
        self.interface = [line for line in self.interface if line not in taken]
        number = len(self.journals) + 1
        for name in dict.fromkeys((line.journal, line.currency) for line in taken):
            lines = [line for line in taken if (line.journal, line.currency) == name]
            self.journals.append(self._journal(number, child, lines))
        return [(child, "Import Journals: Child", "SUCCEEDED", "")]

    def _journal(self, batch: int, child: int, lines: list[Line]) -> Journal:
        first = lines[0]
        return {
            "reference": first.journal,
            "debit": sum(line.debit for line in lines),
            "credit": sum(line.credit for line in lines),
            "posted": self.autoposts,
            "batch": batch,
            "batch_name": f"{first.batch} {first.source} A {first.group} {child} N",
            "source": first.source,
            "name": f"{first.journal[:25]} {first.category} {first.currency}",
            "period": self.moves_to or first.period,
        }

    def _asked(self, finder: str) -> Answer:
        name, _, rest = finder.partition(";")
        given = dict(pair.split("=", 1) for pair in rest.split(","))
        asked = int(given["requestId"])
        known = [load for load in self.loads if load.request == asked]
        jobs = self.ended.get(asked)
        if name == "ESSJobStatusRF":
            well = "SUCCEEDED" if self.loads_nothing is None else "ERROR"
            items = [{"RequestStatus": well if jobs else "RUNNING"}] if known else []
        elif name == "ESSExecutionDetailsRF":
            child = [{"REQUESTID": job[0], "JOBNAME": job[1], "STATUS": job[2]} for job in jobs or []]
            tree = {"JOBS": {"REQUESTID": asked, "JOBNAME": "Load", "STATUS": "SUCCEEDED", "CHILD": child}}
            items = [{"RequestStatus": json.dumps(tree)}]
        else:
            assert (name, given["fileType"]) == ("ESSJobExecutionDetailsRF", "ALL")
            # Only a submission that asks for all extract files keeps its reports, its import's included.
            kept = [load.request for load in self.loads if "ExtractFileType=ALL" in load.options.split(",")]
            reports = [job[3] for request in kept for job in self.ended.get(request, []) if job[0] == asked]
            items = [{"DocumentContent": base64.b64encode(zipped(report)).decode()} for report in reports]
        return Answer.of({"items": items, "hasMore": False})

    # --- journals -------------------------------------------------------------------------------------------------

    def _listed(self, path: str, query: dict[str, str]) -> Answer:
        if path == "/journalBatches":
            asked = re.fullmatch(r"UserJeSourceName = '((?:[^']|'')*)'", query["q"])
            if asked is None:
                return Answer(400, b"URL request parameter q cannot be used in this context.")
            source = asked[1].replace("''", "'")
            batches = dict.fromkeys(journal["batch"] for journal in self.journals if journal["source"] == source)
            items = [self._batch(number) for number in batches]
        else:
            number = int(re.fullmatch(r"/journalBatches/(\d+)/child/journalHeaders", path)[1])  # type: ignore[index]
            items = [
                {
                    "JournalName": journal["name"],
                    "PeriodName": journal["period"],
                    "RunningTotalDr": journal["debit"] / 100,
                    "RunningTotalCr": journal["credit"] / 100,
                }
                for journal in self.journals
                if journal["batch"] == number
            ]
        start, limit = int(query["offset"]), int(query["limit"])
        return Answer.of({"items": items[start : start + limit], "hasMore": len(items) > start + limit})

    def _batch(self, number: int) -> dict[str, Any]:
        journals = [journal for journal in self.journals if journal["batch"] == number]
        posted = all(journal["posted"] for journal in journals)
        return {
            "JeBatchId": number,
            "BatchName": journals[0]["batch_name"],
            "Status": "P" if posted else "U",
            "StatusMeaning": "Posted" if posted else "Unposted",
            "ApprovalStatusMeaning": "Not required",
        }


def zipped(report: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("report.txt", report)
    return file.getvalue()
