"""Channels: the ways of a ledger's journals to general ledgers.

A channel is a connector, one of its formats, and settings. Owns: the table ``delivery_channels``, and the pace of calls
that all workers share. Does not own: the connectors.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from projections.delivery.connectors import connector_named
from projections.delivery.connectors.connector import ChannelSettings, Connector
from projections.exports.formats import Format, format_named
from projections.exports.formats.target import check_lines
from projections.reads.last_change import LastChange
from subledger.errors import ChannelFixed, InvalidInput, UnknownChannel
from subledger.events.envelope import canonical
from subledger.external.calls import Throttled
from subledger.external.credentials import named_in
from subledger.external.grants import check_granted
from subledger.sandbox import check_delivers
from subledger.store.database import Database, WriteConnection
from subledger.store.reading.ledgers import ledger_head
from subledger.store.reading.queries import AnyConnection, rows

FIND_CHANNEL: Final = """
-- One channel of a ledger, or all of them, without the dropped ones.
SELECT channel, connector, format, settings, changed_at, changed_by FROM delivery_channels
WHERE ledger = %(ledger)s AND (%(channel)s::text IS NULL OR channel = %(channel)s) AND dropped_at IS NULL
ORDER BY channel
"""
SET_CHANNEL: Final = """
INSERT INTO delivery_channels (ledger, channel, connector, format, settings, changed_at, changed_by)
VALUES (%(ledger)s, %(channel)s, %(connector)s, %(format)s, %(settings)s, now(), %(by)s)
ON CONFLICT (ledger, channel) DO UPDATE SET connector = excluded.connector, format = excluded.format,
    settings = excluded.settings, changed_at = excluded.changed_at, changed_by = excluded.changed_by,
    dropped_at = NULL, dropped_by = NULL
RETURNING changed_at
"""
HOLD_CHANNEL: Final = """
SELECT 1 FROM delivery_channels WHERE ledger = %(ledger)s AND channel = %(channel)s FOR UPDATE
"""
HAS_DELIVERED: Final = "SELECT 1 FROM deliveries WHERE ledger = %(ledger)s AND channel = %(channel)s LIMIT 1"
DROP_CHANNEL: Final = """
UPDATE delivery_channels SET dropped_at = now(), dropped_by = %(by)s
WHERE ledger = %(ledger)s AND channel = %(channel)s AND dropped_at IS NULL
"""
DROPPED: Final = """
-- The channels of a ledger that were dropped and not created again, with the person.
SELECT channel, connector, format, changed_at, changed_by, dropped_at, dropped_by FROM delivery_channels
WHERE ledger = %(ledger)s AND dropped_at IS NOT NULL ORDER BY channel
"""
TURN: Final = """
-- Seconds until the next call is allowed. Other workers that ask wait for this answer.
SELECT extract(epoch FROM greatest(free_at - now(), interval '0')) FROM delivery_channels
WHERE ledger = %(ledger)s AND channel = %(channel)s FOR UPDATE
"""
TAKE_TURN: Final = """
UPDATE delivery_channels SET free_at = now() + make_interval(secs => %(next_s)s)
WHERE ledger = %(ledger)s AND channel = %(channel)s
"""
HOLD_OFF: Final = """
-- The target takes no more calls for a while, so no worker makes one.
UPDATE delivery_channels
SET free_at = greatest(free_at, now() + make_interval(secs => %(wait_s)s))
WHERE ledger = %(ledger)s AND channel = %(channel)s
"""

_PATIENCE_S: Final = 10.0
"""The longest wait for a turn. If the turn is later than that, the worker does something else and comes back."""
_NAME_LENGTH: Final = 40
_DAY_S: Final = 86_400
_RANGES: Final[dict[str, tuple[float, float]]] = {
    "calls_a_minute": (0, 60_000), "timeout_s": (0.01, 900), "attempts": (1, 1_000), "first_wait_s": (0, _DAY_S),
    "longest_wait_s": (0.01, 7 * _DAY_S), "settle_s": (0, 30 * _DAY_S), "posts_within_s": (0.01, 400 * _DAY_S),
}  # fmt: skip
"""Least and greatest value of each number of a channel."""


class Channel(msgspec.Struct, frozen=True, kw_only=True):
    """Channel of a ledger's journals.

    ``destination`` identifies the general ledger, independent of the format. A journal goes to a destination once.
    """

    ledger: str
    name: str
    connector: type[Connector]
    format: Format
    settings: ChannelSettings
    changed: LastChange | None = None

    @property
    def destination(self) -> str:
        return self.format.name if self.format.target is None else self.format.target.name


def get_channel(connection: AnyConnection, ledger: str, name: str) -> Channel:
    """Returns a channel. Raises UnknownChannel."""
    found = rows(connection, FIND_CHANNEL, {"ledger": ledger, "channel": name})
    if not found:
        raise UnknownChannel(
            f"ledger {ledger} has no channel {name[:60]}",
            field="channel",
            found=name[:60],
            expected=", ".join(channel.name for channel in list_channels(connection, ledger)) or "none is set",
        )
    return _channel(ledger, found[0])


def list_channels(connection: AnyConnection, ledger: str) -> list[Channel]:
    """A ledger's channels, by name."""
    return [_channel(ledger, row) for row in rows(connection, FIND_CHANNEL, {"ledger": ledger, "channel": None})]


