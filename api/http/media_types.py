"""Types, character sets and encodings of bodies: the only place where a body is refused with 415.

Owns: accepting or refusing a body by its headers. Does not own: its content (``bodies``, the routes).
"""

from __future__ import annotations

from typing import Final

from starlette.datastructures import Headers

from subledger.errors import UnsupportedMediaType

OF_FORMS: Final = ("application/x-www-form-urlencoded", "multipart/form-data", "text/plain")
JSON: Final = ("application/json", "application/*+json")
ANY: Final = ("*",)
_UTF_8: Final = ("utf-8", "utf8")


def check_no_form(headers: Headers) -> None:
    """Raises UnsupportedMediaType for types that a browser sends without a preflight: a form, plain text, no type."""
    media_type, _ = _content_type(headers)
    if media_type in OF_FORMS or (_has_body(headers) and not media_type):
        raise UnsupportedMediaType(
            f"this call takes no body of type {media_type[:60] or 'unknown'}; name the body's type in Content-Type",
            field="Content-Type",
            expected="application/json",
            found=media_type[:60] or None,
        )


def check_body(headers: Headers, accepted: tuple[str, ...]) -> None:
    """Raises UnsupportedMediaType for a body of another type, compressed, or in another character set than UTF-8."""
    encodings = [name.strip().lower() for line in headers.getlist("content-encoding") for name in line.split(",")]
    if any(name not in ("", "identity") for name in encodings):
        raise UnsupportedMediaType(
            "this server takes no compressed bodies; send the body as it is, without Content-Encoding",
            field="Content-Encoding",
            expected="identity",
            found=", ".join(encodings)[:60],
        )
    if not _has_body(headers):
        return
    media_type, charset = _content_type(headers)
    if charset not in ("", *_UTF_8):
        raise UnsupportedMediaType(
            "this server takes text in UTF-8 alone; send the body in UTF-8",
            field="Content-Type",
            expected="charset=utf-8",
            found=charset[:60],
        )
    if not any(_matches(media_type, pattern) for pattern in accepted):
        expected = ", ".join(pattern for pattern in accepted if "*" not in pattern)
        raise UnsupportedMediaType(
            f"this call takes {expected}, not {media_type[:60] or 'a body without a type'}; say so in Content-Type",
            field="Content-Type",
            expected=expected,
            found=media_type[:60] or None,
        )


def _has_body(headers: Headers) -> bool:
    return "transfer-encoding" in headers or headers.get("content-length", "0").strip() != "0"


def _content_type(headers: Headers) -> tuple[str, str]:
    """Returns the media type and the charset, empty if not given. If the header is sent twice, no call accepts the
    result.
    """
    media_type, *parameters = ", ".join(headers.getlist("content-type")).split(";")
    charsets = [value.strip().strip('"') for name, _, value in map(_parted, parameters) if name.startswith("charset")]
    return media_type.strip().lower(), next((charset for charset in charsets if charset not in _UTF_8), "")


def _parted(parameter: str) -> tuple[str, str, str]:
    return parameter.strip().lower().partition("=")


def _matches(media_type: str, pattern: str) -> bool:
    start, star, end = pattern.partition("*")
    return media_type.startswith(start) and media_type.endswith(end) if star else media_type == pattern
