"""Oracle Fusion: the file-based import, ``importBulkData`` of the zip as one file; found by its journals' names.

Oracle accepts a file again that it has already loaded, so only the look-up prevents a second posting. It looks for
batches of our source by the name that the file gives them (Oracle extends it), and in them for journals whose names
begin with our references.

``importBulkData`` returns the id of a request that loads the file and then imports it. Its success proves nothing: the
import is a job below it, and only the journals count. One bad line makes an import hold back its whole interface group.
The lines stay in the interface, and a second try would import them again. So the rejection says that the group must be
deleted first. If the answer to a file was lost, nobody learns that its import was held back; the file is sent again
after ``settle_s``. Totals show a journal that is there twice or unbalanced, and it is rejected.

Documented: the address, ``importBulkData`` and its fields, ``journalBatches`` with its ``journalHeaders``, the refusal
of a query by an attribute that cannot be queried. Seen in working integrations: ``ReqstId`` (-1 for none), the finders
of requests, their reports, the batch's name (``NAME SOURCE A GROUP REQUEST N``), the order of the import's parameters.
Not certain, and therefore settings: parameters 1 and 3, the document account, job options, the query for batches
(``and`` and quotes are those of framework version 2 and later). To be tried in a sandbox: if every posted batch, and no
other, has status ``P``; if the import is below the load in the details of its request. If it is not, a failed import is
reported as journals that have not arrived within ``settle_s``. A user without access to the ledger's journals finds
none, so the channel's user needs this access.

Sources: Oracle, "REST API for Oracle Fusion Cloud Financials", Create an inbound or outbound set of data (24A), Get all
batches (24C), Set the REST framework version, Use JSON Web Token for Authorization (24B: header and claims); OCI IAM,
client credentials; General Ledger user guide, Journal Import execution report.
"""

from __future__ import annotations

import base64
import re
import time
from collections.abc import Iterator
from string import Formatter
from typing import Any, ClassVar, Final, NamedTuple
from urllib.parse import quote

import httpx

from projections.delivery.connectors import connector
from projections.delivery.connectors.bearer import BearerCalls, OAuthSettings, Token, fixed_token, signed, thumbprints
from projections.delivery.connectors.oracle_jobs import Job, errors_in, jobs_of
from projections.exports.formats import oracle
from subledger.errors import InvalidInput
from subledger.external import credentials
from subledger.external.calls import Unclear
from subledger.external.credentials import Credential

_REQUEST: Final = "ESS-"
"""Prefix of a request's id, so that it is not mistaken for a batch's id."""
_POSTED: Final = ("P", "Posted")
_PAGE: Final = 500
_PAGES: Final = 8
_REPORTS: Final = 3
_NO_REQUEST: Final = "-1"
_SIGNED_LASTS_S: Final = 600


