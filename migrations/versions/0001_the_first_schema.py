"""The first schema: the log, the writer's memory, the totals, and the rights on them.

Revision: 0001, after None
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

ROLE = "subledger_app"
LOG = ("batches", "events", "entries")
CHANGING = (
    "ledgers", "dimension_sets", "posting_policies", "posting_rules", "account_mappings", "wallets", "blocks",
    "documents", "ledger_days", "merkle_nodes", "journals", "journal_exports", "api_keys",
)  # fmt: skip


def upgrade() -> None:
    op.create_table(
        "account_mappings",
        sa.Column("ledger", sa.Text(), nullable=False),
        sa.Column("mapping", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("content_hash", sa.Text(), nullable=False),
        sa.Column("rows", sa.Text(), nullable=False, comment="the mapping's rows, in canonical JSON"),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("ledger", "mapping", name=op.f("pk_account_mappings")),
        comment="The account mappings a ledger has adopted, numbered in order.",
    )
    op.create_table(
        "api_keys",
        sa.Column(
            "key_hash", sa.LargeBinary(), nullable=False, comment="SHA-256 of the key; the key itself is kept nowhere"
        ),
        sa.Column("ledger", sa.Text(), nullable=False, comment="* for every ledger"),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("role IN ('reader', 'writer', 'controller', 'admin')", name=op.f("ck_api_keys_role")),
        sa.PrimaryKeyConstraint("key_hash", name=op.f("pk_api_keys")),
        comment="Who may call the HTTP API.",
    )
    op.create_table(
        "batches",
        sa.Column("ledger", sa.Text(), nullable=False),
        sa.Column("last_position", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("first_position", sa.BigInteger(), nullable=False),
        sa.Column("recorded_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("root", sa.LargeBinary(), nullable=False),
        sa.Column("previous_hash", sa.LargeBinary(), nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.CheckConstraint("first_position BETWEEN 1 AND last_position", name=op.f("ck_batches_in_order")),
        sa.PrimaryKeyConstraint("ledger", "last_position", name=op.f("pk_batches")),
        comment="One row per commit: the hash chain.",
    )
    op.create_index("ux_batches_recorded_at", "batches", ["ledger", "recorded_at"], unique=True)
    op.create_table(
        "blocks",
        sa.Column("ledger", sa.Text(), nullable=False),
        sa.Column("block_id", sa.Text(), nullable=False),
        sa.Column("customer", sa.Text(), nullable=False),
        sa.Column("invoice_id", sa.Text(), nullable=True),
        sa.Column("opened_at_position", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("is_open", sa.Boolean(), nullable=False),
        sa.Column(
            "state",
            sa.Text(),
            nullable=True,
            comment="of a finished block; NULL while it is open, for then its wallet has it",
        ),
        sa.PrimaryKeyConstraint("ledger", "block_id", name=op.f("pk_blocks")),
        comment="One row per credit block: to find it by. Rebuildable.",
    )
    op.create_index("ix_blocks_customer", "blocks", ["ledger", "customer", "block_id"], unique=False)
    op.create_index(
        "ix_blocks_due",
        "blocks",
        ["ledger", "expires_at"],
        unique=False,
        postgresql_where=sa.text("is_open AND expires_at IS NOT NULL"),
    )
    op.create_index(
        "ix_blocks_invoice",
        "blocks",
        ["ledger", "invoice_id"],
        unique=False,
        postgresql_where=sa.text("invoice_id IS NOT NULL"),
    )
    op.create_table(
        "dimension_sets",
        sa.Column("ledger", sa.Text(), nullable=False),
        sa.Column("dimension_set", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("product", sa.Text(), nullable=False),
        sa.Column("credit_kind", sa.Text(), nullable=False),
        sa.Column("pool", sa.Text(), nullable=False),
        sa.Column("processor", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("ledger", "dimension_set", name=op.f("pk_dimension_sets")),
        comment="The combinations of dimensions that entries carry, numbered in the order of their first use.",
    )
    op.create_index(
        "ux_dimension_sets_values",
        "dimension_sets",
        ["ledger", "product", "credit_kind", "pool", "processor"],
        unique=True,
    )
    op.create_table(
        "documents",
        sa.Column("ledger", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("document_id", sa.Text(), nullable=False),
        sa.Column("customer", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("ledger", "kind", "document_id", name=op.f("pk_documents")),
        comment="What later events refer to: finished overages, corrections of usage. Rebuildable.",
    )
    op.create_table(
        "entries",
        sa.Column("ledger", sa.Text(), nullable=False),
        sa.Column("position", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("number", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("policy", sa.SmallInteger(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("customer", sa.Text(), nullable=True),
        sa.Column("block_id", sa.Text(), nullable=True),
        sa.Column("unit", sa.Text(), nullable=True),
        sa.Column("credits", sa.Numeric(), nullable=False),
        sa.Column("amount_minor", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("functional_minor", sa.BigInteger(), nullable=False),
        sa.Column("accounting_date", sa.Date(), nullable=False),
        sa.Column("effective_date", sa.Date(), nullable=False),
        sa.Column("cut", sa.Integer(), nullable=False),
        sa.Column("dimension_set", sa.Integer(), nullable=False),
        sa.CheckConstraint("accounting_date >= effective_date", name=op.f("ck_entries_dates")),
        sa.CheckConstraint("credits = 0 OR unit IS NOT NULL", name=op.f("ck_entries_unit")),
        sa.PrimaryKeyConstraint("ledger", "position", "number", name=op.f("pk_entries")),
        comment="Journal entries: a kind and an amount. Append-only; part of the log.",
    )
    op.create_index(
        "ix_entries_customer",
        "entries",
        ["ledger", "customer", "position"],
        unique=False,
        postgresql_include=[
            "accounting_date",
            "policy",
            "kind",
            "block_id",
            "unit",
            "credits",
            "currency",
            "amount_minor",
            "functional_minor",
        ],
    )
    op.create_table(
        "events",
        sa.Column("ledger", sa.Text(), nullable=False),
        sa.Column("position", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("event_id", sa.Text(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("customer", sa.Text(), nullable=True),
        sa.Column("occurred_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("data", sa.Text(), nullable=False, comment="as received, in canonical JSON"),
        sa.Column(
            "attributes",
            sa.Text(),
            nullable=True,
            comment="other CloudEvents attributes as received, in canonical JSON",
        ),
        sa.Column(
            "decision", sa.Text(), nullable=False, comment="what was decided, in canonical JSON; never recomputed"
        ),
        sa.Column("leaf", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("ledger", "position", name=op.f("pk_events")),
        comment="The log. Append-only.",
    )
    op.create_index("ux_events_key", "events", ["ledger", "source", "event_id"], unique=True)
    op.create_table(
        "journal_exports",
        sa.Column("ledger", sa.Text(), nullable=False),
        sa.Column("export_id", sa.Text(), nullable=False),
        sa.Column("period", sa.Text(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("format", sa.Text(), nullable=False),
        sa.Column("detail", sa.Boolean(), nullable=False),
        sa.Column("filename", sa.Text(), nullable=False),
        sa.Column("media_type", sa.Text(), nullable=False),
        sa.Column(
            "content", sa.LargeBinary(), nullable=True, comment="NULL for detail, which is rendered anew from the log"
        ),
        sa.Column("content_hash", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("ledger", "export_id", name=op.f("pk_journal_exports")),
        comment="A journal rendered in a format, byte by byte.",
    )
    op.create_index(
        "ux_journal_exports_rendering",
        "journal_exports",
        ["ledger", "period", "number", "format", "detail"],
        unique=True,
    )
    op.create_table(
        "journals",
        sa.Column("ledger", sa.Text(), nullable=False),
        sa.Column("period", sa.Text(), nullable=False),
        sa.Column(
            "number", sa.Integer(), autoincrement=False, nullable=False, comment="1 is the first, later ones adjust"
        ),
        sa.Column("from_cut", sa.Integer(), nullable=False, comment="exclusive"),
        sa.Column("to_cut", sa.Integer(), nullable=False, comment="inclusive"),
        sa.Column("mapping", sa.Integer(), nullable=False),
        sa.Column(
            "lines",
            sa.Text(),
            nullable=False,
            comment="the journal's lines with their accounts resolved, in canonical JSON",
        ),
        sa.Column("content_hash", sa.Text(), nullable=False),
        sa.CheckConstraint("from_cut <= to_cut", name=op.f("ck_journals_cuts")),
        sa.PrimaryKeyConstraint("ledger", "period", "number", name=op.f("pk_journals")),
        comment="Journals handed over: the entries of a period in an interval of cuts, summarised.",
    )
    op.create_table(
        "ledger_days",
        sa.Column("ledger", sa.Text(), nullable=False),
        sa.Column("accounting_date", sa.Date(), nullable=False),
        sa.Column("recorded_date", sa.Date(), nullable=False, comment="of recorded_at, in UTC"),
        sa.Column("cut", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("policy", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("dimension_set", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("unit", sa.Text(), nullable=False),
        sa.Column("written_minor", sa.Numeric(), nullable=False, comment="sum of the entries written as they are"),
        sa.Column(
            "mirrored_minor", sa.Numeric(), nullable=False, comment="sum of the entries written as the mirror, positive"
        ),
        sa.Column("functional_written_minor", sa.Numeric(), nullable=False),
        sa.Column("functional_mirrored_minor", sa.Numeric(), nullable=False),
        sa.Column("credits", sa.Numeric(), nullable=False),
        sa.Column("entries", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint(
            "ledger",
            "accounting_date",
            "recorded_date",
            "cut",
            "currency",
            "policy",
            "kind",
            "dimension_set",
            "unit",
            name=op.f("pk_ledger_days"),
        ),
        comment="Totals by kind, dimensions and day: trial balances and exports. Rebuildable.",
    )
    op.create_table(
        "ledgers",
        sa.Column("ledger", sa.Text(), nullable=False),
        sa.Column("entity", sa.Text(), nullable=False),
        sa.Column("functional_currency", sa.Text(), nullable=False),
        sa.Column("timezone", sa.Text(), nullable=False),
        sa.Column("on_shortfall", sa.Text(), nullable=False),
        sa.Column("late_usage", sa.Text(), nullable=False),
        sa.Column("policy", sa.SmallInteger(), nullable=False),
        sa.Column("mapping", sa.Integer(), nullable=False),
        sa.Column("closed_through", sa.Date(), nullable=True),
        sa.Column("open_cut", sa.Integer(), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False, comment="of the last event; 0 before the first"),
        sa.Column("recorded_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("batch_hash", sa.LargeBinary(), nullable=False),
        sa.Column(
            "frontier", sa.LargeBinary(), nullable=False, comment="complete subtrees of the Merkle tree, largest first"
        ),
        sa.Column("answered_through", sa.DateTime(timezone=True), nullable=True),
        sa.Column("rebuilds", sa.Integer(), nullable=False, comment="how often its derived rows were replaced"),
        sa.CheckConstraint("on_shortfall IN ('reject', 'overage', 'backfill')", name=op.f("ck_ledgers_shortfall")),
        sa.CheckConstraint("position >= 0 AND open_cut >= 1", name=op.f("ck_ledgers_counts_up")),
        sa.PrimaryKeyConstraint("ledger", name=op.f("pk_ledgers")),
        comment="One row per ledger: its head and its settings. Locking it is the right to write.",
    )
    op.create_table(
        "merkle_nodes",
        sa.Column("ledger", sa.Text(), nullable=False),
        sa.Column("level", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("index", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("ledger", "level", "index", name=op.f("pk_merkle_nodes")),
        comment="Roots of complete subtrees of 256, 65,536 … events, so that a proof rehashes little. Rebuildable.",
    )
    op.create_table(
        "posting_policies",
        sa.Column("ledger", sa.Text(), nullable=False),
        sa.Column("policy", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("content_hash", sa.Text(), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("ledger", "policy", name=op.f("pk_posting_policies")),
        comment="The policies a ledger has adopted, numbered in order.",
    )
    op.create_table(
        "posting_rules",
        sa.Column("ledger", sa.Text(), nullable=False),
        sa.Column("policy", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("pair", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("debit", sa.Text(), nullable=False),
        sa.Column("credit", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("ledger", "policy", "kind", "pair", name=op.f("pk_posting_rules")),
        comment="The account pairs of every entry kind under every adopted policy.",
    )
    op.create_table(
        "wallets",
        sa.Column("ledger", sa.Text(), nullable=False),
        sa.Column("customer", sa.Text(), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False, comment="of the last event it includes"),
        sa.Column("state", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("ledger", "customer", name=op.f("pk_wallets")),
        comment="One row per customer: open blocks and overages. Rebuildable.",
    )
    _journal_lines()
    _append_only()
    _application_role()


def _journal_lines() -> None:
    """Creates the expansion of entries to lines. Amounts of zero have no lines. A negative amount swaps the sides."""
    op.execute("""
        CREATE VIEW journal_lines AS
        SELECT e.ledger, e.position, e.number, (r.pair - 1) * 2 + side.place AS line,
               CASE WHEN (side.place = 1) = (e.amount_minor > 0 OR e.amount_minor = 0 AND e.functional_minor > 0)
                    THEN r.debit ELSE r.credit END AS account,
               side.name AS side,
               abs(e.amount_minor) AS amount_minor, e.currency, abs(e.functional_minor) AS functional_minor,
               e.kind, e.policy, e.customer, e.block_id, e.accounting_date, e.effective_date, e.cut,
               e.dimension_set
        FROM entries e
        JOIN posting_rules r ON r.ledger = e.ledger AND r.policy = e.policy AND r.kind = e.kind
        CROSS JOIN (VALUES (1, 'debit'), (2, 'credit')) AS side (place, name)
        WHERE e.amount_minor <> 0 OR e.functional_minor <> 0
    """)


def _append_only() -> None:
    """Makes the log append-only for every role, including its owner. ENABLE ALWAYS covers session_replication_role."""
    op.execute("""
        CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            RAISE EXCEPTION '% on % refused: the log is append-only', TG_OP, TG_TABLE_NAME
                USING ERRCODE = 'restrict_violation';
        END $$
    """)
    for table in LOG:
        op.execute(
            f"CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON {table} "
            "FOR EACH ROW EXECUTE FUNCTION refuse_change()"
        )
        op.execute(
            f"CREATE TRIGGER never_truncated BEFORE TRUNCATE ON {table} "
            "FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
        )
        op.execute(f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER append_only")
        op.execute(f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER never_truncated")


def _application_role() -> None:
    """Creates the role of all programs except the migrations. A role belongs to the database cluster, so it may already
    exist.
    """
    op.execute(f"""
        DO $$ BEGIN
            CREATE ROLE {ROLE} NOLOGIN;
        EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
        END $$
    """)
    op.execute(f"""
        DO $$ BEGIN
            IF NOT pg_has_role(current_user, '{ROLE}', 'MEMBER') THEN
                EXECUTE format('GRANT {ROLE} TO %I', current_user);
            END IF;
        END $$
    """)
    op.execute(f"GRANT USAGE ON SCHEMA public TO {ROLE}")
    op.execute(f"GRANT SELECT, INSERT ON {', '.join(LOG)} TO {ROLE}")
    op.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON {', '.join(CHANGING)} TO {ROLE}")
    op.execute(f"GRANT SELECT ON journal_lines, alembic_version TO {ROLE}")


def downgrade() -> None:
    raise NotImplementedError("the log is never dropped by a migration; drop the database if that is meant")
