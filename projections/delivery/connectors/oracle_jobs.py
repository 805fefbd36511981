"""Jobs of Oracle's scheduler: their results and errors, from the answers of the finders of ``erpintegrations``.

Owns: reading these answers. Does not own: the calls, and the state of the delivery (oracle).
"""

from __future__ import annotations

import base64
import binascii
import io
import re
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Final, NamedTuple

import msgspec

# zipfile raises RuntimeError for a member with a password, and NotImplementedError for an unknown compression.
_NOT_READ: Final = (binascii.Error, zipfile.BadZipFile, RuntimeError, NotImplementedError)
_ENDED: Final = frozenset(
    {
        "SUCCEEDED", "WARNING", "ERROR", "FAILED", "CANCELLED", "CANCELED", "EXPIRED", "FINISHED", "ABORTED",
        "VALIDATION_FAILED", "ERROR_MANUAL_RECOVERY",
    }
)  # fmt: skip
_WELL: Final = frozenset({"SUCCEEDED", "FINISHED"})


class Job(NamedTuple):
    """One request of the scheduler. ``status`` is in capitals. A request with an unknown status counts as running."""

    request: str
    name: str
    status: str

    @classmethod
    def of(cls, request: object, name: object, status: object) -> Job:
        return cls(str(request), str(name or ""), str(status).strip().upper().replace(" ", "_"))

    @property
    def ended(self) -> bool:
        return self.status in _ENDED

    @property
    def failed(self) -> bool:
        return self.ended and self.status not in _WELL

    @property
    def imports(self) -> bool:
        """True for the journal import: ``Import Journals: Child``, ``JournalImport``."""
        name = self.name.replace(" ", "").lower()
        return "importjournals" in name or "journalimport" in name

    def __str__(self) -> str:
        return f"request {self.request} {self.name}".rstrip()


def jobs_of(details: str) -> list[Job]:
    """Returns the jobs in an answer of ``ESSExecutionDetailsRF``. Raises ValueError if it is not JSON."""
    return list(_below(msgspec.json.decode(details)))


def _below(node: Any) -> Iterator[Job]:
    """Yields the jobs of a node. Jobs are nested in ``JOBS`` and ``CHILD``, alone or in lists."""
    if isinstance(node, list):
        for each in node:
            yield from _below(each)
    elif isinstance(node, dict):
        if node.get("REQUESTID"):
            yield Job.of(node["REQUESTID"], node.get("JOBNAME"), node.get("STATUS"))
        for name in ("JOBS", "CHILD"):
            yield from _below(node.get(name))


def errors_in(document: str) -> list[str]:
    """Returns the errors in the reports of a job, from the zip in an answer of ``ESSJobExecutionDetailsRF``.

    There are none if the zip cannot be read.
    """
    messages: list[str] = []
    with suppress(*_NOT_READ), zipfile.ZipFile(io.BytesIO(base64.b64decode(document, validate=True))) as archive:
        for name in archive.namelist():
            messages += _reasons(archive.read(name).decode(errors="replace"))
    return messages


def _reasons(report: str) -> Iterator[str]:
    """Yields the error codes in the lines of a report, with their texts from the key of the report.

    The key lists all codes, not only those that occurred. A report without codes yields its database errors.
    """
    lines, _, key = report.partition("Error Key")
    codes = sorted(set(re.findall(r"^\s*([EW][A-Z]\d\d)\b", lines, re.MULTILINE)))
    for code in codes:
        text = re.search(rf"^\s*{code}\s+(\S.*)$", key, re.MULTILINE)
        yield f"{code} {text[1].strip()}" if text else code
    if not codes:
        yield from re.findall(r"ORA-\d+[^\n]{0,200}", lines)[:3]
