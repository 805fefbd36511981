"""The settings of a ledger's monitors: thresholds, and the webhook that gets notices.

Owns: the table ``monitor_settings``. Does not own: the figures that thresholds are compared with (the monitors).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from projections.delivery.connectors.connector import check_url
from projections.reads.last_change import LastChange, last_change
from subledger.errors import InvalidInput
from subledger.events.envelope import canonical, check_texts
from subledger.external.credentials import Credential, named_in
from subledger.external.grants import check_granted
from subledger.sandbox import check_notifies
from subledger.store.database import Database
from subledger.store.reading.ledgers import ledger_head
from subledger.store.reading.queries import AnyConnection, rows

OFF: Final = "off"
"""The word for null in a settings file, because TOML has no null."""
_LONGEST_S: Final = 1e8
_MOST: Final = 1_000_000_000
_DAYS: Final = 366
_CODES: Final = 100
_LONGEST_CODE: Final = 60


class MonitorSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Thresholds and the webhook. A monitor whose threshold is None never rings; its figure is still shown.

    - ``window_days``: the days before now in which deliveries are counted.
    - ``delivery_success_percent``: the lowest share of decided deliveries that arrived.
    - ``not_accepted_after_s``, ``unapplied_after_s``, ``expiry_overdue_s``: the highest age of an export without
      acceptance, of a payment that is not applied, of a due expiry that is not recorded.
    - ``event_to_general_ledger_s``: the longest time from a journal's last event to its posting.
    - ``dead_letters``, ``uncleared_blocks``: the highest number of them.
    - ``rejected_events``: the highest number of rejected events that are open for longer than ``rejected_after_s``;
      always less than 10,000. Events with a code in ``rejected_expected`` do not count. The code
      ``insufficient_credits`` is ignored only if the ledger's shortfall setting is ``reject`` and all credits are used
      up.
    - ``breakage_difference_percent``: the highest difference between the expected breakage of a pool's cohort and its
      actual or possible breakage, in percent of the issued amount.
    - ``verified_within_s``: the highest age of the last clean verification.
    - ``stuck_writer_s``: the longest wait of the database for the holder of the ledger's lock.
    - ``webhook``: the address that gets notices, signed with ``webhook_secret``.
    """

    window_days: int = 7
    delivery_success_percent: float | None = 99.0
    not_accepted_after_s: float | None = 3_600.0
    unapplied_after_s: float | None = 14_400.0
    event_to_general_ledger_s: float | None = 900.0
    dead_letters: int | None = 10
    uncleared_blocks: int | None = 0
    expiry_overdue_s: float | None = 86_400.0
    rejected_events: int | None = 0
    rejected_after_s: float | None = 86_400.0
    rejected_expected: tuple[str, ...] = ("insufficient_credits",)
    breakage_difference_percent: float | None = 5.0
    verified_within_s: float | None = None
    stuck_writer_s: float | None = 60.0
    webhook: str = ""
    webhook_secret: Credential = ""


_AT_MOST: Final[dict[str, float]] = {
    "delivery_success_percent": 100.0, "breakage_difference_percent": 100.0,
    "not_accepted_after_s": _LONGEST_S, "unapplied_after_s": _LONGEST_S,
    "event_to_general_ledger_s": _LONGEST_S, "expiry_overdue_s": _LONGEST_S, "verified_within_s": _LONGEST_S,
    "stuck_writer_s": _LONGEST_S,
    "dead_letters": _MOST, "uncleared_blocks": _MOST, "rejected_events": _MOST, "rejected_after_s": _LONGEST_S,
}  # fmt: skip

