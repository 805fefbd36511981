"""Shared fixtures of the laws of any walk."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from tests.laws.walk import Walk
from tests.laws.walks import long_walk

SEEDS, LENGTH = tuple(range(1, 11)), 400


class LongWalks(Sequence[Walk]):
    """Long walks. Each is made at its first use, so that a law that fails on one does not wait for the others."""

    def __init__(self) -> None:
        self._made: list[Walk] = []

    def __len__(self) -> int:
        return len(SEEDS)

    def __getitem__(self, index: int) -> Walk:  # no slices
        while len(self._made) <= index:
            self._made.append(long_walk(SEEDS[len(self._made)], LENGTH))
        return self._made[index]


@pytest.fixture(scope="session")
def long_walks() -> Sequence[Walk]:
    """Long walks that are always the same. Together they contain every event type and every entry kind."""
    return LongWalks()
