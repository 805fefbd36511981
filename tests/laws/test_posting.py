"""Laws of posting: every kind balances, the policies agree where they must, and what is stored reads back."""

from __future__ import annotations

import dataclasses
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec
import orjson
import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from subledger.accounts import ROLE_BY_NAME, AccountClass, Side
from subledger.blocks import Block
from subledger.context import Context, Original
from subledger.deciding import decide
from subledger.documents import Overage
from subledger.errors import InvalidPolicy, Refused
from subledger.events import Event, own_event, read_event
from subledger.evolving import evolve
from subledger.journal import (
    CREDIT_COLUMN,
    CREDIT_COLUMNS,
    GAINS,
    KIND_BY_NAME,
    KINDS,
    LOSSES,
    MONETARY_ROLES,
    Pair,
    Rules,
    effect,
    expand,
)
from subledger.ledger import LedgerState
from subledger.posting import SHIPPED_POLICIES, parse_policy, post, rules_from, shipped_policy
from subledger.store.log import decision_text
from subledger.store.memory import decode_decision, decode_wallet, encode_state
from subledger.wallet import Decision, Movement, Wallet
from tests.conftest import cloud_event

RULES: dict[str, Rules] = {name: shipped_policy(name).rules for name in SHIPPED_POLICIES}
PLAIN, DEPOSITS, ARM = (RULES[name] for name in SHIPPED_POLICIES)
NAMES = [kind.name for kind in KINDS]
AMOUNTS = st.integers(-(10**15), 10**15)
REVENUE = {"usage_revenue", "overage_revenue", "breakage_revenue", "contra_revenue"}
DEPOSIT_ACCOUNTS = {"credits_clearing", "customer_deposits"}

all_policies = pytest.mark.parametrize("rules", RULES.values(), ids=RULES)
deposit_policies = pytest.mark.parametrize(
    "rules", [pytest.param(DEPOSITS, id="deposits"), pytest.param(ARM, id="arm")]
)
every_kind = pytest.mark.parametrize("kind", NAMES)


def effects(kind: str, rules: Rules, *, without: set[str] = frozenset()) -> dict[str, int]:  # type: ignore[assignment]
    """Account → how often it is debited, less how often credited; accounts it only passes through left out."""
    found = {account: effect(account, kind, rules) for account in ROLE_BY_NAME if account not in without}
    return {account: times for account, times in found.items() if times}


# --- the policies as data -------------------------------------------------------------------------------------


def test_the_policies_agree_on_the_kinds() -> None:
    assert set(PLAIN) == set(DEPOSITS) == set(ARM) == set(NAMES)
    assert len(NAMES) == len(set(NAMES))


@all_policies
@every_kind
@given(amount=AMOUNTS, functional=AMOUNTS)
def test_an_entry_of_any_kind_balances_in_both_currencies(
    rules: Rules, kind: str, amount: int, functional: int
) -> None:
    if amount * functional < 0:
        functional = -functional
    lines = expand(kind, amount, functional, rules)
    for side_of in (lambda line: line.amount_minor, lambda line: line.functional_minor):
        debit = sum(side_of(line) for line in lines if line.side is Side.DEBIT)
        assert debit == sum(side_of(line) for line in lines if line.side is Side.CREDIT)
    assert all(line.amount_minor >= 0 and line.functional_minor >= 0 for line in lines)
    assert len(lines) == (2 * len(rules[kind]) if amount or functional else 0)


@all_policies
@every_kind
@given(amount=st.integers(1, 10**15))
def test_an_entry_and_its_reversal_are_zero_line_by_line(rules: Rules, kind: str, amount: int) -> None:
    original, mirror = (expand(kind, sign * amount, sign * amount, rules) for sign in (1, -1))
    assert Counter((line.account, line.side.opposite, line.amount_minor) for line in original) == Counter(
        (line.account, line.side, line.amount_minor) for line in mirror
    )


@deposit_policies
@every_kind
def test_every_pair_on_prepaid_liability_is_followed_by_its_companion(rules: Rules, kind: str) -> None:
    """The companion rule, pair by pair; a pair that merges with its companion is consumption's and breakage's."""
    owed = Counter[Pair]()
    for debit, credit in ((pair.debit, pair.credit) for pair in rules[kind]):
        if debit == "prepaid_liability":
            owed[Pair("customer_deposits", "credits_clearing")] += 1
        if credit == "prepaid_liability":
            owed[Pair("credits_clearing", "customer_deposits")] += 1
    net = Counter[str]()
    for pair, times in owed.items():
        net[pair.debit] += times
        net[pair.credit] -= times
    for account in DEPOSIT_ACCOUNTS:
        assert effect(account, kind, rules) == net[account]
    through_receivable = any(
        "accounts_receivable" in (pair.debit, pair.credit) and "customer_deposits" in (pair.debit, pair.credit)
        for pair in rules[kind]
    )
    if not through_receivable:
        pairs = list(rules[kind])
        for index, pair in enumerate(pairs):
            if "prepaid_liability" in (pair.debit, pair.credit):
                drawn = pair.debit == "prepaid_liability"
                companion = ("customer_deposits", "credits_clearing")
                assert pairs[index + 1] == Pair(*(companion if drawn else companion[::-1]))
        assert sum(bool({p.debit, p.credit} & DEPOSIT_ACCOUNTS) for p in pairs) == sum(owed.values())


