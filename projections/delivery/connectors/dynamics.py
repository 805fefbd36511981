"""Dynamics 365 Finance: one file, the data package, imported by the package API; found by its journals' descriptions.

Uploading the package has no effect; the call of ``ImportFromPackage`` has. We choose the id of the execution: the
export, a hash of the package, and the first number that no execution has. So an import without an answer can be found,
and a failed import can be tried again under another id.

Dynamics does not refuse a package that was imported before, so the look-up must find it. An execution that *Succeeded*
may have imported nothing, and it posts nothing. So only the journals prove an import: they are found by the description
of their headers, their lines by the document column, and their state by ``IsPosted``. Two imports at the same time
fail, so only one worker should serve the channel.

Documented: the actions, their bodies and statuses; the token; ``cross-company``. Seen in working integrations: the
header of an upload, status 400 with *not found* for unknown ids, the text of errors, the fields of
``LedgerJournalHeaders`` and ``LedgerJournalLines``. To be tried in a sandbox: if both entities still show posted
journals; the length of an execution's id (60 here); if an import checks the period. Without this check a journal of a
closed period is accepted, and not posted until the period is open.

Sources: Microsoft, "Data management package REST API" (data-management-api), "Open Data Protocol (OData)" on cross-
company queries and server-driven paging, "Service protection API limits", Microsoft identity platform, client
credentials.
"""

from __future__ import annotations

import csv
import hashlib
import io
import zipfile
from collections.abc import Iterable, Iterator
from typing import Any, ClassVar, Final, NamedTuple
from urllib.parse import unquote

import msgspec

from projections.delivery.connectors import connector
from projections.delivery.connectors.dynamics_api import DynamicsApi, Settings, refusal, value_of
from projections.exports.documents import TargetLimits, short_name
from projections.exports.formats import dynamics
from subledger.external.calls import Calls, NotSent, Unclear

_WAITING: Final = frozenset({"NotRun", "Executing"})
_FAILED: Final = frozenset({"Failed", "Canceled"})
_NOT_KNOWN: Final = ("Unknown", "")
_IDS: Final = TargetLimits(lines=0, text=0, reference=45)
_EXECUTIONS: Final = 9
_ERRORS: Final = 5

_errors: Final = msgspec.json.Decoder(list[dict[str, Any]])


class Execution(NamedTuple):
    """An import that was requested under our id."""

    name: str
    status: str


class Package(NamedTuple):
    """A package to upload, and the id that its import will have."""

    url: str
    execution: str


