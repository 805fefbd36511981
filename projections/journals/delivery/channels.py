"""Channels: where a ledger's journals go, and how.

A channel is a connector, one of its formats, and settings. Owns: the table ``delivery_channels``, and with it the
pace of calls that all workers keep together. Does not own: what a connector does.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from projections.journals.delivery.calls import Throttled
from projections.journals.delivery.connectors import CONNECTORS, connector_named
from projections.journals.delivery.connectors.connector import ChannelSettings, Connector
from projections.journals.formats import Format, format_named
from projections.journals.rows import AnyConnection, rows
from subledger.errors import InvalidInput, UnknownChannel
from subledger.events import canonical
from subledger.store.database import Database

FIND_CHANNEL: Final = """
-- One channel of a ledger, or all of them.
SELECT channel, connector, format, settings FROM delivery_channels
WHERE ledger = %(ledger)s AND (%(channel)s::text IS NULL OR channel = %(channel)s) ORDER BY channel
"""
SET_CHANNEL: Final = """
INSERT INTO delivery_channels (ledger, channel, connector, format, settings, changed_at, changed_by)
VALUES (%(ledger)s, %(channel)s, %(connector)s, %(format)s, %(settings)s, now(), %(by)s)
ON CONFLICT (ledger, channel) DO UPDATE SET connector = excluded.connector, format = excluded.format,
    settings = excluded.settings, changed_at = excluded.changed_at, changed_by = excluded.changed_by
"""
DROP_CHANNEL: Final = "DELETE FROM delivery_channels WHERE ledger = %(ledger)s AND channel = %(channel)s"
TURN: Final = """
-- How long until the next call may be made, in seconds; others who ask wait for the answer.
SELECT extract(epoch FROM greatest(free_at - now(), interval '0')) FROM delivery_channels
WHERE ledger = %(ledger)s AND channel = %(channel)s FOR UPDATE
"""
TAKE_TURN: Final = """
UPDATE delivery_channels SET free_at = greatest(free_at, now()) + make_interval(secs => %(apart_s)s)
WHERE ledger = %(ledger)s AND channel = %(channel)s
"""
HOLD_OFF: Final = """
-- The target takes no more calls for a while: nobody makes one.
UPDATE delivery_channels
SET free_at = greatest(free_at, now() + make_interval(secs => %(wait_s)s))
WHERE ledger = %(ledger)s AND channel = %(channel)s
"""

_PATIENCE_S: Final = 10.0
"""A turn that is further off is not waited for: the worker does something else, and comes back."""
_NAME_LENGTH: Final = 40


class Channel(msgspec.Struct, frozen=True, kw_only=True):
    """Where a ledger's journals go. ``destination``: the general ledger, whatever the format; a journal goes to it
    once.
    """

    ledger: str
    name: str
    connector: type[Connector]
    format: Format
    settings: ChannelSettings

    @property
    def destination(self) -> str:
        return self.format.name if self.format.target is None else self.format.target.name


def get_channel(connection: AnyConnection, ledger: str, name: str) -> Channel:
    """Raises UnknownChannel."""
    found = rows(connection, FIND_CHANNEL, {"ledger": ledger, "channel": name})
    if not found:
        raise UnknownChannel(
            f"ledger {ledger} has no channel {name[:60]}", field="channel", found=name[:60],
            expected=", ".join(channel.name for channel in list_channels(connection, ledger)) or "none is set",
        )  # fmt: skip
    return _channel(ledger, found[0])


def list_channels(connection: AnyConnection, ledger: str) -> list[Channel]:
    """A ledger's channels, by name."""
    return [_channel(ledger, row) for row in rows(connection, FIND_CHANNEL, {"ledger": ledger, "channel": None})]