@deposit_policies
@every_kind
def test_liability_deposit_and_clearing_of_a_block_move_together(rules: Rules, kind: str) -> None:
    liability = effect("prepaid_liability", kind, rules)
    assert effect("customer_deposits", kind, rules) == liability
    assert effect("credits_clearing", kind, rules) == -liability


@deposit_policies
def test_only_what_uses_a_block_up_passes_through_the_receivable_and_nets_to_zero(rules: Rules) -> None:
    through = {
        kind
        for kind in NAMES
        if any("accounts_receivable" in (pair.debit, pair.credit) for pair in rules[kind])
        and not effect("accounts_receivable", kind, rules)
    }
    assert through == {"consumption", "breakage", "reinstatement"}


@every_kind
def test_deposit_accounting_changes_nothing_but_the_deposit_accounts(kind: str) -> None:
    assert effects(kind, DEPOSITS, without=DEPOSIT_ACCOUNTS) == effects(kind, PLAIN)


@every_kind
def test_the_arm_policy_puts_deferred_revenue_in_the_place_of_every_revenue_account(kind: str) -> None:
    def released(account: str) -> str:
        return "deferred_revenue" if account in REVENUE else account

    assert ARM[kind] == tuple(Pair(released(pair.debit), released(pair.credit)) for pair in DEPOSITS[kind])
    assert not {account for pair in ARM[kind] for account in (pair.debit, pair.credit)} & REVENUE


@all_policies
def test_nothing_is_recognised_when_credits_are_bought(rules: Rules) -> None:
    revenue = {role.name for role in ROLE_BY_NAME.values() if role.account_class is AccountClass.REVENUE}
    for kind in ("purchase", "purchase_tax", "promotional_grant"):
        assert not set(effects(kind, rules)) & revenue
    assert effects("purchase", rules, without=DEPOSIT_ACCOUNTS) == {"accounts_receivable": 1, "prepaid_liability": -1}


@all_policies
def test_a_reinstatement_is_the_mirror_of_its_breakage(rules: Rules) -> None:
    assert rules["reinstatement"] == tuple(Pair(pair.credit, pair.debit) for pair in rules["breakage"])


@all_policies
@every_kind
def test_the_roll_forward_column_of_a_kind_is_what_it_does_to_the_liability(rules: Rules, kind: str) -> None:
    described = KIND_BY_NAME[kind]
    assert described.column is None or described.column in GAINS + LOSSES
    assert (described.column is None) == (described.sign == 0)
    if kind != "promotional_grant" and not kind.startswith("fx_"):  # credits without money; money without credits
        assert effect("prepaid_liability", kind, rules) == -described.sign


@all_policies
@every_kind
def test_what_a_kind_does_to_money_owed_or_held_is_the_same_under_every_policy(rules: Rules, kind: str) -> None:
    described = KIND_BY_NAME[kind]
    for role in MONETARY_ROLES:
        assert effect(role, kind, rules) == (described.debits == role) - (described.credits == role)


def test_every_column_of_a_block_is_counted_among_a_customers_credits() -> None:
    assert set(CREDIT_COLUMN) == {*GAINS, *LOSSES}
    assert {column for column, _ in CREDIT_COLUMN.values()} == set(CREDIT_COLUMNS)


@pytest.mark.parametrize("name", SHIPPED_POLICIES)
def test_a_policy_survives_its_event(name: str) -> None:
    policy = shipped_policy(name)
    assert rules_from(orjson.loads(rfc8785.dumps(policy.rules_document))) == policy.rules
    assert (policy.name, policy.version) == (name, 1)


def test_the_hash_of_a_policy_tells_its_rules_apart() -> None:
    policies = [shipped_policy(name) for name in SHIPPED_POLICIES]
    assert len({policy.content_hash for policy in policies}) == len(policies)
    first = policies[0]
    assert msgspec.structs.replace(first, description="other words").content_hash == first.content_hash
    changed = {**first.rules, "overage": (Pair("cash", "overage_revenue"),)}
    assert msgspec.structs.replace(first, rules=changed).content_hash != first.content_hash


