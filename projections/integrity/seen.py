"""Check that the log still has the tree heads that were signed or verified earlier.

If a person rewrites the whole log consistently, the log has no difference within itself. But its tree heads then differ
from the signed tree heads, and its batches differ from those that an earlier verification read.

Owns: the comparison. Does not own:

- the tree heads that are stored in the database (store.checkpoints);
- the tree heads that are stored outside the database (resumable, api.checkpoint_log);
- the hashes of batches (chain).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import msgspec
import sqlalchemy as sa

from projections.replay.findings import Breach
from projections.replay.resumable import Manifest
from subledger.store.checkpoints import UNLIKE, roots_at

_AT_ONCE: Final = 5_000
NEXT: Final = "unless a backup was restored (subledger verify --restored REASON), the log was rewritten"


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """A signed tree head: the root of the log's first ``size`` events. ``location`` is the file that contains it."""

    location: str
    size: int
    root: bytes


class Unreadable(msgspec.Struct, frozen=True, kw_only=True):
    """A line of a file of checkpoints that cannot be read."""

    location: str
    line: int
    reason: str


def seen_faults(
    connection: sa.Connection, ledger: str, seen: Sequence[Seen | Unreadable], verified: Iterable[Manifest]
) -> Iterator[Breach]:
    """Yields a breach for each of these:

    - a checkpoint in the database that the log contradicts;
    - a tree head of ``seen`` that the log does not have;
    - an unreadable line of ``seen``;
    - an earlier verification that differs from the log. The caller passes only such runs as ``verified``.
    """
    for row in connection.execute(sa.text(UNLIKE), {"ledger": ledger}):
        yield _breach("the database", row.size, bytes(row.root), None if row.found is None else bytes(row.found))
    roots_seen = [one for one in seen if isinstance(one, Seen)]
    for start in range(0, len(roots_seen), _AT_ONCE):
        some = roots_seen[start : start + _AT_ONCE]
        roots = roots_at(connection, ledger, [one.size for one in some])
        for one in some:
            if roots.get(one.size) != one.root:
                yield _breach(one.location, one.size, one.root, roots.get(one.size))
    for line in seen:
        if isinstance(line, Unreadable):
            yield Breach(
                check="seen",
                subject=f"{line.location}, line {line.line}",
                expected="a line of JSON",
                found=line.reason,
                message=f"line {line.line} of {line.location} has been changed, "
                "so the checkpoint in it is unknown; compare "
                "the file with a backup of it",
            )
    for manifest in verified:
        yield Breach(
            check="seen",
            subject=str(manifest.position),
            expected=manifest.batch_hash,
            message=f"an earlier verification found another batch ending at position {manifest.position}: {NEXT}",
        )


def _breach(location: str, size: int, expected: bytes, found: bytes | None) -> Breach:
    finding = "another root" if found is not None else "no end of a batch"
    return Breach(
        check="seen",
        subject=str(size),
        expected=expected,
        found=found,
        message=f"a tree head over {size} events was signed (kept in {location}), "
        f"and the log has {finding} there: {NEXT}",
    )
