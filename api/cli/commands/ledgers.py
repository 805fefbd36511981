"""Commands that create, configure and list ledgers."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from api.cli.commands.approvals import By, whoami
from api.cli.commands.policies import policy_named
from api.settings import connect
from api.shapes import answers
from api.shapes import approvals as approval_answers
from api.terminal import Json, out, print_json, table
from projections.configuring.clock import read_clock
from subledger.errors import InvalidInput
from subledger.events.envelope import read_data
from subledger.events.own_data import RATE_MAX_AGE_DAYS, Approvals
from subledger.ledger_settings import LedgerSettings, SettingsChange
from subledger.posting import SHIPPED_POLICIES
from subledger.store.reading.ledgers import ledger_head, ledger_heads, named, policy_name

ledger_app = typer.Typer(help="Ledgers and their settings.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Adds these commands."""
    app.add_typer(ledger_app, name="ledger")


GrantsWithin = Annotated[
    str | None,
    typer.Option(
        help="Apply the limits to the sum of a customer's events within this time, such as 1d. Default: to each event.",
        metavar="TIME",
    ),
]
MoneyBackAbove = Annotated[
    str | None,
    typer.Option(help="Require a second person for events that owe a customer more money back, such as 100.00."),
]
RevenueAdvancedAbove = Annotated[
    str | None, typer.Option(help="Require one for events that recognise more revenue early, such as 100.00.")
]
CreditPrice = Annotated[
    list[str] | None,
    typer.Option(
        help="The price of a credit of a unit, such as credit=0.01. Grants are valued with it. Can be repeated."
    ),
]


@ledger_app.command("create")
def ledger_create(
    ledger: Annotated[str, typer.Argument(help="The ledger's id, such as acme.")],
    currency: Annotated[str, typer.Option(help="Functional currency, ISO 4217, such as USD.")],
    policy: Annotated[
        str,
        typer.Option(
            help="The posting policy: contract_liability, customer_deposits, customer_deposits_arm, or FILE.toml."
        ),
    ] = "customer_deposits",
    entity: Annotated[
        str | None, typer.Option(help="The ERP's subsidiary or company code, such as US01; default the ledger's id.")
    ] = None,
    timezone: Annotated[str, typer.Option(help="IANA time zone of the books, such as Europe/Berlin.")] = "UTC",
    on_shortfall: Annotated[
        str, typer.Option(help="The treatment of usage beyond the credits: reject, overage or backfill.")
    ] = "reject",
    late_usage: Annotated[
        str, typer.Option(help="For usage from before an expiry: new refuses it, reclassify reverses breakage.")
    ] = "new",
    second_person_for: Annotated[
        list[str] | None,
        typer.Option(
            help="An act that needs one: breakage_estimates, voids, write_offs, reopening, expiry_changes; repeatable."
        ),
    ] = None,
    grant_credits_above: Annotated[
        str | None, typer.Option(help="Require a second person for larger grants, such as 1000.")
    ] = None,
    grant_value_above: Annotated[
        str | None, typer.Option(help="Require one for grants of a higher value, such as 100.00.")
    ] = None,
    money_back_above: MoneyBackAbove = None,
    revenue_advanced_above: RevenueAdvancedAbove = None,
    grants_within: GrantsWithin = None,
    credit_price: CreditPrice = None,
    future_tolerance: Annotated[
        str, typer.Option(help="How far after now the time of an event may be, such as 36h.")
    ] = "1d",
    rate_max_age_days: Annotated[
        int, typer.Option(help="The maximum age of an exchange rate where a month closes, in days.")
    ] = RATE_MAX_AGE_DAYS,
    dimension: Annotated[
        list[str] | None,
        typer.Option(
            help="Add a dimension of the company's own to purchases and usage, such as department; repeatable."
        ),
    ] = None,
    sandbox: Annotated[
        bool, typer.Option("--sandbox", help="A ledger for trials: its own clock, no deliveries.")
    ] = False,
    clock: Annotated[
        str | None, typer.Option(help="The first time of a sandbox's clock; default now.", metavar="T")
    ] = None,
    by: By = whoami(),
    json_: Json = False,
) -> None:
    """Creates a ledger. Safe to repeat.

    Example: subledger ledger create acme --currency USD
    """
    service = connect()
    settings = LedgerSettings(
        currency=currency,
        policy=policy if policy in SHIPPED_POLICIES else policy_named(policy),
        entity=entity,
        timezone=timezone,
        on_shortfall=on_shortfall,
        late_usage=late_usage,
        approvals=_approvals(
            second_person_for,
            credit_price,
            grant_credits_above=grant_credits_above,
            grant_value_above=grant_value_above,
            money_back_above=money_back_above,
            revenue_advanced_above=revenue_advanced_above,
            grants_within=grants_within,
        ),
        future_tolerance=future_tolerance,
        rate_max_age_days=rate_max_age_days,
        dimensions=tuple(dimension or ()),
        sandbox=sandbox,
        clock=None if clock is None else read_clock(clock),
    )
    created = service.create_ledger(ledger, settings, by=by)
    with service.database.read() as connection:
        head = ledger_head(connection, ledger)
        answer = answers.ledger(head, policy_name(connection, ledger, head.state.policy))
    if json_:
        print_json({**answer, "created": created})
    else:
        out.print(f"Ledger {ledger}: {'created' if created else 'existed already'}.")


