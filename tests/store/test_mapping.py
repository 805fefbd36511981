"""Account mappings: valid files, the matching row, and the mappings that a ledger has adopted."""

from __future__ import annotations

import pytest

from api.service import Subledger
from projections.account_mapping.mapping import (
    AccountMapping,
    GLAccount,
    default_mapping,
    mapping_for,
    mapping_of,
    parse_mapping,
)
from projections.account_mapping.rows import FIXED_COLUMNS
from projections.configuring.account_mappings import adopt_mapping
from projections.integrity import verify
from projections.journals.making import ensure_journals
from subledger.accounts import ROLES, AccountClass
from subledger.errors import IntegrityFault, InvalidMapping, UnmappedRole
from subledger.periods import Period
from subledger.store.database import Database
from tests.building import cloud_event
from tests.conftest import NewLedger

HEADER = ",".join(FIXED_COLUMNS)


def mapping(*rows: str, header: str = HEADER) -> AccountMapping:
    return parse_mapping("\n".join((header, *rows)) + "\n")


def test_the_shipped_chart_has_an_account_of_the_right_class_for_every_role() -> None:
    first_digit = {
        AccountClass.ASSET: "1",
        AccountClass.LIABILITY: "2",
        AccountClass.CONTRA_LIABILITY: "2",
        AccountClass.REVENUE: "4",
        AccountClass.CONTRA_REVENUE: "4",
        AccountClass.EXPENSE: "6",
        AccountClass.CLEARING: "1",
    }
    chart = default_mapping()
    accounts = {role.name: chart.resolve(role.name, "", "", "USD") for role in ROLES}
    assert {name: account.number[0] for name, account in accounts.items()} == {
        role.name: first_digit[role.account_class] for role in ROLES
    }
    assert len({account.number for account in accounts.values()}) == len(ROLES)
    assert all(account.name for account in accounts.values())


def test_the_most_specific_row_wins_product_before_credit_kind_before_currency() -> None:
    rows = mapping(
        "usage_revenue,,,,any,",
        "usage_revenue,,,EUR,currency,",
        "usage_revenue,,paid,,kind,",
        "usage_revenue,,paid,EUR,kind and currency,",
        "usage_revenue,api,,,product,",
        "usage_revenue,api,,EUR,product and currency,",
        "usage_revenue,api,paid,,product and kind,",
        "usage_revenue,api,paid,EUR,all three,",
    )

    def found(product: str, kind: str, currency: str) -> str:
        return rows.resolve("usage_revenue", product, kind, currency).number

    assert found("", "", "USD") == "any"
    assert found("other", "goodwill", "EUR") == "currency"
    assert found("other", "paid", "USD") == "kind"
    assert found("other", "paid", "EUR") == "kind and currency"
    assert found("api", "goodwill", "USD") == "product"
    assert found("api", "goodwill", "EUR") == "product and currency"
    assert found("api", "paid", "USD") == "product and kind"
    assert found("api", "paid", "EUR") == "all three"


def test_refundable_counts_less_than_a_credit_kind_and_more_than_a_currency() -> None:
    rows = mapping(
        "prepaid_liability,,,,any,,",
        "prepaid_liability,,,EUR,currency,,",
        "prepaid_liability,,,,owed back,,true",
        "prepaid_liability,,paid,,kind,,",
        "prepaid_liability,,paid,,kind and not owed back,,false",
        "cash,,,,cash,,",
        header=f"{HEADER},refundable",
    )
    assert rows.dimensions == ()

    def found(kind: str, currency: str, refundable: str) -> str:
        account = rows.resolve("prepaid_liability", "", kind, currency, refundable=refundable)
        assert account == rows.resolve_for_all("prepaid_liability", "", kind, currency, refundable=refundable)
        return account.number

    assert found("goodwill", "USD", "") == "any"
    assert found("goodwill", "EUR", "") == "currency"
    assert found("", "EUR", "true") == "owed back"
    assert found("paid", "EUR", "true") == "kind"
    assert found("paid", "EUR", "") == "kind and not owed back"
    assert {rows.resolve("cash", "", "", "USD", refundable=each).number for each in ("", "true")} == {"cash"}
    with pytest.raises(UnmappedRole, match="refundable true, currency USD") as caught:
        rows.resolve("bad_debt", "", "", "USD", refundable="true")
    assert caught.value.facts["refundable"] == "true"