def set_channel(database: Database, ledger: str, name: str, given: Mapping[str, Any], *, by: str) -> Channel:
    """Makes or changes a channel: ``connector``, ``format`` and the connector's settings. Raises InvalidInput.

    Settings that are not given get their defaults. Deliveries that are on their way continue with the new settings. The
    destination is fixed once the channel has delivered, because otherwise nobody could say where a journal is: raises
    ChannelFixed. Raises CredentialNotGranted for a credential of another ledger, SandboxLedger, UnknownLedger.
    """
    with database.read() as reading:
        check_delivers(ledger_head(reading, ledger).state)
    # The ids of deliveries begin with the channel's name. A command would take an id that begins with a dash for an
    # option.
    plain = name[:1].isalnum() and all(letter.isalnum() or letter in "-_" for letter in name)
    if not plain or len(name) > _NAME_LENGTH:
        raise InvalidInput(
            "a channel's name is letters, digits, - and _",
            field="channel",
            found=name[:60],
            expected=f"1 to {_NAME_LENGTH} of them, first a letter or a digit",
        )
    fields = dict(given)
    connector = connector_named(str(fields.pop("connector", "")))
    form = format_named(str(fields.pop("format", connector.formats[0])))
    if form.name not in connector.formats:
        raise InvalidInput(
            f"{connector.name} does not take {form.name}",
            field="format",
            found=form.name,
            expected=", ".join(connector.formats),
        )
    settings = read_channel_settings(connector, fields)
    wanted = Channel(ledger=ledger, name=name, connector=connector, format=form, settings=settings)
    with database.write() as connection:
        _check_fixed(connection, wanted)
        check_granted(connection, ledger, named_in(settings))
        parameters = {
            "ledger": ledger,
            "channel": name,
            "connector": connector.name,
            "format": form.name,
            "by": by,
            "settings": canonical(msgspec.to_builtins(settings)),
        }
        [(at,)] = connection.execute(SET_CHANNEL, parameters).fetchall()
    return msgspec.structs.replace(wanted, changed=LastChange(at=at, by=by))


def check_allowed(database: Database, channel: Channel) -> None:
    """Checks a channel again when it is used: the allowed hosts and folders, and the grants, may have changed since it
    was set.

    Raises InvalidInput, CredentialNotGranted.
    """
    channel.settings.check()
    with database.read() as connection:
        check_granted(connection, channel.ledger, named_in(channel.settings))


def _check_fixed(connection: WriteConnection, after: Channel) -> None:
    """Refuses another destination for a channel that has already delivered."""
    key = {"ledger": after.ledger, "channel": after.name}
    # The channel's lock is kept until the commit, so that a change that waited for another change compares with its
    # result.
    connection.execute(HOLD_CHANNEL, key)
    found = rows(connection, FIND_CHANNEL, key)
    if not found or connection.execute(HAS_DELIVERED, key).fetchone() is None:
        return
    before = _channel(after.ledger, found[0])
    places = [
        (name, getattr(before.settings, name), getattr(after.settings, name, None))
        for name in before.connector.destination_fields
    ]
    for name, was, is_now in (
        ("connector", before.connector.name, after.connector.name),
        ("format", before.format.name, after.format.name),
        *places,
    ):
        if was != is_now:
            raise ChannelFixed(
                f"channel {after.name} has already delivered to {was}; create another channel to deliver elsewhere",
                field=name,
                expected=str(was),
                found=str(is_now)[:200],
            )


