"""Posting policies and settings during the life of a ledger: adoptions, and the correct books after them."""

from __future__ import annotations

import csv
import io
import tomllib
from collections.abc import Callable
from datetime import date
from decimal import Decimal
from functools import partial
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api.demo.company import year
from api.service import Subledger
from api.shapes import policies as policy_answers
from api.shapes import reports
from projections.account_mapping.mapping import AccountMapping, default_mapping
from projections.close.close import close_period
from projections.configuring.account_mappings import adopt_mapping
from projections.configuring.policies import check_policy
from projections.exports.exporting import export
from projections.exports.exports import content_of
from projections.integrity.policies import rule_faults
from projections.reads import balances
from projections.reads.policies import adopted_policies, adopted_policy
from projections.replay.rebuild import rebuild
from subledger.accounts import ROLE_BY_NAME
from subledger.errors import (
    InvalidInput,
    InvalidMapping,
    InvalidPolicy,
    InvalidValue,
    LedgerExists,
    PolicyExists,
    SettingFixed,
    UnknownPolicy,
    UnmappedRole,
)
from subledger.events.own_data import Approvals
from subledger.kinds import KIND_BY_NAME, KINDS, AccountPair
from subledger.ledger_settings import LedgerSettings, SettingsChange
from subledger.periods import Period
from subledger.posting import SHIPPED_POLICIES, Policy, parse_policy, shipped_policy
from subledger.store.database import Database
from subledger.store.reading.ledgers import ledger_head
from subledger.store.reading.pages import event_at
from tests.building import cloud_event, purchase, recorded, usage
from tests.conftest import NewLedger
from tests.laws.walks import long_walk
from tests.store.own_policies import file_of, of_name
from tests.store.tampering import differences
from tests.store.walked import WALKED
from tests.together import together

NAMES = [kind.name for kind in KINDS]


def numbers(service: Subledger, ledger: str) -> list[tuple[int, str, int, bool]]:
    with service.database.read() as connection:
        return [(p.number, p.name, p.version, p.in_force) for p in adopted_policies(connection, ledger)]


def position(service: Subledger, ledger: str) -> int:
    with service.database.read() as connection:
        return ledger_head(connection, ledger).position


def balance(service: Subledger, ledger: str) -> dict[str, str]:
    """Returns the balances of the only customer, on their normal sides, without accounts at zero."""
    with service.view(ledger) as view:
        found = balances.customer_balances(view, "c")
        return {a.account: f"{a.balance_minor / 100:.2f}" for a in found.accounts if a.balance_minor}


buy = partial(purchase, customer="c", time="2026-01-05T10:00:00Z", credits="100", price="100.00")


use = partial(usage, customer="c")


def of_block(name: str, type: str, block: str, **data: Any) -> dict[str, Any]:
    return cloud_event(name, type, "c", "2026-01-25T10:00:00Z", block_id=block, **data)


def back(name: str, credits: str | None = None) -> dict[str, Any]:
    part = {} if credits is None else {"credits": credits}
    return cloud_event(
        f"back-{name}", "consumption.reversed", "c", "2026-01-26T10:00:00Z", event_id=name, reason="r", **part
    )


# --- effects of an adoption ----------------------------------------------------------------------------------------


def test_a_policy_holds_for_what_is_recorded_after_it_and_a_reversal_mirrors_what_is_stored(
    service: Subledger, new_ledger: NewLedger
) -> None:
    ledger = new_ledger(policy="contract_liability")
    recorded(service, ledger, buy("A"), use("u1", "30", block_id="A"))
    renamed = of_name("acme", consumption="prepaid_liability / overage_revenue")
    adoption = service.adopt_policy(ledger, renamed, by="maria")
    assert (adoption.number, adoption.adopted, adoption.left_open) == (2, True, 0)
    recorded(service, ledger, use("u2", "20", block_id="A"))
    assert balance(service, ledger)["usage_revenue"] == "30.00"
    assert balance(service, ledger)["overage_revenue"] == "20.00"
    recorded(service, ledger, back("u1"))
    assert "usage_revenue" not in balance(service, ledger)  # mirrored, although the policy has changed
    assert balance(service, ledger)["overage_revenue"] == "20.00"
    assert numbers(service, ledger) == [(1, "contract_liability", 1, False), (2, "acme", 1, True)]
    with service.database.read() as connection:
        found = adopted_policy(connection, ledger, 2)
        event = event_at(connection, ledger, found.position)
    assert (found.by, found.position, event.row.type) == ("maria", 6, "policy.adopted")
    assert found.rules == renamed.rules
    assert differences(service, ledger) == []


