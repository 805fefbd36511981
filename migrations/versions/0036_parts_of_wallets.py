"""Wallets with more than 64 open blocks, or overages, store them in separate rows. An event writes only the changed
ones.

Revision: 0036, after 0035
"""

import sqlalchemy as sa
from alembic import op

from migrations.append_batch import backwards, replace_function

revision = "0036"
down_revision = "0035"
branch_labels = None
depends_on = None

TABLE = "Open blocks and overages of wallets that have more than 64 of them, a row each. Rebuildable."
MANY = 64
KINDS = {"block": ("blocks", "block_id"), "overage": ("overages", "position")}
ADDED = (
    (
        "wallet_state text[] DEFAULT NULL::text[]",
        "wallet_state text[] DEFAULT NULL::text[], part_customer text[] DEFAULT NULL::text[], "
        "part_kind text[] DEFAULT NULL::text[], part_part_id text[] DEFAULT NULL::text[], "
        "part_state text[] DEFAULT NULL::text[], gone_customer text[] DEFAULT NULL::text[], "
        "gone_kind text[] DEFAULT NULL::text[], gone_part_id text[] DEFAULT NULL::text[]",
    ),
    (
        "    IF block_block_id IS NOT NULL THEN\n",
        """    IF gone_customer IS NOT NULL THEN
        DELETE FROM wallet_parts p USING unnest(gone_customer, gone_kind, gone_part_id) AS g (customer, kind, part_id)
        WHERE p.ledger = of_ledger AND p.customer = g.customer AND p.kind = g.kind AND p.part_id = g.part_id;
    END IF;
    IF part_customer IS NOT NULL THEN
        INSERT INTO wallet_parts (ledger, customer, kind, part_id, state)
        SELECT of_ledger, * FROM unnest(part_customer, part_kind, part_part_id, part_state)
        ON CONFLICT (ledger, customer, kind, part_id) DO UPDATE SET state = excluded.state;
    END IF;
    IF block_block_id IS NOT NULL THEN
""",
    ),
)

# A json value keeps its original text, so parts and wallets have the same bytes as from a writer.
MOVE = """
INSERT INTO wallet_parts (ledger, customer, kind, part_id, state)
SELECT w.ledger, w.customer, '{kind}', part ->> '{id}', part::text
FROM wallets w CROSS JOIN LATERAL json_array_elements(w.state::json -> '{member}') AS parts (part)
WHERE json_array_length(w.state::json -> '{member}') > {many}
"""
TAKE_OUT = """
UPDATE wallets SET state = replace(state, {before} || '"{member}":' || (state::json -> '{member}')::text || {after}, '')
WHERE json_array_length(state::json -> '{member}') > {many}
"""


def upgrade() -> None:
    op.create_table(
        "wallet_parts",
        sa.Column("ledger", sa.Text(), nullable=False),
        sa.Column("customer", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False, comment="block or overage"),
        sa.Column("part_id", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("ledger", "customer", "kind", "part_id", name=op.f("pk_wallet_parts")),
        comment=TABLE,
    )
    op.execute("GRANT SELECT, INSERT, UPDATE, DELETE ON wallet_parts TO subledger_app")
    for kind, (member, name) in KINDS.items():
        op.execute(MOVE.format(kind=kind, id=name, member=member, many=MANY))
        # Members are in order: blocks come before the customer, overages after it.
        before, after = ("''", "','") if kind == "block" else ("','", "''")
        op.execute(TAKE_OUT.format(member=member, many=MANY, before=before, after=after))
    replace_function(ADDED)


def downgrade() -> None:
    # The order of blocks in a wallet is not that of any column.
    op.execute("""
        DO $$ BEGIN
            IF EXISTS (SELECT FROM wallet_parts) THEN
                RAISE EXCEPTION 'wallets have parts in rows of their own, and the version before cannot read them';
            END IF;
        END $$
    """)
    replace_function(backwards(ADDED))
    op.drop_table("wallet_parts")
