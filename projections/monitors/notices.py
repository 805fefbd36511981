"""Commands: sending one notice when a monitor begins or ceases to ring, even if several processes run the monitors.

The state of the last notice is a row of the database. A process makes the next notice only while it has the lock of
this row. A look that is older than the state makes no notice. The notice and the new state are in one commit.

A notice is sent until its receiver accepts it, with the same id each time. So the receiver recognises a notice that it
has already accepted, even if its answer was lost. Notices of a ledger are sent in order: the next one waits until the
one before is accepted.

Owns: the tables ``monitor_states`` and ``monitor_notices``. Does not own: the signature and the call (webhook).
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
-- Notices that were sent or given up, and are old.
DELETE FROM monitor_notices WHERE ledger = %(ledger)s AND due_at IS NULL AND made_at < %(before)s
"""
FIRST_WAITING: Final = """
-- The first notice that is not accepted, whether it is due or not.
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
-- The number of notices that wait, and the last failure of the first one.
SELECT count(*), (array_agg(failure ORDER BY made_at, notice_id))[1] FROM monitor_notices
WHERE ledger = %(ledger)s AND due_at IS NOT NULL
"""

ATTEMPTS: Final = 60
"""Maximum number of attempts, within about two and a half days. After them a notice is given up, and its failure is
stored.
"""
_FIRST_WAIT_S: Final = 60.0
_LONGEST_WAIT_S: Final = 3_600.0
_LEASE_S: Final = 4 * webhook.TIMEOUT_S
_KEPT_DAYS: Final = 90
_AT_ONCE: Final = 20


class Notified(msgspec.Struct, frozen=True, kw_only=True):
    """The result: the monitors that began and ceased to ring since the last notice, the number of notices sent and of
    those that wait, and the reason of the last failed attempt.
    """

    began: tuple[str, ...] = ()
    ceased: tuple[str, ...] = ()
    sent: int = 0
    waiting: int = 0
    failure: str | None = None


def notify(database: Database, ledger: str, report: Report, *, now: datetime | None = None) -> Notified:
    """Makes a notice of the changes since the last one, and sends every notice that is due. ``now`` is by default the
    report's time.

    A failed notice is sent again by a later call. Without a webhook, and for a sandbox, nothing is sent or stored. A
    webhook that is set later gets a notice of the monitors that ring then. A failure of the webhook is returned, not
    raised.
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
        sent_count, failure = _send_first(database, ledger, settings, moment)
        if not sent_count:
            break
        sent += 1
    with database.read() as connection:
        [(waiting, last_failure)] = rows(connection, WAITING, {"ledger": ledger})
    return Notified(began=began, ceased=ceased, sent=sent, waiting=waiting, failure=failure or last_failure)


def watch(database: Database, ledger: str) -> None:
    """Runs the monitors of a ledger and sends notices of changes. A worker calls it once a minute."""
    notify(database, ledger, check(database, ledger, datetime.now(UTC)))


def _changes(database: Database, report: Report) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Makes a notice of the changes. Two callers at once make one notice."""
    key = {"ledger": report.ledger}
    with database.write() as connection:
        connection.execute(FIRST_STATE, key)
        [(looked_at, known)] = connection.execute(LOCK_STATE, key).fetchall()
        ringing_before = msgspec.json.decode(known)
        if looked_at is not None and looked_at >= report.looked_at:
            return (), ()
        rings = {monitor.name: monitor for monitor in report.ringing}
        began = tuple(name for name in rings if name not in ringing_before)
        checked = {monitor.name for monitor in report.monitors}  # an older version may have had others
        ended = tuple(name for name in ringing_before if name in checked and name not in rings)
        ringing = {name: ringing_before.get(name, format_time(report.looked_at)) for name in rings}
        parameters = {**key, "looked_at": report.looked_at, "ringing": msgspec.json.encode(ringing).decode()}
        connection.execute(KEEP_STATE, parameters)
        if began or ended:
            _add(connection, report, began, ended, ringing, ringing_before)
    return began, ended


def _add(
    connection: WriteConnection,
    report: Report,
    began: Sequence[str],
    ended: Sequence[str],
    ringing: dict[str, str],
    ringing_before: dict[str, str],
) -> None:
    since = {**ringing_before, **ringing}
    body = {
        "type": "monitors.changed",
        "timestamp": format_time(report.looked_at),
        "data": {
            "ledger": report.ledger,
            "began": [_notice(report.named(name), since[name]) for name in began],
            "ceased": [_notice(report.named(name), since[name]) for name in ended],
            "ringing": ringing,
        },
    }
    notice = {
        "ledger": report.ledger,
        "notice_id": f"msg_{secrets.token_hex(12)}",
        "made_at": report.looked_at,
        "body": msgspec.json.encode(body).decode(),
    }
    connection.execute(ADD_NOTICE, notice)
    before = report.looked_at - timedelta(days=_KEPT_DAYS)
    connection.execute(FORGET_NOTICES, {"ledger": report.ledger, "before": before})


def _notice(monitor: Monitor, since: str) -> dict[str, Any]:
    answer: dict[str, Any] = msgspec.to_builtins(monitor)
    return {**answer, "since": since}


def _not_allowed(database: Database, ledger: str, settings: MonitorSettings) -> str | None:
    """The reason that forbids calling the webhook, or None. Hosts and grants may have changed since it was set."""
    try:
        check_url(settings.webhook, field="webhook", query=True)
        with database.read() as connection:
            check_granted(connection, ledger, named_in(settings))
    except (InvalidInput, Refused) as error:
        return error.message
    return None


def _send_first(database: Database, ledger: str, settings: MonitorSettings, now: datetime) -> tuple[bool, str | None]:
    """Sends the first waiting notice, if it is due. Returns True if it was accepted, else False and the reason."""
    parameters: dict[str, Any] = {"ledger": ledger}
    with database.write() as connection:
        row = connection.execute(FIRST_WAITING, parameters).fetchone()
        if row is None or row[3] > now:
            return False, None
        notice_id, body, attempts, _ = row
        parameters["notice_id"] = notice_id
        # The claim prevents other processes from sending the notice at the same time. If this process dies, the claim
        # expires.
        connection.execute(CLAIM, {**parameters, "until": now + timedelta(seconds=_LEASE_S)})
    failure = _not_allowed(database, ledger, settings) or webhook.send(settings, notice_id, body.encode(), now)
    with database.write() as connection:
        if failure is None:
            connection.execute(TAKEN, {**parameters, "at": now})
            return True, None
        wait_s = min(_FIRST_WAIT_S * 2 ** min(attempts, 10), _LONGEST_WAIT_S)
        due_at = None if attempts + 1 >= ATTEMPTS else now + timedelta(seconds=wait_s)
        connection.execute(PUT_OFF, {**parameters, "failure": failure, "due_at": due_at})
    return False, failure
