"""The writes of a batch in one call: a small batch is one round trip, without a separate one for the lock.

Revision: 0007, after 0006
"""

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

APPEND = """
CREATE FUNCTION append_batch(
    of_ledger text, at_once boolean, at_position bigint, at_hash bytea, at_rebuilds integer, moment timestamptz,
    new_position bigint, new_root bytea, new_hash bytea, new_frontier bytea, new_wallets_through bigint,
    event_position bigint[] = NULL, event_source text[] = NULL, event_event_id text[] = NULL, event_type text[] = NULL,
    event_customer text[] = NULL, event_occurred_at timestamptz[] = NULL, event_data text[] = NULL,
    event_attributes text[] = NULL, event_decision text[] = NULL, event_leaf bytea[] = NULL,
    entry_position bigint[] = NULL, entry_number smallint[] = NULL, entry_policy smallint[] = NULL,
    entry_kind text[] = NULL, entry_customer text[] = NULL, entry_block_id text[] = NULL, entry_unit text[] = NULL,
    entry_credits numeric[] = NULL, entry_amount_minor bigint[] = NULL, entry_currency text[] = NULL,
    entry_functional_minor bigint[] = NULL, entry_accounting_date date[] = NULL, entry_effective_date date[] = NULL,
    entry_cut integer[] = NULL, entry_dimension_set integer[] = NULL,
    node_level smallint[] = NULL, node_index bigint[] = NULL, node_hash bytea[] = NULL,
    set_dimension_set integer[] = NULL, set_product text[] = NULL, set_credit_kind text[] = NULL,
    set_pool text[] = NULL, set_processor text[] = NULL,
    wallet_customer text[] = NULL, wallet_position bigint[] = NULL, wallet_state text[] = NULL,
    block_block_id text[] = NULL, block_customer text[] = NULL, block_invoice_id text[] = NULL,
    block_opened_at_position bigint[] = NULL, block_expires_at timestamptz[] = NULL, block_is_open boolean[] = NULL,
    block_state text[] = NULL,
    document_kind text[] = NULL, document_document_id text[] = NULL, document_customer text[] = NULL,
    document_state text[] = NULL,
    day_accounting_date date[] = NULL, day_recorded_date date[] = NULL, day_cut integer[] = NULL,
    day_currency text[] = NULL, day_policy smallint[] = NULL, day_kind text[] = NULL,
    day_dimension_set integer[] = NULL, day_unit text[] = NULL, day_written_minor numeric[] = NULL,
    day_mirrored_minor numeric[] = NULL, day_functional_written_minor numeric[] = NULL,
    day_functional_mirrored_minor numeric[] = NULL, day_credits numeric[] = NULL, day_entries bigint[] = NULL,
    other_customer text[] = NULL
) RETURNS timestamptz LANGUAGE plpgsql AS $$
DECLARE
    held record;
BEGIN
    IF at_once THEN
        SELECT position, batch_hash, rebuilds, recorded_at, answered_through INTO held
        FROM ledgers WHERE ledger = of_ledger FOR UPDATE;
        IF NOT FOUND OR held.position <> at_position OR held.batch_hash <> at_hash OR held.rebuilds <> at_rebuilds
            OR moment <= held.recorded_at OR moment <= held.answered_through
            OR moment > clock_timestamp() OR moment < clock_timestamp() - interval '1 second'
        THEN
            RETURN NULL;
        END IF;
    END IF;
    IF event_position IS NOT NULL THEN
        INSERT INTO events (ledger, position, source, event_id, type, customer, occurred_at, data, attributes,
                            decision, leaf)
        SELECT of_ledger, * FROM unnest(event_position, event_source, event_event_id, event_type, event_customer,
                                        event_occurred_at, event_data, event_attributes, event_decision, event_leaf);
    END IF;
    IF entry_position IS NOT NULL THEN
        INSERT INTO entries (ledger, position, number, policy, kind, customer, block_id, unit, credits, amount_minor,
                             currency, functional_minor, accounting_date, effective_date, cut, dimension_set)
        SELECT of_ledger, * FROM unnest(entry_position, entry_number, entry_policy, entry_kind, entry_customer,
                                        entry_block_id, entry_unit, entry_credits, entry_amount_minor, entry_currency,
                                        entry_functional_minor, entry_accounting_date, entry_effective_date,
                                        entry_cut, entry_dimension_set);
    END IF;
    IF node_level IS NOT NULL THEN
        INSERT INTO merkle_nodes (ledger, level, index, hash)
        SELECT of_ledger, * FROM unnest(node_level, node_index, node_hash);
    END IF;
    IF set_dimension_set IS NOT NULL THEN
        INSERT INTO dimension_sets (ledger, dimension_set, product, credit_kind, pool, processor)
        SELECT of_ledger, * FROM unnest(set_dimension_set, set_product, set_credit_kind, set_pool, set_processor);
    END IF;
    IF wallet_customer IS NOT NULL THEN
        INSERT INTO wallets (ledger, customer, position, state)
        SELECT of_ledger, * FROM unnest(wallet_customer, wallet_position, wallet_state)
        ON CONFLICT (ledger, customer) DO UPDATE SET position = excluded.position, state = excluded.state;
    END IF;
    IF block_block_id IS NOT NULL THEN
        INSERT INTO blocks (ledger, block_id, customer, invoice_id, opened_at_position, expires_at, is_open, state)
        SELECT of_ledger, * FROM unnest(block_block_id, block_customer, block_invoice_id, block_opened_at_position,
                                        block_expires_at, block_is_open, block_state)
        ON CONFLICT (ledger, block_id) DO UPDATE
        SET expires_at = excluded.expires_at, is_open = excluded.is_open, state = excluded.state;
    END IF;
    IF document_kind IS NOT NULL THEN
        INSERT INTO documents (ledger, kind, document_id, customer, state)
        SELECT of_ledger, * FROM unnest(document_kind, document_document_id, document_customer, document_state)
        ON CONFLICT (ledger, kind, document_id) DO UPDATE SET state = excluded.state;
    END IF;
    IF day_accounting_date IS NOT NULL THEN
        INSERT INTO ledger_days (ledger, accounting_date, recorded_date, cut, currency, policy, kind, dimension_set,
                                 unit, written_minor, mirrored_minor, functional_written_minor,
                                 functional_mirrored_minor, credits, entries)
        SELECT of_ledger, * FROM unnest(day_accounting_date, day_recorded_date, day_cut, day_currency, day_policy,
                                        day_kind, day_dimension_set, day_unit, day_written_minor, day_mirrored_minor,
                                        day_functional_written_minor, day_functional_mirrored_minor, day_credits,
                                        day_entries)
        ON CONFLICT (ledger, accounting_date, recorded_date, cut, currency, policy, kind, dimension_set, unit)
        DO UPDATE SET
            written_minor = ledger_days.written_minor + excluded.written_minor,
            mirrored_minor = ledger_days.mirrored_minor + excluded.mirrored_minor,
            functional_written_minor = ledger_days.functional_written_minor + excluded.functional_written_minor,
            functional_mirrored_minor = ledger_days.functional_mirrored_minor + excluded.functional_mirrored_minor,
            credits = ledger_days.credits + excluded.credits,
            entries = ledger_days.entries + excluded.entries;
    END IF;
    IF other_customer IS NOT NULL THEN
        INSERT INTO other_currencies (ledger, customer) SELECT of_ledger, * FROM unnest(other_customer)
        ON CONFLICT (ledger, customer) DO NOTHING;
    END IF;
    INSERT INTO batches (ledger, last_position, first_position, recorded_at, root, previous_hash, hash)
    VALUES (of_ledger, new_position, at_position + 1, moment, new_root, at_hash, new_hash);
    UPDATE ledgers SET position = new_position, recorded_at = moment, batch_hash = new_hash, frontier = new_frontier,
                       wallets_through = new_wallets_through
    WHERE ledger = of_ledger;
    RETURN clock_timestamp();
END
$$
"""
COMMENT = """
COMMENT ON FUNCTION append_batch IS
'Writes a batch: what was copied is left out. at_once: only on the head that it was decided on, else nothing, and NULL.'
"""


def upgrade() -> None:
    op.execute(APPEND)
    op.execute(COMMENT)
    op.execute("REVOKE EXECUTE ON FUNCTION append_batch FROM PUBLIC")
    op.execute("GRANT EXECUTE ON FUNCTION append_batch TO subledger_app")


def downgrade() -> None:
    op.execute("DROP FUNCTION append_batch")
