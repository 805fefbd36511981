"""The input cannot be read. Nothing else was checked.

Owns: errors of the text, of fields, and of the HTTP request. Does not own: readable input that the books do not allow
(refused).
"""

from __future__ import annotations

from subledger.errors.root import SubledgerError


class InvalidInput(SubledgerError):
    """The input cannot be read, or the call does not accept it."""

    code = "invalid_input"


class InvalidJson(InvalidInput):
    """The text is not JSON."""

    code = "invalid_json"


class InvalidEvent(InvalidInput):
    """The JSON is not a CloudEvent 1.0."""

    code = "invalid_event"


class MissingField(InvalidInput):
    """A required field is missing."""

    code = "missing_field"


class UnknownField(InvalidInput):
    """A field is not part of this event type, or a dimension not one of the ledger's."""

    code = "unknown_field"


class WrongType(InvalidInput):
    """A field has the wrong JSON type; amounts and credits are strings."""

    code = "wrong_type"


class InvalidValue(InvalidInput):
    """A field's value is outside what is allowed."""

    code = "invalid_value"


class NaiveTime(InvalidInput):
    """A time has no UTC offset."""

    code = "naive_time"


class TooManyDecimals(InvalidInput):
    """An amount has more decimals than its currency, or a quantity more than nine."""

    code = "too_many_decimals"


class UnknownCurrency(InvalidInput):
    """The currency is not an ISO 4217 code."""

    code = "unknown_currency"


class UnknownEventType(InvalidInput):
    """There is no event type of this name."""

    code = "unknown_event_type"


class ReservedEventType(InvalidInput):
    """Events of this type are written only by their own command."""

    code = "reserved_event_type"


class NotSupportedYet(InvalidInput):
    """This feature is not implemented."""

    code = "not_supported_yet"


class InvalidMapping(InvalidInput):
    """The account mapping cannot be read or contradicts itself."""

    code = "invalid_mapping"


class InvalidPolicy(InvalidInput):
    """The posting policy cannot be read or is incomplete."""

    code = "invalid_policy"


class UnknownParameter(InvalidInput):
    """The call has no query parameter of this name."""

    code = "unknown_parameter"


class RepeatedParameter(InvalidInput):
    """A query parameter that takes one value occurs more than once."""

    code = "repeated_parameter"


class TooLarge(InvalidInput):
    """The call exceeds a limit: on bytes, values, levels or events."""

    code = "too_large"


class RequestTimedOut(InvalidInput):
    """The request did not arrive in time; nothing was done."""

    code = "request_timed_out"
    retryable = True


class InvalidCursor(InvalidInput):
    """The cursor was not made by this list."""

    code = "invalid_cursor"


class UnsafeHome(InvalidInput):
    """Other users of this machine can reach the home directory."""

    code = "unsafe_home"


class NotACheckout(InvalidInput):
    """The benchmarks are not part of the installed package."""

    code = "not_a_checkout"


class InvalidRequest(InvalidInput):
    """The bytes are not an HTTP request, or not a whole one."""

    code = "invalid_request"


class UrlTooLong(InvalidInput):
    """The address of the call is too long."""

    code = "url_too_long"


class HeadersTooLarge(InvalidInput):
    """The request line and the headers are too long, or there are too many headers."""

    code = "headers_too_large"


class UnsupportedMediaType(InvalidInput):
    """The call does not accept the media type, character set or encoding of the body."""

    code = "unsupported_media_type"


class MethodNotAllowed(InvalidInput):
    """This address does not support this method."""

    code = "method_not_allowed"
