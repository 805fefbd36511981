"""State of the machine: the sent events, and the choice of their references."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from math import ceil
from typing import Any
from zoneinfo import ZoneInfo

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine

from api.service import Subledger
from subledger.store.writing.batch import Outcome
from tests.building import cloud_event
from tests.conftest import NewLedger
from tests.laws.model import Model, Refusal
from tests.laws.model_blocks import amount_text

EXAMPLES = max(1, settings().max_examples // 4)
CUSTOMERS = st.sampled_from(("ann", "bob"))
PRODUCTS = st.sampled_from((None, "api", "chat"))
UNITS = st.sampled_from((None, None, None, None, "token"))
CURRENCIES = st.sampled_from(("USD",) * 6 + ("EUR", "EUR", "JPY", "KWD", "GBP"))
CREDITS = st.one_of(st.integers(1, 60).map(str), st.sampled_from(("0.5", "3.25", "7.3", "0.000000001")))
SHORTFALLS = st.sampled_from((None, None, "reject", "overage", "backfill"))
DAYS = st.integers(0, 70)
NOBODY = 12
PICKS = st.integers(0, NOBODY)
RARELY = st.sampled_from((False,) * 15 + (True,))
MOSTLY = st.sampled_from((True,) * 7 + (False,))
TOGETHER = st.sampled_from((False, False, True))
# Shares of an amount: mostly all of it or a part, sometimes more.
SHARES = st.sampled_from([Fraction(n, 7) for n in (7, 7, 7, 7, 1, 2, 3, 4, 5, 6, 6, 8)])
NEW_BLOCKS = {
    "credits.purchased": ("block_id", None),
    "credits.granted": ("block_id", None),
    "credits.transferred": ("new_block_id", "to_customer"),
}
START = datetime(2026, 1, 1, 12, tzinfo=UTC)


def moment(day: int) -> datetime:
    return START + timedelta(days=day)


def part_of(limit: int, share: Fraction) -> int:
    """Returns a part of an amount, at least one minor unit."""
    return max(1, ceil(limit * share))


class State(RuleBasedStateMachine):
    """A ledger, its model, and the sent events."""

    def __init__(self, service: Subledger, new_ledger: NewLedger) -> None:
        super().__init__()
        self.service, self.new_ledger = service, new_ledger
        self.count, self.sound, self.checked = 0, False, 0
        self.closed_at_most, self.reopened_long_ago = date.min, False
        self.sent: list[tuple[dict[str, Any], int]] = []
        self.waiting: list[dict[str, Any]] = []
        self.repriced: set[str | None] = set()
        self.last_day = 0
        self.answers: list[tuple[date, datetime, Any]] = []

    def begin(self, policy: str, zone: str, shortfall: str, late_usage: str) -> None:
        self.ledger = self.new_ledger(
            policy=policy,
            on_shortfall=shortfall,
            timezone=zone,
            late_usage=late_usage,
            rate_max_age_days=366,
            dimensions=("department", "region"),
        )
        self.deposits = policy != "contract_liability"
        self.zone = ZoneInfo(zone)
        self.model = Model(shortfall=shortfall, late_usage=late_usage, zone=self.zone)
        self.position = 3
        self.rules_: dict[str, list[tuple[str, str]]] = {}
        for kind, debit, credit in self.sql(
            "SELECT kind, debit, credit FROM posting_rules WHERE ledger = %s ORDER BY kind, pair", self.ledger
        ):
            self.rules_.setdefault(kind, []).append((debit, credit))

    def sql(self, query: str, *parameters: Any) -> list[Any]:
        with self.service.database.read() as connection:
            return list(connection.exec_driver_sql(query, parameters).all())

    # --- sending ---------------------------------------------------------------------------------------------

    def send(self, type: str, customer: str | None, day: int, together: bool, **data: Any) -> None:
        self.count += 1
        # A repricing that is dated before recorded draws depends on their days: see test_repricing_order.
        if type == "block.repriced" or (type == "consumption.reversed" and customer in self.repriced):
            day = max(day, self.last_day)
            self.repriced.add(customer)
        self.last_day = max(day, self.last_day)
        data = {name: value for name, value in data.items() if value is not ...}
        self.waiting.append(cloud_event(f"e{self.count}", type, customer, moment(day).isoformat(), **data))
        if not together:
            self.flush()

    def flush(self) -> None:
        if not self.waiting:
            return
        events, self.waiting = self.waiting, []
        self.sound = False
        for event, outcome in zip(events, self.service.record(self.ledger, events), strict=True):
            self.expect(event, outcome)
        self.check_books()
        self.sound = True

    def check_books(self) -> None:
        raise NotImplementedError

    def expect(self, event: dict[str, Any], outcome: Outcome) -> None:
        expected = None
        try:
            self.model.apply(event)
        except Refusal as refusal:
            expected = str(refusal)
        assert (None if outcome.error is None else outcome.error.code) == expected, (event, outcome)
        if expected is None:
            self.position += 1
            assert outcome.position == self.position, "positions are gapless"
            self.sent.append((event, self.position))

    # --- picking ---------------------------------------------------------------------------------------------

    def block(self, pick: int, stranger: bool = False) -> tuple[str, str]:
        """Returns a block that was sent, perhaps in the waiting batch, and its customer; or an unknown block."""
        owners = {name: block.customer for name, block in self.model.blocks.items()}
        for event in self.waiting:
            if event["type"] in NEW_BLOCKS:
                name, owner = NEW_BLOCKS[event["type"]]
                owners[event["data"][name]] = event["data"][owner] if owner else event["subject"]
        if not owners or pick == NOBODY:
            return "nobody's", "ann"
        name = sorted(owners)[pick % len(owners)]
        return name, ("carol" if stranger else owners[name])

    def usage(self, pick: int, stranger: bool) -> tuple[str, str]:
        """Returns usage that was sent (the latest for 0), and its customer; or an event that is not usage; or an
        unknown event.
        """
        owners = {name: usage.customer for name, usage in self.model.usage.items()}
        owners |= {e["id"]: e["subject"] for e in self.waiting if e["type"] == "credits.consumed"}
        if not owners or pick == NOBODY:
            return (self.sent[0][0]["id"] if self.sent and stranger else "nothing"), "ann"
        name = list(owners)[-1 - pick % len(owners)]
        return name, ("carol" if stranger else owners[name])

    def money(self, limit: int, share: Fraction, currency: str) -> str:
        return amount_text(part_of(limit, share), currency)

    def new_name(self, letter: str, again: bool, known: dict[str, Any]) -> str:
        """Returns a new id, or one that is taken."""
        return next(iter(known)) if again and known else f"{letter}{self.count}"
