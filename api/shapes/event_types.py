"""The catalogue of event types, from the models: for the OpenAPI document and for `subledger events --types`.

Owns: the description of a type. Does not own: the fields (events/data), their meaning (events/meanings).
"""

from __future__ import annotations

from api.shapes.answers import JsonObject
from subledger.events.data import EVENT_TYPES, LEDGER_WIDE, SUBJECT_OPTIONAL
from subledger.events.envelope import CloudEvent, described, fields_of
from subledger.events.fields import EventData
from subledger.events.meanings import FIELDS, OF_EVERY_EVENT, REFUSALS


def event_types() -> list[JsonObject]:
    """Returns every event type: its subject, its fields in order, its possible refusals."""
    return [
        {
            "type": type,
            "description": _summary(model),
            "subject": _subject(type),
            "fields": [_field(name, schema, model) for name, schema in fields_of(model).items()],
            "refusals": [*REFUSALS[type], *OF_EVERY_EVENT],
        }
        for type, model in EVENT_TYPES.items()
    ]


def _subject(type: str) -> str | None:
    """Returns the subject of a type in words; None if it has none."""
    if type in SUBJECT_OPTIONAL:
        return SUBJECT_OPTIONAL[type]
    return None if type in LEDGER_WIDE else "the customer"


def _summary(model: type[EventData]) -> str:
    return " ".join((model.__doc__ or "").replace("``", "`").split())


def _field(name: str, schema: JsonObject, model: type[EventData]) -> JsonObject:
    info = model.model_fields[name]
    schema_: JsonObject = {
        "name": name,
        "required": info.is_required(),
        "nullable": "anyOf" in model.model_json_schema()["properties"][name],
        "values": described(schema),
        "meaning": _meaning(name, required=info.is_required()),
    }
    if not info.is_required() and info.default is not None:
        schema_["default"] = info.default
    return schema_


def _meaning(name: str, *, required: bool) -> str:
    """Returns a field's meaning in this type. If the field is required, the words about an absent value are left
    out.
    """
    if required:
        return FIELDS[name].partition("; absent: ")[0].replace("; null or absent: ", "; null: ")
    return FIELDS[name] + ("; absent: all remaining ones" if name == "credits" else "")


def event_schemas() -> dict[str, JsonObject]:
    """Returns the OpenAPI components: one schema per event type, and ``Event``, which selects one by its `type`."""
    schemas = {f"event.{type}": _schema(type, model) for type, model in EVENT_TYPES.items()}
    mapping = {type: f"#/components/schemas/event.{type}" for type in EVENT_TYPES}
    event = {
        "title": "Event",
        "description": "A CloudEvent 1.0. Extension attributes are kept.",
        "oneOf": [{"$ref": reference} for reference in mapping.values()],
        "discriminator": {"propertyName": "type", "mapping": mapping},
    }
    return {"Event": event, **schemas}


def _schema(type: str, model: type[EventData]) -> JsonObject:
    envelope = CloudEvent.model_json_schema()
    data = model.model_json_schema()
    data["title"] = f"data of {type}"
    for name, field in fields_of(model).items():
        meaning = _meaning(name, required=model.model_fields[name].is_required())
        schema = data["properties"][name]
        schema["description"] = f"{meaning}: {described(field)}"
        for form in (schema, *schema.get("anyOf", ())):
            if "examples" in form:
                form["examples"] = field["examples"]
    properties = {**envelope["properties"], "type": {"const": type, "title": "Type", "type": "string"}, "data": data}
    required = list(envelope["required"])
    if type in LEDGER_WIDE:
        properties["subject"] = {"description": "absent, null, or -", "enum": ["-", None]}
    else:
        properties["subject"] = {**fields_of(CloudEvent)["subject"], "description": _subject(type)}
        properties["subject"].pop("anyOf", None)
        properties["subject"].pop("default", None)
        if type not in SUBJECT_OPTIONAL:
            required.append("subject")
    return {
        "title": type,
        "type": "object",
        "description": f"{_summary(model)}\n\nMay be refused as: {', '.join((*REFUSALS[type], *OF_EVERY_EVENT))}.",
        "properties": properties,
        "required": required,
    }