def test_adopting_what_is_in_force_records_nothing_and_going_back_is_another_adoption(
    service: Subledger, new_ledger: NewLedger
) -> None:
    ledger = new_ledger()
    before = position(service, ledger)
    assert service.adopt_policy(ledger, shipped_policy("customer_deposits")).adopted is False
    assert position(service, ledger) == before
    assert service.adopt_policy(ledger, shipped_policy("customer_deposits_arm")).number == 2
    assert service.adopt_policy(ledger, shipped_policy("customer_deposits_arm")).adopted is False
    assert service.adopt_policy(ledger, shipped_policy("customer_deposits")).number == 3
    assert position(service, ledger) == before + 2
    assert [number for number, *_ in numbers(service, ledger)] == [1, 2, 3]


def test_the_same_name_and_version_never_stand_for_two_policies(service: Subledger, new_ledger: NewLedger) -> None:
    ledger = new_ledger()
    first = of_name("acme", refund_retained="prepaid_liability / breakage_revenue")
    service.adopt_policy(ledger, first)
    service.adopt_policy(ledger, shipped_policy("customer_deposits"))
    before = position(service, ledger)
    for other in (
        of_name("acme", refund_retained="prepaid_liability / overage_revenue"),  # another file with the same version
        of_name("customer_deposits", refund_retained="prepaid_liability / overage_revenue"),  # named like a shipped one
    ):
        with pytest.raises(PolicyExists) as caught:
            service.adopt_policy(ledger, other)
        assert (caught.value.field, caught.value.expected) == ("version", "another version, or the same rules")
    assert position(service, ledger) == before
    second = of_name("acme", version=2, refund_retained="prepaid_liability / overage_revenue")
    assert service.adopt_policy(ledger, second).adopted
    assert service.adopt_policy(ledger, first).number == 5  # version 1 again, unchanged


def test_two_who_adopt_at_once_adopt_once(database: Database, service: Subledger, new_ledger: NewLedger) -> None:
    ledger = new_ledger()
    policy, results = shipped_policy("contract_liability"), []
    services = [Subledger(database) for _ in range(6)]
    change = SettingsChange(on_shortfall="overage")

    def both(each: Subledger) -> None:
        results.append((each.adopt_policy(ledger, policy).adopted, each.configure_ledger(ledger, change).status))

    together(both, services)
    assert sorted(adopted for adopted, _ in results) == [False] * 5 + [True]
    assert sorted(status for _, status in results) == ["configured"] + ["unchanged"] * 5
    assert position(service, ledger) == 5
    assert differences(service, ledger) == []


def test_a_policy_is_printed_as_a_file_that_reads_back_the_same(service: Subledger, new_ledger: NewLedger) -> None:
    ledger = new_ledger()
    text = 'With "quotes", a \\ and\na second line: ü \x7f'
    own = msgspec.structs.replace(of_name("a.b-c_1"), description=text)
    for policy in (shipped_policy("customer_deposits_arm"), own):
        adoption = service.adopt_policy(ledger, policy)
        with service.database.read() as connection:
            found = adopted_policy(connection, ledger, adoption.number)
        read = parse_policy(policy_answers.policy_file(found))
        assert (read.name, read.version, read.description) == (policy.name, policy.version, policy.description.strip())
        assert (read.rules, read.content_hash) == (policy.rules, policy.content_hash)
        assert list(tomllib.loads(policy_answers.policy_file(found))["entries"]) == NAMES
    with service.database.read() as connection, pytest.raises(UnknownPolicy):
        adopted_policy(connection, ledger, 4)


def test_a_ledger_is_created_under_a_policy_of_the_companys_own(service: Subledger, new_ledger: NewLedger) -> None:
    policy = parse_policy(file_of(of_name("acme", consumption="prepaid_liability / overage_revenue")))
    ledger = new_ledger() + "-own"
    created = LedgerSettings(currency="USD", policy=policy)
    assert service.create_ledger(ledger, created) is True
    assert service.create_ledger(ledger, created) is False
    for other in (shipped_policy("contract_liability"), of_name("acme")):
        with pytest.raises(LedgerExists) as caught:
            service.create_ledger(ledger, LedgerSettings(currency="USD", policy=other))
        assert caught.value.field == "policy"
    recorded(service, ledger, buy("A"), use("u", "100", block_id="A"))
    assert balance(service, ledger) == {"accounts_receivable": "100.00", "overage_revenue": "100.00"}
    assert differences(service, ledger) == []
    with pytest.raises(InvalidPolicy):
        service.create_ledger(ledger + "2", LedgerSettings(currency="USD", policy=of_name("x", consumption="")))


