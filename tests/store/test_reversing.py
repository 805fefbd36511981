"""Reversing journals: a journal with wrong accounts is reversed completely, re-issued, and counted once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import UTC, date, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from api.service import Subledger
from projections.account_mapping.mapping import AccountMapping, default_mapping, mapping_for
from projections.close.close import close_period, reopen_period
from projections.configuring.account_mappings import adopt_mapping
from projections.delivery.checklist import checklist
from projections.delivery.tie_out import theirs_of, tie_out
from projections.exports.exporting import export
from projections.integrity import verify
from projections.journals.corrections import in_force, reversal_of
from projections.journals.drill_down import entries_behind, entries_behind_line
from projections.journals.journal import Journal, JournalCorrection
from projections.journals.making import ensure_journals
from projections.journals.pairs import LEVELS, pairs_of
from projections.journals.reversing import Reversed, reverse_journal
from projections.journals.stored_journals import journals_of
from subledger.accounts import Side
from subledger.errors import (
    InvalidValue,
    JournalNotReversible,
    NothingToCorrect,
    UnknownExport,
    UnknownLedger,
    UnmappedRole,
)
from subledger.periods import Period
from subledger.store.database import Database
from tests.building import cloud_event
from tests.charts import adopt_unchecked, another_chart
from tests.conftest import NewLedger
from tests.together import together

JANUARY, FEBRUARY = MONTHS = (Period(2026, 1), Period(2026, 2))
RIGHT = another_chart(7000)


@pytest.fixture
def ledger(service: Subledger, new_ledger: NewLedger) -> str:
    """A ledger whose January has a sale and usage, is closed, and exported."""
    ledger = new_ledger(policy="contract_liability")
    record(service, ledger, "b1", 5)
    close_period(service.recorder, ledger, JANUARY)
    journals(service, ledger)
    return ledger


def record(service: Subledger, ledger: str, block: str, day: int, month: Period = JANUARY) -> None:
    """Records the sale of a block for 100.00, and usage of a quarter of it on the next day."""
    events = [
        cloud_event(
            f"buy-{block}",
            "credits.purchased",
            "c",
            f"{month}-{day:02}T00:00:00Z",
            block_id=block,
            credits="1000",
            price="100.00",
            currency="USD",
        ),
        cloud_event(
            f"use-{block}",
            "credits.consumed",
            "c",
            f"{month}-{day + 1:02}T00:00:00Z",
            credits="250",
            block_id=block,
            product="api",
        ),
    ]
    assert [outcome.error for outcome in service.record(ledger, events)] == [None, None]


def journals(service: Subledger, ledger: str, *periods: Period) -> tuple[Journal, ...]:
    return tuple(
        journal
        for period in periods or (JANUARY,)
        for journal in ensure_journals(service.recorder, service.database, ledger, period)
    )


def reverse(service: Subledger, ledger: str, number: int, *, period: Period = JANUARY, reason: str = "r") -> Reversed:
    return reverse_journal(service.recorder, ledger, period, number, reason, by="ann")


def adopt(service: Subledger, ledger: str, chart: Any) -> None:
    adopt_mapping(service.recorder, ledger, chart)


def shown(journal: Journal) -> list[tuple[int, str, str, int, str]]:
    return [(x.number, x.role, x.side.value, x.amount_minor, x.account.number) for x in journal.lines]


# --- one act --------------------------------------------------------------------------------------------------


def test_a_journal_is_taken_back_line_by_line_and_its_entries_are_issued_under_the_mapping_of_now(
    service: Subledger, ledger: str
) -> None:
    [journal] = journals(service, ledger)
    adopt(service, ledger, RIGHT)
    assert journals(service, ledger) == (journal,), "a changed mapping alters no journal"
    made = reverse(service, ledger, 1, reason="deposits were mapped to revenue")
    assert made.journal == journal
    assert shown(journal) == [
        (1, "accounts_receivable", "debit", 10000, "1100"),
        (2, "prepaid_liability", "debit", 2500, "2150"),
        (3, "prepaid_liability", "credit", 10000, "2150"),
        (4, "usage_revenue", "credit", 2500, "4000"),
    ]
    assert shown(made.reversal) == [
        (1, "accounts_receivable", "credit", 10000, "1100"),
        (2, "prepaid_liability", "credit", 2500, "2150"),
        (3, "prepaid_liability", "debit", 10000, "2150"),
        (4, "usage_revenue", "debit", 2500, "4000"),
    ]
    number = {line.role: RIGHT.resolve(line.role, "", "", "USD").number for line in journal.lines}
    assert [(role, number[role]) for role in ("accounts_receivable", "usage_revenue")] == [
        ("accounts_receivable", "7003"),
        ("usage_revenue", "7015"),
    ]
    assert shown(made.reissue) == [(*line[:4], number[line[1]]) for line in shown(journal)]
    assert [line.account.dimensions for line in made.reissue.lines[:1]] == [(("department", "asset"),)]
    assert (made.reversal.name, made.reissue.name) == (f"{ledger}-2026-01-2", f"{ledger}-2026-01-3")
    assert (made.reversal.mapping, made.reissue.mapping) == (1, 2)
    assert {(x.from_cut, x.to_cut, x.posting_date) for x in (journal, made.reversal, made.reissue)} == {
        (0, 1, date(2026, 1, 31))
    }
    for one in (made.reversal, made.reissue):
        assert one.correction is not None
        assert (one.correction.reason, one.correction.made_by) == ("deposits were mapped to revenue", "ann")
        assert one.corrects == journal.name
    assert (made.reversal.reverses, made.reversal.reissues) == (1, None)
    assert (made.reissue.reverses, made.reissue.reissues) == (None, 1)
    assert journals(service, ledger) == (journal, made.reversal, made.reissue), "asking again makes nothing"
    assert in_force(journals(service, ledger)) == (made.reissue,)
    assert verify(service.database, ledger).differences == []


def test_what_is_recorded_later_is_the_next_journal_under_the_mapping_of_then(service: Subledger, ledger: str) -> None:
    """The corrections have the entries of cut 1. Later journals begin after it, and never contain it again."""
    adopt(service, ledger, RIGHT)
    reverse(service, ledger, 1)
    reopen_period(service.recorder, ledger, JANUARY, "a late invoice")
    record(service, ledger, "b2", 20)
    made = journals(service, ledger)
    assert [(x.number, x.from_cut, x.to_cut, x.mapping) for x in made] == [
        (1, 0, 1, 1),
        (2, 0, 1, 1),
        (3, 0, 1, 2),
        (4, 1, 2, 2),
    ]
    adopt(service, ledger, another_chart(8000))
    again = reverse(service, ledger, 4)
    assert (again.reversal.number, again.reissue.number, again.reissue.from_cut) == (5, 6, 1)
    third = reverse(service, ledger, 3)
    assert (third.reversal.number, third.reissue.number, third.reissue.to_cut) == (7, 8, 1)
    record(service, ledger, "b3", 25)
    assert journals(service, ledger)[-1].from_cut == 2
    assert [x.number for x in in_force(journals(service, ledger))] == [6, 8, 9]
    assert verify(service.database, ledger).differences == []


def test_a_journal_is_reversed_once_a_reversal_never_and_what_took_its_place_again(
    service: Subledger, ledger: str
) -> None:
    adopt(service, ledger, RIGHT)
    reverse(service, ledger, 1)
    with pytest.raises(JournalNotReversible) as caught:
        reverse(service, ledger, 1)
    assert caught.value.facts == {"reversed_by": f"{ledger}-2026-01-2"}
    assert caught.value.expected == "3"
    with pytest.raises(JournalNotReversible, match="is a reversal, and cannot be reversed"):
        reverse(service, ledger, 2)
    adopt(service, ledger, default_mapping())
    back = reverse(service, ledger, 3)
    assert shown(back.reissue) == shown(journals(service, ledger)[0])
    assert len(journals(service, ledger)) == 5


def test_what_cannot_be_reversed_is_refused_and_nothing_is_made(service: Subledger, ledger: str) -> None:
    with pytest.raises(NothingToCorrect) as caught:
        reverse(service, ledger, 1)
    assert (caught.value.code, caught.value.found) == ("nothing_to_correct", "1")
    for reason in ("", "  ", "x" * 2001, "\x00"):
        with pytest.raises(InvalidValue):
            reverse(service, ledger, 1, reason=reason)
    with pytest.raises(UnknownExport):
        reverse(service, ledger, 2)
    with pytest.raises(UnknownExport):
        reverse(service, ledger, 1, period=FEBRUARY)
    with pytest.raises(UnknownLedger):
        reverse(service, "no-such-ledger", 1)
    [empty] = journals(service, ledger, FEBRUARY)
    assert empty.lines == ()
    of_none = AccountMapping.from_rows({**row, "product": "none of ours"} for row in default_mapping().rows)
    adopt_unchecked(service.recorder, ledger, of_none)
    with pytest.raises(JournalNotReversible, match="has no lines to reverse"):
        reverse(service, ledger, 1, period=FEBRUARY)
    with pytest.raises(UnmappedRole):
        reverse(service, ledger, 1)
    assert [len(journals(service, ledger, month)) for month in MONTHS] == [1, 1]
    adopt(service, ledger, RIGHT)
    assert reverse(service, ledger, 1).reissue.number == 3


def test_a_mapping_that_holds_from_a_later_month_leaves_an_earlier_one_nothing_to_correct(
    service: Subledger, ledger: str
) -> None:
    adopt_mapping(service.recorder, ledger, RIGHT, valid_from=FEBRUARY)
    with pytest.raises(NothingToCorrect):
        reverse(service, ledger, 1)


def test_of_two_who_reverse_a_journal_at_once_one_does(service: Subledger, database: Database, ledger: str) -> None:
    adopt(service, ledger, RIGHT)
    done: list[object] = []

    def one(recorder: Any) -> None:
        try:
            done.append(reverse_journal(recorder, ledger, JANUARY, 1, "r"))
        except JournalNotReversible as error:
            done.append(error)

    together(one, [Subledger(database).recorder for _ in range(4)])
    assert Counter(type(each) for each in done) == {Reversed: 1, JournalNotReversible: 3}
    assert len(journals(service, ledger)) == 3


def test_the_hash_of_a_journal_that_corrects_nothing_is_what_it_always_was(service: Subledger, ledger: str) -> None:
    [journal] = journals(service, ledger)
    plain = replace(journal, ledger="acme", lines=())
    assert plain.content_hash == "44680d56f142dc1231f5fcdd92071ffed6b69be1d9c213c3e937396163a2d885"
    moment = datetime(2026, 2, 1, tzinfo=UTC)
    told = JournalCorrection(reverses=1, reason="r", made_by="ann", made_at=moment)
    several = [
        told,
        replace(told, reverses=2),
        replace(told, reverses=None, reissues=1),
        replace(told, reason="s"),
        replace(told, made_by="bob"),
        replace(told, made_at=moment.replace(microsecond=1)),
    ]
    assert len({plain.content_hash, *(replace(plain, correction=c).content_hash for c in several)}) == 7


# --- whatever happens -----------------------------------------------------------------------------------------

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("record"), st.integers(0, 1)),
        st.tuples(st.just("export"), st.integers(0, 1)),
        st.tuples(st.just("adopt"), st.integers(0, 2)),
        st.tuples(st.just("reverse"), st.integers(0, 30)),
        st.tuples(st.just("close"), st.just(0)),
        st.tuples(st.just("reopen"), st.integers(0, 1)),
    ),
    min_size=4,
    max_size=25,
)
CHARTS = (default_mapping(), RIGHT, another_chart(8000))


@settings(max_examples=max(2, settings().max_examples // 5))
@given(STEPS)
def test_however_journals_are_made_and_reversed_each_entry_is_in_one_that_is_in_force(
    service: Subledger, new_ledger: NewLedger, steps: list[tuple[str, int]]
) -> None:
    ledger = new_ledger()
    walk = Walk(service, ledger)
    for step, place in (*steps, ("export", 0), ("export", 1)):
        getattr(walk, step)(place)
    check_books(service, ledger)
    for journal in in_force(journals(service, ledger, *MONTHS)):
        walk.reverse_if_it_can_be(journal)
    made = journals(service, ledger, *MONTHS)
    assert {j.name: j.content_hash for j in made}.items() >= walk.known.items(), "what was made is never changed"
    check_books(service, ledger)
    check_newest_accounts(service, ledger)
    assert verify(service.database, ledger).differences == []


class Walk:
    """Acts on a ledger's journals, in any order. A refused act changes nothing."""

    def __init__(self, service: Subledger, ledger: str) -> None:
        self.service, self.ledger, self.recorded, self.closed = service, ledger, 0, 0
        self.known: dict[str, str] = {}

    def record(self, place: int) -> None:
        self.recorded += 1
        record(self.service, self.ledger, f"b{self.recorded}", 3 + self.recorded % 20, MONTHS[place])

    def export(self, place: int) -> None:
        for journal in journals(self.service, self.ledger, MONTHS[place]):
            self.known[journal.name] = journal.content_hash

    def adopt(self, place: int) -> None:
        adopt(self.service, self.ledger, CHARTS[place])

    def reverse(self, place: int) -> None:
        with self.service.database.read() as connection:
            made = journals_of(connection, self.ledger)
        if made:
            self.reverse_if_it_can_be(made[place % len(made)])

    def reverse_if_it_can_be(self, journal: Journal) -> None:
        with self.service.database.read() as connection:
            made = journals_of(connection, self.ledger, journal.period)
            now = mapping_for(connection, self.ledger, journal.period)[1]
        can = journal.lines and journal.reverses is None and reversal_of(made, journal) is None
        differs = any(
            line.account != now.resolve(line.role, line.product, line.credit_kind, line.currency)
            for line in journal.lines
        )
        try:
            reverse(self.service, self.ledger, journal.number, period=journal.period)
        except JournalNotReversible:
            assert not can
        except NothingToCorrect:
            assert can
            assert not differs
        else:
            assert can
            assert differs

    def close(self, _: int) -> None:
        if self.closed < len(MONTHS) and self.recorded:
            first = [p for p in MONTHS if p >= self._first_month()]
            if self.closed < len(first):
                close_period(self.service.recorder, self.ledger, first[self.closed])
                self.closed += 1

    def _first_month(self) -> Period:
        with self.service.database.write() as connection:
            query = "SELECT min(accounting_date) FROM ledger_days WHERE ledger = %s"
            [(day,)] = connection.execute(query, (self.ledger,)).fetchall()
        return Period.of(day)

    def reopen(self, place: int) -> None:
        first = [p for p in MONTHS if self.recorded and p >= self._first_month()]
        if place < self.closed:
            reopen_period(self.service.recorder, self.ledger, first[place], "a correction")
            self.closed = place


