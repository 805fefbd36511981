"""Own dimensions of purchases and usage, in entries, accounts, journals, reports, replay and verify."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from datetime import date
from functools import partial
from typing import Any

import pytest

from api.service import Subledger
from projections.account_mapping.mapping import AccountMapping, default_mapping
from projections.close.close import close_period
from projections.configuring.account_mappings import adopt_mapping
from projections.exports.formats import neutral
from projections.integrity import verify
from projections.journals.drill_down import entries_behind_line
from projections.journals.journal import Journal
from projections.replay.rebuild import rebuild
from subledger.accounts import Side
from subledger.errors import InvalidMapping, InvalidValue, UnmappedRole
from subledger.ledger_settings import SettingsChange
from subledger.own_dimensions import pairs_of
from subledger.periods import Period
from tests.building import cloud_event, payment, purchase, rate, recorded, reversal, usage
from tests.conftest import NewLedger
from tests.reading import csv_rows, journals_made, report_of, table_of

CHART = AccountMapping.from_rows(
    (
        *default_mapping().rows,
        {"role": "prepaid_liability", "dimension.department": "sales", "account": "2151"},
        {"role": "prepaid_liability", "dimension.department": "lab", "account": "2152"},
        *(
            {"role": role, "account": "4001", "segment": "{dimension.department}", "dimension.department": "lab"}
            for role in ("usage_revenue", "overage_revenue")
        ),
    )
)
MONTHS = (Period(2026, 1), Period(2026, 2), Period(2026, 3))
SALES, LAB = {"department": "sales"}, {"department": "lab"}
NORTH = {"department": "sales", "region": "north"}


@pytest.fixture(params=["contract_liability", "customer_deposits", "customer_deposits_arm"])
def ledger(service: Subledger, new_ledger: NewLedger, request: pytest.FixtureRequest) -> str:
    """Blocks of two departments and of none: used by others, reversed, transferred, refunded, voided, expired,
    disputed, written off. There is billed overage, overage that a later block pays, and a part in euros.
    """
    ledger = new_ledger(policy=request.param, on_shortfall="backfill", dimensions=("department", "region"))
    adopt_mapping(service.recorder, ledger, CHART)
    buy = partial(purchase, credits="100", price="100.00", time="2026-01-10", tax="10.00")
    use = partial(usage, time="2026-01-20")
    recorded(
        service,
        ledger,
        rate("2026-01-01", "1.20"),
        buy("a", customer="ann", dimensions=NORTH, expires_at="2026-03-10T00:00:00Z"),
        buy("b", customer="bob", dimensions=LAB, refundable=True),
        buy("c", customer="cid", dimensions=SALES, currency="EUR", refundable=True),
        buy("d", customer="dan"),
        buy("e", customer="eve", dimensions=LAB, pool="p", tax="0", expires_at="2026-03-05T00:00:00Z"),
        cloud_event(
            "est",
            "breakage.estimated",
            None,
            "2026-01-11T00:00:00Z",
            pool="p",
            currency="USD",
            expected_breakage_rate="0.1",
            evidence="last year",
        ),
        payment("p1", "110.00", "bob", "2026-01-12", block_id="b", payment_id="pb", processor="stripe", fee="1.00"),
        payment("p2", "110.00", "cid", "2026-01-12", currency="EUR", block_id="c"),
        use("u1", "30", customer="ann", dimensions=LAB),
        use("u2", "20", customer="ann"),
        use("u3", "40", customer="bob", dimensions={"region": "south"}, product="api"),
        use("u4", "50", customer="cid", dimensions=LAB),
        use("u5", "25", customer="dan", dimensions=SALES),
        use("u6", "60", customer="eve", dimensions=SALES),
        reversal("r1", "u1", "ann", "2026-01-21", credits="10"),
        use("o1", "10", customer="fay", dimensions=SALES, overage_price="0.80", currency="USD"),
        use("o2", "10", customer="gus", dimensions=LAB, overage_price="0.80", currency="USD"),
        use("o3", "5", customer="gus", overage_price="0.80", currency="USD"),
        reversal("r2", "o2", "gus", "2026-01-22", credits="2"),
        rate("2026-01-31", "1.15"),
    )
    close_period(service.recorder, ledger, MONTHS[0])
    hand = {"block_id": "c", "credits": "20", "to_customer": "gil", "new_block_id": "c2"}
    recorded(
        service,
        ledger,
        buy("f", customer="fay", time="2026-02-01", dimensions=LAB),
        cloud_event(
            "bill", "overage.billed", "gus", "2026-02-01T00:00:00Z", invoice_id="i", amount="10.40", currency="USD"
        ),
        cloud_event("t", "credits.transferred", "cid", "2026-02-02T00:00:00Z", **hand),
        use("u7", "20", customer="gil", time="2026-02-03", dimensions={"region": "east"}),
        cloud_event("back", "credits.refunded", "cid", "2026-02-04T00:00:00Z", block_id="c"),
        cloud_event("dis", "dispute.opened", "bob", "2026-02-05T00:00:00Z", dispute_id="x", payment_id="pb"),
        cloud_event("lost", "dispute.lost", "bob", "2026-02-06T00:00:00Z", dispute_id="x", fee="15.00"),
        cloud_event("void", "purchase.voided", "fay", "2026-02-07T00:00:00Z", block_id="f", reason="r"),
        cloud_event("off", "receivable.written_off", "dan", "2026-02-08T00:00:00Z", block_id="d", reason="r"),
        cloud_event(
            "memo",
            "credit_memo.issued",
            "ann",
            "2026-02-09T00:00:00Z",
            block_id="a",
            amount="5.00",
            currency="USD",
            reason="r",
        ),
        rate("2026-02-28", "1.10"),
        rate("2026-03-31", "1.10"),
    )
    for month in MONTHS[1:]:
        close_period(service.recorder, ledger, month)
    return ledger  # fmt: skip


LINES = """
SELECT l.account, l.side, l.amount_minor, l.functional_minor, l.currency, l.block_id, d.own, d.usage
FROM journal_lines l JOIN dimension_sets d ON d.ledger = l.ledger AND d.dimension_set = l.dimension_set
WHERE l.ledger = %s
"""


def lines(service: Subledger, ledger: str) -> list[tuple[Any, ...]]:
    with service.database.write() as connection:
        return connection.execute(LINES, (ledger,)).fetchall()  # type: ignore[arg-type]


def department(own: str) -> str:
    return dict(pairs_of(own)).get("department", "")


def balances(journals: Iterable[Journal], *, functional: bool = False) -> dict[str, int]:
    found: Counter[str] = Counter()
    for line in (line for journal in journals for line in journal.lines):
        amount = line.functional_minor if functional else line.amount_minor
        found[line.account.number] += amount if line.side is Side.DEBIT else -amount
    return dict(found)


BY_BLOCK = {
    "prepaid_liability", "customer_deposits", "credits_clearing", "transfer_clearing", "unbilled_receivable",
    "breakage_recognized", "disputes_receivable", "unclaimed_property",
}  # fmt: skip


def test_every_balance_that_ends_with_its_blocks_ends_at_zero_within_each_own_dimension_set(
    service: Subledger, ledger: str
) -> None:
    sums: dict[tuple[str, str, str], list[int]] = defaultdict(lambda: [0, 0])
    for journal in journals_made(service, ledger, *MONTHS):
        for line in journal.lines:
            sign = 1 if line.side is Side.DEBIT else -1
            total = sums[line.role, line.currency, line.own]
            total[0] += sign * line.amount_minor
            total[1] += sign * line.functional_minor
    open_ones = {key: total for key, total in sums.items() if key[0] in BY_BLOCK and any(total)}
    assert open_ones == {}
    receivable = {key[2]: total for key, total in sums.items() if key[0] == "accounts_receivable" and any(total)}
    # Unpaid are: a, less its memo; e, and the used credits of f with their tax; and an invoice of overage, which has no
    # own dimensions.
    assert {department(own): total for own, total in receivable.items()} == {
        "sales": [105_00, 105_00],
        "lab": [111_00, 111_00],
        "": [10_40, 10_40],
    }


def test_a_department_s_liability_account_returns_to_zero(service: Subledger, ledger: str) -> None:
    journals = journals_made(service, ledger, *MONTHS)
    january = [journal for journal in journals if journal.period == MONTHS[0]]
    assert balances(january)["2151"] == -(60_00 + 50_00), "ann's 60.00 and cid's 50.00 euros"
    assert balances(january)["2152"] == -(60_00 + 40_00), "bob's 60.00 and eve's 40.00"
    for functional in (False, True):
        over_all = balances(journals, functional=functional)
        assert (over_all["2151"], over_all["2152"], over_all["2150"]) == (0, 0, 0)
    assert verify(service.database, ledger).differences == []


def test_revenue_is_of_who_used_over_the_block_name_by_name(service: Subledger, ledger: str) -> None:
    found: Counter[str] = Counter()
    for account, side, amount, _, _, block, own, used in lines(service, ledger):
        is_revenue = account in ("usage_revenue", "overage_revenue") or (account == "deferred_revenue" and used)
        if is_revenue and block in ("a", "b", "c2"):
            found[f"{block} {used or own}"] += amount if side == "credit" else -amount
    if not found:
        pytest.skip("nothing is posted to revenue under this policy")
    north, south = '{"department":"sales","region":"north"}', '{"department":"lab","region":"south"}'
    assert found[f"b {south}"] == 40_00
    assert found['a {"department":"lab","region":"north"}'] == 20_00
    assert found['c2 {"department":"sales","region":"east"}'] == 20_00
    assert found[f"a {north}"] in (20_00, 0)


def test_lines_lead_to_their_entries_and_files_say_their_dimensions(service: Subledger, ledger: str) -> None:
    journals = journals_made(service, ledger, *MONTHS)
    with service.database.read() as connection:
        for journal in journals:
            for line in journal.lines:
                behind = entries_behind_line(connection, journal, line.number, limit=1_000)
                assert sum(entry.amount_minor for entry in behind) == line.amount_minor
                assert sum(entry.functional_minor for entry in behind) == line.functional_minor
    [january] = [journal for journal in journals if journal.period == MONTHS[0]]
    rows = csv_rows(neutral.csv_text(january).encode())
    assert {row["dimension.department"] for row in rows if row["account"] == "2152"} == {"lab"}
    assert {row["dim_segment"] for row in rows if row["account"] == "4001"} <= {"lab"}


def test_replay_makes_the_same_rows_and_a_rebuild_too(service: Subledger, ledger: str) -> None:
    assert verify(service.database, ledger).differences == []
    rebuild(service.database, ledger)
    assert verify(service.database, ledger).differences == []


def test_trial_balance_and_roll_forward_by_a_dimension_add_up(service: Subledger, ledger: str) -> None:
    whole = table_of(report_of(service, ledger, "trial-balance", as_of=date(2026, 1, 31)), "accounts")
    apart = report_of(service, ledger, "trial-balance", by="dimension.department", as_of=date(2026, 1, 31))
    assert apart.ties_out
    sums: Counter[tuple[str, str, str]] = Counter()
    for row in table_of(apart, "accounts"):
        for side in ("debit", "credit"):
            sums[row["account"], row["currency"], side] += row[side]
    assert sums == {(row["account"], row["currency"], side): row[side] for row in whole for side in ("debit", "credit")}
    roll = report_of(service, ledger, "rollforward", by="dimension.department", as_of=date(2026, 1, 31))
    assert roll.ties_out
    closing: Counter[str] = Counter()
    for row in table_of(roll, "rollforward"):
        closing[row["dimension.department"]] += row["closing"]
    assert closing == {"": 75_00, "sales": 110_00, "lab": 100_00}


def test_names_are_added_and_stay(service: Subledger, new_ledger: NewLedger) -> None:
    ledger = new_ledger()
    [refused] = service.record(ledger, [purchase("a", dimensions=LAB)])
    assert (refused.error and refused.error.code) == "unknown_field"
    assert refused.error is not None
    assert refused.error.field == "data.dimensions.department"
    change = partial(service.configure_ledger, ledger, by="ann")
    assert change(SettingsChange(dimensions=("department",))).status == "configured"
    assert change(SettingsChange(dimensions=("department",))).status == "unchanged"
    assert change(SettingsChange(dimensions=("region",))).status == "configured"
    assert change(SettingsChange(on_shortfall="overage")).status == "configured"
    with service.view(ledger) as view:
        assert view.settings.dimensions == ("department", "region")
    recorded(service, ledger, purchase("a", dimensions=LAB), usage("u", "1", dimensions={"region": "x"}))
    [refused] = service.record(ledger, [usage("v", "1", dimensions={"regoin": "x"})])
    assert refused.error is not None
    assert "did you mean region?" in refused.error.message
    for name in ("product", "Region", "", "a-b", "x" * 41):
        with pytest.raises(InvalidValue):
            change(SettingsChange(dimensions=(name,)))
    change(SettingsChange(dimensions=tuple(f"d{number}" for number in range(6))))
    with pytest.raises(InvalidValue, match="at most 8"):
        change(SettingsChange(dimensions=("ninth",)))
    assert verify(service.database, ledger).differences == []


def test_a_chart_may_only_go_by_dimensions_that_the_ledger_has(service: Subledger, new_ledger: NewLedger) -> None:
    ledger = new_ledger()
    with pytest.raises(InvalidMapping, match=r"goes by dimension\.department") as caught:
        adopt_mapping(service.recorder, ledger, CHART)
    assert caught.value.field == "dimension.department"
    rows = AccountMapping.from_rows([{"role": "cash", "account": "1", "dimension.department": "lab"}])
    assert rows.resolve("cash", "", "", "USD", own='{"department":"lab"}').number == "1"
    with pytest.raises(UnmappedRole, match=r"no dimension\.department"):
        rows.resolve("cash", "", "", "USD")