# --- the books after it ---------------------------------------------------------------------------------------------


@pytest.mark.campaign
@pytest.mark.parametrize("before", SHIPPED_POLICIES)
@pytest.mark.parametrize("after", SHIPPED_POLICIES)
def test_what_was_bought_under_the_former_policy_can_be_used_up_cancelled_and_taken_back(
    service: Subledger, new_ledger: NewLedger, before: str, after: str
) -> None:
    ledger = new_ledger(policy=before)
    recorded(service, ledger, *(buy(block) for block in "ABCDEF"), buy("P", pool="P"))
    recorded(service, ledger, buy("X", expires_at="2026-01-28T00:00:00Z"))
    recorded(service, ledger, *(use(f"u{block}", "40", block_id=block) for block in "ABCDEFX"))
    adoption = service.adopt_policy(ledger, shipped_policy(after))
    assert adoption.adopted == (before != after)
    assert adoption.left_open == (8 if (before == "contract_liability") != (after == "contract_liability") else 0)
    recorded(
        service,
        ledger,
        of_block("void", "purchase.voided", "A", reason="r"),
        of_block("refund", "credits.refunded", "B", credits="50", amount="40.00", currency="USD"),
        back("uC"),
        back("uD", "15"),
        of_block("transfer", "credits.transferred", "E", to_customer="d", new_block_id="E2", credits="10"),
        of_block("repriced", "block.repriced", "F", add_credits="10", add_price="5.00", reason="r"),
        use("rest", "100", block_id="C"),
        use("again", "70", block_id="F", time="2026-01-26T10:00:00Z"),
        use("pool", "30", block_id="P"),
        buy("N"),
        use("new", "100", block_id="N"),
        back("rest", "5"),
    )
    assert differences(service, ledger) == []
    close_period(service.recorder, ledger, Period(2026, 1))
    recorded(service, ledger, use("feb", "10", block_id="D", time="2026-02-03T10:00:00Z"))
    rebuild(service.database, ledger)
    assert differences(service, ledger) == []
    [journal] = export(service.recorder, service.database, ledger, Period(2026, 1), "csv")
    lines = list(csv.DictReader(io.StringIO(b"".join(content_of(service.database, journal)).decode())))
    debit, credit = (sum(Decimal(line[side] or 0) for line in lines) for side in ("debit", "credit"))
    assert debit == credit > 0
    for name in ("rollforward", "waterfall", "clearing", "receivables", "pools", "performance"):
        with reports.answer(service, ledger, name, reports.ReportQuery(as_of=date(2026, 2, 28))) as (report, _, _):
            assert report.ties_out, (name, report.ties)


@pytest.mark.parametrize("after", ["customer_deposits_arm", "acme"])
def test_between_policies_with_the_deposit_pair_every_block_still_ends_at_zero(
    service: Subledger, new_ledger: NewLedger, after: str
) -> None:
    ledger = new_ledger(policy="customer_deposits")
    recorded(service, ledger, buy("A"), use("u1", "40", block_id="A"))
    kept = "prepaid_liability / breakage_revenue, customer_deposits / credits_clearing"
    own = of_name("acme", based_on="customer_deposits", refund_retained=kept)
    adoption = service.adopt_policy(ledger, own if after == "acme" else shipped_policy(after))
    assert (adoption.adopted, adoption.left_open) == (True, 0)
    recorded(
        service,
        ledger,
        use("u2", "50", block_id="A"),
        of_block("r", "credits.refunded", "A", amount="4.00", currency="USD"),
    )
    assert not {"prepaid_liability", "customer_deposits", "credits_clearing"} & balance(service, ledger).keys()
    assert differences(service, ledger) == []


