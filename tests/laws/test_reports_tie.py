"""Every report ties to the trial balance, at any date, as known at any moment, under every policy, and never changes.

The books are the demo company's year: purchases, grants, usage with overage and backfill, reversals, voids, expiries,
late facts, and a close after each month.
"""

from __future__ import annotations

from contextlib import nullcontext, suppress
from datetime import date, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Any

import msgspec
import psycopg
import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from api.demo.company import year
from api.service import Subledger
from projections.close.close import close_period
from projections.report import Report
from projections.reports.clearing import CLEARING, open_lots
from projections.reports.rollforward import TOLD_APART_BY
from projections.reports.statement import WORDS
from projections.reports.waterfall import ALLOCATED, CONCEDED, CONCESSIONS, RECOGNITION, REVENUE, bridge_item
from subledger.errors import UnknownCustomer
from subledger.kinds import GAINS, KINDS, LOSSES, effect
from subledger.posting import SHIPPED_POLICIES, shipped_policy
from tests.conftest import NewLedger
from tests.reading import report_of, table_of

MINE = (
    "rollforward", "waterfall", "clearing", "receivables", "pools", "statement", "forecast", "performance",
)  # fmt: skip
CUSTOMERS = tuple(f"customer-{number:02d}" for number in range(1, 25))


class Books(msgspec.Struct, frozen=True):
    """A ledger, and the moments of its batches."""

    ledger: str
    moments: tuple[datetime, ...]


@pytest.fixture(scope="module")
def every_policy(service: Subledger, new_ledger: NewLedger) -> dict[str, Books]:
    """The year under each policy."""
    return {policy: _recorded(service, new_ledger(policy=policy)) for policy in SHIPPED_POLICIES}


def _recorded(service: Subledger, ledger: str) -> Books:
    late: list[dict[str, Any]] = []
    for month in year():
        # In parts, so that known_at can be in the middle of a month.
        for start in range(0, len(month.events), 60):
            service.record(ledger, month.events[start : start + 60])
        service.record(ledger, late)
        late = month.late
        if month.period.month < 12:
            close_period(service.recorder, ledger, month.period)
    with service.database.read() as connection:
        query = sa.text("SELECT recorded_at FROM batches WHERE ledger = :ledger ORDER BY recorded_at")
        moments = connection.execute(query, {"ledger": ledger}).scalars().all()
    return Books(ledger, tuple(moments))


DAYS = st.dates(date(2024, 12, 30), date(2026, 2, 1))
QUESTIONS = st.fixed_dictionaries(
    {"to": DAYS, "back": st.none() | st.integers(0, 200), "moment": st.none() | st.floats(0, 1)}
)


def _of(question: dict[str, Any], books: Books) -> dict[str, Any]:
    """Returns the question with a moment of the ledger as ``known_at``. Between two moments nothing is recorded."""
    to, back, moment = question["to"], question["back"], question["moment"]
    asked: dict[str, Any] = {"to": to.isoformat()}
    if moment is not None:
        asked["known_at"] = books.moments[round(moment * (len(books.moments) - 1))]
    if back is not None:
        asked["from_"] = (to - timedelta(days=back)).isoformat()
    return asked


# --- ties -----------------------------------------------------------------------------------------------------------