def _approvals(named: list[str] | None, prices: list[str] | None, **limits: str | None) -> Approvals:
    """Reads the options about second persons. Raises InvalidInput."""
    settings: dict[str, Any] = dict.fromkeys(named or (), True)
    settings |= {name: text for name, text in limits.items() if text}
    if prices:
        settings["credit_prices"] = _prices(prices)
    return read_data(Approvals, settings, prefix="approvals.")


def _prices(given: list[str]) -> dict[str, str]:
    """Reads ``UNIT=PRICE`` texts. Returns units with their prices. Raises InvalidInput."""
    prices: dict[str, str] = {}
    for text in given:
        unit, equals, price = text.rpartition("=")
        if not (unit and equals and price):
            raise InvalidInput(
                "a price of credits must have the form UNIT=PRICE",
                field="credit_price",
                expected="such as credit=0.01",
                found=text[:60],
            )
        prices[unit] = price
    return prices


@ledger_app.command("configure")
def ledger_configure(
    ledger: Annotated[str, typer.Argument(help="The ledger's id, such as acme.")],
    entity: Annotated[str | None, typer.Option(help="The ERP's subsidiary or company code, such as US01.")] = None,
    on_shortfall: Annotated[
        str | None, typer.Option(help="The treatment of usage beyond the credits: reject, overage or backfill.")
    ] = None,
    late_usage: Annotated[str | None, typer.Option(help="For usage from before an expiry: new or reclassify.")] = None,
    second_person_for: Annotated[
        list[str] | None,
        typer.Option(
            help="All acts that need one: breakage_estimates, voids, write_offs, reopening, expiry_changes; or none."
        ),
    ] = None,
    grant_credits_above: Annotated[
        str | None, typer.Option(help="Require a second person for larger grants, such as 1000; none: no limit.")
    ] = None,
    grant_value_above: Annotated[
        str | None, typer.Option(help="Require one for grants of a higher value, such as 100.00.")
    ] = None,
    money_back_above: MoneyBackAbove = None,
    revenue_advanced_above: RevenueAdvancedAbove = None,
    grants_within: GrantsWithin = None,
    credit_price: CreditPrice = None,
    future_tolerance: Annotated[
        str | None, typer.Option(help="How far after now the time of an event may be, such as 36h.")
    ] = None,
    rate_max_age_days: Annotated[
        int | None, typer.Option(help="The maximum age of an exchange rate where a month closes, in days.")
    ] = None,
    dimension: Annotated[
        list[str] | None,
        typer.Option(
            help="Add a dimension of the company's own to purchases and usage, such as department; repeatable."
        ),
    ] = None,
    currency: Annotated[str | None, typer.Option(hidden=True)] = None,
    timezone: Annotated[str | None, typer.Option(hidden=True)] = None,
    sandbox: Annotated[bool | None, typer.Option(hidden=True)] = None,
    by: By = whoami(),
    json_: Json = False,
) -> None:
    """Changes settings for events recorded from now on. Other settings do not change. The user is recorded.

    Currency, time zone and sandbox cannot be changed.

    Example: subledger ledger configure acme --on-shortfall overage --second-person-for voids
    """
    change = SettingsChange(
        currency=currency,
        timezone=timezone,
        entity=entity,
        on_shortfall=on_shortfall,
        late_usage=late_usage,
        approvals=_approvals_change(
            second_person_for,
            credit_price,
            grant_credits_above=grant_credits_above,
            grant_value_above=grant_value_above,
            money_back_above=money_back_above,
            revenue_advanced_above=revenue_advanced_above,
            grants_within=grants_within,
        ),
        future_tolerance=future_tolerance,
        rate_max_age_days=rate_max_age_days,
        dimensions=tuple(dimension or ()),
        sandbox=sandbox,
    )
    service = connect()
    configured = service.configure_ledger(ledger, change, by=by)
    with service.database.read() as connection:
        head = ledger_head(connection, ledger)
        answer = answers.ledger(head, policy_name(connection, ledger, head.state.policy))
    if json_:
        print_json({**answer, **approval_answers.configuration(configured)})
    else:
        waits = "" if configured.approval_id is None else f" for a second person, as {configured.approval_id}"
        out.print(f"Ledger {ledger}: {configured.status}{waits}.")


_NEEDING_A_SECOND_PERSON = ("breakage_estimates", "voids", "write_offs", "reopening", "expiry_changes")


def _approvals_change(named: list[str] | None, prices: list[str] | None, **limits: str | None) -> dict[str, Any]:
    """Returns the acts that need a second person from now on: exactly the named ones; None without names."""
    change: dict[str, Any] = {}
    if named:
        wanted = [] if named == ["none"] else named
        change |= dict.fromkeys(_NEEDING_A_SECOND_PERSON, False) | dict.fromkeys(wanted, True)
    for name, text in limits.items():
        if text is not None:
            change[name] = None if text == "none" else text
    if prices:
        change["credit_prices"] = None if prices == ["none"] else _prices(prices)
    return change


@ledger_app.command("list")
def ledger_list(json_: Json = False) -> None:
    """Lists the ledgers. A SANDBOX is a ledger for trials, without real books.

    Example: subledger ledger list
    """
    service = connect()
    with service.database.read() as connection:
        heads = ledger_heads(connection, after="", limit=100_000)
    items = [answers.ledger(head, named(head.state.ledger, head.state.policy, policy)) for head, policy in heads]
    if json_:
        print_json(answers.page(items, None))
        return
    names = ("ledger", "kind", "currency", "policy", "timezone", "closed_through", "position")
    kinds = [{**item, "kind": "SANDBOX" if item["sandbox"] else "real"} for item in items]
    table(None, names, [[item[name] for name in names] for item in kinds], right=(6,))