def set_channel(database: Database, ledger: str, name: str, given: Mapping[str, Any], *, by: str) -> Channel:
    """Makes or changes a channel: ``connector``, ``format`` and the connector's settings. Raises InvalidInput.

    What is not given is as it ships. Deliveries that are on their way go on with the new settings.
    """
    if not name or len(name) > _NAME_LENGTH or not all(letter.isalnum() or letter in "-_" for letter in name):
        raise InvalidInput(
            "a channel's name is letters, digits, - and _", field="channel", found=name[:60],
            expected=f"1 to {_NAME_LENGTH} of them",
        )  # fmt: skip
    fields = dict(given)
    connector = connector_named(str(fields.pop("connector", "")))
    form = format_named(str(fields.pop("format", connector.formats[0])))
    if form.name not in connector.formats:
        raise InvalidInput(
            f"{connector.name} does not take {form.name}", field="format", found=form.name,
            expected=", ".join(connector.formats),
        )  # fmt: skip
    settings = read_channel_settings(connector, fields)
    with database.write() as connection:
        parameters = {
            "ledger": ledger, "channel": name, "connector": connector.name, "format": form.name, "by": by,
            "settings": canonical(msgspec.to_builtins(settings)),
        }  # fmt: skip
        connection.execute(SET_CHANNEL, parameters)
    return Channel(ledger=ledger, name=name, connector=connector, format=form, settings=settings)


def drop_channel(database: Database, ledger: str, name: str) -> None:
    """Takes a channel away; its deliveries stay, and nothing happens to them. Raises UnknownChannel."""
    with database.write() as connection:
        get_channel(connection, ledger, name)
        connection.execute(DROP_CHANNEL, {"ledger": ledger, "channel": name})


def read_channel_settings(connector: type[Connector], given: Mapping[str, Any]) -> ChannelSettings:
    """Raises InvalidInput naming the field."""
    known = connector.settings_type.__struct_fields__
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise InvalidInput(
            f"{connector.name} has no setting {unknown[0][:60]}", field=unknown[0][:60], expected=", ".join(known)
        )  # fmt: skip
    try:
        settings = msgspec.convert(dict(given), connector.settings_type)
    except msgspec.ValidationError as error:
        message, _, path = str(error).partition(" - at `$.")
        missing = message.removeprefix("Object missing required field `").rstrip("`")
        raise InvalidInput(
            f"the settings cannot be read: {message}",
            field=path.rstrip("`") or (missing if missing != message else "settings"), expected=", ".join(known),
        ) from None  # fmt: skip
    for name in ("timeout_s", "longest_wait_s", "posts_within_s", "attempts"):
        if getattr(settings, name) <= 0:
            raise InvalidInput(f"{name} must be positive", field=name, found=str(getattr(settings, name)))
    for name in ("first_wait_s", "settle_s", "calls_a_minute"):
        if getattr(settings, name) < 0:
            raise InvalidInput(f"{name} must not be negative", field=name, found=str(getattr(settings, name)))
    settings.check()
    return settings


def turn_of(database: Database, channel: Channel) -> Callable[[], None]:
    """Waits for the next call's turn, over all workers. Raises Throttled where it is far off."""
    pace = channel.settings.calls_a_minute
    where = {"ledger": channel.ledger, "channel": channel.name, "apart_s": 60.0 / pace if pace else 0.0}

    def turn() -> None:
        with database.write() as connection:
            found = connection.execute(TURN, where).fetchone()
            wait_s = float(found[0] or 0) if found is not None else 0.0
            if wait_s <= _PATIENCE_S:
                connection.execute(TAKE_TURN, where)
        if wait_s > _PATIENCE_S:
            raise Throttled(f"the channel {channel.name} makes no call for {wait_s:.0f} s", wait_s=wait_s)
        time.sleep(wait_s)

    return turn


def hold_off(database: Database, channel: Channel, wait_s: float) -> None:
    """No call on this channel for so long."""
    with database.write() as connection:
        connection.execute(HOLD_OFF, {"ledger": channel.ledger, "channel": channel.name, "wait_s": wait_s})


def _channel(ledger: str, row: Any) -> Channel:
    name, connector, form, settings = row
    kind = CONNECTORS[connector]
    return Channel(
        ledger=ledger, name=name, connector=kind, format=format_named(form),
        settings=msgspec.convert(msgspec.json.decode(settings), kind.settings_type),
    )  # fmt: skip
