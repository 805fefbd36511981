"""Telling somebody that a monitor began or ceased to ring: once, however many look.

What was told last is kept in the database, in a row whose lock is the right to tell. A look that is older than the one
that was told last says nothing. A change becomes a notice in the same commit, and a notice is sent until the other side
takes it: with the same id each time, so that one which was taken without our learning of it can be known again. Notices
of a ledger go in their order: while the first is not taken, the next waits.

Owns: the tables ``monitor_states`` and ``monitor_notices``. Does not own: how a notice is signed and sent (webhook).
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec

from projections.delivery.connectors.connector import check_url
from projections.monitors import webhook
from projections.monitors.checking import check
from projections.monitors.monitor import Monitor, Report
from projections.monitors.settings import MonitorSettings, settings_of
from subledger.errors import InvalidInput, Refused
from subledger.events.envelope import format_time
from subledger.external.credentials import named_in
from subledger.external.grants import check_granted
from subledger.store.database import Database, WriteConnection
from subledger.store.reading.ledgers import ledger_head
from subledger.store.reading.queries import rows

FIRST_STATE: Final = """
INSERT INTO monitor_states (ledger, looked_at, ringing) VALUES (%(ledger)s, NULL, '{}') ON CONFLICT DO NOTHING
"""
LOCK_STATE: Final = "SELECT looked_at, ringing FROM monitor_states WHERE ledger = %(ledger)s FOR UPDATE"
KEEP_STATE: Final = """
UPDATE monitor_states SET looked_at = %(looked_at)s, ringing = %(ringing)s WHERE ledger = %(ledger)s
"""
ADD_NOTICE: Final = """
INSERT INTO monitor_notices (ledger, notice_id, made_at, body, attempts, due_at)
VALUES (%(ledger)s, %(notice_id)s, %(made_at)s, %(body)s, 0, %(made_at)s)
"""
FORGET_NOTICES: Final = """
-- Notices that are done with, some time ago.
DELETE FROM monitor_notices WHERE ledger = %(ledger)s AND due_at IS NULL AND made_at < %(before)s
"""
FIRST_WAITING: Final = """
-- The first notice that was not taken, whether or not something is due for it.
SELECT notice_id, body, attempts, due_at FROM monitor_notices
WHERE ledger = %(ledger)s AND due_at IS NOT NULL ORDER BY made_at, notice_id LIMIT 1 FOR UPDATE
"""
CLAIM: Final = """
UPDATE monitor_notices SET attempts = attempts + 1, due_at = %(until)s
WHERE ledger = %(ledger)s AND notice_id = %(notice_id)s
"""
TAKEN: Final = """
UPDATE monitor_notices SET sent_at = %(at)s, due_at = NULL, failure = NULL
WHERE ledger = %(ledger)s AND notice_id = %(notice_id)s
"""
PUT_OFF: Final = """
UPDATE monitor_notices SET failure = %(failure)s, due_at = %(due_at)s
WHERE ledger = %(ledger)s AND notice_id = %(notice_id)s AND due_at IS NOT NULL
"""
WAITING: Final = """
-- How many notices wait, and why the first of them does.
SELECT count(*), (array_agg(failure ORDER BY made_at, notice_id))[1] FROM monitor_notices
WHERE ledger = %(ledger)s AND due_at IS NOT NULL
"""

ATTEMPTS: Final = 60
"""Some two and a half days of them; then a notice is given up, and says why."""
_FIRST_WAIT_S: Final = 60.0
_LONGEST_WAIT_S: Final = 3_600.0
_LEASE_S: Final = 4 * webhook.TIMEOUT_S
_KEPT_DAYS: Final = 90
_AT_ONCE: Final = 20


class Notified(msgspec.Struct, frozen=True, kw_only=True):
    """What came of it: monitors that began and ceased to ring since somebody was told, how many notices were taken by
    the other side, how many wait, and why, where the last attempt came to nothing.
    """

    began: tuple[str, ...] = ()
    ceased: tuple[str, ...] = ()
    sent: int = 0
    waiting: int = 0
    failure: str | None = None


def notify(database: Database, ledger: str, report: Report, *, now: datetime | None = None) -> Notified:
    """Tells the webhook what has changed since it was told last, and what it has not taken yet. ``now``: the report's.

    Called again and again, it is its own retry. Without a webhook, and of a sandbox, nobody is told and nothing is
    kept: one that is set later hears what rings then. What goes wrong with the webhook is in the answer, not raised.
    """
    moment = now or report.looked_at
    with database.read() as connection:
        settings = settings_of(connection, ledger)
        is_sandbox = ledger_head(connection, ledger).state.sandbox
    if is_sandbox or not settings.webhook:
        return Notified()
    began, ceased = _changes(database, report)
    sent, failure = 0, None
    for _ in range(_AT_ONCE):
        taken, failure = _send_first(database, ledger, settings, moment)
        if not taken:
            break
        sent += 1
    with database.read() as connection:
        [(waiting, said)] = rows(connection, WAITING, {"ledger": ledger})
    return Notified(began=began, ceased=ceased, sent=sent, waiting=waiting, failure=failure or said)


def watch(database: Database, ledger: str) -> None:
    """What a worker does once a minute: looks at a ledger, and tells what has changed."""
    notify(database, ledger, check(database, ledger, datetime.now(UTC)))


def _changes(database: Database, report: Report) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Makes a notice of what has changed. Two who do it at once make one."""
    where = {"ledger": report.ledger}
    with database.write() as connection:
        connection.execute(FIRST_STATE, where)
        [(looked_at, known)] = connection.execute(LOCK_STATE, where).fetchall()
        told = msgspec.json.decode(known)
        if looked_at is not None and looked_at >= report.looked_at:
            return (), ()
        rings = {monitor.name: monitor for monitor in report.ringing}
        began = tuple(name for name in rings if name not in told)
        there = {monitor.name for monitor in report.monitors}  # an older version may have had others
        ceased = tuple(name for name in told if name in there and name not in rings)
        ringing = {name: told.get(name, format_time(report.looked_at)) for name in rings}
        kept = {**where, "looked_at": report.looked_at, "ringing": msgspec.json.encode(ringing).decode()}
        connection.execute(KEEP_STATE, kept)
        if began or ceased:
            _add(connection, report, began, ceased, ringing, told)
    return began, ceased


