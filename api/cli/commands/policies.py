"""Posting policies on the command line: list, show, adopt."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from api.cli.commands.approvals import By, whoami
from api.settings import connect
from api.shapes import answers
from api.shapes import policies as policy_answers
from api.terminal import Json, LedgerOption, err, out, print_json, table
from projections.reads.policies import adopted_policies, adopted_policy
from subledger.errors import InvalidPolicy
from subledger.posting import SHIPPED_POLICIES, Policy, parse_policy, shipped_policy
from subledger.store.reading.ledgers import ledger_head

policy_app = typer.Typer(help="The posting policy: entry kind → account pairs.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Adds these commands."""
    app.add_typer(policy_app, name="policy")


def policy_named(text: str) -> Policy:
    """Returns a shipped policy by its name, or a company's own by its file. Raises InvalidPolicy."""
    path = Path(text)
    if text in SHIPPED_POLICIES:
        return shipped_policy(text)
    if path.suffix != ".toml" and not path.is_file():
        names = ", ".join(SHIPPED_POLICIES)
        raise InvalidPolicy(
            f"there is no shipped policy {text}", field="policy", expected=f"{names}, or FILE.toml", found=text
        )
    try:
        return parse_policy(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidPolicy(f"{text} cannot be read: {error}", field="FILE") from None


@policy_app.command("list")
def policy_list(ledger: LedgerOption, json_: Json = False) -> None:
    """Lists the policies that a ledger has adopted, in order. The last one is in force.

    Example: subledger policy list --ledger acme
    """
    service = connect()
    with service.database.read() as connection:
        ledger_head(connection, ledger)
        found = adopted_policies(connection, ledger, limit=100_000)
    items = [policy_answers.adopted_policy(each) for each in found]
    if json_:
        print_json(answers.page(items, None))
        return
    names = ("policy", "name", "version", "in_force", "position", "recorded_at", "by")
    table(None, names, [[item[name] for name in names] for item in items], right=(0, 2, 4))


@policy_app.command("show")
def policy_show(
    ledger: LedgerOption,
    number: Annotated[
        int | None, typer.Argument(help="The policy's number in entries; default the one in force.")
    ] = None,
    json_: Json = False,
) -> None:
    """Prints a policy as a policy file, which can be edited and adopted as another version.

    Example: subledger policy show --ledger acme > acme.toml
    """
    service = connect()
    with service.database.read() as connection:
        head = ledger_head(connection, ledger)
        found = adopted_policy(connection, ledger, head.state.policy if number is None else number)
    if json_:
        print_json(policy_answers.adopted_policy(found, with_rules=True))
    else:
        sys.stdout.write(policy_answers.policy_file(found))


@policy_app.command("adopt")
def policy_adopt(
    policy: Annotated[str, typer.Argument(help="contract_liability, customer_deposits, … or FILE.toml.")],
    ledger: LedgerOption,
    by: By = whoami(),
    json_: Json = False,
) -> None:
    """Adopts a policy for events recorded from now on. Recorded events stay under their policy.

    A file is checked first. A rule that `verify` would report is refused, and the error names the entry kind.

    Example: subledger policy adopt contract_liability --ledger acme
    """
    service = connect()
    adoption = service.adopt_policy(ledger, policy_named(policy), by=by)
    with service.database.read() as connection:
        answer = policy_answers.adoption(adoption, adopted_policy(connection, ledger, adoption.number))
    if json_:
        print_json(answer)
        return
    named = f"{answer['name']} version {answer['version']}"
    out.print(f"{named} is {'adopted' if adoption.adopted else 'in force already: unchanged'}.")
    for remark in answer["remarks"]:
        err.print(f"note: {remark}")