def test_a_role_without_a_row_is_refused_naming_the_combination() -> None:
    with pytest.raises(UnmappedRole, match="role cash, product api, credit_kind paid, currency USD") as caught:
        mapping("usage_revenue,,,,4000,").resolve("cash", "api", "paid", "USD")
    assert caught.value.code == "unmapped_role"
    assert caught.value.facts == {"product": "api", "credit_kind": "paid", "currency": "USD"}


def test_own_dimensions_go_with_the_account_in_order_of_name_and_empty_ones_do_not() -> None:
    rows = mapping("usage_revenue,,,,4000,Usage,R&D,EMEA", "cash,,,,1000,Cash,,US", header=f"{HEADER},department,class")
    assert rows.resolve("usage_revenue", "", "", "USD") == GLAccount(
        number="4000", name="Usage", dimensions=(("class", "EMEA"), ("department", "R&D"))
    )
    assert rows.resolve("cash", "", "", "USD").dimensions == (("class", "US"),)
    assert rows.dimensions == ("class", "department")


def test_an_attribute_counts_less_than_a_currency_and_the_first_in_order_of_name_the_most() -> None:
    rows = mapping(
        "usage_revenue,,,,any,,,",
        "usage_revenue,,,EUR,currency,,,",
        "usage_revenue,,,,segment,,enterprise,",
        "usage_revenue,,,,region,,,emea",
        "usage_revenue,,,,both,,enterprise,emea",
        "usage_revenue,,,EUR,currency and segment,,enterprise,",
        header=f"{HEADER},customer.segment,customer.region",
    )
    assert rows.attributes == ("region", "segment")
    assert rows.dimensions == ()

    def found(currency: str, segment: str = "", region: str = "") -> str:
        attributes = (("region", region), ("segment", segment))
        return rows.resolve("usage_revenue", "", "", currency, attributes).number

    assert found("USD") == "any"
    assert found("USD", "smb", "apac") == "any"
    assert found("USD", "enterprise") == "segment"
    assert found("USD", "enterprise", "apac") == "segment"
    assert found("USD", "smb", "emea") == "region"
    assert found("USD", "enterprise", "emea") == "both"
    assert found("EUR", "smb", "emea") == "currency"
    assert found("EUR", "enterprise", "emea") == "currency and segment"
    two = mapping("cash,,,,1,,x,", "cash,,,,2,,,y", header=f"{HEADER},customer.a,customer.b")
    assert two.resolve("cash", "", "", "USD", (("a", "x"), ("b", "y"))).number == "1"


def test_a_dimension_may_be_what_the_customer_has_and_is_none_where_that_is_nothing() -> None:
    rows = mapping("cash,,,,1000,,{customer.region},all", header=f"{HEADER},territory,desk")
    assert rows.attributes == ("region",)
    assert rows.resolve("cash", "", "", "USD", (("region", "emea"),)).dimensions == (
        ("desk", "all"),
        ("territory", "emea"),
    )
    assert rows.resolve("cash", "", "", "USD", (("region", ""),)).dimensions == (("desk", "all"),)


def test_a_combination_without_a_row_names_the_attributes_that_its_account_depends_on() -> None:
    rows = mapping("cash,,,,1,,x,{customer.b}", "tax_payable,,,,2,,,", header=f"{HEADER},customer.a,territory")
    with pytest.raises(UnmappedRole, match=r"role cash, currency USD, no customer\.a$") as caught:
        rows.resolve("cash", "", "", "USD", (("a", ""), ("b", "y")))
    assert caught.value.facts["attributes"] == {"a": ""}
    with pytest.raises(UnmappedRole, match=r"currency USD, customer\.a z$"):
        rows.resolve("cash", "", "", "USD", (("a", "z"), ("b", "")))


def test_whoever_the_customer_an_account_is_one_or_is_said_to_depend() -> None:
    rows = mapping(
        "cash,,,,1,One,",
        "usage_revenue,,,,2,,",
        "usage_revenue,,,,3,,x",
        "usage_revenue,api,,,4,Four,",
        "tax_payable,,,,5,,x",
        header=f"{HEADER},customer.a",
    )
    assert rows.resolve_for_all("cash", "", "", "USD") == GLAccount(number="1", name="One")
    assert rows.resolve_for_all("usage_revenue", "", "", "USD") == GLAccount(number="by customer", name="")
    assert rows.resolve_for_all("usage_revenue", "api", "", "USD") == GLAccount(number="4", name="Four")
    assert rows.resolve_for_all("tax_payable", "", "", "USD") == GLAccount(number="5", name="")
    with pytest.raises(UnmappedRole):
        rows.resolve_for_all("bad_debt", "", "", "USD")


