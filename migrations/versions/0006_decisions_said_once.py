"""A decision that follows from its entries is not stored. These are plain draws, which are most events.

Recorded events do not change. The view shows every decision completely, stored or not.

Revision: 0006, after 0005
"""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

BEFORE = "what was decided, in canonical JSON; never recomputed"
AFTER = BEFORE + ". NULL where its entries say all of it: see the view recorded_events"
WHOLE = """
CREATE VIEW recorded_events AS
SELECT e.ledger, e.position, e.source, e.event_id, e.type, e.customer, e.occurred_at, e.data, e.attributes,
       coalesce(e.decision, (
           SELECT '{"movements":[' || string_agg(
                      '{' || CASE WHEN n.amount_minor <> 0 THEN '"amount":' || n.amount_minor || ',' ELSE '' END
                      || '"block":"' || n.block_id || '","credits":"' || trim_scale(n.credits) || '","kind":"' || n.kind
                      || '","on":"' || to_char(n.accounting_date, 'YYYY-MM-DD') || '"}', ',' ORDER BY n.number)
                  || '],"policy":' || min(n.policy) || '}'
           FROM entries n WHERE n.ledger = e.ledger AND n.position = e.position
       )) AS decision,
       e.leaf
FROM events e
"""
NONE_LEFT_OUT = """
-- The log is never rewritten: what was left out of it stays out.
DO $$
BEGIN
    IF EXISTS (SELECT FROM events WHERE decision IS NULL) THEN
        RAISE EXCEPTION 'decisions stand in their entries alone: restore a backup of the older version instead';
    END IF;
END
$$
"""


def upgrade() -> None:
    op.alter_column("events", "decision", nullable=True, comment=AFTER, existing_comment=BEFORE)
    op.execute(WHOLE)
    op.execute("COMMENT ON VIEW recorded_events IS 'Events with their decisions whole.'")
    op.execute("GRANT SELECT ON recorded_events TO subledger_app")


def downgrade() -> None:
    op.execute(NONE_LEFT_OUT)
    op.execute("DROP VIEW recorded_events")
    op.alter_column("events", "decision", nullable=False, comment=BEFORE, existing_comment=AFTER)
