"""Exported journals and approvals agree with the log: a changed row is found and named."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import psycopg
import pytest
from msgspec.structs import asdict, replace

from api.service import Subledger
from projections.account_mapping.mapping import GLAccount
from projections.configuring.account_mappings import adopt_mapping
from projections.exports.exporting import export
from projections.journals.journal import Journal, JournalCorrection
from projections.journals.pairs import LEVELS, Level, pairs_of
from projections.journals.reversing import reverse_journal
from projections.journals.stored_journals import journal_of, journals_of
from subledger.errors import IntegrityFault
from subledger.events.own_data import Approvals
from subledger.ledger_settings import LedgerSettings
from subledger.periods import Period
from subledger.store.tables import HANDED_OVER
from tests.building import cloud_event, purchase
from tests.charts import another_chart
from tests.conftest import NewLedger
from tests.store.tampering import LEDGER, differences, past_triggers

JANUARY, FEBRUARY = Period(2026, 1), Period(2026, 2)


@pytest.fixture
def handed_over(own: tuple[Subledger, str]) -> tuple[Subledger, str]:
    """Two journals of an open month and one of a closed one, in two formats."""
    service, url = own
    for block in ("late-1", "late-2"):
        service.record(LEDGER, [buy(block, customer="c1", time="2026-02-27")])
        export(service.recorder, service.database, LEDGER, FEBRUARY, "csv")
    for format in ("csv", "beancount"):
        export(service.recorder, service.database, LEDGER, JANUARY, format)
    export(service.recorder, service.database, LEDGER, JANUARY, "beancount", detail=True)
    assert differences(service) == []
    return service, url


buy = partial(purchase, credits="3", price="9.99")


def _change(url: str, statement: str) -> None:
    with past_triggers(url, *HANDED_OVER, "approvals") as connection:
        assert connection.execute(statement).rowcount >= 1


OF_FEBRUARY = "WHERE period = '2026-02' AND number = 2"


@pytest.mark.campaign
@pytest.mark.parametrize(
    ("statement", "subject"),
    [
        (f"UPDATE journals SET lines = replace(lines, '999', '998') {OF_FEBRUARY}", "2026-02"),
        (f"UPDATE journals SET lines = '[]' {OF_FEBRUARY}", "2026-02"),
        (f"UPDATE journals SET lines = 'x' {OF_FEBRUARY}", "2026-02"),
        (f"UPDATE journals SET content_hash = 'x' {OF_FEBRUARY}", "2026-02"),
        (f"UPDATE journals SET mapping = 2 {OF_FEBRUARY}", "2026-02"),
        (f"UPDATE journals SET from_cut = from_cut - 1 {OF_FEBRUARY}", "2026-02"),
        (f"UPDATE journals SET to_cut = to_cut + 1 {OF_FEBRUARY}", "2026-02"),
        (f"UPDATE journals SET number = 3 {OF_FEBRUARY}", "2026-02"),
        (f"UPDATE journals SET period = '2026-03' {OF_FEBRUARY}", "2026-03"),
        (f"UPDATE journals SET period = 'x' {OF_FEBRUARY}", "x"),
        ("DELETE FROM journals WHERE period = '2026-02' AND number = 1", "2026-02-2"),
    ],
)
def test_a_journal_that_was_changed_is_found(handed_over: tuple[Subledger, str], statement: str, subject: str) -> None:
    service, url = handed_over
    _change(url, statement)
    assert ("journals", subject) in [(d.check, d.subject) for d in differences(service)]


@pytest.mark.campaign
@pytest.mark.parametrize(
    ("field", "message"),
    [
        ("amount_minor", "differs from its entries: prepaid_liability credit USD paid"),
        ("functional_minor", "differs from its entries: prepaid_liability credit USD paid"),
        ("from_cut", "does not follow the one before it"),
        ("to_cut", "contains a cut that has not ended"),
    ],
)
def test_a_journal_that_was_forged_with_its_hash_is_found_by_its_entries(
    handed_over: tuple[Subledger, str], field: str, message: str
) -> None:
    """A forger can compute the hash of a changed journal again, but its lines must still equal the entries."""
    service, url = handed_over
    with service.database.read() as connection:
        journal = journals_of(connection, LEDGER, FEBRUARY)[1]
    if field.endswith("_cut"):
        journal = replace(journal, **{field: getattr(journal, field) + (1 if field == "to_cut" else -1)})
    else:
        lines = [
            replace(line, **{field: getattr(line, field) + (line.role == "prepaid_liability")})
            for line in journal.lines
        ]
        journal = replace(journal, lines=tuple(lines))
    with past_triggers(url, "journals") as connection:
        connection.execute(
            "UPDATE journals SET lines = %s, content_hash = %s, from_cut = %s, to_cut = %s"
            " WHERE period = '2026-02' AND number = 2",
            (journal.lines_text, journal.content_hash, journal.from_cut, journal.to_cut),
        )
    [found] = [d for d in differences(service) if message in d.message]
    assert (found.check, found.subject) == ("journals", "2026-02-2")
    assert found.expected != found.found


@pytest.mark.campaign
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("SET content = content || '\\x20'", "are not the exported ones"),
        ("SET content_hash = 'x'", "are not the exported ones"),
        ("SET content = NULL", "has no stored bytes"),
        ("SET detail = true", "belongs to another journal than its file name"),
        ("SET format = 'json'", "belongs to another journal than its file name"),
        ("SET filename = 'x'", "belongs to another journal than its file name"),
        ("SET number = 1, format = 'x'", "belongs to another journal than its file name"),
        ("SET period = '2026-07'", "has no journal behind it"),
    ],
)  # fmt: skip
def test_a_file_that_is_not_what_was_handed_over_is_found(
    handed_over: tuple[Subledger, str], change: str, message: str
) -> None:
    service, url = handed_over
    name = f"{LEDGER}-2026-02-2-csv"
    _change(url, f"UPDATE journal_exports {change} WHERE export_id = '{name}'")
    found = [d for d in differences(service) if message in d.message]
    assert [(d.check, d.subject) for d in found] == [("journal_exports", name)]


# --- reversed journals --------------------------------------------------------------------------------------------


@pytest.fixture
def reversed_twice(handed_over: tuple[Subledger, str]) -> tuple[Subledger, str]:
    """January's journal and its re-issue were reversed: journals 2 to 5, all exported."""
    service, url = handed_over
    for first, number in ((7000, 1), (8000, 3)):
        adopt_mapping(service.recorder, LEDGER, another_chart(first))
        reverse_journal(service.recorder, LEDGER, JANUARY, number, "the wrong chart", by="ann")
    export(service.recorder, service.database, LEDGER, JANUARY, "csv")
    assert differences(service) == []
    return service, url