HEAD = 'name = "mine"\nversion = 1\ndescription = "d"\n[entries]\n'
EVERY = "".join(f'{kind} = ["cash / customer_balance"]\n' for kind in NAMES)


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("name = ", None),
        ("", None),
        (HEAD, NAMES[0]),
        ('name = "mine"\n[entries]\n' + EVERY, None),
        (HEAD + EVERY.replace("overage = ", "surcharge = "), "overage"),
        (HEAD + EVERY + 'tip = ["cash / customer_balance"]\n', "tip"),
        (HEAD + EVERY.replace("cash", "petty_cash"), NAMES[0]),
        (HEAD + EVERY.replace(" / ", " "), NAMES[0]),
        (HEAD + EVERY.replace('["cash / customer_balance"]', "[7]"), None),
        (HEAD + EVERY.replace('["cash / customer_balance"]', "7"), None),
    ],
)
def test_a_policy_file_that_is_not_whole_is_refused_by_the_name_of_what_is_wrong(text: str, field: str | None) -> None:
    parse_policy(HEAD + EVERY)
    with pytest.raises(InvalidPolicy) as caught:
        parse_policy(text)
    assert caught.value.field == field


def test_only_shipped_policies_ship() -> None:
    with pytest.raises(InvalidPolicy) as caught:
        shipped_policy("../accounts")
    assert caught.value.expected == ", ".join(SHIPPED_POLICIES)


# --- what is stored -------------------------------------------------------------------------------------------

