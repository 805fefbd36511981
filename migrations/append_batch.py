"""Edits of the function ``append_batch``, for migrations that change its parameters or its body.

The statements that they run must not change, because an applied migration must always have the same effect.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import sqlalchemy as sa
from alembic import op

Edit = tuple[str, str]
"""A text that occurs once in the function, and its replacement."""

_DEFINITION: Final = "SELECT pg_get_functiondef('append_batch'::regproc)"
_COMMENT: Final = "SELECT obj_description('append_batch'::regproc)"


def backwards(edits: Iterable[Edit]) -> tuple[Edit, ...]:
    """The reverse of these edits."""
    return tuple((after, before) for before, after in edits)


def edited(edits: Iterable[Edit]) -> str:
    """The statement that creates the function with these edits, escaped for the driver."""
    definition: str = op.get_bind().execute(sa.text(_DEFINITION)).scalar_one()
    for before, after in edits:
        if definition.count(before) != 1:
            raise RuntimeError(f"append_batch is not as expected: {before}")
        definition = definition.replace(before, after)
    return definition.replace("%", "%%")


def replace_function(edits: Iterable[Edit]) -> None:
    """Replaces the function by one with these edits, which may change its parameters. Its comment and rights stay."""
    definition = edited(edits)
    comment = op.get_bind().execute(sa.text(_COMMENT)).scalar_one()
    op.execute("DROP FUNCTION append_batch")
    op.get_bind().exec_driver_sql(definition)
    quoted = comment.replace("'", "''")
    op.get_bind().exec_driver_sql(f"COMMENT ON FUNCTION append_batch IS '{quoted}'".replace("%", "%%"))
    op.execute("REVOKE EXECUTE ON FUNCTION append_batch FROM PUBLIC")
    op.execute("GRANT EXECUTE ON FUNCTION append_batch TO subledger_app")
