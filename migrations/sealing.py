"""Migration steps for a table with sealed rows: the column, the trigger, and the seals of existing rows.

A row's seal is the SHA-256 of the row without its NULLs, made by a trigger in the database. If a row is changed without
the trigger, the seal no longer matches. NULLs are not hashed, so a new column that may be NULL does not change the
seals. After any other change of columns, seal the table again.
"""

from collections.abc import Sequence

from alembic import op

# Citus classifies every trigger as unsafe, because a trigger sees only the rows of its own server. These triggers read
# only their own row.
_CITUS = "SET LOCAL citus.enable_unsafe_triggers = on"


def seal(table: str, unsealed: Sequence[str] = ()) -> None:
    """Seals a table's rows, the existing ones and the future ones. ``unsealed``: columns that have a hash of their
    own.
    """
    left_out = ", ".join(f"'{column}'" for column in ("seal", *unsealed))
    op.execute(_CITUS)
    op.execute(f"ALTER TABLE {table} ADD COLUMN IF NOT EXISTS seal bytea")
    op.execute(f"COMMENT ON COLUMN {table}.seal IS 'SHA-256 of the row, by the trigger sealed'")
    op.execute(f"DROP TRIGGER IF EXISTS sealed ON {table}")
    op.execute(
        f"CREATE TRIGGER sealed BEFORE INSERT OR UPDATE ON {table} FOR EACH ROW EXECUTE FUNCTION seal_row({left_out})"
    )
    op.execute(f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER sealed")
    op.execute(f"UPDATE {table} SET seal = ''")
    op.execute(f"ALTER TABLE {table} ALTER COLUMN seal SET NOT NULL")


def reseal(table: str) -> None:
    """Makes new seals for a table whose rows never change, after its columns have changed."""
    op.execute(f"ALTER TABLE {table} DISABLE TRIGGER append_only")
    op.execute(f"UPDATE {table} SET seal = ''")
    op.execute(f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER append_only")


def unseal(table: str) -> None:
    op.execute(f"DROP TRIGGER sealed ON {table}")
    op.execute(f"ALTER TABLE {table} DROP COLUMN seal")


def never_changed(table: str) -> None:
    """Makes a table append-only: no role can change or delete a row."""
    _guard(table, "append_only", "BEFORE UPDATE OR DELETE", "ROW")
    never_truncated(table)


def only_forward(table: str, changes: Sequence[str], columns: Sequence[str], final: str = "false") -> None:
    """Allows changes only of the columns ``changes``, and only in rows that are not ``final``. No row is deleted."""
    fixed = [column for column in columns if column not in (*changes, "seal")]
    _guard(table, "only_forward", "BEFORE UPDATE", "ROW", f"WHEN ({differ(fixed)} OR ({final}))")
    _guard(table, "never_deleted", "BEFORE DELETE", "ROW")
    never_truncated(table)


def goes_forward(table: str, moment: str) -> None:
    """Makes a moment of a row go only forward, and not past the clock of the database."""
    changed = f'OLD."{moment}" IS DISTINCT FROM NEW."{moment}"'
    back = f'NEW."{moment}" IS NULL OR NEW."{moment}" < OLD."{moment}"'
    ahead = f'NEW."{moment}" > clock_timestamp()'
    _guard(table, "goes_forward", "BEFORE UPDATE", "ROW", f"WHEN ({changed} AND ({back} OR {ahead}))")


def differ(columns: Sequence[str]) -> str:
    """Returns the condition that any of these columns changes.

    It compares column by column. The server would turn a comparison of whole rows into nested conditions, and write
    these in another form after a restore. Then a restored database would seem to have another schema.
    """
    return " OR ".join(f'OLD."{column}" IS DISTINCT FROM NEW."{column}"' for column in columns)


def never_truncated(table: str) -> None:
    _guard(table, "never_truncated", "BEFORE TRUNCATE", "STATEMENT")


def unguard(table: str, *triggers: str) -> None:
    for trigger in triggers:
        op.execute(f"DROP TRIGGER {trigger} ON {table}")


def _guard(table: str, name: str, when: str, each: str, condition: str = "") -> None:
    op.execute(_CITUS)
    op.execute(
        f"CREATE TRIGGER {name} {when} ON {table} FOR EACH {each} {condition}"
        " EXECUTE FUNCTION refuse_change_of_record()"
    )
    op.execute(f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER {name}")