IDS = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=8)
DAYS = st.dates(date(1950, 1, 1), date(2900, 1, 1))
MOMENTS = st.datetimes(datetime(1950, 1, 1), datetime(2900, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - bounds are naive by contract
CREDITS = st.integers(-(10**24), 10**24).map(lambda billionths: Decimal(billionths).scaleb(-9))
MOVEMENTS = st.builds(
    Movement, kind=st.sampled_from(NAMES), on=DAYS, amount=AMOUNTS, credits=CREDITS, block=st.none() | IDS,
    overage=st.none() | st.integers(1, 2**53 - 1), backfill=st.booleans(), product=st.none() | IDS,
    policy=st.none() | st.integers(1, 99),
)  # fmt: skip
DECISIONS = st.builds(
    Decision, policy=st.integers(1, 99), movements=st.lists(MOVEMENTS, max_size=4).map(tuple),
    original=st.none() | st.integers(1, 2**53 - 1),
)  # fmt: skip
BLOCKS = st.builds(
    Block, block_id=IDS, credit_kind=st.sampled_from(("paid", "promotional")), unit=IDS, credits=CREDITS,
    price_minor=AMOUNTS, currency=st.just("USD"), starts_at=MOMENTS, expires_at=st.none() | MOMENTS,
    scope=st.none() | st.lists(IDS, min_size=1, max_size=3).map(tuple), opened_at_position=st.integers(1, 2**53 - 1),
    gained_on=DAYS, used=CREDITS, drawn_minor=AMOUNTS, broken_on=st.none() | DAYS, expired=st.booleans(),
)  # fmt: skip
OVERAGES = st.builds(
    Overage, position=st.integers(1, 2**53 - 1), unit=IDS, price=CREDITS, currency=st.just("USD"), credits=CREDITS,
    amount_minor=AMOUNTS, booked_on=DAYS, settled_by=st.lists(IDS, max_size=2).map(tuple),
)  # fmt: skip
WALLETS = st.builds(
    Wallet, customer=IDS, blocks=st.lists(BLOCKS, max_size=3).map(tuple),
    overages=st.lists(OVERAGES, max_size=2).map(tuple),
    carry=st.dictionaries(st.sampled_from(("USD", "EUR", "KWD")), CREDITS, max_size=3),
)  # fmt: skip


@given(DECISIONS)
def test_a_decision_is_stored_in_canonical_json_and_reads_back(decision: Decision) -> None:
    text = decision_text(decision)
    assert text.encode() == rfc8785.dumps(orjson.loads(text))
    assert decode_decision(text) == decision


@given(WALLETS)
def test_a_wallet_is_stored_in_canonical_json_and_reads_back(wallet: Wallet) -> None:
    text = encode_state(wallet)
    assert text.encode() == rfc8785.dumps(orjson.loads(text))
    assert decode_wallet(text) == wallet
    assert encode_state(decode_wallet(text)) == text


# --- decide, evolve, post: a walk without a database ------------------------------------------------------------


@dataclasses.dataclass
class Books:
    """One customer's books, kept by the pure functions alone."""

    state: LedgerState = LedgerState(ledger="L", functional_currency="USD", on_shortfall="backfill", policy=1)  # noqa: RUF009 - frozen
    wallet: Wallet = Wallet(customer="ann")  # noqa: RUF009 - frozen
    log: list[tuple[Event, Decision]] = dataclasses.field(default_factory=list)

    def take(self, event: Event) -> None:
        owners = {block.block_id: "ann" for block in self.wallet.blocks}
        original = None
        for position, (known, decision) in enumerate(self.log, start=1):
            if event.type == "consumption.reversed" and known.event_id == event.data.event_id:
                original = Original(position=position, event=known, decision=decision)
        try:
            decision = decide(self.wallet, event, Context(state=self.state, owners=owners, original=original))
        except Refused:
            return
        self.log.append((event, decision))
        self.wallet = self.after(event, decision, len(self.log), self.wallet)

    def after(self, event: Event, decision: Decision, position: int, wallet: Wallet) -> Wallet:
        return evolve(wallet, event, decision, position=position, functional_currency="USD")


def walk(steps: list[tuple[str, int, int, int]]) -> Books:
    books = Books()
    for number, (what, day, block, size) in enumerate(steps):
        moment = datetime(2026, 1, 1, 12, tzinfo=UTC) + timedelta(days=day)
        name, credits = f"b{block}", f"{size / 4:.2f}"
        known = books.wallet.block(name)
        if what == "expire":
            if known is None or known.expires_at is None:
                continue
            books.take(
                own_event(
                    source="subledger", event_id=f"e{number}", type="credits.expired", customer="ann",
                    occurred_at=known.expires_at, data={"block_id": name},
                )
            )  # fmt: skip
            continue
        type, data = {
            "buy": ("credits.purchased", {
                "block_id": name, "credits": credits, "price": f"{size * 7 % 100}.37", "currency": "USD", "tax": "1.11",
                "expires_at": (moment + timedelta(days=size)).isoformat(),
            }),
            "use": ("credits.consumed", {"credits": credits, "overage_price": "0.0123", "currency": "USD"}),
            "reverse": ("consumption.reversed", {"event_id": f"e{size % (number + 1)}", "reason": "r"}),
            "void": ("purchase.voided", {"block_id": name, "reason": "r"}),
            "extend": ("block.expiry_changed", {"block_id": name, "expires_at": None, "reason": "r"}),
            "pay": ("payment.received", {"amount": f"{size}.01", "currency": "USD", "block_id": name}),
        }[what]  # fmt: skip
        books.take(read_event(cloud_event(f"e{number}", type, "ann", moment.isoformat(), **data)))
    return books


STEPS = st.lists(
    st.tuples(
        st.sampled_from(("buy", "buy", "use", "use", "use", "reverse", "reverse", "void", "extend", "pay", "expire")),
        st.integers(0, 60), st.integers(1, 4), st.integers(1, 90),
    ),
    max_size=25,
)  # fmt: skip


@given(STEPS)
def test_a_replay_of_what_was_decided_gives_the_same_wallet_and_entries_at_every_position(steps: Any) -> None:
    books = walk(steps)
    wallet = Wallet(customer="ann")
    for position, (event, decision) in enumerate(books.log, start=1):
        stored = decode_decision(decision_text(decision))
        wallet = books.after(event, stored, position, decode_wallet(encode_state(wallet)))
        assert post(event, stored, before=books.state, wallets={"ann": wallet}) == post(
            event, decision, before=books.state, wallets={"ann": books.wallet}
        ), "headers never change: either moment would do"
    assert wallet == books.wallet
    assert encode_state(wallet) == encode_state(books.wallet)


@all_policies
@given(steps=STEPS)
def test_the_entries_of_a_block_add_up_to_what_the_writer_remembers_of_it(rules: Rules, steps: Any) -> None:
    books = walk(steps)
    credits, liability = Counter[str](), Counter[str]()
    for event, decision in books.log:
        for entry in post(event, decision, before=books.state, wallets={"ann": books.wallet}):
            lines = expand(entry.kind, entry.amount_minor, entry.functional_minor, rules)
            if entry.block_id is None:
                continue
            credits[entry.block_id] += KIND_BY_NAME[entry.kind].sign * entry.credits
            for line in lines:
                if line.account == "prepaid_liability":
                    liability[entry.block_id] += line.amount_minor * (1 if line.side is Side.CREDIT else -1)
    for block in books.wallet.blocks:
        assert credits[block.block_id] == block.left
        assert liability[block.block_id] == block.carrying_minor
        assert block.left > 0 or block.carrying_minor == 0
        assert block.carrying_minor >= 0
        assert block.receivable_minor >= 0
        assert 0 <= block.tax_reversed_minor <= block.tax_minor