class Settings(OAuthSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of a channel to Oracle.

    ``url``: of the instance. ``user`` with ``password``. Or ``user`` with ``issuer``, ``private_key`` and
    ``certificate`` (both in PEM): tokens that we sign, of an issuer whose certificate was uploaded in Oracle. Or
    ``token_url``, ``client_id``, ``client_secret`` and ``scope``: of a confidential application in the identity domain,
    whose tokens are renewed. Or ``token``: a bearer token that another program renews in its file.

    ``data_access_set``: its id. ``ledger_id``: needed if the format's settings have none. ``parameters``: of the
    import. ``batch_query``: for our batches. In these two, ``{source}`` and the other names in braces are filled in.
    ``resources``: the path of the REST resources. ``framework_version``: the version that requests name. The others are
    fields of ``importBulkData``.

    ``settle_s`` is longer than elsewhere, because an import may wait in Oracle's queue for a long time.
    """

    url: str
    user: str = ""
    password: Credential = ""
    token: Credential = ""
    issuer: str = ""
    private_key: Credential = ""
    certificate: Credential = ""
    data_access_set: str = "#NULL"
    ledger_id: str = ""
    parameters: str = "{data_access_set},{source},{ledger_id},{group_id},N,N,N"
    batch_query: str = "UserJeSourceName = '{source}'"
    document_account: str = "fin$/generalLedger$/import$"
    job: str = "/oracle/apps/ess/financials/generalLedger/programs/common,JournalImportLauncher"
    # ExtractFileType=ALL lets the reports of the import be read later. Without it a rejection has no reason. All five
    # working integrations that were found send it.
    job_options: str = "EnableEvent=Y,importOption=Y,purgeOption=Y,ExtractFileType=ALL"
    notification_code: str = "10"
    resources: str = "/fscmRestApi/resources/11.13.18.05"
    framework_version: str = "4"
    settle_s: float = 6 * 3_600.0

    def check(self) -> None:
        connector.check_url(self.url)
        self.check_client()
        signs = {name: getattr(self, name) for name in ("private_key", "certificate", "issuer")}
        if any(signs.values()) and not all((*signs.values(), self.user)):
            missing = next((name for name, value in signs.items() if not value), "user")
            raise InvalidInput(
                "a signed token needs a user, an issuer, a certificate and its private key",
                field=missing,
                expected="all of them",
            )
        ways = (self.user and self.password, self.client_id, self.private_key, self.token)
        if sum(map(bool, ways)) != 1 or (self.user and not (self.password or self.private_key)):
            raise InvalidInput(
                "a channel to Oracle needs a user with a password or a signed token, an OAuth client, or a token",
                field="password",
                expected="one of them",
            )
        if re.fullmatch("[0-9]{1,3}", self.framework_version, re.ASCII) is None:
            raise InvalidInput(
                "framework_version must be a number",
                field="framework_version",
                expected="such as 4",
                found=self.framework_version[:60],
            )
        _filled("parameters", self.parameters, dict.fromkeys(_PARAMETERS, ""), needed=("source", "group_id"))
        _filled("batch_query", self.batch_query, dict.fromkeys(_QUERY, ""), needed=("source",))


_PARAMETERS: Final = ("data_access_set", "source", "ledger_id", "group_id")
_QUERY: Final = ("source", "period", "batch")


class Header(NamedTuple):
    """A journal in Oracle, with its batch."""

    batch: dict[str, Any]
    header: dict[str, Any]

    @property
    def posted(self) -> bool:
        return self.batch.get("Status") in _POSTED


class Oracle(connector.Connector):
    """See the module."""

    name: ClassVar[str] = "oracle"
    formats: ClassVar[tuple[str, ...]] = ("oracle-fbdi",)
    by_document: ClassVar[bool] = False
    settings_type: ClassVar[type[connector.ChannelSettings]] = Settings

    def look_up(self, shipment: connector.Shipment) -> connector.Found | None:
        jobs = self._jobs(shipment.erp_id)
        for job in jobs:
            if not job.ended:
                return connector.Found(erp_id=shipment.erp_id or "", state="accepted", reason=f"{job} is {job.status}")
        # The journals are read after the jobs: an ended job creates no more journals.
        journals = self._journals(shipment)
        missing = [document.reference for document in shipment.documents if document.reference not in journals]
        if not missing:
            return _found(shipment, journals)
        failed = [job for job in jobs if job.failed]
        if not journals and not failed and not any(job.imports for job in jobs):
            return None
        reasons = [f"there is no journal {', '.join(missing)}"]
        if journals:
            reasons.append(f"but there is {', '.join(journals)}: reverse or delete that before a retry")
        reasons += [f"{job} ended as {job.status}" for job in failed]
        reasons += self._errors(failed)
        reasons.append(f"delete what is left of interface group {oracle.group_id(shipment.rendering)} before a retry")
        return connector.Found(
            erp_id=_batches(journals) or shipment.erp_id or "", state="discarded", reason="; ".join(reasons)
        )

    def submit(self, shipment: connector.Shipment) -> connector.Accepted | connector.Rejected:
        settings: Settings = self.settings
        target = _target(shipment)
        values = {
            "data_access_set": settings.data_access_set,
            "source": target.source,
            "group_id": str(oracle.group_id(shipment.rendering)),
            "ledger_id": target.ledger_id or settings.ledger_id or "#NULL",
        }
        quoted = {name: f'"{value}"' if "," in value else value for name, value in values.items()}
        answer = self._call(
            "POST",
            "/erpintegrations",
            json={
                "OperationName": "importBulkData",
                "DocumentContent": base64.b64encode(shipment.payload).decode(),
                "ContentType": "zip",
                "FileName": shipment.reference,
                "DocumentAccount": settings.document_account,
                "JobName": settings.job,
                "ParameterList": _filled("parameters", settings.parameters, quoted),
                "CallbackURL": "#NULL",
                "NotificationCode": settings.notification_code,
                "JobOptions": settings.job_options,
            },
        )
        if answer.status_code >= 400:
            return connector.Rejected(reason=_refusal(answer))
        request = str(answer.json()["ReqstId"])
        if request == _NO_REQUEST:
            return connector.Rejected(reason=f"Oracle has started no request for the file: {_short(answer)}")
        if not request.isdecimal():
            raise Unclear(f"Oracle does not say which request loads the file: {_short(answer)}")
        return connector.Accepted(erp_id=f"{_REQUEST}{request}")

    # --- the requests ---------------------------------------------------------------------------------------------

    def _jobs(self, erp_id: str | None) -> list[Job]:
        """Returns the request of a submission, and the jobs below it. There are none if the id is not a request's, or
        if Oracle no longer knows the request.
        """
        request = (erp_id or "").removeprefix(_REQUEST)
        if request == erp_id or not request:
            return []
        found = self._find(f"ESSJobStatusRF;requestId={request}")
        if not found:
            return []
        submitted = Job.of(request, "", found[0]["RequestStatus"])
        details = self._find(f"ESSExecutionDetailsRF;requestId={request}") if submitted.ended else []
        children = jobs_of(details[0]["RequestStatus"]) if details else []
        return [submitted, *(job for job in children if job.request != request)]

    def _find(self, finder: str) -> list[dict[str, Any]]:
        return self._items("/erpintegrations", f"finder={finder}&onlyData=true")[0]

    def _errors(self, failed: list[Job]) -> list[str]:
        """Returns the errors in the reports of failed jobs, as far as these can be read."""
        messages: dict[str, None] = {}
        for job in sorted(failed, key=lambda job: job.imports, reverse=True)[:_REPORTS]:
            try:
                found = self._find(f"ESSJobExecutionDetailsRF;requestId={job.request},fileType=ALL")
            except Unclear:
                continue
            for report in found:
                messages |= dict.fromkeys(errors_in(report.get("DocumentContent") or ""))
        return list(messages)

    # --- the journals ---------------------------------------------------------------------------------------------

    def _journals(self, shipment: connector.Shipment) -> dict[str, list[Header]]:
        """Returns the journals that are in Oracle, by our reference."""
        named = oracle.batch_name(shipment.journal)
        journals: dict[str, list[Header]] = {}
        for batch in self._all("/journalBatches", f"q={quote(self._query(shipment))}&"):
            if not _has_prefix(batch["BatchName"], named):
                continue
            for header in self._all(f"/journalBatches/{int(batch['JeBatchId'])}/child/journalHeaders", ""):
                for document in shipment.documents:
                    if _has_prefix(header["JournalName"], document.reference):
                        journals.setdefault(document.reference, []).append(Header(batch, header))
        return journals

    def _query(self, shipment: connector.Shipment) -> str:
        target = _target(shipment)
        period = shipment.journal.posting_date.strftime(target.period_name)
        values = {"source": target.source, "period": period, "batch": oracle.batch_name(shipment.journal)}
        safe = {name: value.replace("'", "''") for name, value in values.items()}
        return _filled("batch_query", self.settings.batch_query, safe)

    def _all(self, path: str, query: str) -> Iterator[dict[str, Any]]:
        for page in range(_PAGES):
            items, more = self._items(path, f"{query}onlyData=true&limit={_PAGE}&offset={page * _PAGE}")
            yield from items
            if not more:
                return
        raise Unclear(f"Oracle has more than {_PAGE * _PAGES} of {path}: let batch_query ask for fewer")

    def _items(self, path: str, query: str) -> tuple[list[dict[str, Any]], bool]:
        answer = self._call("GET", f"{path}?{query}")
        if answer.status_code != 200:
            raise Unclear(f"Oracle gave no clear answer: {_refusal(answer)}")
        content = answer.json()
        return content["items"], content.get("hasMore", False)

    def _call(self, method: str, path: str, **more: Any) -> httpx.Response:
        settings: Settings = self.settings
        headers = {"REST-Framework-Version": settings.framework_version}
        url = settings.url.rstrip("/") + settings.resources.rstrip("/") + path
        if settings.password:
            auth = (settings.user, credentials.read(settings.password))
            return self.calls.send(method, url, headers=headers, auth=auth, **more)
        return BearerCalls(self.calls, self.session, self._new_token).send(method, url, headers=headers, **more)

    def _new_token(self) -> Token:
        settings: Settings = self.settings
        if settings.client_id:
            return settings.client_token(self.calls, "Oracle")
        return self._signed() if settings.private_key else fixed_token(settings.token)

    def _signed(self) -> Token:
        """Returns a token that we sign ourselves, which Oracle checks by the certificate that was uploaded there."""
        settings: Settings = self.settings
        now = int(time.time())
        claims = {
            "iss": settings.issuer,
            "prn": settings.user,
            "sub": settings.user,
            "iat": now,
            "exp": now + _SIGNED_LASTS_S,
        }
        thumbprint = {"x5t": thumbprints(settings.certificate)["x5t"]}
        token = signed(self.calls, claims, settings.private_key, algorithm="RS256", headers=thumbprint)
        return token, _SIGNED_LASTS_S / 2


def _target(shipment: connector.Shipment) -> oracle.Settings:
    return shipment.settings_as(oracle.Settings)


def _found(shipment: connector.Shipment, by_reference: dict[str, list[Header]]) -> connector.Found:
    """Returns the state of all documents of a file in Oracle: posted if all of them are posted."""
    journals = [header for headers in by_reference.values() for header in headers]
    batches = {str(batch["JeBatchId"]): batch for batch, _ in journals}
    erp_id = _batches(by_reference)
    requested = shipment.journal.posting_date.strftime(_target(shipment).period_name)
    elsewhere = sorted({str(header["PeriodName"]) for _, header in journals} - {requested}) if requested else []
    if elsewhere:
        return connector.Found(
            erp_id=erp_id,
            state="discarded",
            reason=f"Oracle has put it into period {', '.join(elsewhere)}, not {requested}: reverse or move it there",
        )
    totals = {}
    for document in shipment.documents:
        sums = [(header["RunningTotalDr"], header["RunningTotalCr"]) for _, header in by_reference[document.reference]]
        if not any(None in pair for pair in sums):
            totals[document.reference] = connector.Total(
                debit_minor=sum(connector.minor_of(debit, document.currency) for debit, _ in sums),
                credit_minor=sum(connector.minor_of(credit, document.currency) for _, credit in sums),
            )
    posted = all(header.posted for header in journals)
    waits = [_waiting_reason(batch) for batch in batches.values() if batch.get("Status") not in _POSTED]
    return connector.Found(
        erp_id=erp_id,
        state="posted" if posted else "accepted",
        totals=totals,
        reason=None if posted else "; ".join(waits),
    )


def _batches(journals: dict[str, list[Header]]) -> str:
    return ", ".join(dict.fromkeys(str(batch["JeBatchId"]) for headers in journals.values() for batch, _ in headers))


def _waiting_reason(batch: dict[str, Any]) -> str:
    texts = (batch.get(name) for name in ("StatusMeaning", "ApprovalStatusMeaning", "ErrorMessage"))
    return f"batch {batch['BatchName']} is not posted: {', '.join(str(text) for text in texts if text)}"


def _has_prefix(name: str, prefix: str) -> bool:
    """True if a name in Oracle is the given prefix, or the prefix, a space, and more."""
    return name == prefix or name.startswith(f"{prefix} ")


def _filled(field: str, template: str, values: dict[str, str], *, needed: tuple[str, ...] = ()) -> str:
    """Fills in the names in the braces of a setting.

    Only plain names are allowed. A width, as in ``{source:>999}``, could use up memory. Raises InvalidInput.
    """
    text, missing = "", []
    try:
        pieces = list(Formatter().parse(template))
        named = {name for _, name, _, _ in pieces if name is not None}
        if not named <= {*values} or any(form or conversion for _, _, form, conversion in pieces):
            raise ValueError(template)
        text = "".join(literal + ("" if name is None else values[name]) for literal, name, _, _ in pieces)
        missing = [name for name in needed if name not in named]
    except ValueError:
        missing = list(values)
    if missing:
        raise InvalidInput(
            f"{field} cannot be filled in",
            field=field,
            found=template[:200],
            expected=", ".join(f"{{{name}}}" for name in missing),
        )
    return text


def _refusal(answer: httpx.Response) -> str:
    return f"{answer.status_code} {_short(answer)}"


def _short(answer: httpx.Response) -> str:
    return answer.text[:500]