def check_books(service: Subledger, ledger: str) -> None:
    """Checks that debits less credits of all journals equal the trial balance, and that debits and credits of those in
    force each do.
    """
    made = journals(service, ledger, *MONTHS)
    query = """
        SELECT l.account, l.side, l.currency, s.product, s.credit_kind, s.pool, s.processor,
               sum(l.amount_minor)::bigint, sum(l.functional_minor)::bigint
        FROM journal_lines l JOIN dimension_sets s ON s.ledger = l.ledger AND s.dimension_set = l.dimension_set
        WHERE l.ledger = %s AND l.accounting_date <= %s GROUP BY 1, 2, 3, 4, 5, 6, 7
    """
    with service.database.write() as connection:
        books = {
            tuple(key): (amount, functional)
            for *key, amount, functional in connection.execute(query, (ledger, FEBRUARY.last_day)).fetchall()
        }
        entries = connection.execute(
            "SELECT accounting_date, cut FROM entries WHERE ledger = %s AND accounting_date <= %s",
            (ledger, FEBRUARY.last_day),
        ).fetchall()
    assert summed(in_force(made)) == books
    assert net(summed(made)) == net(books)
    for on, cut in entries:
        held = [j for j in in_force(made) if j.period == Period.of(on) and j.from_cut < cut <= j.to_cut]
        assert len(held) == 1


