"""Commands that grant and revoke credentials for a ledger's channels. Only the operator can do this; HTTP has no such
call.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
import typer

from api.cli.commands.approvals import By, whoami
from api.settings import connect
from api.shapes import answers
from api.terminal import Json, LedgerOption, out, print_json, table
from subledger.events.envelope import format_time
from subledger.external import grants
from subledger.store.reading.ledgers import ledger_head

credentials_app = typer.Typer(help="Credentials that a ledger's channels may use.", no_args_is_help=True)

CredentialArgument = Annotated[
    str, typer.Argument(help="The credential as in a channel: env:NAME or file:/PATH.", metavar="CREDENTIAL")
]


def register(app: typer.Typer) -> None:
    """Adds these commands."""
    app.add_typer(credentials_app, name="credentials")


@credentials_app.command("grant")
def credentials_grant(
    credential: CredentialArgument, ledger: LedgerOption, by: By = whoami(), json_: Json = False
) -> None:
    """Lets a ledger's channels and webhook use a credential. Files in the ledger's own folder need no grant.

    Example: subledger credentials grant env:NETSUITE_KEY --ledger acme
    """
    service = connect()
    with service.database.read() as connection:
        ledger_head(connection, ledger)
    grants.grant(service.database, ledger, credential, by=by)
    if json_:
        print_json({"ledger": ledger, "credential": credential, "status": "granted"})
    else:
        out.print(f"Ledger {ledger} may use {credential}.")


@credentials_app.command("list")
def credentials_list(ledger: LedgerOption, json_: Json = False) -> None:
    """Lists the grants of a ledger, with the revoked ones.

    Example: subledger credentials list --ledger acme
    """
    with connect().database.read() as connection:
        ledger_head(connection, ledger)
        items = [_answer(found) for found in grants.list_grants(connection, ledger)]
    if json_:
        print_json(answers.page(items, None))
        return
    names = ("credential", "granted_at", "granted_by", "revoked_at", "revoked_by")
    table(None, names, [[item[name] for name in names] for item in items])


@credentials_app.command("revoke")
def credentials_revoke(
    credential: CredentialArgument, ledger: LedgerOption, by: By = whoami(), json_: Json = False
) -> None:
    """Revokes a grant. The ledger's channels cannot use the credential any more.

    Example: subledger credentials revoke env:NETSUITE_KEY --ledger acme
    """
    ended = grants.revoke(connect().database, ledger, credential, by=by)
    if json_:
        print_json({"ledger": ledger, "credential": credential, "status": "revoked" if ended else "unchanged"})
    else:
        out.print(
            f"Ledger {ledger} may no longer use {credential}." if ended else f"There was no grant of {credential}."
        )


def _answer(found: grants.Grant) -> dict[str, Any]:
    answer: dict[str, Any] = msgspec.to_builtins(found)
    moments = {"granted_at": found.granted_at, "revoked_at": found.revoked_at}
    return {**answer, **{name: None if at is None else format_time(at) for name, at in moments.items()}}
