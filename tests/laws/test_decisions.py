"""The table of decisions: a row for every class of data, with a decision that takes events of that class."""

from __future__ import annotations

import typing

import pytest

from subledger.deciding.decide import DECISIONS
from subledger.events.data import EVENT_TYPES
from subledger.events.envelope import Event
from subledger.events.fields import EventData
from subledger.events.own_data import OWN_FORMS, RESERVED_TYPES


def test_every_class_of_data_has_a_decision() -> None:
    assert set(DECISIONS) == {*EVENT_TYPES.values(), *RESERVED_TYPES.values(), *OWN_FORMS.values()}


@pytest.mark.parametrize("data", DECISIONS, ids=lambda data: data.__name__)
def test_a_decision_takes_the_events_of_its_row(data: type[EventData]) -> None:
    """mypy checks this for each row; here the running functions are checked."""
    event = typing.get_type_hints(DECISIONS[data].decide)["event"]
    [taken] = typing.get_args(event) or (EventData,)  # a plain event takes any data
    assert (typing.get_origin(event) or event) is Event
    assert issubclass(data, taken)
