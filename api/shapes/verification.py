"""Verifications and rebuilds as JSON."""

from __future__ import annotations

from api.shapes.answers import JsonObject
from projections.integrity import VerificationReport
from projections.replay.rebuild import RebuildCounts


def report(found: VerificationReport) -> JsonObject:
    return {
        "ledger": found.ledger,
        "clean": not found.differences,
        "events": found.events,
        "entries": found.entries,
        "since": found.since,
        "differences": [
            {
                "check": difference.check,
                "position": difference.position,
                "subject": difference.subject,
                "expected": difference.expected,
                "found": difference.found,
                "message": difference.message,
            }
            for difference in found.differences
        ],
    }


def counts(ledger: str, made: RebuildCounts) -> JsonObject:
    return {
        "ledger": ledger,
        "rows": dict(made.rows),
        "removed": dict(made.removed),
        "written": dict(made.written),
        "resumed_from": made.resumed_from,
    }
