"""The machine's rules about the ledger as a whole: policies, mappings, settings, customers' attributes, journals.

Only undoing changes the books. For all other events the model does not change.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import rule

from projections.account_mapping.customer_attributes import change_attributes, erase_attributes
from projections.account_mapping.mapping import AccountMapping, default_mapping
from projections.configuring.account_mappings import adopt_mapping
from projections.exports.exporting import export
from projections.journals.reversing import reverse_journal
from subledger.errors import JournalNotReversible, NothingToCorrect, UnknownExport
from subledger.ledger_settings import SettingsChange
from subledger.periods import Period
from subledger.posting import SHIPPED_POLICIES, shipped_policy
from tests.charts import another_chart
from tests.laws.machine_checks import Checks
from tests.laws.machine_state import CUSTOMERS, NOBODY, PICKS, RARELY, START, TOGETHER
from tests.laws.model import WAYS_OF_THEIR_OWN
from tests.store.tampering import past_triggers

PERIODS = st.sampled_from(("2026-01", "2026-01", "2026-02", "2026-03")).map(Period.parse)
CHARTS = {
    "as shipped": default_mapping(),
    "another": another_chart(3000),
    "by customer": AccountMapping.from_rows(
        [
            *another_chart(5000).rows,
            {"role": "usage_revenue", "customer.segment": "enterprise", "account": "4010"},
            {"role": "usage_revenue", "product": "api", "currency": "EUR", "account": "4020"},
        ]
    ),
}


class LedgerRules(Checks):
    @rule(pick=PICKS, stranger=RARELY, together=TOGETHER)
    def undo(self, pick: int, stranger: bool, together: bool) -> None:
        """Undoes the latest event, at its own moment; sometimes an event that cannot be undone, or an unknown one."""
        self.flush()
        known = {event["id"]: event for event, _ in self.sent}
        latest = known.get(self.model.latest[0]) if self.model.latest is not None else None
        others = [event for name, event in known.items() if self.is_not_undone(name)]
        event = others[pick % len(others)] if others and pick % 3 == 2 else latest
        if event is None or self.divides_a_pool(event):
            return
        name = "nothing" if pick == NOBODY else event["id"]
        day = (datetime.fromisoformat(event["time"]) - START).days
        customer = "carol" if stranger else event.get("subject")
        self.send("event.reversed", customer, day, together, event_id=name, reason="r")

    def is_not_undone(self, name: str) -> bool:
        """True for usage, for an event that reversed something, and for an undone event."""
        type, _ = self.model.types[name]
        return name in self.model.undone or type in WAYS_OF_THEIR_OWN

    def divides_a_pool(self, event: dict[str, Any]) -> bool:
        """True for the first estimate of a pool, which divides the pool into cohorts permanently."""
        if event["type"] != "breakage.estimated" or self.model.latest is None:
            return False
        pool = self.model.latest[1]["pools"].get(event["data"]["pool"])
        return pool is None or pool.grouping is None

    @rule(name=st.sampled_from(SHIPPED_POLICIES))
    def adopt_a_policy(self, name: str) -> None:
        self.flush()
        self.position += self.service.adopt_policy(self.ledger, shipped_policy(name)).adopted

    @rule(chart=st.sampled_from(list(CHARTS)), valid_from=st.one_of(st.none(), PERIODS))
    def adopt_a_mapping(self, chart: str, valid_from: Period | None) -> None:
        self.flush()
        self.position += adopt_mapping(self.service.recorder, self.ledger, CHARTS[chart], valid_from=valid_from)

    @rule(
        shortfall=st.sampled_from(("reject", "overage", "backfill")), late_usage=st.sampled_from(("new", "reclassify")),
        entity=st.sampled_from((None, None, "US", "DE")),
    )  # fmt: skip
    def change_settings(self, shortfall: str, late_usage: str, entity: str | None) -> None:
        self.flush()
        entity = entity and f"{self.ledger}-{entity}"
        change = SettingsChange(on_shortfall=shortfall, late_usage=late_usage, entity=entity)
        self.position += self.service.configure_ledger(self.ledger, change).status == "configured"
        self.model.shortfall, self.model.late_usage = shortfall, late_usage

    @rule(customer=CUSTOMERS, segment=st.sampled_from((None, "enterprise", "smb")))
    def say_of_a_customer(self, customer: str, segment: str | None) -> None:
        self.flush()
        if segment is None:
            erase_attributes(self.service.database, self.ledger, customer, by="crm")
        else:
            change_attributes(self.service.database, self.ledger, customer, {"segment": segment}, by="crm")

    @rule(period=PERIODS, format=st.sampled_from(("csv", "netsuite-csv", "beancount")))
    def hand_over(self, period: Period, format: str) -> None:
        """Exports a month. The cut of an open month is an event."""
        self.flush()
        export(self.service.recorder, self.service.database, self.ledger, period, format, by="controller")
        [(self.position,)] = self.sql("SELECT position FROM ledgers WHERE ledger = %s", self.ledger)

    @rule(period=PERIODS, number=st.integers(1, 2))
    def reverse_a_journal(self, period: Period, number: int) -> None:
        self.flush()
        with suppress(UnknownExport, JournalNotReversible, NothingToCorrect):
            reverse_journal(self.service.recorder, self.ledger, period, number, "the wrong accounts", by="controller")

    @rule(days=st.integers(1, 3))
    def let_days_go_by(self, days: int) -> None:
        """Moves the clock forward. Later events are recorded after the time of an answer, and the database refuses a
        future time.
        """
        self.flush()
        with past_triggers(self.service.database.url, "ledgers") as owner:
            owner.execute(
                "UPDATE ledgers SET answered_through = greatest(recorded_at, answered_through)"
                " + make_interval(days => %s) WHERE ledger = %s",
                (days, self.ledger),
            )