def test_a_year_in_which_the_policy_changes_every_month_is_clean(service: Subledger, new_ledger: NewLedger) -> None:
    ledger = new_ledger(policy="contract_liability")
    policies = [shipped_policy(name) for name in SHIPPED_POLICIES] + [FAR]
    late: list[dict[str, Any]] = []
    for number, month in enumerate(year(), start=1):
        service.record(ledger, month.events)
        service.record(ledger, late)
        late = month.late
        close_period(service.recorder, ledger, month.period)
        service.adopt_policy(ledger, policies[number % len(policies)])
    assert len(numbers(service, ledger)) == 13
    assert differences(service, ledger) == []


# --- policies that are refused ---------------------------------------------------------------------------


FAR = of_name(
    "as_far_as_it_goes",
    version=7,
    consumption="prepaid_liability / overage_revenue",
    overage="unbilled_receivable / usage_revenue",
    breakage="prepaid_liability / usage_revenue",
    reinstatement="usage_revenue / prepaid_liability",
    backfill_difference="prepaid_liability / deferred_revenue",
    breakage_estimate="breakage_recognized / usage_revenue",
    refund_retained="prepaid_liability / breakage_revenue",
    goodwill="processing_fees / prepaid_liability",
    memo_unpaid="deferred_revenue / accounts_receivable",
    memo_paid="bad_debt / refunds_payable",
    dispute_lost_used="dispute_fees / disputes_receivable",
    write_off_used="contra_revenue / accounts_receivable",
    write_off_tax_borne="contra_revenue / accounts_receivable",
    processing_fee="dispute_fees / processor_clearing",
    fx_remeasurement_cash="cash / bad_debt",
    purchase="accounts_receivable / deferred_revenue, deferred_revenue / prepaid_liability",
)
"""A policy that differs in every rule in which it may."""


@pytest.mark.campaign
def test_a_policy_that_chooses_otherwise_wherever_it_may_keeps_the_books_right(
    service: Subledger, new_ledger: NewLedger
) -> None:
    ledger = new_ledger() + "-far"
    service.create_ledger(ledger, LedgerSettings(policy=FAR, **WALKED))
    kinds = 0
    for step in long_walk(3, 400).steps:
        if step.event.type not in ("policy.adopted", "ledger.configured"):
            [outcome] = service.recorder.transact(ledger, lambda _c, _s, _p, e=step.event: [e])
            kinds += outcome.error is None
    assert kinds > 150
    assert differences(service, ledger) == []
    for name in ("rollforward", "waterfall", "clearing", "receivables", "pools", "performance"):
        with reports.answer(service, ledger, name, reports.ReportQuery()) as (report, _, _):
            assert report.ties_out, (name, report.ties)


# the rule · the message · the expected and the found value
REFUSED = [
    (of_name("m", memo_paid="contra_revenue / customer_balance"),
     "memo_paid does not move refunds_payable as its roles require",
     "refunds_payable credited", "refunds_payable not moved"),
    (of_name("m", goodwill="contra_revenue / deferred_revenue"),
     "goodwill does not move prepaid_liability as its column requires", "prepaid_liability credited",
     "prepaid_liability not moved"),
    (of_name("m", based_on="customer_deposits", goodwill="contra_revenue / prepaid_liability"),
     "goodwill moves only some of prepaid_liability and the deposit accounts, which move together",
     "prepaid_liability credited, customer_deposits credited, credits_clearing debited",
     "prepaid_liability credited, customer_deposits not moved, credits_clearing not moved"),
    (of_name("m", refund="prepaid_liability / refunds_payable, customer_deposits / credits_clearing"),
     "refund moves customer_deposits or credits_clearing, but the rule of purchase does not",
     "customer_deposits not moved, credits_clearing not moved", "customer_deposits debited, credits_clearing credited"),
    (of_name("m", consumption=""), "consumption has an amount and moves no account", "a list of pairs", "no pair"),
    (of_name("m", promotional_grant="contra_revenue / prepaid_liability"),
     "promotional_grant never has an amount and moves an account", "no pair", "contra_revenue / prepaid_liability"),
    (of_name("m", breakage_estimate="bad_debt / breakage_revenue"),
     "breakage_estimate does not move breakage_recognized as its roles require", "breakage_recognized debited",
     "breakage_recognized not moved"),
    (of_name("m", transfer_out="prepaid_liability / deferred_revenue"),
     "transfer_out does not move transfer_clearing as its roles require", "transfer_clearing credited",
     "transfer_clearing not moved"),
    (of_name("m", purchase="accounts_receivable / prepaid_liability, contra_revenue / usage_revenue"),
     "purchase moves an account of revenue, concessions or expenses, and must not", "none of it moved",
     "usage_revenue credited, contra_revenue debited"),
    (of_name("m", consumption="prepaid_liability / contra_revenue"),
     "consumption does not end on exactly one of the accounts allowed for it",
     "credited one of usage_revenue, overage_revenue, breakage_revenue, deferred_revenue", "contra_revenue credited"),
    (of_name("m", breakage="prepaid_liability / usage_revenue"), "reinstatement is not the mirror of breakage",
     "usage_revenue debited", "breakage_revenue debited"),
    (of_name("m", payment_cash="cash / accounts_receivable, cash / accounts_receivable"),
     "payment_cash does not move cash as its roles require", "cash debited", "cash debited 2 times"),
]  # fmt: skip


