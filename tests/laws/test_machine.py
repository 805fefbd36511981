"""The real recorder on a real PostgreSQL, compared with the plain model, and the invariants of the books after each
batch.

This module has the rules about the ledger itself, repetition, and reads. The rules about blocks are in
``machine_blocks``, those about money in ``machine_money``, the checks in ``machine_checks``, and the model in ``model``
and its parts.
"""

from __future__ import annotations

from datetime import date, timedelta
from fractions import Fraction

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule, run_state_machine_as_test

from api.service import Subledger
from projections.close.close import close_period, reopen_period
from projections.reads import balances
from subledger.cohort_days import MAY_BE_REOPENED
from subledger.errors import PeriodNotClosed, PeriodOutOfOrder
from subledger.kinds import KINDS
from subledger.periods import Period
from subledger.store.writing.expiry_sweep import sweep
from tests.building import cloud_event
from tests.conftest import NewLedger
from tests.laws.machine_blocks import BlockRules, rate_text
from tests.laws.machine_checks import COLUMNS, MONETARY, Entry
from tests.laws.machine_money import MoneyRules
from tests.laws.machine_state import CURRENCIES, CUSTOMERS, EXAMPLES, moment
from tests.laws.model_blocks import HOME, amount_text, plus

MONTHS = ("2026-01", "2026-01", "2026-02", "2026-03")