Sums = dict[tuple[Any, ...], tuple[int, int]]


def summed(made: Iterable[Journal]) -> Sums:
    sums: Sums = {}
    for line in [line for journal in made for line in journal.lines]:
        key = (line.role, line.side.value, line.currency, line.product, line.credit_kind, line.pool, line.processor)
        amount, functional = sums.get(key, (0, 0))
        sums[key] = (amount + line.amount_minor, functional + line.functional_minor)
    return sums


def net(sums: Sums) -> Sums:
    found: Sums = {}
    for (role, side, *dimensions), (amount, functional) in sums.items():
        sign = 1 if side == "debit" else -1
        key = (role, *dimensions)
        before = found.get(key, (0, 0))
        found[key] = (before[0] + sign * amount, before[1] + sign * functional)
    return {key: value for key, value in found.items() if any(value)}


def check_newest_accounts(service: Subledger, ledger: str) -> None:
    """Checks that each account has the amounts by the newest mapping, after all reversible journals were reversed."""
    found: Counter[tuple[str, tuple[Any, ...]]] = Counter()
    expected: Counter[tuple[str, tuple[Any, ...]]] = Counter()
    made = journals(service, ledger, *MONTHS)
    with service.database.read() as connection:
        mapping = mapping_for(connection, ledger, JANUARY)[1]
    for line in [line for journal in made for line in journal.lines]:
        found[line.account.number, line.account.dimensions] += signed(line)
    for line in [line for journal in in_force(made) for line in journal.lines]:
        account = mapping.resolve(line.role, line.product, line.credit_kind, line.currency)
        expected[account.number, account.dimensions] += signed(line)
    assert {k: v for k, v in found.items() if v} == {k: v for k, v in expected.items() if v}


