"""The same events have the same decisions in every process, whatever the order of its sets."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

DECIDED = """
from tests.laws.walks import long_walk
for step in long_walk(9, 200).steps:
    print(step.event.event_id, step.decision, step.entries)
"""


def decided(hash_seed: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", DECIDED],
        cwd=Path(__file__).parents[2],
        env=os.environ | {"PYTHONHASHSEED": hash_seed},
        capture_output=True,
        text=True,
        check=True,
    ).stdout


def test_decisions_and_entries_do_not_depend_on_the_order_of_sets() -> None:
    first = decided("0")
    assert first.count("\n") > 100
    assert first == decided("1")
