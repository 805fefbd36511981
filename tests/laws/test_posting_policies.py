"""Laws of posting policies: every kind balances, the policies agree where they must, and a file is read or refused."""

from __future__ import annotations

from collections import Counter

import msgspec
import orjson
import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from subledger import posting
from subledger.accounts import ROLE_BY_NAME, AccountClass, Side
from subledger.errors import InvalidPolicy
from subledger.kinds import (
    CREDIT_COLUMN,
    CREDIT_COLUMNS,
    GAINS,
    KIND_BY_NAME,
    LOSSES,
    MONETARY_ROLES,
    AccountPair,
    Rules,
    effect,
    expand,
)
from subledger.posting import (
    SHIPPED_POLICIES,
    base_policy,
    keeps_the_pair,
    parse_policy,
    rules_from,
    shipped_policy,
    stated_kinds,
)
from subledger.text.toml_text import MAX_TEXT
from tests.laws.shipped import AMOUNTS, ARM, DEPOSITS, NAMES, PLAIN, RULES, all_policies

REVENUE = {"usage_revenue", "overage_revenue", "breakage_revenue", "contra_revenue"}
DEPOSIT_ACCOUNTS = {"credits_clearing", "customer_deposits"}

deposit_policies = pytest.mark.parametrize(
    "rules", [pytest.param(DEPOSITS, id="deposits"), pytest.param(ARM, id="arm")]
)
every_kind = pytest.mark.parametrize("kind", NAMES)


def effects(kind: str, rules: Rules, *, without: set[str] = frozenset()) -> dict[str, int]:
    """Returns by account the number of debits less credits, without accounts through which the amount only passes."""
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
    """The companion rule, pair by pair. Only consumption and breakage have a pair that is merged with its companion."""
    owed = Counter[AccountPair]()
    for debit, credit in ((pair.debit, pair.credit) for pair in rules[kind]):
        if debit == "prepaid_liability":
            owed[AccountPair("customer_deposits", "credits_clearing")] += 1
        if credit == "prepaid_liability":
            owed[AccountPair("credits_clearing", "customer_deposits")] += 1
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
                assert pairs[index + 1] == AccountPair(*(companion if drawn else companion[::-1]))
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

    assert ARM[kind] == tuple(AccountPair(released(pair.debit), released(pair.credit)) for pair in DEPOSITS[kind])
    assert not {account for pair in ARM[kind] for account in (pair.debit, pair.credit)} & REVENUE


@all_policies
def test_nothing_is_recognised_when_credits_are_bought(rules: Rules) -> None:
    revenue = {role.name for role in ROLE_BY_NAME.values() if role.account_class is AccountClass.REVENUE}
    for kind in ("purchase", "purchase_tax", "promotional_grant"):
        assert not set(effects(kind, rules)) & revenue
    assert effects("purchase", rules, without=DEPOSIT_ACCOUNTS) == {"accounts_receivable": 1, "prepaid_liability": -1}


@all_policies
def test_a_reinstatement_is_the_mirror_of_its_breakage(rules: Rules) -> None:
    assert rules["reinstatement"] == tuple(AccountPair(pair.credit, pair.debit) for pair in rules["breakage"])


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
        assert effect(role, kind, rules) == (described.debit_role == role) - (described.credit_role == role)


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
    changed = {**first.rules, "overage": (AccountPair("cash", "overage_revenue"),)}
    assert msgspec.structs.replace(first, rules=changed).content_hash != first.content_hash


HEAD = 'name = "mine"\nversion = 1\ndescription = "d"\n[entries]\n'
EVERY = "".join(f'{kind} = ["cash / customer_balance"]\n' for kind in NAMES)


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("name = ", None),
        ("", "name"),
        (HEAD, NAMES[0]),
        ("x = " + "[" * 100_000, None),
        ('name = "mine"\n[entries]\n' + EVERY, "version"),
        (HEAD.replace('"mine"', '""') + EVERY, "name"),
        (HEAD.replace('"mine"', '"mi/ne"') + EVERY, "name"),
        (HEAD.replace('"mine"', "7") + EVERY, "name"),
        (HEAD.replace("1", "0") + EVERY, "version"),
        (HEAD.replace("1", '"1"') + EVERY, "version"),
        (HEAD.replace("1", "true") + EVERY, "version"),
        (HEAD.replace("1", str(2**31)) + EVERY, "version"),
        (HEAD.replace('"d"', r'"\u0000"') + EVERY, "description"),
        ("entries = 7\n" + HEAD.replace("[entries]", ""), "entries"),
        ("owner = 7\n" + HEAD + EVERY, "owner"),
        (HEAD + EVERY.replace('["cash / customer_balance"]', str(["cash / customer_balance"] * 13), 1), NAMES[0]),
        (HEAD + EVERY.replace("overage = ", "surcharge = "), "overage"),
        (HEAD + EVERY + 'tip = ["cash / customer_balance"]\n', "tip"),
        (HEAD + EVERY.replace("cash", "petty_cash"), NAMES[0]),
        (HEAD + EVERY.replace(" / ", " "), NAMES[0]),
        (HEAD + EVERY.replace('["cash / customer_balance"]', "[7]"), NAMES[0]),
        (HEAD + EVERY.replace('["cash / customer_balance"]', "7"), NAMES[0]),
    ],
)
def test_a_policy_file_that_is_not_whole_is_refused_by_the_name_of_what_is_wrong(text: str, field: str | None) -> None:
    parse_policy(HEAD + EVERY)
    with pytest.raises(InvalidPolicy) as caught:
        parse_policy(text)
    assert caught.value.field == field


