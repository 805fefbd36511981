"""Invariants after each step: the stored entries, compared with the model."""

from __future__ import annotations

from collections import Counter, defaultdict
from datetime import date
from fractions import Fraction
from itertools import pairwise
from typing import Any, NamedTuple

from projections import integrity
from projections.reads import balances, blocks
from projections.replay import rebuild
from tests.laws.machine_state import State
from tests.laws.model_blocks import HOME, NOTHING, Figures, plus
from tests.laws.model_pools import UNISSUED, Sums, by_day

MONETARY = (
    "cash", "processor_clearing", "disputes_receivable", "accounts_receivable", "unbilled_receivable",
    "refunds_payable", "customer_balance", "tax_payable", "unclaimed_property",
)  # fmt: skip
CONTROL = ("prepaid_liability", "customer_deposits", "credits_clearing")
# Entry kind → its effect on a block: the column of the roll-forward, and the direction.
COLUMNS = {
    "purchase": ("gained", 1), "promotional_grant": ("gained", 1), "goodwill": ("gained", 1),
    "allocation": ("gained", 1), "transfer_in": ("gained", 1), "repricing": ("gained", 1),
    "opening_prepaid_liability": ("gained", 1),
    "consumption": ("consumed", 1), "overage_backfilled": ("consumed", 1), "backfill_difference": ("consumed", 1),
    "redemption_tax": ("consumed", 1),
    "breakage": ("expired", 1), "pooled_breakage": ("expired", 1), "reinstatement": ("expired", -1),
    "void_unpaid": ("voided", 1), "void_paid": ("voided", 1),
    "goodwill_voided": ("voided", 1), "allocation_voided": ("voided", 1), "refund_unpaid": ("refunded", 1),
    "refund": ("refunded", 1), "refund_retained": ("refunded", 1),
    "transfer_out": ("transferred", 1), "escheat": ("escheated", 1),
    "dispute_lost_unused": ("charged_back", 1), "write_off_unused": ("written_off", 1),
    "fx_remeasurement_prepaid_liability": ("gained", -1), "fx_settlement_prepaid_liability": ("gained", -1),
}  # fmt: skip


class Entry(NamedTuple):
    position: int
    number: int
    kind: str
    customer: str | None
    block: str | None
    credits: Any
    amount: int
    functional: int
    currency: str
    on: date
    pool: str
    cohort: str
    processor: str
    event: str
    type: str


ENTRIES = """
SELECT n.position, n.number, n.kind, n.customer, n.block_id, n.credits, n.amount_minor, n.functional_minor, n.currency,
       n.accounting_date, d.pool, d.cohort, d.processor, e.event_id, e.type
FROM entries n JOIN events e USING (ledger, position) JOIN dimension_sets d USING (ledger, dimension_set)
WHERE ledger = %s ORDER BY n.position, n.number
"""
LINES = """
SELECT account, currency,
       coalesce(sum(amount_minor) FILTER (WHERE side = 'debit'), 0),
       coalesce(sum(amount_minor) FILTER (WHERE side = 'credit'), 0),
       coalesce(sum(functional_minor) FILTER (WHERE side = 'debit'), 0),
       coalesce(sum(functional_minor) FILTER (WHERE side = 'credit'), 0)
FROM journal_lines WHERE ledger = %s AND accounting_date <= %s AND position <= %s GROUP BY account, currency
"""
BACKFILL = ("overage_backfilled", "backfill_difference")
Place = tuple[str, str, str, str]


def _of_pool(entry: Entry) -> Sums:
    """The changes of a cohort by an entry on one of its blocks."""
    column, sign = COLUMNS.get(entry.kind, ("", 1))
    amount, credits = sign * entry.amount, -sign * Fraction(entry.credits)
    match column:
        case "gained":
            return Sums(issued=amount, credits=-credits)
        case "consumed":
            return Sums(redeemed=amount, credits=credits, backfilled=amount if entry.kind in BACKFILL else 0)
        case "expired":
            return Sums(expired=amount, credits=credits)
        case "escheated":
            return Sums(escheated=amount, credits=credits)
    return Sums(issued=-amount if column in UNISSUED else 0, credits=credits if column else Fraction(0))


