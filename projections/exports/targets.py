"""What a company sets about each general ledger that its journals go to.

Owns: the table ``export_targets``. Does not own: which settings there are (formats), what is made with them (exports).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from projections.exports.formats import TARGETS
from projections.exports.formats.target import Target, TargetSettings, read_settings
from projections.reads.last_change import LastChange, last_change
from subledger.errors import UnknownTarget
from subledger.events.envelope import canonical, check_texts
from subledger.store.database import Database
from subledger.store.reading.queries import AnyConnection, rows

FIND_SETTINGS: Final = """
-- What was set about a target; nothing where nothing was.
SELECT settings FROM export_targets WHERE ledger = %(ledger)s AND target = %(target)s
"""
FIND_CHANGE: Final = """
-- Who set something about a target last, and when.
SELECT changed_at, changed_by FROM export_targets WHERE ledger = %(ledger)s AND target = %(target)s
"""
SET_SETTINGS: Final = """
INSERT INTO export_targets (ledger, target, settings, changed_at, changed_by)
VALUES (%(ledger)s, %(target)s, %(settings)s, now(), %(by)s)
ON CONFLICT (ledger, target) DO UPDATE
SET settings = excluded.settings, changed_at = excluded.changed_at, changed_by = excluded.changed_by
"""


def target_named(name: str) -> Target:
    """Raises UnknownTarget."""
    if name not in TARGETS:
        raise UnknownTarget(
            f"there is no general ledger {name[:60]} that journals could go to", field="target",
            expected=", ".join(TARGETS), found=name[:60],
        )  # fmt: skip
    return TARGETS[name]


def settings_of(connection: AnyConnection, ledger: str, target: Target) -> TargetSettings:
    """What holds for the next export: what was set, and the rest as it ships."""
    found = rows(connection, FIND_SETTINGS, {"ledger": ledger, "target": target.name})
    return read_settings(target.settings, msgspec.json.decode(found[0][0]) if found else {})


def change_of(connection: AnyConnection, ledger: str, target: Target) -> LastChange | None:
    """The last change of a target's settings; None if they are as they ship."""
    return last_change(connection, FIND_CHANGE, {"ledger": ledger, "target": target.name})


def set_settings(
    database: Database, ledger: str, target: Target, given: Mapping[str, Any], *, by: str
) -> TargetSettings:
    """Sets all of them: what is not given is as it ships. What was exported stays as it is. Raises InvalidInput."""
    check_texts(given, field="settings")
    settings = read_settings(target.settings, given)
    text = canonical(msgspec.to_builtins(settings))
    with database.write() as connection:
        parameters = {"ledger": ledger, "target": target.name, "settings": text, "by": by}
        connection.execute(SET_SETTINGS, parameters)
    return settings