FIND_SETTINGS: Final = """
-- The settings of a ledger's monitors; no row if none were set.
SELECT settings FROM monitor_settings WHERE ledger = %(ledger)s
"""
FIND_CHANGE: Final = """
-- The last change of the settings: its time and its person.
SELECT changed_at, changed_by FROM monitor_settings WHERE ledger = %(ledger)s
"""
SET_SETTINGS: Final = """
INSERT INTO monitor_settings (ledger, settings, changed_at, changed_by)
VALUES (%(ledger)s, %(settings)s, now(), %(by)s)
ON CONFLICT (ledger) DO UPDATE
SET settings = excluded.settings, changed_at = excluded.changed_at, changed_by = excluded.changed_by
"""
FORGET_STATES: Final = "DELETE FROM monitor_states WHERE ledger = %(ledger)s"
DROP_NOTICES: Final = """
UPDATE monitor_notices SET due_at = NULL, failure = 'the address of the webhook has changed'
WHERE ledger = %(ledger)s AND due_at IS NOT NULL
"""


def settings_of(connection: AnyConnection, ledger: str) -> MonitorSettings:
    """The settings in force; the defaults if none were set."""
    found = rows(connection, FIND_SETTINGS, {"ledger": ledger})
    return msgspec.json.decode(found[0][0], type=MonitorSettings) if found else MonitorSettings()


def change_of(connection: AnyConnection, ledger: str) -> LastChange | None:
    """The last change of the settings; None if none were set."""
    return last_change(connection, FIND_CHANGE, {"ledger": ledger})


def set_settings(database: Database, ledger: str, given: Mapping[str, Any], *, by: str) -> MonitorSettings:
    """Replaces all settings; those that are not given get their defaults.

    If the address of the webhook changes, notices for the earlier address are dropped. The new address gets a notice of
    all monitors that ring at the next look. Raises InvalidInput naming the field, SandboxLedger for the webhook of a
    sandbox, CredentialNotGranted.
    """
    settings = read_settings(given)
    text = canonical(msgspec.to_builtins(settings))
    if settings.webhook:
        with database.read() as reading:
            check_notifies(ledger_head(reading, ledger).state)
    with database.write() as connection:
        check_granted(connection, ledger, named_in(settings))
        before = settings_of(connection, ledger)
        connection.execute(SET_SETTINGS, {"ledger": ledger, "settings": text, "by": by})
        if before.webhook != settings.webhook:
            connection.execute(FORGET_STATES, {"ledger": ledger})
            connection.execute(DROP_NOTICES, {"ledger": ledger})
    return settings


def read_settings(given: Mapping[str, Any]) -> MonitorSettings:
    """Reads settings, in which null or "off" means no threshold. Raises InvalidInput naming the field."""
    check_texts(given, field="settings")
    known = MonitorSettings.__struct_fields__
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise InvalidInput(
            f"monitors have no setting {unknown[0][:60]}", field=unknown[0][:60], expected=", ".join(known)
        )
    plain = {name: None if name in _AT_MOST and value == OFF else value for name, value in given.items()}
    try:
        settings = msgspec.convert(plain, MonitorSettings)
    except msgspec.ValidationError as error:
        message, _, path = str(error).partition(" - at `$.")
        raise InvalidInput(
            f"the settings cannot be read: {message}", field=path.rstrip("`") or "settings", expected=", ".join(known)
        ) from None
    for name, highest in _AT_MOST.items():
        _check(name, getattr(settings, name), 0, highest)
    _check("window_days", settings.window_days, 1, _DAYS)
    if len(settings.rejected_expected) > _CODES or any(
        len(code) > _LONGEST_CODE for code in settings.rejected_expected
    ):
        raise InvalidInput(
            "rejected_expected is a list of codes",
            field="rejected_expected",
            expected=f"at most {_CODES} codes of errors, such as insufficient_credits",
        )
    if settings.webhook:
        check_url(settings.webhook, field="webhook", query=True)
        if not settings.webhook_secret:
            raise InvalidInput(
                "notices are signed: name the secret of the webhook",
                field="webhook_secret",
                expected="env:NAME or file:/PATH",
            )
    return settings


def _check(name: str, value: float | None, lowest: float, highest: float) -> None:
    # The comparison is written this way round so that NaN is refused too.
    if value is not None and not lowest <= value <= highest:
        raise InvalidInput(
            f"{name} is out of range", field=name, expected=f"{lowest:g} to {highest:g}, or off", found=str(value)[:60]
        )