class Dynamics(connector.Connector):
    """See the module."""

    name: ClassVar[str] = "dynamics"
    formats: ClassVar[tuple[str, ...]] = ("dynamics-csv",)
    by_document: ClassVar[bool] = False
    settings_type: ClassVar[type[connector.ChannelSettings]] = Settings

    def __init__(self, settings: Any, calls: Calls, session: dict[str, Any]) -> None:
        super().__init__(settings, calls, session)
        self._api = DynamicsApi(settings, calls, session)
        self._free = ""
        self._package: Package | None = None

    def look_up(self, shipment: connector.Shipment) -> connector.Found | None:
        executions = list(self._executions(shipment))
        last = executions[-1] if executions else None
        if last is not None and last.status in _WAITING:
            return connector.Found(
                erp_id=last.name, state="accepted", reason=f"the import {last.name} is {last.status}"
            )
        # The journals are read after the import's state: an ended import creates no more journals.
        headers = self._journals(shipment)
        lines = self._lines(headers)
        missing = [document.reference for document in shipment.documents if document.reference not in lines]
        if not missing:
            return _found(shipment, headers, lines)
        if not headers and not _is_of(shipment, last):
            return None
        names = ", ".join(missing[:_ERRORS]) + (f" and {len(missing) - _ERRORS} more" if missing[_ERRORS:] else "")
        reasons = [f"there is no voucher of {names}"]
        if headers:
            reasons.append(f"but there is journal {', '.join(headers)}: delete or reverse it before a retry")
        if last is not None:
            reasons += [f"the import {last.name} is {last.status}", *self._messages_of(last)]
        erp_id = ", ".join(headers) or (last.name if last is not None else "")
        return connector.Found(erp_id=erp_id, state="discarded", reason="; ".join(reasons))

    def prepare(self, shipment: connector.Shipment) -> None:
        if not self._free:
            raise NotSent(f"{_EXECUTIONS} imports of it have come to nothing: look into Dynamics' data management")
        answer = self._api.act("GetAzureWriteUrl", uniqueFileName=f"{self._free}.zip")
        if answer.status_code != 200:
            raise NotSent(f"Dynamics gives no place for the package: {refusal(answer)}")
        url = str(msgspec.json.decode(value_of(answer))["BlobUrl"])
        self._hide_signature(url)
        connector.check_url(url, field="BlobUrl", query=True)
        put = self.calls.send(
            "PUT",
            url,
            content=shipment.payload,
            headers={"x-ms-blob-type": "BlockBlob", "Content-Type": shipment.content_type},
        )
        if put.status_code >= 400:
            raise NotSent(f"the package cannot be uploaded: {refusal(put)}")
        self._package = Package(url, self._free)

    def submit(self, shipment: connector.Shipment) -> connector.Accepted | connector.Rejected:
        if self._package is None:
            raise NotSent("nothing was uploaded")
        answer = self._api.act(
            "ImportFromPackage",
            packageUrl=self._package.url,
            executionId=self._package.execution,
            execute=True,
            overwrite=True,
            definitionGroupId=_target(shipment).definition_group,
            legalEntityId=dynamics.company(shipment.rendering),
        )
        if answer.status_code >= 400:
            return connector.Rejected(reason=refusal(answer))
        if value_of(answer) != self._package.execution:
            raise Unclear(f"Dynamics has taken {self._package.execution} as {value_of(answer)}")
        return connector.Accepted(erp_id=self._package.execution)

    # --- imports --------------------------------------------------------------------------------------------------

    def _executions(self, shipment: connector.Shipment) -> Iterator[Execution]:
        """The imports of this package, oldest first. The next number is free."""
        self._free = ""
        digest = hashlib.sha256(shipment.payload).hexdigest()[:10]
        for number in range(1, _EXECUTIONS + 1):
            name = f"{short_name(shipment.export_id, _IDS)}-{digest}-{number}"
            status = self._status(name)
            if status is None:
                self._free = name
                return
            yield Execution(name, status)

    def _status(self, name: str) -> str | None:
        answer = self._api.act("GetExecutionSummaryStatus", executionId=name)
        if answer.status_code == 400 and "not found" in answer.text.lower():
            return None
        if answer.status_code != 200:
            raise Unclear(f"Dynamics gave no clear answer: {refusal(answer)}")
        status = value_of(answer)
        return None if status in _NOT_KNOWN else status

    def _messages_of(self, execution: Execution) -> list[str]:
        """The errors of an import, as far as Dynamics returns them."""
        try:
            answer = self._api.act("GetExecutionErrors", executionId=execution.name)
            errors = _errors.decode(value_of(answer) or "[]") if answer.status_code == 200 else []
        except (Unclear, ValueError, LookupError, TypeError):
            return []
        messages = dict.fromkeys(str(error.get("ErrorMessage") or "") for error in errors)
        return [text for text in messages if text][:_ERRORS]

    # --- journals -------------------------------------------------------------------------------------------------

    def _journals(self, shipment: connector.Shipment) -> dict[str, dict[str, Any]]:
        """The headers of our journals, by their numbers in Dynamics."""
        company = dynamics.company(shipment.rendering)
        found = [
            header
            for batch in dynamics.batches(shipment.rendering)
            for header in self._api.records("LedgerJournalHeaders", dataAreaId=company, Description=batch.description)
        ]
        return {str(header["JournalBatchNumber"]): header for header in found}

    def _lines(self, headers: dict[str, dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
        """The lines of these journals, by their documents."""
        lines: dict[str, list[dict[str, Any]]] = {}
        for number, header in headers.items():
            company = str(header["dataAreaId"])
            for line in self._api.records("LedgerJournalLines", dataAreaId=company, JournalBatchNumber=number):
                lines.setdefault(str(line["Document"]), []).append(line)
        return lines

    def _hide_signature(self, url: str) -> None:
        """Hides the address of an upload from logs: whoever has it can write there."""
        query = url.partition("?")[2]
        self.calls.hide(query)
        for pair in query.split("&"):
            name, _, value = pair.partition("=")
            if name == "sig":
                self.calls.hide(value)
                self.calls.hide(unquote(value))


def _target(shipment: connector.Shipment) -> dynamics.Settings:
    return shipment.settings_as(dynamics.Settings)


def _is_of(shipment: connector.Shipment, last: Execution | None) -> bool:
    """True if an ended import that left nothing is the one of this attempt.

    An attempt without an answer has no id. For it, only an import that did not fail counts: its journals may be there
    although the look-up does not find them. An import that failed and left nothing can be sent again without harm.
    """
    if last is None:
        return False
    return shipment.erp_id is not None or (shipment.unknown and last.status not in _FAILED)


def _found(
    shipment: connector.Shipment, headers: dict[str, dict[str, Any]], lines: dict[str, list[dict[str, Any]]]
) -> connector.Found:
    """Returns the state of all documents of a package in Dynamics: posted if all their journals are posted."""
    totals = {
        document.reference: connector.Total(
            debit_minor=sum(
                connector.minor_of(line["DebitAmount"], document.currency) for line in lines[document.reference]
            ),
            credit_minor=sum(
                connector.minor_of(line["CreditAmount"], document.currency) for line in lines[document.reference]
            ),
        )
        for document in shipment.documents
    }
    waiting = [number for number, header in headers.items() if header["IsPosted"] not in ("Yes", True)]
    return connector.Found(
        erp_id=", ".join(headers),
        totals=totals,
        accounts=_accounts(shipment, lines),
        state="accepted" if waiting else "posted",
        reason=f"journal {', '.join(waiting)} is not posted" if waiting else None,
    )


def _accounts(shipment: connector.Shipment, lines: dict[str, list[dict[str, Any]]]) -> dict[str, connector.Accounts]:
    """Returns the sums by account, of the documents whose accounts Dynamics shows."""
    sent: dict[str, list[dict[str, str]]] = {}
    with zipfile.ZipFile(io.BytesIO(shipment.payload)) as package:
        for name in [name for name in package.namelist() if name.endswith(".csv")]:
            for row in csv.DictReader(io.StringIO(package.read(name).decode("utf-16"), newline="")):
                sent.setdefault(row["DOCUMENT"], []).append(row)

    def moved(records: Iterable[dict[str, Any]], account: str, sides: tuple[str, str], currency: str) -> Any:
        return connector.by_account(
            (str(record[account]), side == sides[0], connector.minor_of(record[side], currency))
            for record in records
            for side in sides
        )

    return {
        document.reference: connector.Accounts(
            sent=moved(
                sent.get(document.reference, []),
                "ACCOUNTDISPLAYVALUE",
                ("DEBITAMOUNT", "CREDITAMOUNT"),
                document.currency,
            ),
            found=moved(
                lines[document.reference], "AccountDisplayValue", ("DebitAmount", "CreditAmount"), document.currency
            ),
        )
        for document in shipment.documents
        if all("AccountDisplayValue" in line for line in lines[document.reference])
    }
