"""The invariants of the books find the faults of a log that a faulty program wrote, each at its place.

Such a log is consistent, and so are its derived tables, because the recorder and the replay fold in the same way. Only
the invariants find the fault.

The file is longer than usual, so that every check of the books and its faults are together.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pytest
from msgspec.structs import replace

from api.service import Subledger
from projections import integrity
from projections.account_mapping.mapping import default_mapping
from projections.close.close import close_period
from projections.integrity import Difference, verify
from projections.replay import customers as replay
from projections.replay import ledger as ledger_replay
from subledger.billing_documents import Standing
from subledger.books import Books, evolve_books
from subledger.deciding.context import Context
from subledger.deciding.decide import decide
from subledger.errors import IntegrityFault
from subledger.events.envelope import Event
from subledger.evolving import evolve
from subledger.kinds import AccountPair
from subledger.ledger_settings import LedgerSettings, founding_events
from subledger.periods import Period
from subledger.posting import SHIPPED_POLICIES, Policy, post, shipped_policy
from subledger.store.writing import batch
from subledger.wallet import Decision, Movement, Wallet
from subledger.wallet_parts import Blocks, Documents, Overages
from tests.building import cloud_event, payment, purchase, rate, recorded, usage
from tests.conftest import NewLedger
from tests.laws.walks import long_walk
from tests.store.tampering import LEDGER, differences, grant
from tests.store.walked import record_walk

Document = dict[str, Any]
DecisionFault = Callable[[Decision], Decision]
USD: Document = {"currency": "USD"}
EUR: Document = {"currency": "EUR"}


def _at(day: str) -> str:
    return f"2026-{day}T00:00:00Z"


buy = partial(purchase, customer="c", time="2026-01-05", price="10.00")


def _event(type: str, day: str, **data: Any) -> Document:
    customer = None if type in ("exchange_rate.set", "breakage.estimated", "payout.settled") else "c"
    return cloud_event(f"{type}-{day}", type, customer, _at(day), **data)


use = partial(usage, customer="c", time="2026-01-06", credits="4")


pay = partial(payment, customer="c")


def test_every_check_is_named_in_the_list_of_checks() -> None:
    assert integrity.__doc__ is not None
    listed = set(re.findall(r"[a-z_]+", integrity.__doc__))
    folder = Path(integrity.__file__).parent
    written = "".join(
        path.read_text("utf-8") for of in (folder, folder.with_name("replay")) for path in of.glob("*.py")
    )
    named = set(re.findall(r'(?:check="|check: str = "|differ\(\s*"|_against\(")([a-z_]+)"', written))
    assert {"log", "chain", "block", "receivable", "approvals"} <= named <= listed


# --- correct books have no findings ---------------------------------------------------------------------------


@pytest.mark.campaign
@pytest.mark.parametrize("policy", [*SHIPPED_POLICIES, None])
def test_whatever_happens_under_whatever_policies_verifies(service: Subledger, policy: str | None) -> None:
    """With None the ledger changes its policy repeatedly: blocks bought under one are used up under another."""
    for seed in range(3):
        ledger = f"t-walked-{policy}-{seed}".replace("_", "-").lower()
        assert record_walk(service, ledger, long_walk(seed, 400), policy=policy) > 250
        assert differences(service, ledger) == []


# --- a faulty decision ----------------------------------------------------------------------------------------------


def _changed(kind: str, change: Callable[[Movement], Movement | None]) -> DecisionFault:
    """Returns a fault: the first movement of a kind is changed or missing."""

    def fault(decision: Decision) -> Decision:
        movements = list(decision.movements)
        index = next((n for n, movement in enumerate(movements) if movement.kind == kind), None)
        if index is not None:
            changed = change(movements[index])
            movements[index : index + 1] = [] if changed is None else [changed]
        return replace(decision, movements=tuple(movements))

    return fault


def _more(kind: str, **by: Any) -> DecisionFault:
    return _changed(kind, lambda m: replace(m, **{name: (getattr(m, name) or 0) + more for name, more in by.items()}))


def _with(kind: str, **values: Any) -> DecisionFault:
    return _changed(kind, lambda movement: replace(movement, **values))


def _without(kind: str) -> DecisionFault:
    return _changed(kind, lambda _: None)


ESTIMATE = _event("breakage.estimated", "01-01", pool="p", expected_breakage_rate="0.1", evidence="r", **USD)
IN_POOL = [ESTIMATE, buy(pool="p", expires_at=_at("02-01")), buy(block="b2", pool="p")]
IN_EURO = [rate("2026-01-01", "1.20"), buy(**EUR)]
EURO_ESTIMATE = ESTIMATE | {"data": ESTIMATE["data"] | EUR}
FAULTS: dict[str, tuple[list[Document], DecisionFault, str, str]] = {
    "a cent too much": (
        [buy(), use("u", credits="10", time="2026-01-05")],
        _more("consumption", amount_minor=1),
        "block",
        "block b is overdrawn as of 2026-01-05",
    ),
    "a cent left over": (
        [buy(), use("u", credits="10", time="2026-01-05")],
        _more("consumption", amount_minor=-1),
        "block",
        "block b has no credits and a balance as of 2026-01-05",
    ),
    "a credit too much": (
        [buy(), use("u", credits="10", time="2026-01-05")],
        _more("consumption", credits=Decimal(1)),
        "block",
        "block b is overdrawn as of 2026-01-05",
    ),
    "a day too soon": (
        [buy(starts_at=_at("01-01")), use("u", credits="10", time="2026-01-04", block_id="b")],
        _more("consumption", accounting_date=timedelta(days=-1)),
        "block",
        "block b is overdrawn as of 2026-01-04",
    ),
    "a functional cent left over": (
        [*IN_EURO, use("u", credits="10")],
        _more("consumption", functional_minor=-1),
        "block",
        "block b has no credits and a balance as of 2026-01-06",
    ),
    "of no block": (
        [buy(), use("u")],
        _with("consumption", block_id=None),
        "block",
        "an entry of kind consumption moves prepaid_liability of no block",
    ),
    "two functional amounts": (
        [buy(), use("u")],
        _with("consumption", functional_minor=399),
        "entry",
        "an entry of kind consumption under policy 1 has another functional amount",
    ),
    "an amount on no account": (
        [grant("g")],
        _with("promotional_grant", amount_minor=5),
        "entry",
        "an entry of kind promotional_grant under policy 1 has an amount, and moves no acc",
    ),
    "a policy that is none": (
        [buy(), use("u")],
        _with("consumption", policy=2),
        "entry",
        "there is no rule for an entry of kind consumption under policy 2",
    ),
    "no breakage estimated": (
        [*IN_POOL, use("u")],
        _without("breakage_estimate"),
        "pool",
        "pool p has recognised breakage that differs from the formula",
    ),
    "a functional cent of breakage": (
        [rate("2026-01-01", "1.20"), EURO_ESTIMATE, buy(pool="p", **EUR), use("u")],
        _more("breakage_estimate", functional_minor=1),
        "pool",
        "pool p has recognised breakage that differs from the formula in the functional currency",
    ),
    "used outside of its pool": (
        [*IN_POOL, use("u")],
        _with("consumption", pool=None),
        "pool",
        "pool p is not the sum of its blocks",
    ),
    "a settlement forgotten": (
        [*IN_EURO, rate("2026-01-10", "1.10"), pay("pay", "10.00", time="2026-01-10", block_id="b", **EUR)],
        _without("fx_settlement_accounts_receivable"),
        "position",
        "accounts_receivable EUR b of c has a functional amount but no amount in its currency",
    ),
    "more applied than was paid": (
        [
            buy(),
            pay("pay", "3.00", time="2026-01-06", payment_id="p"),
            _event("payment.applied", "01-07", payment_id="p", block_id="b", amount="3.00", **USD),
        ],
        _more("payment_applied", amount_minor=1),
        "position",
        "customer_balance USD of c is on the wrong side",
    ),
    "a transfer that gains": (
        [buy(), _event("credits.transferred", "01-06", block_id="b", to_customer="d", new_block_id="n")],
        _more("transfer_in", amount_minor=1),
        "trial_balance",
        "transfer_clearing in USD is not zero",
    ),
    "a reversal that keeps a cent": (
        [buy(), use("u"), _event("consumption.reversed", "01-07", event_id="u", reason="r")],
        _more("consumption", amount_minor=1),
        "reversal",
        "the reversals of position 5 do not mirror its draw on block b",
    ),
    "an undone purchase that keeps a cent": (
        [buy(), _event("event.reversed", "01-07", event_id="buy-b", reason="r")],
        _more("purchase", amount_minor=1),
        "reversal",
        "the entries that undo position 4 do not mirror its purchase on block b",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_faulty_decision_breaks_an_invariant_that_names_its_place(
    service: Subledger, new_ledger: NewLedger, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    events, fault, check, message = FAULTS[name]
    ledger = new_ledger()
    recorded(service, ledger, *events[:-1])
    assert differences(service, ledger) == []

    def faulty(wallet: Wallet, event: Event, context: Context) -> Decision:
        return fault(decide(wallet, event, context))

    monkeypatch.setattr(batch, "decide", faulty)
    recorded(service, ledger, events[-1])
    position = verify(service.database, ledger).events
    found = [d for d in differences(service, ledger) if message in d.message]
    assert [d.check for d in found] == [check], differences(service, ledger)
    at_head = check in ("position", "trial_balance") or "sum of its blocks" in message
    assert found[0].position == (None if at_head else position)
    assert found[0].subject
    assert found[0].expected != found[0].found


def test_the_end_of_a_pool_leaves_nothing_on_its_two_accounts(
    service: Subledger, new_ledger: NewLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = new_ledger()
    recorded(service, ledger, ESTIMATE, buy(pool="p", expires_at=_at("02-02")), use("u"))

    def faulty(wallet: Wallet, event: Event, context: Context) -> Decision:
        return _without("breakage_estimate")(decide(wallet, event, context))

    monkeypatch.setattr(batch, "decide", faulty)
    close_period(service.recorder, ledger, Period.parse("2026-01"))
    with pytest.raises(IntegrityFault, match="pool p"):
        close_period(service.recorder, ledger, Period.parse("2026-02"))
    says = [d.message for d in differences(service, ledger)]
    assert any("pool p has no credits and a balance: prepaid_liability, breakage_recognized" in each for each in says)


def test_an_entry_in_a_closed_period_or_another_cut_is_found(
    service: Subledger, new_ledger: NewLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = new_ledger()
    recorded(service, ledger, buy())
    close_period(service.recorder, ledger, Period.parse("2026-01"))

    def earlier(*args: Any, **facts: Any) -> Any:
        return tuple(replace(entry, cut=1) for entry in post(*args, **facts))

    def sooner(wallet: Wallet, event: Event, context: Context) -> Decision:
        return _more("consumption", accounting_date=timedelta(days=-1))(decide(wallet, event, context))

    monkeypatch.setattr(batch, "decide", sooner)
    for module in (batch, replay):
        monkeypatch.setattr(module, "post", earlier)
    recorded(service, ledger, use("u-01-31", time="2026-01-31"))
    position = verify(service.database, ledger).events
    monkeypatch.setattr(replay, "post", lambda *args, **facts: earlier(*args, **facts) if args else ())
    found = {d.check: d for d in differences(service, ledger) if d.position == position}
    assert (found["closed_period"].expected, found["closed_period"].found) == ("after 2026-01-31", "2026-01-31")
    assert (found["cut"].expected, found["cut"].found) == ("2", "1")


# --- a faulty fold --------------------------------------------------------------------------------------------------

WalletFault = Callable[[Wallet, Event], Wallet]


def _block_fault(type: str, **by: int) -> WalletFault:
    """Returns a fault: after events of a type, the figures of each block are too high or too low."""

    def fault(wallet: Wallet, event: Event) -> Wallet:
        if event.type != type:
            return wallet
        blocks = (replace(b, **{name: getattr(b, name) + more for name, more in by.items()}) for b in wallet.blocks)
        return replace(wallet, blocks=Blocks(blocks))

    return fault


def _document_fault(type: str, **values: Any) -> WalletFault:
    def fault(wallet: Wallet, event: Event) -> Wallet:
        if event.type != type:
            return wallet
        changed = (replace(d, **values) if values.keys() <= set(d.__struct_fields__) else d for d in wallet.documents)
        return replace(wallet, documents=Documents(changed))

    return fault


def _overage_fault(wallet: Wallet, event: Event) -> Wallet:
    overages = (replace(o, amount_minor=o.amount_minor + (event.type == "credits.consumed")) for o in wallet.overages)
    return replace(wallet, overages=Overages(overages))


def _refund_fault(wallet: Wallet, event: Event) -> Wallet:
    if event.type != "purchase.voided":
        return wallet
    return replace(wallet, standings={**wallet.standings, "refunds_payable USD ": Standing(-1, -1)})


PAID = [buy(), pay("pay", "10.00", time="2026-01-06", block_id="b", payment_id="p", processor="cards")]
DISPUTED = [*PAID, _event("dispute.opened", "01-07", dispute_id="d", payment_id="p", **USD)]
OVERAGE = use("u", credits="5", overage_price="0.10", on_shortfall="overage", **USD)
WALLET_FAULTS: dict[str, tuple[list[Document], WalletFault, str, str, str, str]] = {
    "what was drawn": (
        [buy(), use("u")],
        _block_fault("credits.consumed", drawn_minor=-1),
        "block",
        "column consumed of block b differs from its entries",
        "-400",
        "-399",
    ),
    "what is carried": (
        [buy(), use("u")],
        _block_fault("credits.consumed", drawn_minor=-1),
        "control",
        "prepaid_liability in USD is 600, the carrying amount of the blocks is 601",
        "600",
        "601",
    ),
    "what was drawn, functional": (
        [*IN_EURO, use("u")],
        _block_fault("credits.consumed", drawn_functional=-1),
        "block",
        "column consumed of block b differs from its entries",
        "-480 functional",
        "-479 functional",
    ),
    "what is carried, functional": (
        [*IN_EURO, use("u")],
        _block_fault("credits.consumed", drawn_functional=-1),
        "control",
        "prepaid_liability in EUR (functional) is 720, the carrying amount of the blocks is 721",
        "720",
        "721",
    ),
    "what is to be paid": (
        [buy()],
        _block_fault("credits.purchased", receivable_minor=1),
        "receivable",
        "accounts_receivable USD b of c differs from its entries",
        "1000",
        "1001",
    ),
    "what an invoice is owed": (
        [OVERAGE, _event("overage.billed", "01-07", invoice_id="i", amount="0.50", **USD)],
        _document_fault("overage.billed", receivable_minor=49),
        "receivable",
        "accounts_receivable USD of c differs from its entries",
        "50",
        "49",
    ),
    "what is unbilled": (
        [OVERAGE],
        _overage_fault,
        "unbilled",
        "unbilled_receivable USD of c differs from its entries",
        "50",
        "51",
    ),
    "a dispute that ended": (
        [*DISPUTED, _event("dispute.won", "01-08", dispute_id="d")],
        _document_fault("dispute.won", decided=None),
        "dispute",
        "disputes_receivable USD b of c differs from its entries",
        "0",
        "1000",
    ),
    "a frozen block": (
        DISPUTED,
        _block_fault("dispute.opened", disputes=-1),
        "dispute",
        "the freezes of block b differ from its open disputes",
        "1",
        "0",
    ),
    "what a state is owed": (
        [
            buy(escheat_class="DE-3y"),
            pay("pay", "10.00", time="2026-01-05", block_id="b"),
            _event("credits.escheated", "01-06", block_id="b"),
        ],
        _block_fault("credits.escheated", claimed_minor=1),
        "unclaimed",
        "unclaimed_property USD b of c differs from its entries",
        "-1000",
        "-999",
    ),
    "what a payment has open": (
        [pay("pay", "3.00", time="2026-01-06", payment_id="p")],
        _document_fault("payment.received", open_minor=299),
        "payment",
        "customer_balance USD of c differs from its entries",
        "-300",
        "-299",
    ),
    "a payment overdrawn": (
        [pay("pay", "3.00", time="2026-01-06", payment_id="p")],
        _document_fault("payment.received", open_minor=-1),
        "payment",
        "payment p has a negative open amount",
        "0 or more",
        "-1",
    ),
    "what is to be paid back": (
        [*PAID, _event("purchase.voided", "01-07", block_id="b", reason="r")],
        _refund_fault,
        "position",
        "refunds_payable USD of c differs from its entries",
        "-1000",
        "-1",
    ),
}


@pytest.mark.parametrize("name", WALLET_FAULTS)
def test_a_wallet_that_remembers_something_else_disagrees_with_its_entries(
    service: Subledger, new_ledger: NewLedger, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    events, fault, check, message, expected, found = WALLET_FAULTS[name]

    def forgetful(wallet: Wallet, event: Event, decision: Decision, **facts: Any) -> Wallet:
        return fault(evolve(wallet, event, decision, **facts), event)

    for module in (batch, replay):
        monkeypatch.setattr(module, "evolve", forgetful)
    _rings(service, new_ledger(), events, check, message, expected, found)


def _rings(
    service: Subledger, ledger: str, events: list[Document], check: str, message: str, expected: str, found: str
) -> None:
    recorded(service, ledger, *events)
    [difference] = [d for d in differences(service, ledger) if d.message.split(", from position")[0] == message]
    assert difference.check == check
    assert expected in (difference.expected or "")
    assert found in (difference.found or "")


def _cash_fault(books: Books) -> Books:
    return replace(books, standings={key: Standing(a + 1, f) for key, (a, f) in books.standings.items()})


def _pool_fault(books: Books) -> Books:
    pools = books.pools
    for cohort in books.pools.all_cohorts():
        pools = pools.with_cohort(replace(cohort, recognised_minor=cohort.due_minor() + 1))
    return replace(books, pools=pools)


@pytest.mark.parametrize(
    ("events", "fault", "check", "message", "expected", "found"),
    [
        ([rate("2026-01-01", "1.20"), pay("pay", "3.00", time="2026-01-06", **EUR)], _cash_fault, "position",
         "cash EUR differs from its entries", "amount_minor=300, functional_minor=360",
         "amount_minor=301, functional_minor=360"),
        ([ESTIMATE, buy(pool="p"), use("u")], _pool_fault, "pool",
         "cohort 2026-01 of pool p has a balance of breakage_recognized that differs from recognised less expired"
         " breakage",
         "(1, 0)", "(0, 0)"),
    ],
)  # fmt: skip
def test_books_that_remember_something_else_disagree_with_their_entries(
    service: Subledger,
    new_ledger: NewLedger,
    monkeypatch: pytest.MonkeyPatch,
    events: list[Document],
    fault: Callable[[Books], Books],
    check: str,
    message: str,
    expected: str,
    found: str,
) -> None:
    def forgetful(books: Books, event: Event, decision: Decision, **facts: Any) -> Books:
        after = evolve_books(books, event, decision, **facts)
        return fault(after) if decision.movements else after

    for module in (batch, ledger_replay):
        monkeypatch.setattr(module, "evolve_books", forgetful)
    _rings(service, new_ledger(), events, check, message, expected, found)


# --- a faulty policy ------------------------------------------------------------------------------------------------


def _adopted(service: Subledger, ledger: str, policy: Policy) -> list[Difference]:
    chart, settings = default_mapping(), LedgerSettings(currency="USD")
    service.recorder.create_ledger(
        ledger, lambda at: founding_events(ledger, settings, policy, chart.rows, chart.content_hash, at=at, by=None)
    )
    return differences(service, ledger)


@pytest.mark.parametrize(
    ("kind", "pairs", "message"),
    [
        ("memo_paid", (AccountPair("contra_revenue", "customer_balance"),),
         "memo_paid under policy 1 does not move refunds_payable as its roles require"),
        ("payment_cash", (AccountPair("cash", "tax_payable"),),
         "payment_cash under policy 1 does not move accounts_receivable as its roles require"),
        ("goodwill", (AccountPair("contra_revenue", "deferred_revenue"),),
         "goodwill under policy 1 does not move prepaid_liability as its column requires"),
        ("goodwill", (AccountPair("contra_revenue", "prepaid_liability"),),
         "goodwill under policy 1 moves only some of prepaid_liability and the deposit accounts, which move together"),
        ("processing_fee", (AccountPair("bank_charges", "processor_clearing"),),
         "processing_fee under policy 1 names an account that is not in the chart"),
    ],
)  # fmt: skip
def test_a_policy_that_would_put_the_books_wrong_is_found(
    service: Subledger, new_ledger: NewLedger, kind: str, pairs: tuple[AccountPair, ...], message: str
) -> None:
    policy = shipped_policy("customer_deposits")
    policy = replace(policy, rules={**policy.rules, kind: pairs})
    found = _adopted(service, new_ledger() + "-policy", policy)
    assert {(d.check, d.position, d.subject) for d in found} == {("policy", 2, "policy 1")}
    assert f"{message}, from position 2 on" in [d.message for d in found]


def test_a_policy_without_a_rule_is_found(service: Subledger, new_ledger: NewLedger) -> None:
    policy = shipped_policy("customer_deposits")
    rules = {kind: pairs for kind, pairs in policy.rules.items() if kind != "payout"}
    [found] = _adopted(service, new_ledger() + "-rule", replace(policy, rules=rules))
    assert (found.check, found.message) == ("policy", "payout has no rule under policy 1, from position 2 on")


def test_blocks_under_a_policy_that_does_not_clear_its_deposits_are_found(
    service: Subledger, new_ledger: NewLedger
) -> None:
    policy = shipped_policy("customer_deposits")
    [first, second, companion] = policy.rules["purchase"]
    assert companion == AccountPair("credits_clearing", "customer_deposits")
    # The amount is deposited, but not cleared against the credits. Every entry still balances.
    rules = {**policy.rules, "purchase": (first, second, AccountPair("cash", "customer_deposits"))}
    ledger = new_ledger() + "-deposits"
    _adopted(service, ledger, replace(policy, rules=rules))
    recorded(service, ledger, buy())
    [found] = [d for d in differences(service, ledger) if d.check == "block"]
    assert (found.position, found.subject) == (4, "b")
    assert found.message == "block b has three balances that differ as of 2026-01-05, from position 4 on"


# --- sums over the ledger ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ("amount_minor", "the trial balance in USD is out by -"),
        ("functional_minor", "the trial balance in USD (functional) is out by -"),
    ],
)
def test_journal_lines_that_do_not_balance_are_found(own: tuple[Subledger, str], column: str, message: str) -> None:
    service, url = own
    with psycopg.connect(url) as connection:
        [(view,)] = connection.execute("SELECT pg_get_viewdef('journal_lines'::regclass)").fetchall()
        changed = view.replace(f"abs(e.{column})", f"abs(e.{column}) + (side.name = 'credit')::int")
        assert changed != view
        connection.execute(f"CREATE OR REPLACE VIEW journal_lines AS {changed}")
    found = differences(service, LEDGER)
    assert {d.check for d in found} == {"trial_balance"}
    assert any(d.message.startswith(message) for d in found)
    assert any(
        d.message == "the trial balance of prepaid_liability in USD differs from the journal lines" for d in found
    )