class Machine(BlockRules, MoneyRules):
    """Random events, compared with the model: mostly events that the books allow, sometimes events that they must
    refuse.
    """

    @initialize(
        policy=st.sampled_from(("contract_liability", "customer_deposits", "customer_deposits_arm")),
        shortfall=st.sampled_from(("reject", "overage", "backfill")),
        late_usage=st.sampled_from(("new", "reclassify")),
        zone=st.sampled_from(("UTC", "Pacific/Kiritimati", "America/New_York")),
        bought=st.lists(
            st.tuples(
                CUSTOMERS, st.integers(1, 60), st.integers(1, 9_999), st.one_of(st.none(), st.integers(1, 60)),
                CURRENCIES, st.sampled_from((None, None, "p")),
            ),
            min_size=2, max_size=5,
        ),
    )  # fmt: skip
    def found(
        self,
        policy: str,
        shortfall: str,
        late_usage: str,
        zone: str,
        bought: list[tuple[str, int, int, int | None, str, str | None]],
    ) -> None:
        self.begin(policy, zone, shortfall, late_usage)
        for base, day in (("EUR", 0), ("JPY", 0), ("KWD", 20)):
            self.send(
                "exchange_rate.set",
                None,
                day,
                True,
                base=base,
                quote=HOME,
                rate=rate_text(base, 100),
                rate_source="ecb",
            )
        for customer, credits, price, life, currency, pool in bought:
            self.send(
                "credits.purchased",
                customer,
                0,
                True,
                block_id=f"b{self.count}",
                credits=str(credits),
                price=amount_text(price, currency),
                currency=currency,
                tax=amount_text(price % 100, currency),
                invoice_id="i-0",
                pool=pool or ...,
                expires_at=... if life is None else moment(life).isoformat(),
            )
        self.flush()

    # --- the ledger itself -----------------------------------------------------------------------------------

    @rule(day=st.integers(0, 110))
    def expire(self, day: int) -> None:
        self.flush()
        self.model.latest = None
        swept = sweep(self.service.recorder, self.ledger, moment(day))
        assert swept == self.model.sweep(moment(day))
        self.position += swept
        self.check_books()

    @rule(month=st.sampled_from(MONTHS))
    def close(self, month: str) -> None:
        self.flush()
        period, self.model.latest = Period.parse(month), None
        entries = self.sql("SELECT min(accounting_date) FROM entries WHERE ledger = %s", self.ledger)[0][0]
        if self.model.closed is not None:
            allowed = period.first_day == self.model.closed + timedelta(days=1)
        else:
            allowed = entries is None or entries >= period.first_day
        try:
            closed = close_period(self.service.recorder, self.ledger, period)
        except PeriodOutOfOrder:
            assert not allowed
            return
        assert allowed
        swept = self.model.sweep(period.end(self.zone))
        assert closed.expired == swept
        self.position += swept
        self.take_over_what_was_remeasured(period.last_day)
        self.position += 1
        assert closed.position == self.position
        self.check_books()
        self.model.closed = period.last_day
        self.closed_at_most = max(self.closed_at_most, period.last_day)

    def take_over_what_was_remeasured(self, last_day: date) -> None:
        """Takes the remeasured amounts from the books. The law checks the result: amount × rate of the day for each
        position.
        """
        entries = self.entries()
        for entry in entries:
            if entry.position > self.position and entry.type == "balances.remeasured":
                assert entry.amount == 0
                role = entry.kind.removeprefix("fx_remeasurement_").removeprefix("fx_settlement_")
                if role == "prepaid_liability":
                    block = self.model.blocks[entry.block or ""]
                    assert block.refundable
                    block.gains = plus(block.gains, (Fraction(0), 0, -entry.functional))
                else:
                    place = self.place(role, entry)
                    amount, functional = self.model.standing[place]
                    self.model.standing[place] = (amount, functional + entry.functional)
        self.position += len({e.position for e in entries if e.position > self.position and e.type.startswith("bal")})
        self.foreign_money_is_at_the_rate_of(last_day, [entry for entry in entries if entry.on <= last_day])

    def foreign_money_is_at_the_rate_of(self, day: date, entries: list[Entry]) -> None:
        for place, (amount, functional) in self.places(entries, (*MONETARY, "prepaid_liability")).items():
            role, currency, _, name = place
            if currency != HOME and (role != "prepaid_liability" or self.model.blocks[name].refundable):
                assert functional == self.model.spot(amount, currency, day), (place, amount, functional, day)

    @rule(month=st.sampled_from(MONTHS))
    def reopen(self, month: str) -> None:
        self.flush()
        period = Period.parse(month)
        allowed = self.model.closed is not None and period.last_day <= self.model.closed
        self.model.latest = None
        try:
            reopen_period(self.service.recorder, self.ledger, period, "r")
        except PeriodNotClosed:
            assert not allowed
        else:
            assert allowed
            self.model.closed = period.first_day - timedelta(days=1)
            if period.first_day <= self.closed_at_most - MAY_BE_REOPENED:
                self.reopened_long_ago = True
            self.position += 1

    # --- repetition and questions ----------------------------------------------------------------------------

    @rule(back=st.integers(0, 30))
    def send_again(self, back: int) -> None:
        self.flush()
        if self.sent:
            event, position = self.sent[-1 - back % len(self.sent)]
            [outcome] = self.service.record(self.ledger, [event])
            assert (outcome.status, outcome.position) == ("duplicate", position)

    @rule(back=st.integers(0, 30))
    def send_with_other_content(self, back: int) -> None:
        self.flush()
        if self.sent:
            event, _ = self.sent[-1 - back % len(self.sent)]
            [outcome] = self.service.record(self.ledger, [{**event, "time": moment(200).isoformat()}])
            assert outcome.error is not None
            assert (outcome.error.code, outcome.error.facts["differs"]) == ("event_conflict", ["time"])

    @rule(back=st.integers(0, 60), other=st.booleans())
    def send_twice_in_one_batch(self, back: int, other: bool) -> None:
        """Sends an old event among new ones, and a new one twice. The second answer must equal the first."""
        self.flush()
        self.count += 1
        new = cloud_event(f"e{self.count}", "credits.consumed", "ann", moment(back).isoformat(), credits="1")
        again = {**new, "time": moment(back + 1).isoformat()} if other else new
        first, second = self.service.record(self.ledger, [new, again])
        self.expect(new, first)
        if first.position is not None:
            assert second.position == first.position
            assert second.status == ("rejected" if other else "duplicate")
            assert second.error is None or second.error.facts["differs"] == ["time"]
        else:
            self.expect(again, second)
        self.check_books()

    @rule(day=st.integers(0, 110), known=st.one_of(st.none(), st.integers(0, 60)))
    def ask(self, day: int, known: int | None) -> None:
        """Stores an answer, as known now or after any earlier batch. It is read again at the end."""
        self.flush()
        as_of, at, position = moment(day).date(), None, self.position
        if known is not None:
            batches = self.sql("SELECT recorded_at, last_position FROM batches WHERE ledger = %s", self.ledger)
            at, position = batches[known % len(batches)]
        with self.service.view(self.ledger, as_of=as_of, known_at=at) as view:
            known_at = view.known_at
            answer = balances.trial_balance(view)
            assert view.position == position
        lines = self.brute_force(as_of, view.position)
        assert {
            (b.account, b.currency): (
                b.debit_minor,
                b.credit_minor,
                b.functional_debit_minor,
                b.functional_credit_minor,
            )
            for b in answer
        } == {key: figures for key, figures in lines.items() if any(figures)}
        self.answers.append((as_of, known_at, answer))

    def teardown(self) -> None:
        if not self.sound:
            return  # a step has failed, and only this failure is reported
        self.flush()
        self.the_log_is_gapless_and_its_clock_never_stands_still()
        self.block_views_are_as_the_model_says()
        self.answers_stay()
        self.what_is_derived_follows_from_the_log()


def test_the_checks_know_every_kind_that_moves_value_of_a_block() -> None:
    assert {kind.name for kind in KINDS if kind.column is not None} <= COLUMNS.keys()


@pytest.mark.law
def test_the_recorder_does_what_the_model_says(service: Subledger, new_ledger: NewLedger) -> None:
    run_state_machine_as_test(
        lambda: Machine(service, new_ledger),
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=40,
            deadline=None,
            report_multiple_bugs=False,
            suppress_health_check=list(HealthCheck),
        ),
    )