LATER_ROLES = ("billed_elsewhere", "opening_balances")
"""Roles of the default chart that were added after its hash was stored here."""


def test_the_hash_of_a_chart_without_attributes_is_what_it_was() -> None:
    first = [row for row in default_mapping().rows if row["role"] not in LATER_ROLES]
    digest = AccountMapping.from_rows(first).content_hash
    assert digest == "1a24668aca76fc031603436aec48522a9fc045426d26907c95cc62b239e625e1"


@pytest.mark.parametrize(
    ("text", "field", "says"),
    [
        (f"{HEADER},customer.Segment\n", "customer.Segment", "line 1: 'customer.Segment' is not a column name"),
        (f"{HEADER},customer.\n", "customer.", "line 1: 'customer.' is not a column name"),
        (f"{HEADER},d\ncash,,,,1,,{{customer.A}}\n", "d", "line 2: d cannot be {customer.A}"),
        (f"{HEADER},d\ncash,,,,1,,{{customer.a}} x\n", "d", "line 2: d cannot be {customer.a} x"),
        (f"{HEADER}\ncash,,,,{{customer.a}},\n", "account", "line 2: account cannot be {customer.a}"),
        (f"{HEADER},customer.b\ncash,,,,1,,{{customer.a}}\n", "customer.b", "customer.b cannot be {customer.a}"),
        (f"{HEADER},customer.a\ncash,,,,1,,x\ncash,,,,2,,x\n", "line 3", "both map cash / any / any / any / any / x"),
        ("", "role", "line 1: the column role is missing"),
        (f"{HEADER}\n", "rows", "the mapping has no rows"),
        ("role,product,credit_kind,currency,name\n", "account", "line 1: the column account is missing"),
        (f"{HEADER},Cost Center\n", "Cost Center", "line 1: 'Cost Center' is not a column name"),
        (f"{HEADER},class,class\n", "class", "line 1: the column class is there twice"),
        (f"{HEADER}\ncash,,,,1000\n", "line 2", "line 2: 5 cells under 6 columns"),
        (f"{HEADER}\ncash,,,,,Cash\n", "account", "line 2: account is missing"),
        (f"{HEADER}\n,,,,1000,Cash\n", "role", "line 2: role is missing"),
        (f"{HEADER}\ncash,,,,1000,\nmoney,,,,1000,\n", "role", "line 3: there is no account role 'money'"),
        (f"{HEADER}\ncash,,free,,1000,\n", "credit_kind", "line 2: there is no credit kind 'free'"),
        (f"{HEADER},refundable\ncash,,,,1,,yes\n", "refundable", "line 2: refundable is neither true nor false"),
        (f"{HEADER},refundable\ncash,,,,1,,{{customer.a}}\n", "refundable", "line 2: refundable is neither"),
        (f"{HEADER}\ncash,,,usd,1000,\n", "currency", "line 2: 'usd' is not a currency code"),
        (f"{HEADER}\ncash,,,,{'9' * 201},\n", "account", "line 2: account is not a text of at most 200"),
        (f'{HEADER}\ncash,,,,"10\n00",\n', "account", "line 3: account is not a text"),
        (f'{HEADER}\ncash,,,,"1000,\n', "line 2", "not CSV"),
        (f"{HEADER}\ncash,a,,,1,\ncash,b,,,2,\n\ncash,a,,,3,\n", "line 5", "line 2 and line 5 both map cash / a / any"),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_right_is_refused_with_its_line(text: str, field: str, says: str) -> None:
    with pytest.raises(InvalidMapping) as caught:
        parse_mapping(text)
    assert says in caught.value.message
    assert caught.value.field == field


def test_rows_are_checked_like_a_file() -> None:
    assert AccountMapping.from_rows([{"role": "cash", "account": "1000"}]).rows == (
        {"account": "1000", "role": "cash"},
    )
    with pytest.raises(InvalidMapping, match="row 1 and row 2 both map cash"):
        AccountMapping.from_rows([{"role": "cash", "account": "1"}, {"role": "cash", "account": "2", "product": ""}])
    with pytest.raises(InvalidMapping, match="row 1: 'Own' is not a column name"):
        AccountMapping.from_rows([{"role": "cash", "account": "1", "Own": "x"}])


def test_the_content_hash_depends_on_what_the_rows_say_alone() -> None:
    one = mapping("cash,,,,1000,Cash", "usage_revenue,,,,4000,")
    same = mapping("usage_revenue,,,,4000,,", "", " cash ,,,,1000, Cash,", header=f"{HEADER},class")
    assert one.content_hash == same.content_hash
    assert one.content_hash != mapping("cash,,,,1001,Cash", "usage_revenue,,,,4000,").content_hash
    assert len(one.content_hash) == 64


NARROW = (
    {"currency": "EUR"}, {"product": "api"}, {"credit_kind": "paid"}, {"customer.segment": "smb"},
    {"product": "api", "customer.segment": "smb"}, {"refundable": "true"}, {"refundable": "false"},
)  # fmt: skip


@pytest.mark.parametrize("narrow", NARROW, ids=lambda keys: " and ".join(keys))
def test_a_chart_whose_only_rows_of_a_role_have_narrower_keys_is_refused_naming_every_such_role(
    service: Subledger, database: Database, new_ledger: NewLedger, narrow: dict[str, str]
) -> None:
    ledger = new_ledger()
    chart = default_mapping().rows
    some = [{**row, **narrow} if row["role"] in ("cash", "usage_revenue") else row for row in chart]
    some = [row for row in some if row["role"] != "accounts_receivable"]
    missing = ["accounts_receivable", "cash", "usage_revenue"]
    with pytest.raises(InvalidMapping, match="accounts_receivable, cash, usage_revenue") as caught:
        adopt_mapping(service.recorder, ledger, AccountMapping.from_rows(some))
    assert caught.value.facts["missing"] == missing
    with database.read() as connection:
        assert mapping_for(connection, ledger, Period(2026, 1)) == (1, default_mapping())
    narrower = [{**row, **narrow, "account": "9"} for row in chart]
    assert adopt_mapping(service.recorder, ledger, AccountMapping.from_rows([*chart, *narrower])) is True


def test_adopting_the_same_mapping_again_records_nothing(
    service: Subledger, database: Database, new_ledger: NewLedger
) -> None:
    ledger = new_ledger()
    other = mapping(*(f"{role.name},,,,9{number:03d}," for number, role in enumerate(ROLES)))
    assert adopt_mapping(service.recorder, ledger, default_mapping()) is False
    assert adopt_mapping(service.recorder, ledger, other) is True
    assert adopt_mapping(service.recorder, ledger, other) is False
    assert adopt_mapping(service.recorder, ledger, default_mapping()) is True
    with database.read() as connection:
        assert mapping_of(connection, ledger, 1) == default_mapping()
        assert mapping_of(connection, ledger, 2) == other
        assert mapping_for(connection, ledger, Period(2026, 1)) == (3, default_mapping())
        with pytest.raises(IntegrityFault):
            mapping_of(connection, ledger, 4)


def test_a_chart_that_begins_with_a_month_leaves_earlier_months_as_they_were(
    service: Subledger, database: Database, new_ledger: NewLedger
) -> None:
    """Also for a later journal of an earlier month. A report by month shows the accounts of each month."""
    ledger = new_ledger(policy="contract_liability")
    other = mapping(*(f"{role.name},,,,9{number:03d}," for number, role in enumerate(ROLES)))
    assert adopt_mapping(service.recorder, ledger, other, valid_from=Period(2026, 2)) is True
    assert adopt_mapping(service.recorder, ledger, other, valid_from=Period(2026, 2)) is False
    with database.read() as connection:
        assert mapping_for(connection, ledger, Period(2026, 1)) == (1, default_mapping())
        assert mapping_for(connection, ledger, Period(2026, 2)) == (2, other)
        assert mapping_for(connection, ledger, Period(2027, 1)) == (2, other)
    for month in ("2026-02", "2026-01"):
        service.record(
            ledger,
            [
                cloud_event(
                    f"buy-{month}",
                    "credits.purchased",
                    "c",
                    f"{month}-05T00:00:00Z",
                    block_id=f"b-{month}",
                    credits="10",
                    price="5.00",
                    currency="USD",
                )
            ],
        )
        [journal] = ensure_journals(service.recorder, database, ledger, Period.parse(month))
        found = {line.account.number for line in journal.lines}
        assert len(found) == 2
        assert all(number.startswith("9") == (month == "2026-02") for number in found)
    assert verify(database, ledger).differences == []
    assert adopt_mapping(service.recorder, ledger, default_mapping()) is True
    with database.read() as connection:
        assert mapping_for(connection, ledger, Period(2026, 2)) == (3, default_mapping())