@pytest.mark.law
@pytest.mark.parametrize("policy", SHIPPED_POLICIES)
def test_a_report_of_the_whole_ledger_ties_in_every_view(
    service: Subledger, every_policy: dict[str, Books], policy: str
) -> None:
    books = every_policy[policy]

    @settings(max_examples=settings().max_examples // 2)
    @given(QUESTIONS, st.sampled_from(("none", *TOLD_APART_BY)))
    def ties(question: dict[str, Any], by: str) -> None:
        asked = _of(question, books)
        for name in ("rollforward", "waterfall"):
            report = report_of(service, books.ledger, name, **asked, **({"by": by} if name == "rollforward" else {}))
            assert report.ties_out, report.ties
        for name in ("clearing", "receivables"):
            report = report_of(service, books.ledger, name, to=asked["to"], known_at=asked.get("known_at"))
            assert report.ties_out, report.ties
        report = report_of(service, books.ledger, "pools", **asked)
        assert report.ties_out, report.ties

    ties()


@pytest.mark.law
@pytest.mark.parametrize("policy", SHIPPED_POLICIES)
def test_what_is_expected_and_what_remains_ties_in_every_view(
    service: Subledger, every_policy: dict[str, Books], policy: str
) -> None:
    books = every_policy[policy]

    @settings(max_examples=max(1, settings().max_examples // 8))
    @given(QUESTIONS, st.integers(1, 40), st.integers(0, 120))
    def ties(question: dict[str, Any], months: int, later: int) -> None:
        asked = _of(question, books)
        report = report_of(service, books.ledger, "performance", **asked)
        assert report.ties_out, report.ties
        opened = report_of(service, books.ledger, "rollforward", **asked)
        _no_more_than_was_there(report, opened)
        asked.pop("from_", None)
        as_of = question["to"] + timedelta(days=later)
        report = report_of(service, books.ledger, "forecast", **asked, as_of=as_of, months=months)
        assert report.ties_out, report.ties
        _each_month_is_within_its_band(report)

    ties()


def _no_more_than_was_there(performance: Report, rolled: Report) -> None:
    opening: dict[str, int] = {}
    for row in table_of(rolled, "rollforward"):
        if row["period"] == rolled.tables[0].rows[0][0]:
            opening[row["currency"]] = row["opening"]
    out: dict[str, int] = {}
    for row in table_of(performance, "revenue"):
        if row["source"].startswith("opening"):
            assert row["recognised"] >= 0
            out[row["currency"]] = out.get(row["currency"], 0) + row["recognised"]
    assert all(amount <= opening.get(currency, 0) for currency, amount in out.items())


def _each_month_is_within_its_band(forecast: Report) -> None:
    left: dict[str, int] = {}
    of_open_blocks: dict[tuple[str, str], int] = {}
    for row in table_of(forecast, "forecast"):
        assert row["opening"] == left.get(row["currency"], row["opening"])
        assert row["opening"] - row["expected"] == row["closing"] >= 0 <= row["expected"]
        left[row["currency"]] = row["closing"] if row["period"] != "later" else 0
        if row["period"] == "later":
            assert row["closing"] == 0
            continue
        of_open_blocks[row["currency"], row["period"]] = row["consumption"]
        for what in ("consumption", "breakage"):
            assert 0 <= row[f"{what}_low"] <= row[what] <= row[f"{what}_high"]
        assert row["consumption"] + row["breakage"] + row["escheat"] == row["expected"]
    for row in table_of(forecast, "consumption"):
        assert row["from_open_blocks"] == of_open_blocks.get((row["currency"], row["period"]), 0)
        assert row["from_open_blocks"] + row["from_purchases"] == row["consumption"] >= row["from_open_blocks"] >= 0
        assert row["purchases"] >= 0
        if row["consumption_low"] is not None:
            assert 0 <= row["consumption_low"] <= row["consumption"] <= row["consumption_high"]


@pytest.mark.law
@pytest.mark.parametrize("policy", SHIPPED_POLICIES)
def test_a_report_of_a_customer_ties_in_every_view(
    service: Subledger, every_policy: dict[str, Books], policy: str
) -> None:
    books = every_policy[policy]

    @settings(max_examples=settings().max_examples // 2)
    @given(QUESTIONS, st.sampled_from(CUSTOMERS))
    def ties(question: dict[str, Any], customer: str) -> None:
        asked = _of(question, books)
        for name in ("rollforward", "waterfall", "statement", "receivables"):
            if name == "receivables":
                asked.pop("from_", None)
            # At the first moments not every customer was known.
            with suppress(UnknownCustomer) if "known_at" in asked else nullcontext():
                report = report_of(service, books.ledger, name, **asked, customer=customer)
                assert report.ties_out, report.ties

    ties()


def test_the_year_has_figures_to_tie(service: Subledger, every_policy: dict[str, Books]) -> None:
    for policy, books in every_policy.items():
        for name, accounts in (
            ("rollforward", 2),
            ("waterfall", 2),
            ("clearing", 3),
            ("receivables", 2),
            ("pools", 3),
            ("forecast", 2),
            ("performance", 4),
        ):
            ties = report_of(service, books.ledger, name, to="2025-12").ties
            assert sum(tie.trial_balance_minor != 0 for tie in ties) >= accounts, (policy, ties)


# --- the rows ----------------------------------------------------------------------------------------------


def test_opening_plus_gains_less_losses_is_closing_and_the_next_opening(
    service: Subledger, every_policy: dict[str, Books]
) -> None:
    books = every_policy["customer_deposits"]
    for by in ("none", *TOLD_APART_BY):
        report = report_of(service, books.ledger, "rollforward", to="2025-12", by=by)
        for table, what in (("rollforward", "currency"), ("credits", "unit")):
            lines: dict[str, dict[str, dict[str, Any]]] = {}
            for row in table_of(report, table):
                sums = lines.setdefault(row[what], {}).setdefault(row["period"], {})
                for column in ("opening", *GAINS, *LOSSES, "closing"):
                    sums[column] = sums.get(column, 0) + (row[column] or 0)
                if by != "product":
                    assert _closes(row)
            assert max(map(len, lines.values())) == 12
            for periods in lines.values():
                assert all(_closes(sums) for sums in periods.values())
                in_order = [periods[period] for period in sorted(periods)]
                for earlier, later in pairwise(in_order):
                    assert earlier["closing"] == later["opening"]


def _closes(row: dict[str, Any]) -> bool:
    gained = sum(row[column] for column in GAINS) - sum(row[column] for column in LOSSES)
    return bool(row["opening"] + gained == row["closing"])


def test_the_rows_of_a_roll_forward_add_up_however_they_are_told_apart(
    service: Subledger, every_policy: dict[str, Books]
) -> None:
    books = every_policy["customer_deposits_arm"]
    moment = books.moments[len(books.moments) // 2]
    whole = report_of(service, books.ledger, "rollforward", to="2025-12", known_at=moment)
    for by in TOLD_APART_BY:
        parts = report_of(service, books.ledger, "rollforward", to="2025-12", known_at=moment, by=by)
        for table in ("rollforward", "credits"):
            assert _by_period(table_of(parts, table)) == _by_period(table_of(whole, table))


def _by_period(rows: list[dict[str, Any]]) -> dict[tuple[str, str], Any]:
    sums: dict[tuple[str, str], Any] = {}
    for row in rows:
        for column, value in row.items():
            if isinstance(value, int | Decimal) and value:
                key = (row["period"], column)
                sums[key] = sums.get(key, 0) + value
    return {key: value for key, value in sums.items() if value}


def test_what_is_lost_over_a_range_is_the_sum_of_its_months(service: Subledger, every_policy: dict[str, Books]) -> None:
    """A range that begins or ends inside a month has only its own days, and the two parts of a month add up to the
    month.
    """
    books = every_policy["contract_liability"]
    first = _usd(report_of(service, books.ledger, "rollforward", from_="2025-06-01", to="2025-06-14"))
    second = _usd(report_of(service, books.ledger, "rollforward", from_="2025-06-15", to="2025-06-30"))
    whole = _usd(report_of(service, books.ledger, "rollforward", from_="2025-06", to="2025-06"))
    assert first["closing"] == second["opening"]
    for column in (*GAINS, *LOSSES):
        assert first[column] + second[column] == whole[column]


def _usd(report: Report) -> dict[str, Any]:
    [row] = [row for row in table_of(report, "rollforward") if row["currency"] == "USD"]
    return row


def test_a_cohort_is_recognised_cancelled_or_still_deferred(service: Subledger, every_policy: dict[str, Books]) -> None:
    for books in every_policy.values():
        report = report_of(service, books.ledger, "waterfall", to="2025-12")
        recognised: dict[tuple[str, str], int] = {}
        for row in table_of(report, "waterfall"):
            assert row["recognised_in"] >= row["cohort"] or not row["cohort"].startswith("2")
            assert row["usage"] + row["breakage"] + row["other"] == row["recognised"]
            key = (row["cohort"], row["currency"])
            recognised[key] = recognised.get(key, 0) + row["recognised"]
        for row in table_of(report, "cohorts"):
            assert row["recognised"] == recognised.get((row["cohort"], row["currency"]), 0)
            if row["cohort"] not in ("overage", "pool"):
                gained = row["sold"] + row["granted"] + row["repriced"] + row["transferred"]
                lost = row["recognised"] + row["voided"] + row["refunded"] + row["charged_back"] + row["escheated"]
                assert gained - lost - row["written_off"] == row["deferred"] >= 0


def test_the_ageing_of_an_item_adds_up_to_it(service: Subledger, every_policy: dict[str, Books]) -> None:
    for books in every_policy.values():
        report = report_of(service, books.ledger, "clearing", to="2025-11-15")
        items = table_of(report, "items")
        assert items
        for row in items:
            assert sum(row[c] for c in ("days_0_30", "days_31_60", "days_61_90", "days_over_90")) == row["amount"] != 0
            assert row["age_days"] == (date(2025, 11, 15) - row["open_since"]).days >= 0
            assert row["reason"]
        assert all(block["difference"] == 0 < block["credits"] for block in table_of(report, "blocks"))


def test_a_statement_opens_plus_moves_to_its_closing(service: Subledger, every_policy: dict[str, Books]) -> None:
    books = every_policy["customer_deposits"]
    moved = 0
    for customer in CUSTOMERS:
        report = report_of(service, books.ledger, "statement", customer=customer, from_="2025-03-10", to="2025-09-20")
        movements = table_of(report, "movements")
        moved += len(movements)
        for block in table_of(report, "blocks"):
            own = [row for row in movements if row["block_id"] == block["block_id"]]
            assert block["opening_credits"] + sum(row["credits"] for row in own) == block["closing_credits"]
            assert block["opening_value"] + sum(row["value"] for row in own) == block["closing_value"]
    assert moved > 500


# --- time -----------------------------------------------------------------------------------------------------------


def test_an_answer_once_given_never_changes(service: Subledger, new_ledger: NewLedger) -> None:
    ledger = new_ledger()
    months = list(year(11))[:3]
    for month in months[:2]:
        service.record(ledger, month.events)
    given: dict[str, Any] = {}
    with service.view(ledger) as view:
        moment = view.known_at

    def answers() -> dict[str, Any]:
        found = {}
        for name in MINE:
            asked: dict[str, Any] = {"customer": "customer-04"} if name == "statement" else {}
            report = report_of(service, ledger, name, to="2025-03-31", known_at=moment, **asked)
            found[name] = msgspec.structs.replace(report, title="")
        return found

    given = answers()
    close_period(service.recorder, ledger, months[0].period)
    service.record(ledger, months[2].events + months[1].late)
    assert answers() == given
    assert report_of(service, ledger, "rollforward", to="2025-03-31") != given["rollforward"]


def test_what_was_recorded_on_earlier_days_and_part_of_a_day_is_all_there(
    service: Subledger, new_ledger: NewLedger, owner_url: str
) -> None:
    """The sums come from the day totals of whole recorded days, and from the entries of the day of known_at."""
    ledger, months = new_ledger(), list(year(5))[:3]
    for month in months:
        half = len(month.events) // 2
        service.record(ledger, month.events[:half])
        service.record(ledger, month.events[half:])
        with psycopg.connect(owner_url) as connection:  # the next batch is recorded a day later
            connection.execute(
                "UPDATE ledgers SET recorded_at = recorded_at + interval '1 day' WHERE ledger = %s", (ledger,)
            )
    with service.database.read() as connection:
        batches = sa.text("SELECT recorded_at, last_position FROM batches WHERE ledger = :ledger ORDER BY 1")
        moments = connection.execute(batches, {"ledger": ledger}).all()
    assert len({moment.date() for moment, _ in moments}) == 3
    for moment, position in moments[1:]:
        report = report_of(service, ledger, "rollforward", to="2025-12", known_at=moment)
        assert report.ties_out, report.ties
        with service.database.read() as connection:
            bought = connection.execute(
                sa.text(
                    "SELECT coalesce(sum(amount_minor), 0) FROM entries WHERE ledger = :ledger AND kind = 'purchase'"
                    " AND currency = 'USD' AND position <= :position"
                ),
                {"ledger": ledger, "position": position},
            ).scalar_one()
        rows = [row for row in table_of(report, "rollforward") if row["currency"] == "USD"]
        assert sum(row["purchased"] for row in rows) == bought


# --- the kinds ------------------------------------------------------------------------------------------------------


def test_every_kind_that_moves_revenue_is_recognised_in_the_waterfall() -> None:
    for name in SHIPPED_POLICIES:
        rules = shipped_policy(name).rules
        accounts = REVENUE if name != "customer_deposits_arm" else ("deferred_revenue",)
        for kind in KINDS:
            credited = -sum(effect(account, kind.name, rules) for account in accounts)
            recognised = sum(sign for _, _, sign in RECOGNITION.get(kind.name, ()))
            if name == "customer_deposits_arm" and kind.name in ("goodwill_voided", "allocation_voided"):
                assert (credited, recognised) == (1, 0)
            elif name == "customer_deposits_arm" and kind.name in (*CONCESSIONS, "allocation"):
                assert (credited, recognised) == (-1, 0)
            else:
                assert credited == recognised, (name, kind.name)


def test_a_grant_that_is_taken_back_gives_back_what_it_took_of_deferred_revenue() -> None:
    for name in SHIPPED_POLICIES:
        rules = shipped_policy(name).rules
        assert bridge_item("allocation", rules) == (ALLOCATED, -1)
        assert bridge_item("allocation_voided", rules) == (ALLOCATED, 1)
        of_goodwill = [bridge_item(kind, rules) for kind in ("goodwill", "goodwill_voided")]
        released = name == "customer_deposits_arm"
        assert of_goodwill == ([(CONCEDED, -1), (CONCEDED, 1)] if released else [None, None])


def test_what_leaves_a_block_by_use_or_expiry_is_recognised_in_its_month_of_sale() -> None:
    for kind in KINDS:
        own = sum(sign for whose, _, sign in RECOGNITION.get(kind.name, ()) if whose == "block")
        if kind.column in ("consumed", "expired") and not kind.redeems_tax:  # tax at redemption is not revenue
            assert own == -kind.sign, kind.name
        else:
            assert own == 0 or kind.name == "refund_retained"


def test_every_kind_that_touches_a_block_has_words_for_its_customer() -> None:
    assert {kind.name for kind in KINDS if kind.column is not None} <= set(WORDS)


def test_every_clearing_account_is_moved_by_some_kind() -> None:
    rules = shipped_policy("customer_deposits").rules
    for account in CLEARING:
        assert any(pair.debit == account or pair.credit == account for pairs in rules.values() for pair in pairs)


# --- first in, first out --------------------------------------------------------------------------------------------

AMOUNTS = st.lists(st.tuples(st.dates(date(2026, 1, 1), date(2026, 6, 30)), st.integers(-50, 50)), max_size=12)


@given(AMOUNTS.map(sorted))
def test_open_parts_add_up_to_the_balance_and_are_of_one_sign(flows: list[tuple[date, int]]) -> None:
    lots = open_lots(flows)
    assert sum(amount for _, amount in lots) == sum(amount for _, amount in flows)
    assert len({amount > 0 for _, amount in lots}) <= 1
    assert [day for day, _ in lots] == sorted(day for day, _ in lots)
    assert all(amount for _, amount in lots)


def test_what_came_in_first_is_cleared_first() -> None:
    first, second, third, fourth = (date(2026, month, 1) for month in (1, 2, 3, 4))
    assert open_lots([(first, 30), (second, 20), (third, -40)]) == [(second, 10)]
    assert open_lots([(first, 30), (second, -50), (third, 5)]) == [(second, -15)]
    assert open_lots([(first, 30), (second, -30), (third, 5), (fourth, 6)]) == [(third, 5), (fourth, 6)]
