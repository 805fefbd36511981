"""Functions that list the holders of a ledger's lock, and end holders that do nothing.

Revision: 0019, after 0018
"""

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None

# The transaction that has locked a row is in the row's xmax, and has the lock of its own id until it ends.
HOLDERS = """
CREATE FUNCTION ledger_lock_holders(of_ledger text)
RETURNS TABLE (pid integer, began_at timestamptz, changed_at timestamptz, held_s double precision,
               waiting_s double precision, state text, application text, client text, progress bigint)
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, {schema}, pg_temp AS $$
    SELECT a.pid, a.xact_start, a.state_change, extract(epoch FROM clock_timestamp() - a.xact_start)::double precision,
           CASE WHEN a.wait_event_type = 'Client'
                THEN extract(epoch FROM clock_timestamp() - a.state_change)::double precision ELSE 0 END,
           a.state, a.application_name, host(a.client_addr), c.bytes_processed
    FROM ledgers l
    JOIN pg_locks k ON k.locktype = 'transactionid' AND k.transactionid = l.xmax AND k.granted
                   AND k.mode = 'ExclusiveLock'
    JOIN pg_stat_activity a ON a.pid = k.pid
    LEFT JOIN pg_stat_progress_copy c ON c.pid = a.pid
    WHERE l.ledger = of_ledger AND a.pid <> pg_backend_pid()
$$
"""
END = """
CREATE FUNCTION end_stuck_writers(of_ledger text, after interval, pause interval)
RETURNS TABLE (pid integer, held_s double precision)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, {schema}, pg_temp AS $$
DECLARE
    seen record;
BEGIN
    FOR seen IN SELECT h.* FROM ledger_lock_holders(of_ledger) h WHERE h.waiting_s >= extract(epoch FROM after) LOOP
        PERFORM pg_sleep_for(pause);
        PERFORM pg_stat_clear_snapshot();
        -- Still the same transaction, waiting in the same statement, of which nothing has come since.
        IF EXISTS (SELECT FROM ledger_lock_holders(of_ledger) h
                   WHERE h.pid = seen.pid AND h.began_at = seen.began_at AND h.changed_at = seen.changed_at
                     AND h.waiting_s > 0 AND h.progress IS NOT DISTINCT FROM seen.progress)
           AND pg_terminate_backend(seen.pid, 5000) THEN
            pid := seen.pid;
            held_s := seen.held_s;
            RETURN NEXT;
        END IF;
    END LOOP;
END
$$
"""
COMMENTS = (
    "COMMENT ON FUNCTION ledger_lock_holders IS "
    "'The sessions that hold a ledger''s lock: for how long, and how long the server has waited for them.'",
    "COMMENT ON FUNCTION end_stuck_writers IS "
    "'Ends the sessions that hold a ledger''s lock and have let the server wait for longer than after.'",
)


def upgrade() -> None:
    schema = op.get_bind().scalar(sa.text("SELECT quote_ident(current_schema())"))
    for function in (HOLDERS, END):
        op.execute(function.format(schema=schema))
    for comment in COMMENTS:
        op.execute(comment)
    for signature in ("ledger_lock_holders(text)", "end_stuck_writers(text, interval, interval)"):
        op.execute(f"REVOKE EXECUTE ON FUNCTION {signature} FROM PUBLIC")
        op.execute(f"GRANT EXECUTE ON FUNCTION {signature} TO subledger_app")


def downgrade() -> None:
    op.execute("DROP FUNCTION end_stuck_writers(text, interval, interval)")
    op.execute("DROP FUNCTION ledger_lock_holders(text)")
