"""Reading back in tests: journals, reports as objects, over HTTP and as text, and files by their kind."""

from __future__ import annotations

import csv
import io
import re
import stat
import zipfile
from pathlib import Path
from typing import Any

from fastapi.testclient import TestClient

from api.service import Subledger
from api.shapes import reports
from projections.journals.journal import Journal
from projections.journals.making import ensure_journals
from projections.journals.stored_journals import journals_of
from projections.report import Report, Table
from subledger.periods import Period


def all_journals(service: Subledger, ledger: str) -> tuple[Journal, ...]:
    """Every journal of a ledger, in order."""
    with service.database.read() as connection:
        return journals_of(connection, ledger)


def journals_made(service: Subledger, ledger: str, *months: Period) -> tuple[Journal, ...]:
    """The journals of a ledger, after those of these months were made."""
    for month in months:
        ensure_journals(service.recorder, service.database, ledger, month)
    return all_journals(service, ledger)


def report_of(service: Subledger, ledger: str, name: str, **question: Any) -> Report:
    with reports.answer(service, ledger, name, reports.ReportQuery(**question)) as (report, _, _):
        return report


def rows_of(table: Table) -> list[dict[str, Any]]:
    """A report's rows, by the names of their columns."""
    return [dict(zip((column.name for column in table.columns), row, strict=True)) for row in table.rows]


def table_of(report: Report, name: str) -> list[dict[str, Any]]:
    """The rows of one table of a report, by the names of their columns."""
    return next(rows_of(table) for table in report.tables if table.name == name)


def get_report(client: TestClient, ledger: str, name: str, /, **question: Any) -> dict[str, Any]:
    """A report over HTTP, which must tie out."""
    answer = client.get(f"/v1/ledgers/{ledger}/reports/{name}", params=question)
    assert answer.status_code == 200, answer.text
    document: dict[str, Any] = answer.json()
    assert document["ties_out"] is True, document["ties"]
    return document


def columns_of(rows: list[dict[str, Any]], *columns: str) -> str:
    """Some columns of some rows as text, the way ``lines_of`` writes an expectation: a dash for nothing."""
    return "\n".join("  ".join(str(row[name] or "-") for name in columns) for row in rows)


def lines_of(text: str) -> str:
    """An expectation, however it is indented and aligned: cells are two spaces or more apart."""
    return "\n".join(re.sub(r"\s{2,}", "  ", line.strip()) for line in text.strip().splitlines())


def csv_rows(content: bytes, delimiter: str = ",") -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(content.decode(), newline=""), delimiter=delimiter))


def zip_members(file: bytes) -> dict[str, bytes]:
    """The files of an archive, whose bytes do not depend on when it was written."""
    with zipfile.ZipFile(io.BytesIO(file)) as archive:
        assert archive.testzip() is None
        assert {member.date_time for member in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        return {name: archive.read(name) for name in archive.namelist()}


def mode_of(path: Path) -> int:
    """A file's permissions."""
    return stat.S_IMODE(path.stat().st_mode)
