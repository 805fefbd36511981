"""Check of the database's guards: triggers, constraints, functions and rights must equal those of the migrations.

- Our tables must not have a trigger, rule or constraint that no migration creates. It could change written rows.
- Our tables may have additional indexes, because operators add them for faster reading. But an additional index must
  not be unique, must not be invalid, and must not run functions of its own.
- Objects that do not belong to our tables are ignored.

Owns: the comparison. Does not own: the facts about the schema (store.schema_facts).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg

from projections.replay.findings import Breach
from subledger.store.schema_facts import expected_facts, facts_of, functions_written_down, may_be_added


def schema_faults(connection: psycopg.Connection[Any]) -> Iterator[Breach]:
    """Yields a breach for each missing part of the schema, and for each part that no migration creates."""
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