@pytest.mark.parametrize(("policy", "says", "expected", "found"), REFUSED, ids=[row[1] for row in REFUSED])
def test_what_would_put_the_books_wrong_is_refused_naming_the_kind_and_what_was_expected(
    service: Subledger, new_ledger: NewLedger, policy: Policy, says: str, expected: str, found: str
) -> None:
    ledger = new_ledger()
    before = position(service, ledger)
    with pytest.raises(InvalidPolicy) as caught:
        service.adopt_policy(ledger, parse_policy(file_of(policy)))
    error = caught.value
    assert (error.message, error.expected, error.found) == (says, expected, found)
    assert error.field == error.facts["kind"] == says.split(" ", maxsplit=1)[0]
    assert error.facts["faults"][0] == says
    assert position(service, ledger) == before


ROLES = st.sampled_from(sorted(ROLE_BY_NAME))
PAIRS = st.lists(st.builds(AccountPair, ROLES, ROLES), max_size=3).map(tuple)


@settings(max_examples=4 * settings().max_examples)
@given(kind=st.sampled_from(NAMES), pairs=PAIRS, base=st.sampled_from(SHIPPED_POLICIES))
def test_a_rule_is_sound_exactly_if_it_moves_what_the_shipped_one_does_but_for_where_it_has_a_choice(
    kind: str, pairs: tuple[AccountPair, ...], base: str
) -> None:
    shipped = shipped_policy(base)
    faults = list(rule_faults({**shipped.rules, kind: pairs}))
    result = ("revenue", "contra_revenue", "expense")
    choice = {role.name for role in ROLE_BY_NAME.values() if role.account_class in result} | {"deferred_revenue"}

    def moved(rule: tuple[AccountPair, ...]) -> dict[str, int]:
        net = dict.fromkeys(ROLE_BY_NAME, 0)
        for pair in rule:
            net[pair.debit] += 1
            net[pair.credit] -= 1
        return {role: times for role, times in net.items() if times}

    ours, theirs = moved(shipped.rules[kind]), moved(pairs)
    if {r: t for r, t in ours.items() if r not in choice} != {r: t for r, t in theirs.items() if r not in choice}:
        assert faults
    if not faults:
        assert sum(role in choice for role in ours) == sum(role in choice for role in theirs)
    if ours == theirs and bool(pairs) == KIND_BY_NAME[kind].has_amount:
        assert not faults


def test_the_policies_that_ship_may_be_adopted() -> None:
    for name in SHIPPED_POLICIES:
        check_policy(shipped_policy(name))


# --- settings -------------------------------------------------------------------------------------------------------


def allowed(service: Subledger, ledger: str, change: SettingsChange) -> None:
    """Changes the acts that need a second person: one person requests it, and another approves it."""
    approval_id = service.configure_ledger(ledger, change, by="ann").approval_id
    assert approval_id is not None
    service.decide_approval(ledger, approval_id, by="bob", allow=True)


