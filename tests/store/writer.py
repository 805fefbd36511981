"""A writing process for the fault tests: it records batches of usage, and prints the acknowledged ones.

Usage: python -m tests.store.writer URL LEDGER NAME BATCHES SIZE
"""

from __future__ import annotations

import sys

from api.service import Subledger
from subledger.errors import Unavailable
from subledger.store.database import Database
from tests.building import cloud_event


def main() -> None:
    url, ledger, name, batches, size = sys.argv[1:6]
    service = Subledger(Database(url))
    for batch in range(int(batches)):
        events = [
            cloud_event(f"{name}-{batch}-{n}", "credits.consumed", f"c-{n % 7}", "2026-01-20T10:00:00Z", credits="0.5")
            for n in range(int(size))
        ]
        try:
            outcomes = service.record(ledger, events)
        except Unavailable:
            sys.stdout.write("unavailable\n")
            sys.stdout.flush()
            return
        assert all(outcome.status == "recorded" for outcome in outcomes), outcomes
        sys.stdout.write(f"{batch}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