ROLES_EXPECTED = "debit / credit, two roles"
PAIRS_EXPECTED = "a list of at most 12 texts, debit / credit"
NAME_EXPECTED = "1 to 64 letters, digits, dots, dashes and underscores"
VERSION_EXPECTED = "a whole number, from 1"
DESCRIPTION_EXPECTED = "text of at most 2000 characters"
LONG = "k" * 70


def changed(old: str, new: str) -> str:
    assert old in HEAD + EVERY
    return (HEAD + EVERY).replace(old, new)


@pytest.mark.parametrize(
    ("text", "field", "expected", "found", "said"),
    [
        ("name = ", None, "TOML", None, "the policy file cannot be read: "),
        ("a = " + "[" * 5000, None, "TOML", None, "the policy file cannot be read: "),
        (HEAD, NAMES[0], "a list of pairs", None, f"the policy has no rule for {NAMES[0]}"),
        *(
            (changed('name = "mine"', f"name = {value}"), "name", NAME_EXPECTED, found,
             f"the policy's name is not {NAME_EXPECTED}")
            for value, found in (
                ("7", "7"), ('""', ""), ('"-x"', "-x"), ('"a b"', "a b"), (f'"{LONG}"', LONG[:60]), ("[]", "list"))
        ),
        *(
            (changed("version = 1\n", f"{value}\n"), "version", VERSION_EXPECTED, found,
             f"the policy's version is not {VERSION_EXPECTED}")
            for value, found in (
                ("", "nothing"), ("version = 0", "0"), ("version = true", "True"), ("version = 1.0", "float"),
                ('version = "1"', "1"), ("version = 2147483648", "2147483648"))
        ),
        *(
            (changed('description = "d"', f"description = {value}"), "description", DESCRIPTION_EXPECTED, found,
             f"the policy's description is not {DESCRIPTION_EXPECTED}")
            for value, found in (('"' + "d" * 2001 + '"', "d" * 60), ('"a\\u0000"', "a\\x00"), ("1", "1"))
        ),
        ('name = "mine"\nversion = 1\ndescription = "d"\nentries = 7\n', "entries",
         "a table: one list of pairs for each entry kind", "7",
         "the policy's entries is not a table: one list of pairs for each entry kind"),
        ('colour = "red"\n' + HEAD + EVERY, "colour", "name, version, description, entries", None,
         "colour is no member of a policy"),
        (f"{LONG} = 1\n" + HEAD + EVERY, LONG[:60], "name, version, description, entries", None,
         f"{LONG[:60]} is no member of a policy"),
        (HEAD + EVERY + 'tip = ["cash / cash"]\n', "tip", "an entry kind of subledger/README.md", "tip",
         "there is no entry kind tip"),
        (HEAD + EVERY + f'{LONG} = ["cash / cash"]\n', LONG[:60], "an entry kind of subledger/README.md", LONG[:60],
         f"there is no entry kind {LONG[:60]}"),
        *(
            (HEAD + f"{kind} = {value}\n", kind[:60], PAIRS_EXPECTED, found, f"{kind[:60]} is not {PAIRS_EXPECTED}")
            for kind in ("overage", LONG)
            for value, found in (
                ("7", "int"), ("[7]", "list"), ('["cash / cash", 7]', "list"), (str(["cash / cash"] * 13), "list"),
                ('"cash"', "str"))
        ),
        (changed("cash", "purse"), NAMES[0], ROLES_EXPECTED, "purse / customer_balance",
         f"{NAMES[0]}: there is no account role 'purse'"),
        (changed(" / customer_balance", " / a / b"), NAMES[0], ROLES_EXPECTED, "cash / a / b",
         f"{NAMES[0]}: there is no account role 'a / b'"),
        (HEAD + f'{LONG} = ["{LONG} / {LONG}"]\n', LONG[:60], ROLES_EXPECTED, f"{LONG} / {LONG}"[:120],
         f"{LONG[:60]}: there is no account role '{LONG[:60]}'"),
    ],
)  # fmt: skip
def test_a_refused_policy_file_says_what_was_expected_and_found(
    text: str, field: str | None, expected: str | None, found: str | None, said: str
) -> None:
    with pytest.raises(InvalidPolicy) as caught:
        parse_policy(text)
    assert (caught.value.field, caught.value.expected, caught.value.found) == (field, expected, found)
    assert str(caught.value).startswith(said) if said.endswith(": ") else str(caught.value) == said


