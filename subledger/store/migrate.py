"""Bringing a database to the schema of this version: what ``subledger init`` does.

Owns: running Alembic from code. Does not own: the migrations themselves.
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
    """Connections of the database's owner, for the migrations and what is asked of them.

    A migration may take as long as its tables are large, and be idle meanwhile; a lost link ends it like any other.
    """
    parsed = engine_url(url)
    options = f"{parsed.query.get('options', '')} {session_options()}".strip()
    engine = sa.create_engine(parsed, connect_args={"options": options, **Timeouts().of_link})
    sa.event.listen(engine, "do_connect", Connecting())
    return engine


def revision(url: str) -> str | None:
    """The schema that the database has; None where it has none."""
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
    """Whether the database has this version's schema."""
    return revision(url) == ScriptDirectory.from_config(_config(url)).get_current_head()


def migrate(url: str) -> None:
    """Applies what is missing, as the owner that ``url`` names. Safe to repeat and to run twice at once."""
    command.upgrade(_config(url), "head")
