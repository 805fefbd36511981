"""Ledgers can be spread over servers: the conditions of a Citus cluster on tables, triggers and statements, tested
without one.

A new table, trigger, function or statement that could not work there fails here, or when the statement is sent
(``watched``). The real cluster is tested by hand: see subledger/SIZING.md.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, LiteralString

import psycopg
import pytest
from pglast import parse_plpgsql

from projections.replay.workers import workers_for
from subledger.errors import CitusMissing, DistributedOtherwise
from subledger.store.database import Database
from subledger.store.distribution import ON_COORDINATOR, distribute, sharded_tables
from subledger.store.tables import NEVER_TRUNCATED, metadata
from subledger.store.writing.append_batch import GROUPS
from tests.store.one_ledger import faults
from tests.store.test_schema import triggers as known_triggers
from tests.store.watched import CROSSES_LEDGERS, ONE_SERVER, ROOT, SHARDED, WatchedCursor

# Tables that stay on the coordinator. This second list prevents that a table gets there by mistake.
STAYS = {"alembic_version", "api_keys"}


def _rows(url: str, query: LiteralString) -> list[tuple[object, ...]]:
    with psycopg.connect(url) as connection:
        return connection.execute(query).fetchall()


# --- tables -----------------------------------------------------------------------------------------------------


def test_every_table_is_distributed_but_those_named() -> None:
    assert set(ON_COORDINATOR) == STAYS
    assert set(sharded_tables()) | STAYS == {*metadata.tables, "alembic_version"}
    assert not set(sharded_tables()) & STAYS


def test_every_distributed_table_has_the_ledger_as_text_that_is_never_null_or_generated(owner_url: str) -> None:
    found = _rows(
        owner_url,
        "SELECT c.relname, format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attgenerated::text"
        " FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'ledger'"
        " WHERE c.relkind IN ('r', 'p') AND c.relnamespace = 'public'::regnamespace",
    )
    shapes = {name: rest for name, *rest in found if name not in STAYS}
    assert shapes == {name: ["text", True, ""] for name in sharded_tables()}


def test_every_unique_key_and_exclusion_of_a_distributed_table_has_the_ledger(owner_url: str) -> None:
    keys = _rows(
        owner_url,
        "SELECT c.relname, i.indexrelid::regclass::text, (SELECT a.attnum FROM pg_attribute a"
        "  WHERE a.attrelid = c.oid AND a.attname = 'ledger') = ANY(i.indkey::int2[])"
        " FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid"
        " WHERE (i.indisunique OR i.indisexclusion) AND c.relnamespace = 'public'::regnamespace",
    )
    assert {table for table, _, _ in keys} >= set(sharded_tables())
    assert [index for table, index, has in keys if table not in STAYS and not has] == []


def test_nothing_counts_by_a_sequence_and_nothing_references_another_table(owner_url: str) -> None:
    sequences = "SELECT relname FROM pg_class WHERE relkind = 'S' AND relnamespace = 'public'::regnamespace"
    assert _rows(owner_url, sequences) == []
    references = "SELECT conname FROM pg_constraint WHERE contype = 'f' AND connamespace = 'public'::regnamespace"
    assert _rows(owner_url, references) == []
    identities = (
        "SELECT a.attname FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid"
        " WHERE a.attidentity <> '' AND c.relnamespace = 'public'::regnamespace"
    )
    assert _rows(owner_url, identities) == []


def test_no_default_asks_a_clock_or_a_die(owner_url: str) -> None:
    defaults = (
        "SELECT d.adrelid::regclass, pg_get_expr(d.adbin, d.adrelid) FROM pg_attrdef d JOIN pg_class c"
        " ON c.oid = d.adrelid WHERE c.relnamespace = 'public'::regnamespace"
    )
    assert _rows(owner_url, defaults) == []


def test_the_job_queue_has_a_schema_of_its_own_and_stays_on_the_coordinator(owner_url: str) -> None:
    found = _rows(owner_url, "SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'jobs'::regnamespace")
    assert {str(name) for (name,) in found} == {
        "procrastinate_workers",
        "procrastinate_jobs",
        "procrastinate_periodic_defers",
        "procrastinate_events",
    }
    assert not {str(name) for (name,) in found} & set(sharded_tables())


def test_triggers_functions_and_views_are_those_that_are_known_to_work_there(owner_url: str) -> None:
    triggers = _rows(
        owner_url,
        "SELECT t.tgrelid::regclass::text, t.tgname FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid"
        " WHERE NOT t.tgisinternal AND c.relnamespace = 'public'::regnamespace",
    )
    assert set(triggers) == known_triggers()
    functions = dict(
        _rows(owner_url, "SELECT proname, prosrc FROM pg_proc WHERE pronamespace = 'public'::regnamespace")
    )
    # Two functions read the sessions of the server. On a cluster this is the coordinator, through which all writes go.
    of_sessions = {"ledger_lock_holders", "end_stuck_writers"}
    of_rows = {"append_batch", "refuse_change", "refuse_change_of_record", "row_seal", "seal_row"}
    assert set(functions) == of_rows | of_sessions
    for name in ("refuse_change", "refuse_change_of_record", "seal_row"):
        assert "SELECT" not in str(functions[name]).upper(), "a trigger sees the rows of its own server only"
    assert "FROM" not in str(functions["row_seal"]).upper()
    views = _rows(owner_url, "SELECT viewname, definition FROM pg_views WHERE schemaname = 'public'")
    assert sorted(name for name, _ in views) == ["journal_lines", "recorded_events"]
    assert [fault for _, text in views for fault in faults(str(text), SHARDED, crosses=True)] == []


def test_every_statement_of_the_function_that_appends_is_about_its_one_ledger(owner_url: str) -> None:
    """The function runs on the coordinator, and sends each statement to the server of the ledger."""
    [(text,)] = _rows(owner_url, "SELECT pg_get_functiondef(oid) FROM pg_proc WHERE proname = 'append_batch'")
    statements = list(_statements(parse_plpgsql(str(text))))
    assert len(statements) == len(GROUPS) + 3, "one a group, and three on the head"
    assert [fault for one in statements for fault in faults(one.replace("of_ledger", "$1"), SHARDED)] == []


def _statements(node: Any) -> Iterator[str]:
    if isinstance(node, list):
        for part in node:
            yield from _statements(part)
    elif isinstance(node, dict):
        for name, part in node.items():
            if name == "PLpgSQL_stmt_execsql":
                yield part["sqlstmt"]["PLpgSQL_expr"]["query"]
            yield from _statements(part)


def test_no_policy_of_row_security_reads_a_setting(owner_url: str) -> None:
    assert _rows(owner_url, "SELECT polname FROM pg_policy") == []


# --- statements -------------------------------------------------------------------------------------------------

RUNS_ANYWHERE = (
    "SELECT * FROM events WHERE ledger = %s AND position > %s",
    "SELECT * FROM events e JOIN batches b ON b.ledger = e.ledger WHERE e.ledger = %(ledger)s::text",
    "SELECT (SELECT count(*) FROM blocks b WHERE b.ledger = %(l)s AND b.customer = w.customer)"
    " FROM wallets w WHERE w.ledger = %(l)s",
    "SELECT 1 FROM events e CROSS JOIN LATERAL (SELECT FROM batches b WHERE b.ledger = %(l)s AND"
    " b.last_position >= e.position LIMIT 1) x WHERE e.ledger = %(l)s",
    "UPDATE deliveries SET due_at = greatest(due_at, now() + make_interval(secs => %s)) WHERE ledger = %s",
    "WITH b AS (SELECT ledger FROM blocks WHERE ledger = %s) SELECT FROM b JOIN events e ON e.ledger = b.ledger",
    "WITH s AS MATERIALIZED (SELECT * FROM beside) DELETE FROM blocks b WHERE ledger = %s AND NOT EXISTS ("
    "SELECT FROM s WHERE s.block_id = b.block_id)",
    "INSERT INTO wallets (ledger, customer) SELECT %s, customer FROM beside",
    "INSERT INTO wallets (ledger, customer) SELECT %s, * FROM unnest(%b::text[])",
    "INSERT INTO wallets (ledger, customer) VALUES (%s, %s) ON CONFLICT (ledger, customer) DO NOTHING",
    "UPDATE ledgers SET position = %s WHERE ledger = %s",
    "SELECT 1 FROM ledgers WHERE ledger = %s FOR UPDATE",
    "COPY events (ledger, position) FROM STDIN (FORMAT BINARY)",
    "CREATE TEMP TABLE beside (LIKE events) ON COMMIT DROP",
    "SELECT name FROM api_keys WHERE key_hash = %s",
)
CANNOT_RUN = {
    "SELECT * FROM events": "not restricted",
    "SELECT * FROM events WHERE ledger = %s OR position = 1": "not restricted",
    "SELECT * FROM events WHERE ledger <> %s": "not restricted",
    "SELECT * FROM events e JOIN batches b ON b.last_position = e.position WHERE e.ledger = %s": "batches is not",
    "SELECT 1 FROM events WHERE ledger = %s UNION ALL SELECT 1 FROM batches": "batches is not",
    "SELECT (SELECT count(*) FROM blocks) FROM wallets WHERE ledger = %s": "blocks is not",
    "SELECT (SELECT count(*) FROM blocks b WHERE b.ledger = w.ledger) FROM wallets w WHERE w.ledger = %s":
        "blocks is not",
    "SELECT 1 FROM wallets w WHERE w.ledger = %s AND EXISTS (SELECT FROM blocks b WHERE b.ledger = w.ledger)":
        "blocks is not",
    "SELECT 1 FROM events e CROSS JOIN LATERAL (SELECT FROM batches b WHERE b.ledger = e.ledger) x WHERE e.ledger = %s":
        "batches is not",
    "SELECT 1 FROM ledgers l, LATERAL (SELECT 0 UNION ALL SELECT 1 FROM batches b WHERE b.ledger = l.ledger) x"
    " WHERE l.ledger = %s": "batches is not",
    "SELECT decision FROM recorded_events WHERE ledger = %s": "is a view for people",
    "UPDATE deliveries SET due_at = CASE WHEN %s THEN now() END WHERE ledger = %s": "calls now() in CASE",
    "UPDATE deliveries SET due_at = coalesce(due_at, now()) WHERE ledger = %s": "calls now() in CASE or COALESCE",
    "UPDATE deliveries SET due_at = greatest(due_at, now()) + make_interval(secs => %s) WHERE ledger = %s":
        "adds an interval to a column",
    "UPDATE deliveries SET due_at = due_at + interval '1 day' WHERE ledger = %s": "adds an interval to a column",
    "WITH w AS (SELECT * FROM wallets) SELECT FROM w WHERE ledger = %s": "wallets is not",
    "SELECT FROM events e JOIN api_keys k ON k.ledger = e.ledger WHERE e.ledger = %s": "reads api_keys beside events",
    "WITH s AS (SELECT * FROM beside) DELETE FROM blocks b WHERE ledger = %s AND EXISTS (SELECT FROM s)":
        "reads beside beside blocks",
    "DELETE FROM wallets WHERE customer = %s": "not restricted",
    "UPDATE ledgers SET ledger = %s WHERE ledger = %s": "changes the ledger",
    "UPDATE ledgers SET position = 1 WHERE ledger = %s AND recorded_at < clock_timestamp()": "on clock_timestamp()",
    "INSERT INTO wallets (customer) VALUES (%s)": "no one ledger",
    "INSERT INTO wallets (ledger, customer) SELECT ledger, customer FROM blocks": "no one ledger",
    "INSERT INTO wallets (ledger, position) VALUES (%s, %s) ON CONFLICT (ledger) DO UPDATE SET position = random()":
        "calls random()",
    "COPY events (position) FROM STDIN": "without its ledger",
    "SELECT pg_advisory_xact_lock(1)": "of one server",
    "SELECT nextval('s')": "of one server",
    "TRUNCATE events": "TruncateStmt on events",
}  # fmt: skip


@pytest.mark.parametrize("statement", RUNS_ANYWHERE)
def test_a_statement_about_one_ledger_runs_where_the_ledger_is(statement: str) -> None:
    assert faults(statement, SHARDED) == []


@pytest.mark.parametrize("statement", CANNOT_RUN)
def test_a_statement_that_names_no_one_ledger_is_found(statement: str) -> None:
    assert CANNOT_RUN[statement] in "; ".join(faults(statement, SHARDED))


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT sum(position) FROM ledgers GROUP BY ROLLUP (entity)",
        "WITH RECURSIVE x AS (SELECT ledger FROM ledgers UNION SELECT ledger FROM x) SELECT FROM x",
        "SELECT 1 FROM ledgers FOR UPDATE",
        "SELECT FROM ledgers l JOIN batches b ON b.last_position = l.position",
    ],
)
def test_what_cannot_be_put_together_from_several_servers_is_found(statement: str) -> None:
    assert faults(statement, SHARDED, crosses=True)


def test_statements_of_our_code_are_judged_when_they_are_sent(owner_url: str) -> None:
    script = (
        "from tests.store import watched; watched.watch_statements()\n"
        "from subledger.store.reading import ledgers\n"
        "from subledger.store.database import Database\n"
        "import sqlalchemy as sa, sys\n"
        "with Database(sys.argv[1]).read() as connection:\n"
        "    ledgers.HEADS = 'SELECT * FROM ledgers l'\n"
        "    ledgers.policy_name.__globals__['text'] = lambda _: sa.text('SELECT name FROM posting_policies')\n"
        "    ledgers.policy_name(connection, 'x', 1)\n"
    )
    ran = subprocess.run([sys.executable, "-c", script, owner_url], capture_output=True, text=True, cwd=ROOT)
    assert (
        "posting_policies is not restricted to one ledger: subledger/store/reading/ledgers.py, policy_name"
        in ran.stderr
    )


def test_the_exceptions_still_exist() -> None:
    for file, function in (*CROSSES_LEDGERS, *ONE_SERVER):
        text = (ROOT / file).read_text("utf-8")
        assert function == "<module>" or f"def {function}(" in text, (file, function)


def test_nothing_is_decided_by_the_name_of_a_constraint() -> None:
    # On shards they have other names, and the coordinator does not pass them on.
    for folder in ("subledger", "projections", "api"):
        for path in Path(ROOT / folder).rglob("*.py"):
            assert "diag" not in path.read_text("utf-8").replace("diagram", ""), path


# --- the command ------------------------------------------------------------------------------------------------


def test_without_citus_nothing_is_distributed(owner_url: str) -> None:
    with pytest.raises(CitusMissing) as refused:
        distribute(owner_url)
    assert (refused.value.code, "CREATE EXTENSION citus" in str(refused.value.expected)) == ("citus_missing", True)


@pytest.fixture
def pretended(fresh_database_url: str) -> str:
    """An empty database with the parts of Citus that show what is distributed: a view, and the name of a row."""
    _pretend(fresh_database_url)
    return fresh_database_url


def _pretend(url: str) -> None:
    with psycopg.connect(url) as connection:
        connection.execute(
            "CREATE TABLE citus_tables (table_name text, citus_table_type text, distribution_column text,"
            " colocation_id int)"
        )
        connection.execute("GRANT SELECT ON citus_tables TO PUBLIC")  # as Citus does
        connection.execute("UPDATE pg_extension SET extname = 'citus' WHERE extname = 'plpgsql'")


def _already(url: str, *rows: tuple[str, str, str, int]) -> None:
    with psycopg.connect(url) as connection, connection.cursor() as cursor:
        cursor.executemany("INSERT INTO citus_tables VALUES (%s, %s, %s, %s)", rows)


def test_a_dry_run_says_what_is_missing_and_changes_nothing(pretended: str) -> None:
    everything = distribute(pretended, shards=8, dry_run=True)
    assert everything.already == ()
    created = [statement for statement in everything.statements if "create_distributed_table" in statement]
    assert created[0] == "SELECT create_distributed_table('ledgers', 'ledger', shard_count => 8)"
    assert created[1:] == [
        f"SELECT create_distributed_table('{name}', 'ledger', colocate_with => 'ledgers')"
        for name in sharded_tables()[1:]
    ]
    _already(pretended, ("ledgers", "distributed", "ledger", 7), ("events", "distributed", "ledger", 7))
    rest = distribute(pretended, dry_run=True)
    assert rest.already == ("ledgers", "events")
    assert not [statement for statement in rest.statements if "'events', 'ledger'" in statement]


def test_where_everything_is_distributed_nothing_is_left_to_do(pretended: str) -> None:
    _already(pretended, *((name, "distributed", "ledger", 7) for name in sharded_tables()))
    with psycopg.connect(pretended) as connection:
        logs_in = connection.execute("SELECT rolcanlogin FROM pg_roles WHERE rolname = 'subledger_app'").fetchone()
    done = distribute(pretended, dry_run=True)
    assert [s for s in done.statements if "create_distributed_table" in s] == []
    assert done.changed is (logs_in != (True,)), "but for the right to log in"


def test_where_ledgers_are_spread_one_process_reads_them_whatever_is_asked_for(scratch_url: str) -> None:
    # The coordinator exports a snapshot, which the server of the ledger does not know.
    _pretend(scratch_url)
    database = Database(scratch_url)
    with database.read() as reading:
        assert workers_for(reading, 10_000_000, 3) == 3, "Citus is there, and our tables are on this one server"
    _already(scratch_url, ("ledgers", "distributed", "ledger", 7))
    with database.read() as reading:
        assert [workers_for(reading, 10_000_000, asked) for asked in (None, 1, 3)] == [1, 1, 1]
    database.close()


@pytest.mark.parametrize(("citus", "plans"), [(False, "force_generic_plan"), (True, "auto")])
def test_a_plan_serves_every_ledger_but_where_it_must_say_which_server_has_it(
    scratch_url: str, citus: bool, plans: str
) -> None:
    if citus:
        _pretend(scratch_url)  # with nothing distributed yet; existing connections continue when it is
    database = Database(scratch_url)
    with database.write(recording=True) as connection:
        connection.rollback()
        assert connection.execute("SELECT current_setting('plan_cache_mode')").fetchall() == [(plans,)]
    assert database.ask("SELECT current_setting('plan_cache_mode')", {}) == [(plans,)]
    database.close()


def test_without_citus_as_many_processes_read_as_are_asked_for(database: Database) -> None:
    with database.read() as reading:
        assert [workers_for(reading, 10_000_000, asked) for asked in (1, 3)] == [1, 3]


@pytest.mark.parametrize(
    "row",
    [
        ("events", "distributed", "position", 7),
        ("events", "distributed", "ledger", 8),
        ("events", "reference", "<none>", 7),
        ("api_keys", "distributed", "ledger", 7),
    ],
)
def test_a_table_that_is_distributed_otherwise_is_refused_by_name(
    pretended: str, row: tuple[str, str, str, int]
) -> None:
    _already(pretended, ("ledgers", "distributed", "ledger", 7), row)
    with pytest.raises(DistributedOtherwise) as refused:
        distribute(pretended)
    assert refused.value.facts["table"] == row[0]


def test_the_log_keeps_its_guard_while_its_copy_is_emptied(pretended: str) -> None:
    statements = distribute(pretended, dry_run=True).statements
    assert statements[0].startswith("LOCK TABLE ledgers"), "no batch is in flight"
    for table in {*NEVER_TRUNCATED} - STAYS:
        at = statements.index(f"SELECT truncate_local_data_after_distributing_table('{table}')")
        assert statements[at - 2 : at + 3] == (
            "SET LOCAL citus.enable_ddl_propagation = off",
            f"ALTER TABLE {table} DISABLE TRIGGER never_truncated",
            f"SELECT truncate_local_data_after_distributing_table('{table}')",
            f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER never_truncated",
            "SET LOCAL citus.enable_ddl_propagation = on",
        )
    assert sum("DISABLE TRIGGER" in statement for statement in statements) == len({*NEVER_TRUNCATED} - STAYS)


def test_the_connections_of_our_code_are_watched(database: Database) -> None:
    with database.write() as connection:
        assert connection.cursor_factory is WatchedCursor