def test_a_policy_file_that_is_too_long_says_how_long_it_is() -> None:
    with pytest.raises(InvalidPolicy) as caught:
        parse_policy(" " * (MAX_TEXT + 1))
    assert (caught.value.expected, caught.value.found) == (f"at most {MAX_TEXT} characters", str(MAX_TEXT + 1))


def test_a_policy_file_at_its_bounds_is_read() -> None:
    name, description = "a" * 64, "d" * 2000
    text = (
        changed('"mine"', f'"{name}"').replace("version = 1", "version = 2147483647").replace('"d"', f'"{description}"')
    )
    policy = parse_policy(text.replace("overage = [", "overage = [" + '"cash / cash", ' * 11))
    assert (policy.name, policy.version, policy.description) == (name, 2147483647, description)
    assert len(policy.rules["overage"]) == 12
    assert parse_policy(changed('"d"', '" d "')).description == "d"


def test_a_policy_file_reads_as_it_is_written() -> None:
    policy = parse_policy((HEAD + EVERY).replace("\noverage = [", '\noverage = ["refunds_payable / cash", '))
    assert (policy.name, policy.version, policy.description) == ("mine", 1, "d")
    paid = AccountPair("cash", "customer_balance")
    assert policy.rules == dict.fromkeys(NAMES, (paid,)) | {"overage": (AccountPair("refunds_payable", "cash"), paid)}


def test_only_shipped_policies_ship() -> None:
    with pytest.raises(InvalidPolicy) as caught:
        shipped_policy("../accounts")
    assert (
        caught.value.as_document().items()
        >= {
            "detail": "no policy ../accounts ships",
            "field": "policy",
            "expected": ", ".join(SHIPPED_POLICIES),
            "found": "../accounts",
        }.items()
    )
    for name in SHIPPED_POLICIES:
        assert shipped_policy(name).rules == RULES[name]


# --- kinds that are younger than a policy ---------------------------------------------------------------------------


@pytest.fixture
def goodwill_is_young(monkeypatch: pytest.MonkeyPatch) -> None:
    """Changes the tables as if the next version of the table of kinds had added goodwill."""
    young = msgspec.structs.replace(KIND_BY_NAME["goodwill"], since=max(kind.since for kind in posting.KINDS) + 1)
    monkeypatch.setattr(posting, "KINDS", tuple(young if kind.name == young.name else kind for kind in posting.KINDS))
    monkeypatch.setattr(posting, "KIND_BY_NAME", {**KIND_BY_NAME, young.name: young})
    monkeypatch.setattr(posting, "YOUNGER_KINDS", (*posting.YOUNGER_KINDS, young))


def document(rules: Rules, *, without: str = "") -> dict[str, list[list[str]]]:
    """Returns rules as in ``policy.adopted``."""
    return {kind: [[pair.debit, pair.credit] for pair in rule] for kind, rule in rules.items() if kind != without}


@pytest.mark.parametrize("name", SHIPPED_POLICIES)
def test_a_shipped_policy_is_the_base_of_its_own_rules(name: str) -> None:
    rules = shipped_policy(name).rules
    assert base_policy(rules) == name
    assert keeps_the_pair(rules) == (name != "contract_liability")
    assert base_policy({}) == "contract_liability"
    assert not keeps_the_pair({})
    only_bought = {"purchase": rules["purchase"]}
    assert base_policy(only_bought) == ("customer_deposits" if keeps_the_pair(rules) else "contract_liability")


@pytest.mark.parametrize("name", SHIPPED_POLICIES)
@pytest.mark.usefixtures("goodwill_is_young")
def test_a_policy_inherits_the_rule_of_a_younger_kind_from_the_shipped_one_that_treats_deposits_alike(
    name: str,
) -> None:
    rules = shipped_policy(name).rules
    older = document(rules, without="goodwill")
    assert {kind.name for kind in stated_kinds(older)} == set(older)
    assert rules_from(older) == rules
    assert rules_from(document(rules)) == rules
    without = document(rules, without="allocation")
    assert {kind.name for kind in stated_kinds(without)} == {*without, "allocation"}
    assert "allocation" not in rules_from(without), "the policy is of the last version, so it had to state it"
    first = {kind.name for kind in posting.KINDS if kind.since == 1}
    assert {kind.name for kind in stated_kinds({})} == first < set(rules)
