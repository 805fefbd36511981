"""Garbage collection is off during a batch, and on again after it, also after an error."""

from __future__ import annotations

import gc
from threading import Barrier, Thread

import pytest

from subledger.store.writing.collecting import collection_held_off


def test_collection_is_off_inside_and_on_again_after_the_last_to_leave() -> None:
    both_inside, one_left = Barrier(2), Barrier(2)

    def other() -> None:
        with collection_held_off():
            both_inside.wait()
            one_left.wait()

    thread = Thread(target=other)
    thread.start()
    with collection_held_off():
        both_inside.wait()
        assert not gc.isenabled()
    assert not gc.isenabled(), "the other is still inside"
    one_left.wait()
    thread.join()
    assert gc.isenabled()


def test_collection_is_on_again_after_a_failure_and_stays_off_where_it_was_off() -> None:
    with pytest.raises(ValueError, match="x"), collection_held_off():
        raise ValueError("x")
    assert gc.isenabled()
    gc.disable()
    try:
        with collection_held_off():
            assert not gc.isenabled()
        assert not gc.isenabled()
    finally:
        gc.enable()
