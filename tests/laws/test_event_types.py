"""The catalogue of event types agrees with the models and the refusals of the books: for readers, and in OpenAPI."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import jsonschema_rs
import orjson
import pytest
from hypothesis import given
from typer.testing import CliRunner

from api.cli.main import app
from api.shapes.event_types import event_schemas, event_types
from subledger import errors
from subledger.errors import InvalidInput, SubledgerError
from subledger.events.data import EVENT_TYPES, LEDGER_WIDE
from subledger.events.meanings import FIELDS, OF_EVERY_EVENT, REFUSALS
from tests.building import cloud_event
from tests.laws.test_errors import REFUSALS as REFUSED_IN_A_LEDGER
from tests.laws.test_errors import all_errors
from tests.laws.test_events import documents
from tests.laws.test_refusals import REFUSED
from tests.laws.walk import Walk
from tests.laws.walks import for_every_walk

CODES: dict[str, type[SubledgerError]] = {error.code: error for error in all_errors()}


def test_every_field_of_every_type_has_a_meaning_and_no_other_has() -> None:
    fields = {name for model in EVENT_TYPES.values() for name in model.model_fields}
    assert set(FIELDS) == fields


def test_the_refusals_of_every_type_are_codes_of_ours() -> None:
    assert list(REFUSALS) == list(EVENT_TYPES)
    for codes in (*REFUSALS.values(), OF_EVERY_EVENT):
        assert len(set(codes)) == len(codes)
        for code in codes:
            assert issubclass(CODES[code], errors.Refused | errors.Conflict | InvalidInput), code


def is_listed(type: str, code: str) -> bool:
    return code in (*REFUSALS[type], *OF_EVERY_EVENT)


@for_every_walk
def test_whatever_the_books_refuse_is_listed_for_its_type(walk: Walk) -> None:
    assert [refusal for refusal in walk.refusals if refusal[0] in EVENT_TYPES and not is_listed(*refusal)] == []


@pytest.mark.parametrize(
    ("type", "code"),
    [(type, facts[0]) for type, _, facts, _ in REFUSED]
    + [(document["type"], error.code) for error, document, _ in REFUSED_IN_A_LEDGER],
)
def test_every_refusal_that_a_test_shows_is_listed(type: str, code: str) -> None:
    assert is_listed(type, code)


def test_the_catalogue_has_every_type_and_field_in_order() -> None:
    found = event_types()
    assert [item["type"] for item in found] == list(EVENT_TYPES)
    for item in found:
        fields = EVENT_TYPES[item["type"]].model_fields
        assert [field["name"] for field in item["fields"]] == list(fields)
        assert [field["required"] for field in item["fields"]] == [info.is_required() for info in fields.values()]
        assert (item["subject"] is None) == (item["type"] in LEDGER_WIDE)
        assert all(field["values"] and field["meaning"] for field in item["fields"])
    orjson.dumps(found)


# --- the command line -----------------------------------------------------------------------------------------


def test_the_types_are_printed_without_a_ledger_for_people_and_for_programs() -> None:
    text = CliRunner().invoke(app, ["events", "--types"]).stdout
    for type, model in EVENT_TYPES.items():
        assert f"{type}  " in text
        assert all(f"    {name}" in text for name in model.model_fields)
    assert json.loads(CliRunner().invoke(app, ["events", "--types", "--json"]).stdout) == {"items": event_types()}
    one = json.loads(CliRunner().invoke(app, ["events", "--types", "--type", "payout.settled", "--json"]).stdout)
    assert [item["type"] for item in one["items"]] == ["payout.settled"]
    for arguments, said in (
        (["--types", "--type", "credit.consumed"], "is not an event type; did you mean credits.consumed?"),
        ([], "--ledger is missing"),
    ):
        wrong = CliRunner().invoke(app, ["events", *arguments])
        assert wrong.exit_code != 0
        assert said in f"{wrong.output}{wrong.exception}"


# --- OpenAPI --------------------------------------------------------------------------------------------------


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for name, item in value.items():
            if name == "$ref":
                yield item
            else:
                yield from references(item)
    elif isinstance(value, list):
        for item in value:
            yield from references(item)


def validator(type: str | None = None) -> Any:
    schemas = event_schemas()
    place = "Event" if type is None else f"event.{type}"
    return jsonschema_rs.validator_for({"$ref": f"#/components/schemas/{place}", "components": {"schemas": schemas}})


EVENT = validator()


def test_there_is_one_schema_a_type_by_its_type() -> None:
    schemas = event_schemas()
    event = schemas.pop("Event")
    assert event["discriminator"]["propertyName"] == "type"
    places = {type: f"#/components/schemas/event.{type}" for type in EVENT_TYPES}
    assert event["discriminator"]["mapping"] == places
    assert [item["$ref"] for item in event["oneOf"]] == list(places.values())
    assert list(schemas) == [f"event.{type}" for type in EVENT_TYPES]
    assert list(references(schemas)) == [], "each is whole"


@given(documents())
def test_every_event_that_is_read_is_right_by_the_schema(document: dict[str, Any]) -> None:
    EVENT.validate(document)


@pytest.mark.parametrize("type", sorted(EVENT_TYPES))
def test_the_schema_of_a_type_refuses_what_the_model_does(type: str) -> None:
    of_type = validator(type)
    wrong = [{}, {"more": "x"}, *({name: {"a": 1}} for name in EVENT_TYPES[type].model_fields)]
    for data in wrong:
        document = cloud_event("e", type, "-" if type in LEDGER_WIDE else "ann", "2026-01-15T12:00:00Z", **data)
        assert not of_type.is_valid(document), data
