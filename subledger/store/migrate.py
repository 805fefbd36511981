"""Migration of a database to the schema of this version.

Owns: running Alembic from code. Does not own: the migrations, the derived rows (configuring/upgrade).
"""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory

import migrations
from subledger.store.database import Connecting, engine_url, session_options
from subledger.store.timeouts import Timeouts


def _config(url: str) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent).replace("%", "%%"))
    config.attributes["url"] = url
    return config


def owner_engine(url: str) -> sa.Engine:
    """Returns connections of the database's owner, for migrations and for queries about them.

    They have no time limit, because a migration of large tables takes long. Only a lost link ends them.
    """
    parsed = engine_url(url)
    options = f"{parsed.query.get('options', '')} {session_options()}".strip()
    engine = sa.create_engine(parsed, connect_args={"options": options, **Timeouts().of_link})
    sa.event.listen(engine, "do_connect", Connecting())
    return engine


def revision(url: str) -> str | None:
    """Returns the revision of the database's schema; None if it has no schema."""
    engine = owner_engine(url)
    try:
        with engine.connect() as connection:
            if not sa.inspect(connection).has_table("alembic_version"):
                return None
            found: str | None = connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar()
    finally:
        engine.dispose()
    return found


def is_current(url: str) -> bool:
    """Returns True if the database has this version's schema."""
    return revision(url) == ScriptDirectory.from_config(_config(url)).get_current_head()


def check_schema(connection: sa.Connection) -> None:
    """Checks that the database answers and has our schema, of any version. Raises DatabaseUnavailable if not."""
    connection.execute(sa.text("SELECT 1 FROM alembic_version"))


def migrate(url: str) -> None:
    """Applies the missing migrations, as the owner in ``url``. It can be repeated, and can run twice at once."""
    # The lock is in migrations/env.py: an advisory lock of the one transaction in which all missing migrations run. So
    # a second caller waits and finds nothing to do, and a failed call leaves the schema as it was.
    command.upgrade(_config(url), "head")
