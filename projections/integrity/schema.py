"""Check of the database's guards: triggers, constraints, functions and rights must equal those of the migrations.

Owns: the comparison. Does not own: the facts (store.schema_facts). Other objects in the database are ignored. But our
tables may have no trigger, rule or constraint that the migrations do not create, because it could change written rows.
An additional index is allowed if it is not unique: operators add such indexes to read faster.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg

from projections.replay.findings import Breach
from subledger.store.schema_facts import expected_facts, facts_of, functions_written_down, may_be_added


def schema_faults(connection: psycopg.Connection[Any]) -> Iterator[Breach]:
    """Yields the facts that are missing, and the facts that no migration creates."""
    found, expected = facts_of(connection, functions_written_down()), expected_facts(connection)
    for fact in sorted(expected - found):
        message = f"the database lacks a part of the schema: {fact}"
        yield Breach(check="schema", message=message, subject=_subject(fact), expected=fact)
    for fact in sorted(fact for fact in found - expected if not may_be_added(fact)):
        message = f"the database has a part that no migration creates: {fact}"
        yield Breach(check="schema", message=message, subject=_subject(fact), found=fact)


def _subject(fact: str) -> str:
    kind, name = fact.split()[:2]
    return f"{kind} {name}"