def signed(line: Any) -> int:
    amount: int = line.functional_minor
    return amount if line.side is Side.DEBIT else -amount


# --- from its lines to the entries -------------------------------------------------------------------------


def test_each_line_of_a_reversal_and_of_what_takes_its_place_leads_back_to_its_entries(
    service: Subledger, ledger: str
) -> None:
    adopt(service, ledger, RIGHT)
    made = reverse(service, ledger, 1)
    with service.database.read() as connection:
        for line in made.journal.lines:
            behind = [
                entries_behind_line(connection, journal, line.number)
                for journal in (made.journal, made.reversal, made.reissue)
            ]
            assert behind[0] == behind[1] == behind[2]
            assert sum(entry.amount_minor for entry in behind[0]) == line.amount_minor
        for level in LEVELS:
            pairs = pairs_of(connection, made.reversal, level)
            assert [(p.credit, p.debit, p.amount_minor) for p in pairs] == [
                (p.debit, p.credit, p.amount_minor) for p in pairs_of(connection, made.journal, level)
            ]
            for pair in pairs:
                found = entries_behind(connection, made.reversal, [pair], level)
                assert sum(entry.amount_minor for entry in found) == pair.amount_minor


# --- beside the general ledger --------------------------------------------------------------------------------


def booked(made: Iterable[Journal]) -> list[dict[str, str]]:
    sums: Counter[tuple[str, str, str]] = Counter()
    for journal in made:
        for line in journal.lines:
            sums[line.account.number, str(journal.period), line.side.value] += line.functional_minor
    return [
        {
            "account": account,
            "period": period,
            "debit": f"{sums[account, period, 'debit'] / 100:.2f}",
            "credit": f"{sums[account, period, 'credit'] / 100:.2f}",
        }
        for account, period in sorted({key[:2] for key in sums})
    ]


