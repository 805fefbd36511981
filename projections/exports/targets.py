"""The settings of each general ledger to which a company's journals go.

Owns: the table ``export_targets``. Does not own: the fields of the settings (formats), exports (exports).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from projections.exports.formats import TARGETS
from projections.exports.formats.target import Target, TargetSettings, new_settings, read_settings
from projections.reads.last_change import LastChange, last_change
from subledger.errors import UnknownTarget
from subledger.events.envelope import canonical, check_texts
from subledger.store.database import Database
from subledger.store.reading.queries import AnyConnection, rows

FIND_SETTINGS: Final = """
-- The stored settings of a target; no row if none were set.
SELECT settings FROM export_targets WHERE ledger = %(ledger)s AND target = %(target)s
"""
FIND_CHANGE: Final = """
-- The last change of a target's settings: person and time.
SELECT changed_at, changed_by FROM export_targets WHERE ledger = %(ledger)s AND target = %(target)s
"""
SET_SETTINGS: Final = """
INSERT INTO export_targets (ledger, target, settings, changed_at, changed_by)
VALUES (%(ledger)s, %(target)s, %(settings)s, now(), %(by)s)
ON CONFLICT (ledger, target) DO UPDATE
SET settings = excluded.settings, changed_at = excluded.changed_at, changed_by = excluded.changed_by
"""


def target_named(name: str) -> Target:
    """Returns a target. Raises UnknownTarget."""
    if name not in TARGETS:
        raise UnknownTarget(
            f"there are no formats for a general ledger {name[:60]}",
            field="target",
            expected=", ".join(TARGETS),
            found=name[:60],
        )
    return TARGETS[name]


def settings_of(connection: AnyConnection, ledger: str, target: Target) -> TargetSettings:
    """The settings for the next export: those that were set, and defaults for the rest."""
    found = rows(connection, FIND_SETTINGS, {"ledger": ledger, "target": target.name})
    return read_settings(target.settings, msgspec.json.decode(found[0][0]) if found else {})


def change_of(connection: AnyConnection, ledger: str, target: Target) -> LastChange | None:
    """The last change of a target's settings; None if they are the defaults."""
    return last_change(connection, FIND_CHANGE, {"ledger": ledger, "target": target.name})


def set_settings(
    database: Database, ledger: str, target: Target, given: Mapping[str, Any], *, by: str
) -> TargetSettings:
    """Stores all settings of a target, with defaults for those not given. Raises InvalidInput."""
    check_texts(given, field="settings")
    settings = new_settings(target.settings, given)
    text = canonical(msgspec.to_builtins(settings))
    with database.write() as connection:
        parameters = {"ledger": ledger, "target": target.name, "settings": text, "by": by}
        connection.execute(SET_SETTINGS, parameters)
    return settings