class DroppedChannel(msgspec.Struct, frozen=True, kw_only=True):
    """A removed channel, with the person who removed it and the time."""

    name: str
    connector: str
    format: str
    changed: LastChange
    dropped: LastChange


def dropped_channels(connection: AnyConnection, ledger: str) -> list[DroppedChannel]:
    """The channels that were removed and not created again, by name."""
    return [
        DroppedChannel(
            name=name,
            connector=connector,
            format=form,
            changed=LastChange(at=changed_at, by=changed_by),
            dropped=LastChange(at=dropped_at, by=dropped_by),
        )
        for name, connector, form, changed_at, changed_by, dropped_at, dropped_by in rows(
            connection, DROPPED, {"ledger": ledger}
        )
    ]


def drop_channel(database: Database, ledger: str, name: str, *, by: str) -> None:
    """Removes a channel that has delivered nothing. Its row names the person. Raises UnknownChannel, ChannelFixed."""
    with database.write() as connection:
        get_channel(connection, ledger, name)
        key = {"ledger": ledger, "channel": name}
        if connection.execute(HAS_DELIVERED, key).fetchone() is not None:
            raise ChannelFixed(f"the channel {name} has deliveries: they say where journals are", field="channel")
        connection.execute(DROP_CHANNEL, {**key, "by": by})


def read_channel_settings(connector: type[Connector], given: Mapping[str, Any]) -> ChannelSettings:
    """Reads the settings of a connector. Raises InvalidInput naming the field."""
    known = connector.settings_type.__struct_fields__
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise InvalidInput(
            f"{connector.name} has no setting {unknown[0][:60]}", field=unknown[0][:60], expected=", ".join(known)
        )
    one_line = {name: value for name, value in given.items() if name not in connector.lines_fields}
    check_lines(one_line, field="settings")
    try:
        settings = msgspec.convert(dict(given), connector.settings_type)
    except msgspec.ValidationError as error:
        message, _, path = str(error).partition(" - at `$.")
        missing = message.removeprefix("Object missing required field `").rstrip("`")
        raise InvalidInput(
            f"the settings cannot be read: {message}",
            field=path.rstrip("`") or (missing if missing != message else "settings"),
            expected=", ".join(known),
        ) from None
    for name, (least, most) in _RANGES.items():
        value = getattr(settings, name)
        if not least <= value <= most:  # this form of the comparison also refuses NaN
            raise InvalidInput(
                f"{name} is out of range", field=name, expected=f"{least:g} to {most:g}", found=str(value)
            )
    settings.check()
    return settings


def turn_of(database: Database, channel: Channel) -> Callable[[], None]:
    """Returns a function that waits for the turn of the next call, over all workers. It raises Throttled if the turn is
    far off.
    """
    pace = channel.settings.calls_a_minute
    apart_s = 60.0 / pace if pace else 0.0
    key = {"ledger": channel.ledger, "channel": channel.name}

    # The wait for our own pace always fits, however slow the pace is, because an attempt makes several calls. The wait
    # that a target requests may not fit.
    patience_s = max(_PATIENCE_S, 2 * apart_s)

    def turn() -> None:
        with database.write() as connection:
            found = connection.execute(TURN, key).fetchone()
            wait_s = float(found[0] or 0) if found is not None else 0.0
            if wait_s <= patience_s:
                connection.execute(TAKE_TURN, {**key, "next_s": wait_s + apart_s})
        # The turn is reserved in the database, and the wait is after the commit. A sleep inside the transaction would
        # lock the channel's row, and every other worker would wait too.
        if wait_s > patience_s:
            raise Throttled(f"the channel {channel.name} makes no call for {wait_s:.0f} s", wait_s=wait_s)
        time.sleep(wait_s)

    return turn


def hold_off(database: Database, channel: Channel, wait_s: float) -> None:
    """Makes all workers wait ``wait_s`` seconds before the next call on this channel."""
    with database.write() as connection:
        connection.execute(HOLD_OFF, {"ledger": channel.ledger, "channel": channel.name, "wait_s": wait_s})


def _channel(ledger: str, row: Any) -> Channel:
    name, connector, form, settings, changed_at, changed_by = row
    kind = connector_named(connector)
    return Channel(
        ledger=ledger,
        name=name,
        connector=kind,
        format=format_named(form),
        settings=msgspec.convert(msgspec.json.decode(settings), kind.settings_type),
        changed=LastChange(at=changed_at, by=changed_by),
    )
