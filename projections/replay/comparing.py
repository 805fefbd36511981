"""Comparison of derived rows with a replay of the log.

Owns: the comparison. Does not own: the fold (replay), the list of derived tables (DERIVED).

If the ledger writes wallets behind, a row of ``wallets`` may be older than the head. It is then compared with the
wallet at the row's position. This position must not be before ``wallets_through`` of the ledger.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa

from projections.replay.customers import Replayer
from projections.replay.derived_tables import DERIVED_BY_NAME, OF_CUSTOMERS, Derived, Key
from projections.replay.findings import Findings
from projections.replay.log_stream import stream
from subledger.store.writing.rows import encode_state


def compare_customers(connection: sa.Connection, replay: Replayer, findings: Findings) -> None:
    """Finds the rows of a share's wallets, blocks and documents that are missing, different, or without an event."""
    replay.settle_all()
    for name in OF_CUSTOMERS:
        derived, unseen = DERIVED_BY_NAME[name], set(replay.keys(name))
        size = len(derived.key)
        condition = replay.share.rows("customer")
        if name == "documents":
            condition += " AND customer IS NOT NULL"
        for rows in stream(connection, derived.rows_of(condition), {"ledger": replay.state.ledger}):
            for row in rows:
                key, found = row[:size], row[size:]
                expected = None
                if key in unseen:
                    unseen.discard(key)
                    expected = replay.row(name, key)
                    if name == "wallets" and expected != found:
                        expected = _as_it_was(replay, key[0], found[0]) or expected
                _compare(name, key, expected, found, findings)
        for key in unseen:
            if name != "wallets" or not replay.may_lack(key[0]):
                _lacks(name, key, replay.row(name, key), findings)


def _as_it_was(replay: Replayer, customer: str, position: int) -> tuple[Any, ...] | None:
    """Returns the row of a wallet at an earlier position, if its row may be written behind."""
    wallet = replay.as_it_was(customer, position)
    return None if wallet is None else (position, encode_state(wallet))


def compare_table(
    connection: sa.Connection,
    ledger: str,
    derived: Derived,
    expected: dict[Key, Any],
    findings: Findings,
    condition: str = "true",
) -> None:
    """Compares a table with rows in memory. The check has the name of the table."""
    size, unseen = len(derived.key), set(expected)
    for rows in stream(connection, derived.rows_of(condition), {"ledger": ledger}):
        for row in rows:
            unseen.discard(row[:size])
            _compare(derived.name, row[:size], expected.get(row[:size]), row[size:], findings)
    for key in sorted(unseen, key=str):
        _lacks(derived.name, key, expected[key], findings)


def compare_rows(name: str, expected: dict[Key, Any], rows: Iterable[tuple[Key, Any]], findings: Findings) -> None:
    """Compares rows that were read with the expected rows."""
    unseen = set(expected)
    for key, found in rows:
        unseen.discard(key)
        _compare(name, key, expected.get(key), found, findings)
    for key in sorted(unseen, key=str):
        _lacks(name, key, expected[key], findings)


def _compare(name: str, key: Key, expected: Any, found: tuple[Any, ...], findings: Findings) -> None:
    if expected == found:
        return
    if expected is None:
        findings.differ(name, f"row {_shown(key)} has no event", subject=_subject(key), found=found)
    else:
        findings.differ(
            name,
            f"row {_shown(key)} differs from the events",
            subject=_subject(key),
            expected=_first_other(expected, found),
            found=_first_other(found, expected),
        )


def _lacks(name: str, key: Key, expected: Any, findings: Findings) -> None:
    findings.differ(name, f"row {_shown(key)} is missing", subject=_subject(key), expected=expected)


def _subject(key: Key) -> str:
    return ", ".join(str(part) for part in key)


def _shown(key: Key) -> str:
    """Returns a key for people: an empty part, such as no customer, is visible."""
    return ", ".join(str(part) or "''" for part in key)


def plain(value: Any) -> Any:
    """Returns a column's value, a memoryview as bytes."""
    return bytes(value) if isinstance(value, memoryview) else value


def _first_other(values: tuple[Any, ...], others: tuple[Any, ...]) -> str:
    """Returns the first value that differs. A long text is cut, so that it begins just before the difference."""
    value, other = next((a, b) for a, b in zip(values, others, strict=True) if a != b)
    if isinstance(value, str) and isinstance(other, str):
        start = next((i for i, (a, b) in enumerate(zip(value, other, strict=False)) if a != b), 0)
        return value[max(start - 40, 0) :]
    return str(value)
