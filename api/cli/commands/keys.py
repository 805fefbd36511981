"""Keys of the HTTP API on the command line: create, list, rotate, revoke."""

from __future__ import annotations

import sys
from datetime import UTC, date, datetime, timedelta
from typing import Annotated

import typer

from api import keys
from api.access import EVERY_LEDGER
from api.cli.commands.approvals import By, whoami
from api.settings import connect
from api.shapes import answers
from api.shapes import keys as key_answers
from api.terminal import Json, LedgerOption, err, out, parse_day, print_json, table
from subledger.events.fields import parse_time
from subledger.store.reading.ledgers import ledger_head

keys_app = typer.Typer(help="Keys to the HTTP API.", no_args_is_help=True)

KeyArgument = Annotated[str, typer.Argument(help="The key's id, such as key_0123….", metavar="KEY_ID")]
Expires = Annotated[
    str | None,
    typer.Option(
        "--expires", help="The key's last day (UTC), or the time at which it ends.", metavar="YYYY-MM-DD|TIME"
    ),
]


def register(app: typer.Typer) -> None:
    """Adds these commands."""
    app.add_typer(keys_app, name="keys")


@keys_app.command("create")
def keys_create(
    ledger: LedgerOption,
    role: Annotated[str, typer.Option(help="reader, writer, controller or admin.")],
    name: Annotated[
        str,
        typer.Option(
            help="The person or program that uses it; default the user of this machine. One name is one person.",
            metavar="NAME",
        ),
    ] = whoami(),
    expires: Expires = None,
    by: By = whoami(),
    json_: Json = False,
) -> None:
    """Prints a new key, once. A key with `--ledger '*'` is for every ledger.

    Example: subledger keys create --ledger acme --role writer --name billing --expires 2027-12-31
    """
    service = connect()
    if ledger != EVERY_LEDGER:
        with service.database.read() as connection:
            ledger_head(connection, ledger)
    made = keys.create_key(service.database, ledger=ledger, role=role, name=name, by=by, expires_at=_end_of(expires))
    _show(made, json_)


@keys_app.command("list")
def keys_list(
    ledger: Annotated[
        str, typer.Option("--ledger", "-l", help="Only keys of this ledger; default all.", metavar="L")
    ] = EVERY_LEDGER,
    json_: Json = False,
) -> None:
    """Lists the keys, oldest first, with expired and revoked ones. The secrets are not stored.

    Example: subledger keys list --ledger acme
    """
    items = [key_answers.key(key) for key in keys.list_keys(connect().database, scope=ledger)]
    if json_:
        print_json(answers.page(items, None))
        return
    names = ("key_id", "state", "ledger", "role", "name", "valid_until", "last_used_at", "created_by", "revoked_by")
    shown = [{**item, "valid_until": _valid_until(item["expires_at"])} for item in items]
    table(None, names, [[item[name] for name in names] for item in shown])


@keys_app.command("rotate")
def keys_rotate(
    key: KeyArgument,
    grace_s: Annotated[
        int,
        typer.Option("--grace-s", min=0, max=keys.LONGEST_GRACE_S, help="Seconds for which the old key still works."),
    ] = 0,
    expires: Expires = None,
    by: By = whoami(),
    json_: Json = False,
) -> None:
    """Prints a new key that replaces another. The old key ends at once, or after the grace period.

    Example: subledger keys rotate key_0123456789abcdef0123 --grace-s 3600
    """
    made = keys.rotate_key(connect().database, key, by=by, grace_s=grace_s, expires_at=_end_of(expires))
    _show(made, json_)


@keys_app.command("revoke")
def keys_revoke(key: KeyArgument, by: By = whoami(), json_: Json = False) -> None:
    """Revokes a key at once. It remains in the list, with the user who revoked it.

    Example: subledger keys revoke key_0123456789abcdef0123
    """
    answer = key_answers.key(keys.revoke_key(connect().database, key, by=by))
    if json_:
        print_json(answer)
    else:
        out.print(f"{answer['key_id']} of {answer['name']} is revoked.")


def _show(made: keys.NewKey, json_: bool) -> None:
    answer = key_answers.new_key(made)
    if json_:
        print_json(answer)
        return
    sys.stdout.write(made.secret + "\n")
    end = _valid_until(answer["expires_at"])
    until = f", valid until {end}" if end else ""
    err.print(f"{made.key.key_id}, a {made.key.role} of {made.key.ledger}, for {made.key.name}{until}. Shown only now.")


def _valid_until(expires_at: str | None) -> str | None:
    """Returns the end of a key for people: its last day if it ends at midnight (UTC), otherwise the time."""
    if expires_at is None or not expires_at.endswith("T00:00:00Z"):
        return expires_at
    last = date.fromisoformat(expires_at[:10]) - timedelta(days=1)
    return f"the end of {last}"


def _end_of(expires: str | None) -> datetime | None:
    """Returns the given time, or the end of the given day. Raises InvalidInput."""
    if expires is None:
        return None
    try:
        date.fromisoformat(expires)
    except ValueError:
        return parse_time(expires, field="expires")
    following = parse_day(expires, "expires") + timedelta(days=1)
    return datetime(following.year, following.month, following.day, tzinfo=UTC)
