"""The measurement with hostile clients runs, every hostile way is tried, and other clients are answered."""

from __future__ import annotations

import pytest

from tests.benchmarks.hostile import WAYS, measure, show

pytestmark = pytest.mark.campaign


def test_every_way_of_being_hostile_is_tried_and_everybody_else_is_answered() -> None:
    found = measure(len(WAYS), 1.0)
    show(found)
    assert all(way in found["attacks"] for way in WAYS)
    assert found["busy"].failed == found["quiet"].failed == 0