def test_books_tie_once_they_have_the_reversal_and_what_takes_its_place(service: Subledger, ledger: str) -> None:
    before = journals(service, ledger)
    adopt(service, ledger, RIGHT)
    made = reverse(service, ledger, 1)
    accounts = {line.account.number for journal in journals(service, ledger) for line in journal.lines}
    with service.database.read() as connection:
        whole = tie_out(connection, ledger, theirs_of(booked(journals(service, ledger)), "USD"), accounts=accounts)
        assert whole.tied
        without = tie_out(connection, ledger, theirs_of(booked(before), "USD"), accounts=accounts)
        twice = tie_out(connection, ledger, theirs_of(booked((*before, made.reissue)), "USD"), accounts=accounts)
    usage = {line.account.number for j in journals(service, ledger) for line in j.lines if line.role == "usage_revenue"}
    assert {d.account: d.difference for d in without.differences if d.account in usage} == {"4000": -2500, "7015": 2500}
    assert {d.account: d.difference for d in twice.differences if d.account in usage} == {"4000": -2500}
    [behind] = [d.behind for d in without.differences if d.account == "4000"]
    assert [(share.journal, share.lines, share.debit_minor, share.credit_minor) for share in behind] == [
        (f"{ledger}-2026-01-1", (4,), 0, 2500),
        (f"{ledger}-2026-01-2", (4,), 2500, 0),
    ]


def test_the_checklist_asks_for_files_of_both_and_says_what_was_reversed(service: Subledger, ledger: str) -> None:
    def step(name: str) -> Any:
        found = checklist(service.database, ledger, JANUARY, now=datetime(2026, 3, 1, tzinfo=UTC))
        return next(step for step in found.steps if step.name == name)

    export(service.recorder, service.database, ledger, JANUARY, "csv")
    assert step("files").state == "done"
    adopt(service, ledger, RIGHT)
    made = reverse(service, ledger, 1)
    assert step("journals").state == "done"
    assert step("journals").evidence["reversed"] == {made.journal.name: made.reversal.name}
    assert (step("files").state, step("files").evidence["without_file"]) == ("open", [2, 3])
    assert len(export(service.recorder, service.database, ledger, JANUARY, "csv")) == 3
    assert step("files").state == "done"
