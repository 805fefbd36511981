"""Translation of pydantic's errors into InvalidInput: the field, the allowed values with an example, the value."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, get_args

from fastapi.routing import APIRoute
from pydantic import BaseModel

from subledger.errors import InvalidInput, InvalidValue, MissingField, NaiveTime, UnknownField, WrongType
from subledger.text.visible_text import visible
from subledger.text.wording import did_you_mean, json_type

_WORDS: Final[Mapping[str, str]] = {
    "date_from_datetime_parsing": "a date, such as 2026-01-31",
    "date_from_datetime_inexact": "a date, such as 2026-01-31",
    "date_parsing": "a date, such as 2026-01-31",
    "date_type": "a date, such as 2026-01-31",
    "int_parsing": "a whole number, such as 100",
    "int_parsing_size": "a whole number, such as 100",
    "int_from_float": "a whole number, such as 100",
    "int_type": "a whole number, such as 100",
    "bool_parsing": "true or false",
    "bool_type": "true or false",
    "string_type": 'a text in quotes, such as "2026-01"',
    "list_type": "a list",
    "dict_type": "an object, in braces",
    "model_type": "an object, in braces",
    "model_attributes_type": "an object, in braces",
    "greater_than_equal": "at least {ge}",
    "greater_than": "more than {gt}",
    "less_than_equal": "at most {le}",
    "less_than": "less than {lt}",
    "string_too_long": "at most {max_length} characters",
    "string_too_short": "at least {min_length} characters",
    "too_long": "at most {max_length} items",
    "too_short": "at least {min_length} items",
    "literal_error": "one of {expected}",
    "enum": "one of {expected}",
}
_TYPE: Final = frozenset({"string_type", "int_type", "bool_type", "list_type", "dict_type", "model_type",
                          "model_attributes_type"})  # fmt: skip
_OWN: Final = {error.code: error for error in InvalidInput.__subclasses__()}


def refusal(faults: Sequence[Mapping[str, Any]], route: object) -> InvalidInput:
    """Returns the first error that pydantic found in a call of a route; for a missing field, all missing fields."""
    fault = faults[0]
    kind, context, field = fault["type"], fault.get("ctx", {}), _field(fault)
    if kind == "missing":
        missing = [_field(each) for each in faults if each["type"] == "missing"]
        verb = "is" if len(missing) == 1 else "are"
        return MissingField(
            f"{', '.join(missing)} {verb} missing", field=field, expected=", ".join(missing), missing=missing
        )
    if kind == "extra_forbidden":
        return _unknown(fault, field, route)
    if kind in _OWN and "message" in context:
        return _OWN[kind](
            f"{field}: {context['message']}", field=field, expected=context["expected"], found=context["found"]
        )
    expected = _expected(fault, context)
    found = _found(fault["input"])
    error = NaiveTime if kind == "timezone_aware" else InvalidValue
    return (WrongType if fault["loc"][0] == "body" and kind in _TYPE else error)(
        f"{field} must be {expected}, not {found}", field=field, expected=expected, found=found
    )


def _field(fault: Mapping[str, Any]) -> str:
    return ".".join(str(part)[:60] for part in fault["loc"][1:]) or str(fault["loc"][0])


def _expected(fault: Mapping[str, Any], context: Mapping[str, Any]) -> str:
    kind = fault["type"]
    if kind == "string_pattern_mismatch" and context.get("pattern") == r"^[^\x00]+$":
        return "a text that is not empty, without NUL"
    words = _WORDS.get(kind)
    if words is None:
        text: str = fault["msg"]
        return text
    if "expected" in context:  # pydantic lists the allowed values as 'a', 'b' or 'c'
        context = {"expected": ", ".join(re.findall(r"'([^']*)'", context["expected"])) or context["expected"]}
    return words.format_map(context)


def _found(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, str):
        return f"'{visible(value[:60])}'"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return str(value)
    return json_type(value)


def _unknown(fault: Mapping[str, Any], field: str, route: object) -> UnknownField:
    allowed, name = _allowed(fault["loc"], route), str(fault["loc"][-1])[:60]
    return UnknownField(
        f"{visible(field)} is not a field of this call{did_you_mean(name, allowed)}",
        field=visible(field),
        expected=", ".join(allowed) or None,
        found=visible(name),
    )


def _allowed(loc: Sequence[int | str], route: object) -> list[str]:
    """Returns the known fields of the object that has the unknown one."""
    if not isinstance(route, APIRoute) or route.body_field is None:
        return []
    at: object = route.body_field.field_info.annotation
    for part in loc[1:-1]:
        model = _model(at)
        at = model.model_fields[part].annotation if model and part in model.model_fields else at
    model = _model(at)
    return list(model.model_fields) if model else []


def _model(annotation: object) -> type[BaseModel] | None:
    """Returns the model in an annotation: itself, or the model of an optional or a list."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for each in get_args(annotation) if (found := _model(each))), None)
