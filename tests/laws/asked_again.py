"""Repeats earlier reads in another process: it reads the answers from standard input, and writes the differences.

The database is that of SUBLEDGER_DATABASE_URL. ``python -m tests.laws.asked_again``
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from api.service import Subledger
from subledger.store.database import Database
from tests.laws.reads import Answer, Differs, Reads


def asked_in_another_process(url: str, home: Path, answers: Sequence[Answer]) -> list[Differs]:
    """Returns the reads that another process, which has only the database, answers differently."""
    done = subprocess.run(
        [sys.executable, "-m", __name__],
        input=msgspec.json.encode(answers),
        stdout=subprocess.PIPE,
        check=True,
        cwd=Path(__file__).parents[2],
        env={**os.environ, "SUBLEDGER_DATABASE_URL": url, "SUBLEDGER_HOME": str(home)},
    )
    return msgspec.json.decode(done.stdout, type=list[Differs])


if __name__ == "__main__":
    database = Database(os.environ["SUBLEDGER_DATABASE_URL"])
    given = msgspec.json.decode(sys.stdin.buffer.read(), type=list[Answer])
    found = list(Reads(Subledger(database)).differences(given))
    sys.stdout.buffer.write(msgspec.json.encode(found))
    database.close()
