"""Exports: a repeated export has the same bytes, and never a file that differs from the exported one."""

from __future__ import annotations

import hashlib

import pytest

from api.service import Subledger
from projections.exports.exporting import export
from projections.exports.exports import content_of, get_export, journal_behind, list_exports
from subledger.errors import IntegrityFault, NotSupportedYet, UnknownExport, UnknownFormat
from subledger.store.database import Database
from tests.building import recorded
from tests.store.closed_months import JANUARY, MARCH, a_quarter, buy, query, state, use
from tests.store.tampering import past_triggers


@pytest.mark.parametrize(
    ("format", "detail"),
    [("csv", False), ("json", False), ("beancount", False), ("hledger", False), ("beancount", True), ("hledger", True)],
)
def test_asking_again_gives_the_same_export_and_the_same_bytes(
    service: Subledger, database: Database, ledger: str, format: str, detail: bool
) -> None:
    a_quarter(service, ledger)
    first = export(service.recorder, database, ledger, JANUARY, format, detail=detail)
    contents = [b"".join(content_of(database, one)) for one in first]
    recorded(
        service, ledger, use("u9", "3", time="2026-01-31T00:00:00Z", customer="cust-3")
    )  # is booked in April; January does not change
    again = export(service.recorder, database, ledger, JANUARY, format, detail=detail)
    assert again == first
    assert [b"".join(content_of(database, one)) for one in again] == contents
    assert [hashlib.sha256(content).hexdigest() for content in contents] == [one.content_hash for one in first]
    extension = {"csv": "csv", "json": "json", "beancount": "beancount", "hledger": "journal"}[format]
    suffix = "-detail" if detail else ""
    assert [one.export_id for one in first] == [f"{ledger}-2026-01-{n}-{format}{suffix}" for n in (1, 2, 3)]
    assert [one.filename for one in first] == [f"{one.export_id}.{extension}" for one in first]
    with database.read() as connection:
        assert get_export(connection, ledger, first[1].export_id) == first[1]
        assert list_exports(connection, ledger, period=JANUARY) == list(first)
        assert list_exports(connection, ledger, after=first[0].export_id, limit=1) == [first[1]]
        assert list_exports(connection, ledger, period=MARCH) == []
        assert journal_behind(connection, first[2]).number == 3
    kept = query(database, "SELECT content IS NULL FROM journal_exports WHERE ledger = %(ledger)s", ledger)
    assert kept == [(detail,)] * 3


def test_an_unknown_format_or_a_detail_that_it_has_not_is_told_before_anything_is_cut(
    service: Subledger, database: Database, ledger: str
) -> None:
    recorded(service, ledger, buy("b1"))
    with pytest.raises(UnknownFormat):
        export(service.recorder, database, ledger, JANUARY, "pdf")
    with pytest.raises(NotSupportedYet):
        export(service.recorder, database, ledger, JANUARY, "csv", detail=True)
    assert state(database, ledger)[1] == 1
    with database.read() as connection, pytest.raises(UnknownExport):
        get_export(connection, ledger, "nothing")


@pytest.mark.parametrize("detail", [False, True])
def test_an_export_that_is_not_what_was_handed_over_is_refused(
    service: Subledger, database: Database, ledger: str, owner_url: str, detail: bool
) -> None:
    recorded(service, ledger, buy("b1"))
    (one,) = export(service.recorder, database, ledger, JANUARY, "hledger", detail=detail)
    changed = "content_hash = 'x'" if detail else "content = content || '\\x20'"
    with past_triggers(owner_url, "journal_exports") as connection:
        connection.execute(f"UPDATE journal_exports SET {changed} WHERE ledger = %s", (ledger,))
    with database.read() as connection:
        one = get_export(connection, ledger, one.export_id)
    with pytest.raises(IntegrityFault, match="is not the file that was handed over"):
        list(content_of(database, one))
