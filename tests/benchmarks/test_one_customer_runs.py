"""The measurement of one customer runs, and every step of every size has a time. The speed is not tested."""

from __future__ import annotations

import pytest

from subledger.store.writing.rows import MANY
from tests.benchmarks.one_customer import run

pytestmark = pytest.mark.campaign


def test_every_step_is_measured_for_every_size(server_url: str) -> None:
    sizes = (MANY // 2, MANY + 30)
    found = run(sizes, lambda _: None, server_url)
    assert tuple(found) == sizes
    few, many = found.values()
    assert list(few) == list(many)
    assert all(taken > 0 for steps in found.values() for taken in steps.values())