def _journal(service: Subledger, number: int) -> Journal:
    with service.database.read() as connection:
        return journal_of(connection, LEDGER, JANUARY, number)


@contextmanager
def unguarded(url: str) -> Iterator[psycopg.Connection]:
    """Yields the owner's connection without the constraints. The journals are restored at the end."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("ALTER TABLE journals DROP CONSTRAINT IF EXISTS ck_journals_correction")
        connection.execute("DROP INDEX IF EXISTS ux_journals_reverses, ux_journals_reissues")
        connection.execute("ALTER TABLE journals DISABLE TRIGGER USER")
        connection.execute("CREATE TEMPORARY TABLE kept AS TABLE journals")
        yield connection
        connection.execute("DELETE FROM journals")
        connection.execute("INSERT INTO journals TABLE kept")
        for trigger in ("append_only", "never_truncated"):
            connection.execute(f"ALTER TABLE journals ENABLE ALWAYS TRIGGER {trigger}")


def test_a_correction_that_was_changed_is_found(reversed_twice: tuple[Subledger, str]) -> None:
    service, url = reversed_twice
    for number, change in (
        (2, "lines = replace(lines, 'credit', 'debit')"),
        (3, "reverses = 1, reissues = NULL"),
        (3, "reissues = 2"),
        (2, "reason = 'another'"),
        (2, "made_by = 'zoe'"),
        (2, "made_at = made_at + interval '1 second'"),
        (3, "reissues = NULL, reason = NULL, made_by = NULL, made_at = NULL"),
        (3, "reason = NULL"),
    ):
        with unguarded(url) as owner:
            owner.execute(f"UPDATE journals SET {change} WHERE period = '2026-01' AND number = {number}")
            assert ("journals", "2026-01") in [(d.check, d.subject) for d in differences(service)], change
    assert differences(service) == []


def _lines_of(journal: Journal, **changes: Any) -> Journal:
    return replace(journal, lines=(replace(journal.lines[0], **changes), *journal.lines[1:]))


def _told(journal: Journal, **changes: Any) -> Journal:
    assert journal.correction is not None
    return replace(journal, correction=replace(journal.correction, **changes))


FORGED: list[tuple[int, Callable[[Journal], Journal], str]] = [
    (2, lambda j: _lines_of(j, account=GLAccount(number="1", name="x")), "does not have the swapped lines of"),
    (2, lambda j: _lines_of(j, number=7), "does not have the swapped lines of"),
    (2, lambda j: replace(j, lines=()), "does not have the swapped lines of"),
    (2, lambda j: replace(j, mapping=2), "does not have the swapped lines of"),
    (2, lambda j: replace(j, to_cut=j.to_cut - 1), "has other entries than the journal that it corrects: to_cut"),
    (3, lambda j: replace(j, to_cut=j.to_cut - 1), "has other entries than the journal that it corrects: to_cut"),
    (4, lambda j: _told(j, reverses=1), "reverses a journal a second time"),
    (4, lambda j: _told(j, reverses=2), "corrects a journal that cannot be reversed"),
    (4, lambda j: _told(j, reverses=9), "corrects a journal that cannot be reversed"),
    (4, lambda j: _told(j, reverses=4), "corrects a journal that cannot be reversed"),
    (4, lambda j: _told(j, reverses=None, reissues=3), "re-issues a journal that was not reversed just before"),
    (5, lambda j: _told(j, reissues=1), "re-issues a journal that was not reversed just before"),
    (2, lambda j: _told(j, reason="another"), "has another reason than its reversal"),
    (3, lambda j: _told(j, made_by="zoe"), "has another reason than its reversal"),
    (2, lambda j: replace(j, correction=None), "does not follow the one before it"),
    (3, lambda j: replace(j, correction=None), "the journal that acme-2026-01-2 reverses has no re-issue"),
    (3, lambda j: _lines_of(j, amount_minor=1), "differs from its entries"),
]


@pytest.mark.campaign
def test_a_correction_that_was_forged_with_its_hash_is_found_beside_what_it_corrects(
    reversed_twice: tuple[Subledger, str],
) -> None:
    service, url = reversed_twice
    for number, forge, message in FORGED:
        with unguarded(url) as owner:
            put(owner, forge(_journal(service, number)), number)
            found = [d for d in differences(service) if message in d.message]
        assert {d.check for d in found} == {"journals"}, message
        assert all((d.subject or "").startswith("2026-01-") for d in found)
    assert differences(service) == []


@pytest.mark.parametrize("level", LEVELS)
def test_no_documents_are_made_of_a_journal_whose_lines_are_not_those_of_its_pairs(
    reversed_twice: tuple[Subledger, str], level: Level
) -> None:
    """The amounts or the accounts may differ. A reversal is compared with the lines that it reverses."""
    service, url = reversed_twice
    for number, changes in ((1, {"account": GLAccount(number="1", name="x")}), (2, {"amount_minor": 1})):
        with unguarded(url) as owner:
            put(owner, _lines_of(_journal(service, number), **changes), number)
            with service.database.read() as connection, pytest.raises(IntegrityFault, match="is not the sum of its"):
                pairs_of(connection, _journal(service, number), level)
    with service.database.read() as connection:
        assert pairs_of(connection, _journal(service, 2), level)


def put(owner: psycopg.Connection, journal: Journal, number: int) -> None:
    """Replaces a journal by another one with the correct hash."""
    said = asdict(journal.correction) if journal.correction else dict.fromkeys(JournalCorrection.__struct_fields__)
    owner.execute(
        "UPDATE journals SET lines = %(lines)s, content_hash = %(hash)s, from_cut = %(from)s, to_cut = %(to)s,"
        " mapping = %(mapping)s, reverses = %(reverses)s, reissues = %(reissues)s, reason = %(reason)s,"
        " made_by = %(made_by)s, made_at = %(made_at)s WHERE period = '2026-01' AND number = %(number)s",
        {
            "lines": journal.lines_text,
            "hash": journal.content_hash,
            "from": journal.from_cut,
            "to": journal.to_cut,
            "mapping": journal.mapping,
            "number": number,
            **said,
        },
    )


def test_a_correction_that_is_gone_is_found(reversed_twice: tuple[Subledger, str]) -> None:
    """Also if the last two are missing together: their files are there without them."""
    service, url = reversed_twice
    for numbers in ([3], [5], [2], [4, 5]):
        with unguarded(url) as owner:
            owner.execute("DELETE FROM journals WHERE period = '2026-01' AND number = ANY(%s)", (numbers,))
            assert {d.check for d in differences(service)} & {"journals", "journal_exports"}, numbers


def test_the_database_keeps_a_second_reversal_of_a_journal_out(reversed_twice: tuple[Subledger, str]) -> None:
    _, url = reversed_twice
    copied = "SELECT ledger, period, 6, from_cut, to_cut, mapping, lines, content_hash"
    first = "FROM journals WHERE period = '2026-01' AND number = 1"
    for corrects, error in (
        ("1, NULL, 'r', 'ann', now()", psycopg.errors.UniqueViolation),
        ("NULL, 1, 'r', 'ann', now()", psycopg.errors.UniqueViolation),
        ("5, 5, 'r', 'ann', now()", psycopg.errors.CheckViolation),
        ("6, NULL, 'r', 'ann', now()", psycopg.errors.CheckViolation),
        ("5, NULL, NULL, 'ann', now()", psycopg.errors.CheckViolation),
        ("NULL, NULL, 'r', 'ann', now()", psycopg.errors.CheckViolation),
    ):
        with psycopg.connect(url) as connection, pytest.raises(error):
            connection.execute(f"INSERT INTO journals {copied}, {corrects} {first}")


# --- approvals ---------------------------------------------------------------------------------------


def _asked(service: Subledger, ledger: str, event_id: str, block: str) -> str:
    event = cloud_event(event_id, "purchase.voided", "c", "2026-01-06T00:00:00Z", block_id=block, reason="r")
    [outcome] = service.record(ledger, [event], by="ann")
    assert outcome.approval_id is not None, outcome
    return outcome.approval_id


@pytest.fixture
def allowed(service: Subledger, new_ledger: NewLedger) -> tuple[str, str]:
    """A ledger in which one void was approved, one was refused, and one waits; and the id of the first approval."""
    ledger = new_ledger() + "-allowed"
    service.create_ledger(ledger, LedgerSettings(currency="USD", approvals=Approvals(voids=True)))
    for block in ("b1", "b2", "b3"):
        service.record(ledger, [buy(block, customer="c", time="2026-01-05")])
    first, second, _ = (_asked(service, ledger, f"void-{block}", block) for block in ("b1", "b2", "b3"))
    service.recorder.decide_approval(ledger, first, by="bob", allow=True, note="seen")
    service.recorder.decide_approval(ledger, second, by="bob", allow=False)
    assert differences(service, ledger) == []
    return ledger, first


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("source", "'x'"), ("event_id", "'x'"), ("type", "'credits.granted'"), ("customer", "'d'"),
        ("occurred_at", "occurred_at + interval '1 day'"), ("data", "'{}'"), ("attributes", "'{}'"),
        ("maker", "'zoe'"), ("checker", "'zoe'"), ("state", "'refused'"),
        ("decided_at", "decided_at + interval '1 second'"),
    ],
)  # fmt: skip
def test_an_approval_that_is_not_the_event_it_became_is_found(
    service: Subledger, owner_url: str, allowed: tuple[str, str], column: str, value: str
) -> None:
    ledger, name = allowed
    _change(owner_url, f"UPDATE approvals SET {column} = {value} WHERE ledger = '{ledger}' AND approval_id = '{name}'")
    found, changed = differences(service, ledger)
    assert (found.check, found.subject) == (changed.check, changed.subject) == ("approvals", name)
    assert changed.message.endswith("was changed past its trigger")
    assert found.message == f"{column} of approval {name} differs from the recorded event"
    assert found.expected != found.found


def test_what_nobody_asked_for_and_what_never_happened_is_found(
    service: Subledger, owner_url: str, allowed: tuple[str, str]
) -> None:
    ledger, name = allowed
    _change(owner_url, f"UPDATE approvals SET state = 'approved' WHERE ledger = '{ledger}' AND state = 'waiting'")
    _change(owner_url, f"DELETE FROM approvals WHERE ledger = '{ledger}' AND approval_id = '{name}'")
    first, second, changed, gone = differences(service, ledger)
    assert {found.check for found in (first, second, changed, gone)} == {"approvals"}
    assert changed.message.endswith("was changed past its trigger")
    assert gone.message == "approvals has 2 rows of the ledger; its count is 3"
    assert first.message.endswith("is approved, but no event in the log has this approval")
    assert second.message == f"the log has an event with approval {name}, but there is no such request"


# --- changes that the application cannot make
# ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM journals", "DELETE FROM journal_exports", "DELETE FROM journal_customers",
        "DELETE FROM delivery_steps", "DELETE FROM deliveries", "DELETE FROM approvals",
        "UPDATE journals SET lines = ''", "UPDATE journals SET number = number",
        "UPDATE journal_exports SET content = ''",
        "UPDATE approvals SET data = '{}'", "UPDATE approvals SET maker = 'zoe'",
        "UPDATE approvals SET state = 'waiting' WHERE state = 'approved'", "UPDATE deliveries SET export_id = 'x'",
        "DELETE FROM tallies",
    ],
)  # fmt: skip
def test_the_application_cannot_change_what_was_handed_over_or_decided(
    service: Subledger, allowed: tuple[str, str], owner_url: str, statement: str
) -> None:
    ledger, _ = allowed
    export(service.recorder, service.database, ledger, JANUARY, "csv")
    refused = (psycopg.errors.InsufficientPrivilege, psycopg.errors.RestrictViolation)
    with pytest.raises(refused), service.database.write() as connection:
        connection.execute(statement.encode())


def test_a_request_that_was_changed_while_it_waited_cannot_be_approved(
    service: Subledger, allowed: tuple[str, str], owner_url: str
) -> None:
    ledger, _ = allowed
    with past_triggers(owner_url, "approvals") as connection:
        changed = "UPDATE approvals SET data = replace(data, 'b3', 'b1') WHERE ledger = %s AND state = 'waiting'"
        assert connection.execute(changed + " RETURNING approval_id", (ledger,)).rowcount == 1
    [found] = differences(service, ledger)
    assert found.check == "approvals"
    assert found.subject is not None
    for allow in (True, False):
        with pytest.raises(IntegrityFault, match="was changed after it was requested"):
            service.recorder.decide_approval(ledger, found.subject, by="bob", allow=allow)


def test_all_journals_and_files_that_are_gone_are_missed(handed_over: tuple[Subledger, str]) -> None:
    """The owner deletes every row that shows an export."""
    service, url = handed_over
    with past_triggers(url, "journals", "journal_exports") as connection:
        connection.execute("DELETE FROM journal_exports")
        connection.execute("DELETE FROM journals")
    assert {d.subject for d in differences(service)} == {"journals", "journal_exports", "2026-02"}


def _take_away_without_a_trace(url: str, period: str) -> None:
    """Deletes, as the owner, all journals and files of a month, and corrects the counts."""
    with past_triggers(url, "journals", "journal_exports", "tallies") as connection:
        for table in ("journal_exports", "journals"):
            gone = connection.execute(f"DELETE FROM {table} WHERE period = %s".encode(), (period,)).rowcount
            assert gone
            connection.execute("UPDATE tallies SET rows = rows - %s WHERE relation = %s", (gone, table))


def test_a_journal_of_an_open_month_is_missed_by_the_log_itself(handed_over: tuple[Subledger, str]) -> None:
    service, url = handed_over
    _take_away_without_a_trace(url, "2026-02")
    found = differences(service)
    assert [(d.check, d.subject) for d in found] == [("journals", "2026-02")] * 2
    assert (
        found[0].message == "2026-02 was exported through cut 2 according to the log, but no journal of it ends there"
    )
    service.record(LEDGER, [buy("late-3", customer="c1", time="2026-02-27")])
    export(service.recorder, service.database, LEDGER, FEBRUARY, "csv")
    assert [d.subject for d in differences(service)] == ["2026-02"] * 2, "another journal is not those that are gone"


def test_a_journal_of_a_closed_month_that_is_gone_without_a_trace_is_made_again_byte_for_byte(
    handed_over: tuple[Subledger, str],
) -> None:
    """Such a journal is not reported as missing, because the log does not record the export of a closed month. But
    nothing is lost.
    """
    service, url = handed_over

    def exported() -> list[str]:
        formats = (("csv", False), ("beancount", False), ("beancount", True))
        return [
            made.content_hash
            for format, detail in formats
            for made in export(service.recorder, service.database, LEDGER, JANUARY, format, detail=detail)
        ]

    before = exported()
    _take_away_without_a_trace(url, "2026-01")
    assert differences(service) == []
    assert exported() == before
    assert differences(service) == []
