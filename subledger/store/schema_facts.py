"""Facts of the schema, one for each line: columns, constraints, indexes, triggers, functions, rights.

``schema.txt`` beside this module has the facts of a database after all migrations; a test compares them. Owns: the
facts of the tables, views and functions, and of the application's role. Does not own: other schemas (the job queue's),
and the comparison (projections.integrity.schema).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import psycopg

from subledger.store.tables import APP_ROLE, metadata

FILE: Final = Path(__file__).with_name("schema.txt")
OURS: Final = (*sorted(metadata.tables), "alembic_version")
VIEWS: Final = ("journal_lines", "recorded_events")

FACTS: Final = """
-- Every fact of our relations, in no order, without those of extensions.
WITH ours AS (
    SELECT c.oid, c.relname AS name, c.relkind, c.relpersistence, c.relrowsecurity, c.relacl
    FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace AND c.relname = ANY(%(ours)s)
)
SELECT format('relation %%s kind=%%s persistence=%%s row_security=%%s', name, relkind, relpersistence, relrowsecurity)
FROM ours
UNION ALL
SELECT format('column %%s.%%s %%s%%s%%s', o.name, a.attname, format_type(a.atttypid, a.atttypmod),
              CASE WHEN a.attnotnull THEN ' not null' ELSE '' END,
              coalesce(' default ' || pg_get_expr(d.adbin, d.adrelid), ''))
FROM ours o JOIN pg_attribute a ON a.attrelid = o.oid AND a.attnum > 0 AND NOT a.attisdropped
LEFT JOIN pg_attrdef d ON d.adrelid = o.oid AND d.adnum = a.attnum
UNION ALL
SELECT format('constraint %%s %%s %%s%%s', o.name, c.conname, pg_get_constraintdef(c.oid),
              CASE WHEN c.convalidated THEN '' ELSE ' not valid' END)
FROM ours o JOIN pg_constraint c ON c.conrelid = o.oid AND c.contype <> 'n'
UNION ALL
SELECT format('index %%s%%s%%s', pg_get_indexdef(i.indexrelid),
              CASE WHEN i.indisvalid AND i.indisready THEN '' ELSE ' invalid' END,
              -- Functions, operators and operator classes that belong neither to the server nor to an extension.
              (SELECT string_agg(' runs ' || pg_describe_object(d.refclassid, d.refobjid, 0), '')
               FROM pg_depend d
               WHERE d.classid = 'pg_class'::regclass AND d.objid = i.indexrelid
                 AND d.refclassid IN ('pg_proc'::regclass, 'pg_operator'::regclass, 'pg_opclass'::regclass)
                 AND NOT EXISTS (SELECT FROM pg_depend e WHERE e.classid = d.refclassid AND e.objid = d.refobjid
                                 AND e.deptype = 'e')))
FROM ours o JOIN pg_index i ON i.indrelid = o.oid
UNION ALL
SELECT format('trigger %%s %%s enabled=%%s', o.name, pg_get_triggerdef(t.oid), t.tgenabled)
FROM ours o JOIN pg_trigger t ON t.tgrelid = o.oid AND NOT t.tgisinternal
UNION ALL
SELECT format('rule %%s %%s', o.name, pg_get_ruledef(r.oid))
FROM ours o JOIN pg_rewrite r ON r.ev_class = o.oid AND r.rulename <> '_RETURN'
UNION ALL
SELECT format('child %%s of %%s', i.inhrelid::regclass, o.name) FROM ours o JOIN pg_inherits i ON i.inhparent = o.oid
UNION ALL
SELECT format('policy %%s %%s', o.name, p.polname) FROM ours o JOIN pg_policy p ON p.polrelid = o.oid
UNION ALL
SELECT format('function %%s(%%s) language=%%s definer=%%s volatile=%%s config=%%s sha256=%%s', p.proname,
              pg_get_function_identity_arguments(p.oid), l.lanname, p.prosecdef, p.provolatile, p.proconfig,
              encode(sha256(convert_to(p.prosrc, 'UTF8')), 'hex'))
FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang
WHERE p.pronamespace = 'public'::regnamespace AND p.proname = ANY(%(functions)s)
UNION ALL
SELECT format('right %%s %%s', o.name, privilege)
FROM ours o
CROSS JOIN unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER']) AS privilege
WHERE has_table_privilege(%(role)s::name, o.oid, privilege)
UNION ALL
SELECT format('right %%s.%%s %%s', o.name, a.attname, x.privilege_type)
FROM ours o JOIN pg_attribute a ON a.attrelid = o.oid AND a.attacl IS NOT NULL AND NOT a.attisdropped
CROSS JOIN LATERAL aclexplode(a.attacl) x
WHERE x.grantee IN (0, (SELECT oid FROM pg_roles WHERE rolname = %(role)s))
UNION ALL
SELECT format('right %%s() EXECUTE', p.proname) FROM pg_proc p
WHERE p.pronamespace = 'public'::regnamespace AND p.proname = ANY(%(functions)s)
  AND has_function_privilege(%(role)s::name, p.oid, 'EXECUTE')
UNION ALL
SELECT format('role superuser=%%s createrole=%%s createdb=%%s replication=%%s bypassrls=%%s',
              rolsuper, rolcreaterole, rolcreatedb, rolreplication, rolbypassrls)
FROM pg_roles WHERE rolname = %(role)s
UNION ALL
SELECT format('role member of %%s', m.roleid::regrole) FROM pg_auth_members m
WHERE m.member = (SELECT oid FROM pg_roles WHERE rolname = %(role)s)
UNION ALL
SELECT format('role owns %%s', c.oid::regclass) FROM pg_class c
WHERE c.relowner = (SELECT oid FROM pg_roles WHERE rolname = %(role)s) AND c.relpersistence <> 't'
"""
VIEW_FACTS: Final = """
-- The definitions of views, whose spelling depends on the version of PostgreSQL.
SELECT format('view %%s on=%%s sha256=%%s', c.relname, %(major)s::int, encode(sha256(convert_to(
              regexp_replace(pg_get_viewdef(c.oid), '[[:space:]]+', ' ', 'g'), 'UTF8')), 'hex'))
FROM pg_class c
WHERE c.relnamespace = 'public'::regnamespace AND c.relname = ANY(%(views)s)
"""


def facts_of(connection: psycopg.Connection[Any], functions: Sequence[str]) -> set[str]:
    """Returns the facts of the connected database, including those of the named functions."""
    found = connection.execute(
        FACTS, {"ours": [*OURS, *VIEWS], "functions": list(functions), "role": APP_ROLE}
    ).fetchall()
    found += connection.execute(VIEW_FACTS, {"views": list(VIEWS), "major": _major(connection)}).fetchall()
    return {" ".join(str(fact).split()) for (fact,) in found}


def may_be_added(fact: str) -> bool:
    """True for an index that an operator may add: it makes reading faster, and neither changes nor refuses anything.

    An index that is unique, is invalid or runs functions of its own may not be added.
    """
    return fact.startswith("index CREATE INDEX ") and not fact.endswith(" invalid") and " runs " not in fact


def functions_written_down() -> list[str]:
    """Returns the names of the functions in ``schema.txt``."""
    facts = FILE.read_text("utf-8").splitlines() if FILE.exists() else []
    return sorted({fact.split()[1].partition("(")[0] for fact in facts if fact.startswith("function ")})


def expected_facts(connection: psycopg.Connection[Any]) -> set[str]:
    """Returns the facts of a database after all migrations, in the spelling of this server's version."""
    facts = set(FILE.read_text("utf-8").splitlines())
    of_views = {fact for fact in facts if fact.startswith("view ")}
    ours = {fact for fact in of_views if f" on={_major(connection)} " in fact}
    if not ours:  # schema.txt is for other versions, so the views are not compared
        ours = {fact for fact in facts_of(connection, ()) if fact.startswith("view ")}
    return facts - of_views | ours


def written_down(found: set[str]) -> str:
    """Returns the text of ``schema.txt`` for these facts. Facts of views on other versions are copied from the current
    file.
    """
    views = {fact.split("on=")[1].split()[0] for fact in found if fact.startswith("view ")}
    lines = FILE.read_text("utf-8").splitlines() if FILE.exists() else []
    others = {fact for fact in lines if fact.startswith("view ") and fact.split("on=")[1].split()[0] not in views}
    return "".join(f"{fact}\n" for fact in sorted(found | others))


def _major(connection: psycopg.Connection[Any]) -> int:
    return connection.info.server_version // 10_000