def _add(
    connection: WriteConnection, report: Report, began: Sequence[str], ceased: Sequence[str], ringing: dict[str, str],
    told: dict[str, str],
) -> None:  # fmt: skip
    since = {**told, **ringing}
    body = {
        "type": "monitors.changed",
        "timestamp": format_time(report.looked_at),
        "data": {
            "ledger": report.ledger,
            "began": [_document(report.named(name), since[name]) for name in began],
            "ceased": [_document(report.named(name), since[name]) for name in ceased],
            "ringing": ringing,
        },
    }
    notice = {
        "ledger": report.ledger, "notice_id": f"msg_{secrets.token_hex(12)}", "made_at": report.looked_at,
        "body": msgspec.json.encode(body).decode(),
    }  # fmt: skip
    connection.execute(ADD_NOTICE, notice)
    before = report.looked_at - timedelta(days=_KEPT_DAYS)
    connection.execute(FORGET_NOTICES, {"ledger": report.ledger, "before": before})


def _document(monitor: Monitor, since: str) -> dict[str, Any]:
    document: dict[str, Any] = msgspec.to_builtins(monitor)
    return {**document, "since": since}


def _not_allowed(database: Database, ledger: str, settings: MonitorSettings) -> str | None:
    """The reason that forbids calling the webhook, or None. Hosts and grants may have changed since it was set."""
    try:
        check_url(settings.webhook, field="webhook", query=True)
        with database.read() as connection:
            check_granted(connection, ledger, named_in(settings))
    except (InvalidInput, Refused) as error:
        return error.message
    return None


def _send_first(
    database: Database, ledger: str, settings: MonitorSettings, now: datetime
) -> tuple[bool, str | None]:  # fmt: skip
    """Sends the first notice that waits, where something is due for it. Whether it was taken, and why not."""
    where: dict[str, Any] = {"ledger": ledger}
    with database.write() as connection:
        row = connection.execute(FIRST_WAITING, where).fetchone()
        if row is None or row[3] > now:
            return False, None
        notice_id, body, attempts, _ = row
        where["notice_id"] = notice_id
        # Whoever looks meanwhile finds that nothing is due. A sender that dies is followed when its time is over.
        connection.execute(CLAIM, {**where, "until": now + timedelta(seconds=_LEASE_S)})
    failure = _not_allowed(database, ledger, settings) or webhook.send(settings, notice_id, body.encode(), now)
    with database.write() as connection:
        if failure is None:
            connection.execute(TAKEN, {**where, "at": now})
            return True, None
        wait_s = min(_FIRST_WAIT_S * 2 ** min(attempts, 10), _LONGEST_WAIT_S)
        due_at = None if attempts + 1 >= ATTEMPTS else now + timedelta(seconds=wait_s)
        connection.execute(PUT_OFF, {**where, "failure": failure, "due_at": due_at})
    return False, failure
