"""Channels on the command line: the connector and settings for a ledger's journals."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from api.cli.commands.approvals import By, whoami
from api.settings import connect
from api.shapes import answers
from api.shapes import deliveries as delivery_answers
from api.terminal import Json, LedgerOption, out, print_json, read_toml, table
from projections.delivery import channels
from projections.delivery.connectors import CONNECTORS, connector_named
from subledger.store.reading.ledgers import ledger_head

channel_app = typer.Typer(help="Channels: the connector and settings for a ledger's journals.", no_args_is_help=True)

ChannelArgument = Annotated[str, typer.Argument(help="The channel's name, such as netsuite.", metavar="CHANNEL")]


def register(app: typer.Typer) -> None:
    """Adds this command."""
    app.add_typer(channel_app, name="channel")


@channel_app.command("list")
def channel_list(
    ledger: LedgerOption,
    dropped: Annotated[
        bool, typer.Option("--dropped", help="Only dropped channels, with the user who dropped each.")
    ] = False,
    json_: Json = False,
) -> None:
    """Lists a ledger's channels, with the last change of each.

    Example: subledger channel list --ledger acme
    """
    names: tuple[str, ...] = ("channel", "connector", "format", "destination", "changed_by", "changed_at")
    with connect().database.read() as connection:
        ledger_head(connection, ledger)
        if dropped:
            names = ("channel", "connector", "format", "changed_by", "dropped_by", "dropped_at")
            dropped_ones = channels.dropped_channels(connection, ledger)
            items = [delivery_answers.dropped_channel(channel) for channel in dropped_ones]
        else:
            items = [delivery_answers.channel(channel) for channel in channels.list_channels(connection, ledger)]
    if json_:
        print_json(answers.page(items, None))
        return
    table(None, names, [[item[name] for name in names] for item in items])


@channel_app.command("connectors")
def channel_connectors(json_: Json = False) -> None:
    """Lists the connectors, with the formats and the settings of each.

    Example: subledger channel connectors
    """
    items = [
        {
            "connector": connector.name,
            "formats": list(connector.formats),
            "settings": list(connector.settings_type.__struct_fields__),
        }
        for connector in map(connector_named, CONNECTORS)
    ]
    if json_:
        print_json(answers.page(items, None))
        return
    table(
        None,
        ("connector", "formats", "settings"),
        [[item["connector"], ", ".join(item["formats"]), ", ".join(item["settings"])] for item in items],
    )


@channel_app.command("show")
def channel_show(channel: ChannelArgument, ledger: LedgerOption, json_: Json = False) -> None:
    """Prints a channel's settings, with the names of credentials and never their values.

    Example: subledger channel show netsuite --ledger acme
    """
    with connect().database.read() as connection:
        ledger_head(connection, ledger)
        found = delivery_answers.channel(channels.get_channel(connection, ledger, channel))
    if json_:
        print_json(found)
        return
    rows = [[name, found[name]] for name in ("connector", "format", "destination")]
    title = answers.last_change_title(found)
    table(title, ("setting", "value"), [*rows, *([name, value] for name, value in found["settings"].items())])


@channel_app.command("set")
def channel_set(
    channel: ChannelArgument,
    file: Annotated[Path, typer.Argument(help="TOML: connector, format, and the connector's settings.")],
    ledger: LedgerOption,
    by: By = whoami(),
    json_: Json = False,
) -> None:
    """Creates or changes a channel. A setting that is not in the file gets its default.

    A credential is a name that the worker resolves: env:NAME or file:/path.

    Example: subledger channel set netsuite netsuite.toml --ledger acme
    """
    given = read_toml(file)
    service = connect()
    with service.database.read() as connection:
        ledger_head(connection, ledger)
    found = channels.set_channel(service.database, ledger, channel, given, by=by)
    if json_:
        print_json(delivery_answers.channel(found))
    else:
        out.print(
            f"{channel} delivers {found.format.name} to {found.destination} with the connector {found.connector.name}."
        )


@channel_app.command("drop")
def channel_drop(channel: ChannelArgument, ledger: LedgerOption, by: By = whoami(), json_: Json = False) -> None:
    """Drops a channel that has delivered nothing. `channel list --dropped` shows who dropped it.

    Example: subledger channel drop netsuite --ledger acme
    """
    service = connect()
    with service.database.read() as connection:
        ledger_head(connection, ledger)
    channels.drop_channel(service.database, ledger, channel, by=by)
    if json_:
        print_json({"ledger": ledger, "channel": channel, "dropped": True})
    else:
        out.print(f"Channel {channel} is dropped.")
