"""Runs the migrations on the database that ``subledger init`` names, as its owner."""

from alembic import context

from subledger.store.migrate import owner_engine
from subledger.store.tables import metadata

url = context.config.attributes.get("url") or context.get_x_argument(as_dictionary=True).get("url")
if not url:
    raise SystemExit("say which database: alembic -x url=postgresql://… upgrade head (or: subledger init)")

engine = owner_engine(url)
with engine.connect() as connection:
    context.configure(connection=connection, target_metadata=metadata)
    with context.begin_transaction():
        # If two start at once, the second waits here and then finds nothing to do.
        context.execute("SELECT pg_advisory_xact_lock(hashtext('subledger migrations'))")
        # A statement that waits for a table makes all users of the table wait behind it. So it must give up before they
        # do.
        context.execute("SET LOCAL lock_timeout = '20s'")
        context.run_migrations()
    connection.commit()
engine.dispose()
