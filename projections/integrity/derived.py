"""Is every derived table, row by row, what the log makes it?

Owns: the comparison of the tables with a replay. Does not own: the fold (replay), what tables follow from it (DERIVED).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa

from projections.integrity.findings import Findings
from projections.replay import DERIVED, STREAMED, Key, Replayer
from subledger.store.behind import Held, follow, usage_behind
from subledger.store.rows import decode_wallet, encode_state


def compare_tables(connection: sa.Connection, ledger: str, replay: Replayer, findings: Findings) -> None:
    """Rows that are missing, other, or that no event made; the check is named as the table is."""
    for derived, expected in zip(DERIVED, replay.changed_rows().values(), strict=True):
        rows = connection.execute(sa.text(derived.query), {"ledger": ledger}, execution_options=STREAMED)
        size = len(derived.key)
        found: Iterator[tuple[Key, Any]] = (
            (tuple(row[:size]), tuple(plain(value) for value in row[size:])) for row in rows
        )
        if derived.name == "wallets":
            found = _with_later_usage(connection, ledger, replay, found)
        compare_rows(derived.name, expected, found, findings)


def _with_later_usage(
    connection: sa.Connection, ledger: str, replay: Replayer, rows: Iterator[tuple[Key, Any]]
) -> Iterator[tuple[Key, Any]]:
    """The rows of wallets as they will be once the usage that was left behind is written to them."""
    usage = usage_behind(connection.connection.driver_connection, ledger)  # type: ignore[arg-type]
    behind = {row[3] for row in usage}
    held: dict[str, Held] = {}
    for key, (position, state) in rows:
        if key[0] in behind:
            held[key[0]] = Held(wallet=decode_wallet(state), position=position)
        else:
            yield key, (position, state)
    follow(held, usage, replay.state.functional_currency)
    for customer, of in held.items():
        yield (customer,), (of.position, encode_state(of.wallet))


def compare_rows(name: str, expected: dict[Key, Any], rows: Iterator[tuple[Key, Any]], findings: Findings) -> None:
    """Uses ``expected`` up: what is left of it is missing."""
    for key, found in rows:
        values = expected.pop(key, None)
        subject = ", ".join(str(part) for part in key)
        if values is None:
            findings.differ(name, f"{name} has a row that no event made: {subject}", subject=subject, found=found)
        elif values != found:
            findings.differ(
                name, f"{name} {subject} is not what the events make it", subject=subject,
                expected=_first_other(values, found), found=_first_other(found, values),
            )  # fmt: skip
    for key, values in expected.items():
        subject = ", ".join(str(part) for part in key)
        findings.differ(name, f"{name} lacks the row {subject}", subject=subject, expected=values)


def plain(value: Any) -> Any:
    """A column's value, bytes as bytes."""
    return bytes(value) if isinstance(value, memoryview) else value


def _first_other(values: tuple[Any, ...], others: tuple[Any, ...]) -> str:
    """The first of the values that differs; of a long text the part from just before it differs on."""
    value, other = next((a, b) for a, b in zip(values, others, strict=True) if a != b)
    if isinstance(value, str) and isinstance(other, str):
        start = next((i for i, (a, b) in enumerate(zip(value, other, strict=False)) if a != b), 0)
        return value[max(start - 40, 0) :]
    return str(value)