class Checks(State):
    """The invariants."""

    def entries(self) -> list[Entry]:
        return [Entry(*row) for row in self.sql(ENTRIES, self.ledger)]

    def check_books(self) -> None:
        entries = self.entries()
        self.entries_by_block: dict[str, list[Entry]] = defaultdict(list)
        for entry in entries:
            if entry.block is not None:
                self.entries_by_block[entry.block].append(entry)
        self.nothing_is_dated_into_a_closed_month(entries)
        self.blocks_are_as_the_model_says()
        self.draws_are_as_the_model_says(entries)
        self.money_is_as_the_model_says(entries)
        self.pools_are_as_the_model_says(entries)
        self.what_is_taken_back_is_zero_line_by_line(entries)
        self.blocks_end_at_zero_in_every_view()
        self.books_balance(entries)
        self.checked = self.position

    def effects(self, entry: Entry) -> list[tuple[str, int]]:
        """Returns account and side (debits +1) of the lines of the entry, as if its amount were positive."""
        return [effect for debit, credit in self.rules_.get(entry.kind, ()) for effect in ((debit, 1), (credit, -1))]

    # --- blocks ----------------------------------------------------------------------------------------------

    def blocks_are_as_the_model_says(self) -> None:
        """Checks credits, money and functional amount of every column of every block."""
        found = {}
        for name, entries in self.entries_by_block.items():
            columns: dict[str, Figures] = {}
            for entry in entries:
                if entry.kind in COLUMNS:
                    column, sign = COLUMNS[entry.kind]
                    figures = (sign * Fraction(entry.credits), sign * entry.amount, sign * entry.functional)
                    columns[column] = plus(columns.get(column, NOTHING), figures)
            found[name] = {column: figures for column, figures in columns.items() if figures != NOTHING}
        expected = {}
        for block in self.model.blocks.values():
            columns = {"gained": block.gains, **block.lost}
            expected[block.name] = {column: figures for column, figures in columns.items() if figures != NOTHING}
            assert block.carrying >= 0
            assert block.left >= 0
        assert found == expected

    def draws_are_as_the_model_says(self, entries: list[Entry]) -> None:
        """Checks block, credits, money and accounting date of every draw, in order.

        A draw is dated by its usage. It can be dated later for the same reasons as other entries of its block. Other
        checks ensure that no view is below zero; ``test_availability`` tests the first possible day.
        """
        found = defaultdict(list)
        last: dict[str | None, date] = {}
        dates = defaultdict(list)
        for entry in entries:
            if entry.type == "credits.consumed" and entry.kind in ("consumption", "overage") and entry.credits:
                functional = entry.functional if entry.block is not None else 0
                found[entry.event].append((entry.block, Fraction(entry.credits), entry.amount, functional))
                dates[entry.event].append((entry.on, last.get(entry.block, entry.on)))
            if entry.block is not None:
                last[entry.block] = max(last.get(entry.block, entry.on), entry.on)
        for usage in self.model.usage.values():
            draws = [(d.block and d.block.name, d.credits, d.money, d.functional) for d in usage.draws]
            assert found.pop(usage.name) == draws, (usage.name, draws)
            for draw, (on, latest) in zip(usage.draws, dates.pop(usage.name), strict=True):
                assert draw.on <= on <= max(draw.on, latest), (usage.name, draw.on, on, latest)
        assert found == {}

    def what_is_taken_back_is_zero_line_by_line(self, entries: list[Entry]) -> None:
        """Checks that usage and its complete reversal sum to zero on each side of every account and block."""
        whole = {usage.name for usage in self.model.usage.values() if all(d.credits == d.restored for d in usage.draws)}
        original = {e["id"]: e["data"]["event_id"] for e, _ in self.sent if e["type"] == "consumption.reversed"}
        rest: Counter[tuple[str, str | None, str, str]] = Counter()
        for entry in entries:
            usage = original.get(entry.event, entry.event)
            if usage in whole and entry.kind in ("consumption", "overage") and entry.credits:
                for account, side in self.effects(entry):
                    rest[usage, entry.block, account, "currency"] += side * entry.amount
                    rest[usage, entry.block, account, "functional"] += side * entry.functional
        assert {key: amount for key, amount in rest.items() if amount and not self.is_open_fx(key)} == {}

    @staticmethod
    def is_open_fx(key: tuple[str, str | None, str, str]) -> bool:
        """True for overage, whose reversal uses the carrying amount of the receivable, which may differ from the
        recorded amount.
        """
        return key[1] is None and key[3] == "functional"

    def blocks_end_at_zero_in_every_view(self) -> None:
        """Checks at every accounting date, as known at every position: gains − losses = carrying amount.

        This holds in credits and in money. No column is negative. If no credits remain, nothing else remains. Views
        known at positions before the last check do not change.
        """
        for block, entries in self.entries_by_block.items():
            if entries[-1].position <= self.checked:
                continue
            for as_of in {entry.on for entry in entries}:
                # A view is between events: within one, the entries of a block follow each other.
                for known in {entry.position for entry in entries if entry.position > self.checked}:
                    self.check_view(block, [e for e in entries if e.position <= known and e.on <= as_of])
            self.check_head(block, entries)

    def check_view(self, block: str, seen: list[Entry]) -> None:
        credits: dict[str, Fraction] = defaultdict(Fraction)
        money: dict[str, int] = defaultdict(int)
        balances: Counter[str] = Counter()
        for entry in seen:
            if entry.kind in COLUMNS:
                column, sign = COLUMNS[entry.kind]
                credits[column] += sign * Fraction(entry.credits)
                money[column] += sign * entry.amount
            for account, side in self.effects(entry):
                balances[account] += side * entry.amount
        left = credits.pop("gained", Fraction(0)) - sum(credits.values())
        carrying = money.pop("gained", 0) - sum(money.values())
        assert min(left, carrying, *credits.values(), *money.values(), 0) == 0, (block, left, carrying, credits, money)
        assert carrying == -balances["prepaid_liability"], (block, "the liability is what is carried")
        kept = carrying if self.deposits else 0
        assert (-balances["customer_deposits"], balances["credits_clearing"]) == (kept, kept), (block, balances)
        assert left > 0 or carrying == 0, (block, "no credits left, no value left")

    def check_head(self, block: str, entries: list[Entry]) -> None:
        """Checks a block in the functional currency at the head."""
        balances: Counter[str] = Counter()
        for entry in entries:
            for account, side in self.effects(entry):
                balances[account] += side * entry.functional
        carrying = self.model.blocks[block].carrying_functional
        kept = carrying if self.deposits else 0
        found = (-balances["prepaid_liability"], -balances["customer_deposits"], balances["credits_clearing"])
        assert found == (carrying, kept, kept), (block, "functional", found)
        assert self.model.blocks[block].left > 0 or carrying == 0, (block, "no credits, nothing functional")

    # --- money -----------------------------------------------------------------------------------------------

    def places(self, entries: list[Entry], roles: tuple[str, ...] = MONETARY) -> dict[Place, tuple[int, int]]:
        """Returns the balances, debits positive, in the currency and in the functional one."""
        found: dict[Place, tuple[int, int]] = {}
        for entry in entries:
            for role, side in self.effects(entry):
                if role in roles:
                    place = self.place(role, entry)
                    held = found.get(place, (0, 0))
                    found[place] = (held[0] + side * entry.amount, held[1] + side * entry.functional)
        return {place: held for place, held in found.items() if held != (0, 0)}

    @staticmethod
    def place(role: str, entry: Entry) -> Place:
        match role:
            case "cash" | "tax_payable":
                return role, entry.currency, "", ""
            case "processor_clearing":
                return role, entry.currency, "", entry.processor
            case "accounts_receivable" | "disputes_receivable" | "unclaimed_property" | "prepaid_liability":
                return role, entry.currency, entry.customer or "", entry.block or ""
        return role, entry.currency, entry.customer or "", ""

    def money_is_as_the_model_says(self, entries: list[Entry]) -> None:
        """Checks receivables, amounts owed, unapplied payments, cash and tax, in both currencies."""
        found = self.places(entries)
        assert found == {place: held for place, held in self.model.standing.items() if held != (0, 0)}
        assert {place: held for place, held in found.items() if not held[0]} == {}, "nothing is left over"
        assert all(amount == functional for (_, c, _, _), (amount, functional) in found.items() if c == HOME)
        unbilled: Counter[tuple[str, str]] = Counter()
        for usage in self.model.usage.values():
            unbilled[usage.customer, usage.currency] += usage.open_money
        for (customer, currency), amount in unbilled.items():
            assert found.get(("unbilled_receivable", currency, customer, ""), (0, 0))[0] == amount
        for block in self.model.blocks.values():
            place = ("accounts_receivable", block.currency, block.customer, block.name)
            assert found.get(place, (0, 0))[0] == block.owed

    def pools_are_as_the_model_says(self, entries: list[Entry]) -> None:
        """Checks that recognised breakage is on the line on every day, cohort by cohort, and that its part that has not
        expired is on breakage_recognized.
        """
        days: defaultdict[tuple[str, str], defaultdict[date, Sums]] = defaultdict(lambda: defaultdict(Sums))
        recognised: defaultdict[tuple[str, str], Counter[date]] = defaultdict(Counter)
        functional: Counter[tuple[str, str]] = Counter()
        for entry in entries:
            if not entry.pool:
                continue
            whole = len(entry.cohort) != 7 or "Q" in entry.cohort  # a cohort, not a month of issue
            key = (entry.pool, entry.cohort if whole else self.model.cohort_of(entry.pool, entry.cohort))
            if entry.kind == "breakage_estimate":
                recognised[key][entry.on] += entry.amount
                functional[key] += entry.functional
            else:
                days[key][entry.on] = days[key][entry.on].plus(_of_pool(entry))
                functional[key] -= entry.functional if entry.kind == "pooled_breakage" else 0
        for pool in self.model.pools.values():
            for name, line in pool.cohorts.items():
                key, total = (pool.name, name), 0
                posted, changes = recognised.pop(key, Counter()), days[key]
                sums = Sums()
                for change in changes.values():
                    sums = sums.plus(change)
                assert sums[:5] == line.sums[:5], (key, sums, line.sums)
                due = by_day(changes, line.estimates)
                for day in sorted({*due, *posted}):
                    total += posted[day]
                    assert total == due[day] or self.reopened_long_ago, (key, day, posted, due)
                if not line.sums.credits:
                    assert (total - sums.expired, functional[key]) == (0, 0), (key, "zero in both currencies")
        assert not any(any(each.values()) for each in recognised.values()), "breakage of a cohort that there is not"

    def books_balance(self, entries: list[Entry]) -> None:
        """Checks that debits equal credits in each currency and in the functional one, and that lines follow from their
        entries.
        """
        expected: Counter[tuple[str, str, str]] = Counter()
        for entry in entries:
            for account, side in self.effects(entry):
                expected[account, entry.currency, "currency"] += side * entry.amount
                expected[account, entry.currency, "functional"] += side * entry.functional
        for (account, currency), figures in self.brute_force(date(2999, 1, 1), self.position).items():
            debit, credit, functional_debit, functional_credit = figures
            assert debit - credit == expected[account, currency, "currency"], account
            assert functional_debit - functional_credit == expected[account, currency, "functional"], account

    def brute_force(self, as_of: date, position: int) -> dict[tuple[str, str], tuple[int, int, int, int]]:
        found = {(row[0], row[1]): tuple(map(int, row[2:])) for row in self.sql(LINES, self.ledger, as_of, position)}
        sides: Counter[tuple[str, str]] = Counter()
        for (_, currency), (debit, credit, functional_debit, functional_credit) in found.items():
            sides[currency, "currency"] += debit - credit
            sides[currency, "functional"] += functional_debit - functional_credit
        assert not any(sides.values()), sides
        return found

    def nothing_is_dated_into_a_closed_month(self, entries: list[Entry]) -> None:
        if self.model.closed is not None:
            assert [e for e in entries if e.position > self.checked and e.on <= self.model.closed] == []

    # --- at the end of a run ---------------------------------------------------------------------------------

    def the_log_is_gapless_and_its_clock_never_stands_still(self) -> None:
        batches = self.sql(
            "SELECT first_position, last_position, recorded_at FROM batches WHERE ledger = %s ORDER BY last_position",
            self.ledger,
        )
        positions = [
            row[0] for row in self.sql("SELECT position FROM events WHERE ledger = %s ORDER BY 1", self.ledger)
        ]
        assert positions == list(range(1, self.position + 1))
        assert batches[0][0] == 1
        assert batches[-1][1] == self.position
        for before, after in pairwise(batches):
            assert after[0] == before[1] + 1
            assert after[2] > before[2]

    def block_views_are_as_the_model_says(self) -> None:
        with self.service.view(self.ledger, as_of=date(2999, 1, 1)) as view:
            found, _ = blocks.customer_blocks(view, limit=1000)
        assert {
            b.block.block_id: (
                b.customer,
                Fraction(b.credits),
                Fraction(b.used),
                Fraction(b.remaining),
                b.carrying_minor,
                b.expires_at,
            )
            for b in found
        } == {
            b.name: (b.customer, b.gains[0], b.of("consumed")[0], b.left, b.carrying, b.expires)
            for b in self.model.blocks.values()
        }

    def answers_stay(self) -> None:
        for as_of, known_at, answer in self.answers:
            with self.service.view(self.ledger, as_of=as_of, known_at=known_at) as view:
                assert balances.trial_balance(view) == answer, "an answer never changes"

    def what_is_derived_follows_from_the_log(self) -> None:
        assert integrity.verify(self.service.database, self.ledger).differences == []
        counts = rebuild.rebuild(self.service.database, self.ledger)
        assert not any((*counts.removed.values(), *counts.written.values())), "a rebuild changes nothing"