def test_settings_change_for_what_is_recorded_afterwards_and_say_who_asked(
    service: Subledger, new_ledger: NewLedger
) -> None:
    ledger = new_ledger()
    over = cloud_event(
        "o", "credits.consumed", "c", "2026-01-20T10:00:00Z", credits="1", overage_price="0.10", currency="USD"
    )
    assert service.record(ledger, [over])[0].status == "rejected"
    changed = SettingsChange(
        on_shortfall="overage",
        late_usage="reclassify",
        entity="US01",
        approvals={"voids": True, "grant_credits_above": "10"},
    )
    assert service.configure_ledger(ledger, changed, by="ann").status == "configured"
    same = SettingsChange(approvals={"grant_credits_above": "10.00"})
    for change in (changed, same, SettingsChange(currency="USD", timezone="UTC")):
        assert service.configure_ledger(ledger, change, by="bob").status == "unchanged"
    recorded(service, ledger, over, buy("A"))
    [waiting] = service.record(ledger, [of_block("v", "purchase.voided", "A", reason="r")], by="ann")
    assert waiting.status == "waiting"
    # An event with the names of two persons lowers the protection. Waiting requests still wait.
    allowed(service, ledger, SettingsChange(approvals={"voids": False}))
    with service.database.read() as connection:
        head = ledger_head(connection, ledger)
        data = msgspec.json.decode(event_at(connection, ledger, head.position).row.data_text)
    assert (data["by"], data["approvals"], data["entity"]) == ("ann", {"grant_credits_above": "10"}, "US01")
    assert head.state.approvals == Approvals.model_validate({"grant_credits_above": "10"})
    allowed(service, ledger, SettingsChange(approvals={"grant_credits_above": None}))
    recorded(service, ledger, of_block("v2", "purchase.voided", "A", reason="r"))
    rebuild(service.database, ledger)
    assert differences(service, ledger) == []


@pytest.mark.parametrize(
    ("call", "error", "field"),
    [
        (SettingsChange(currency="EUR"), SettingFixed, "currency"),
        (SettingsChange(timezone="Asia/Tokyo"), SettingFixed, "timezone"),
        (SettingsChange(on_shortfall="maybe"), InvalidValue, "on_shortfall"),
        (SettingsChange(late_usage="maybe"), InvalidValue, "late_usage"),
        (SettingsChange(entity=""), InvalidValue, "entity"),
        (SettingsChange(entity="a\nb"), InvalidValue, "entity"),
        (SettingsChange(approvals={"void": True}), InvalidInput, "approvals.void"),
        (SettingsChange(approvals={"grant_credits_above": "-1"}), InvalidInput, "approvals.grant_credits_above"),
    ],
)
def test_a_setting_that_is_fixed_or_not_allowed_is_refused_and_leaves_no_trace(
    service: Subledger, new_ledger: NewLedger, call: SettingsChange, error: type[Exception], field: str
) -> None:
    ledger = new_ledger()
    before = position(service, ledger)
    with pytest.raises(error) as caught:
        service.configure_ledger(ledger, call)
    assert caught.value.field == field
    assert position(service, ledger) == before


@pytest.mark.parametrize("by", ["", "a\nb", "x" * 201])
@pytest.mark.parametrize(
    "call",
    [
        lambda service, ledger, by: service.configure_ledger(ledger, SettingsChange(entity="E"), by=by),
        lambda service, ledger, by: service.adopt_policy(ledger, shipped_policy("contract_liability"), by=by),
    ],
)
def test_who_asks_has_a_name(
    service: Subledger, new_ledger: NewLedger, call: Callable[[Subledger, str, str], object], by: str
) -> None:
    with pytest.raises(InvalidValue) as caught:
        call(service, new_ledger(), by)
    assert caught.value.field == "by"


def test_a_policy_is_adopted_only_if_every_mapping_that_may_be_used_has_its_roles(
    service: Subledger, new_ledger: NewLedger
) -> None:
    ledger = new_ledger(policy="contract_liability")
    new = ("credits_clearing", "customer_deposits")
    short = AccountMapping.from_rows([row for row in default_mapping().rows if row["role"] not in new])
    adopt_mapping(service.recorder, ledger, short)
    with pytest.raises(UnmappedRole, match=r"credits_clearing, customer_deposits.*first, then the policy") as caught:
        service.adopt_policy(ledger, shipped_policy("customer_deposits"))
    assert (caught.value.facts["missing"], caught.value.facts["mapping"]) == (list(new), 2)
    assert caught.value.retryable
    adopt_mapping(service.recorder, ledger, default_mapping())
    adopt_mapping(service.recorder, ledger, short, valid_from=Period(2027, 1))
    with pytest.raises(UnmappedRole, match="account mapping 4"):
        service.adopt_policy(ledger, shipped_policy("customer_deposits"))
    adopt_mapping(service.recorder, ledger, default_mapping(), valid_from=Period(2027, 1))
    assert service.adopt_policy(ledger, shipped_policy("customer_deposits")).adopted
    with pytest.raises(InvalidMapping, match="credits_clearing, customer_deposits"):
        adopt_mapping(service.recorder, ledger, short)
