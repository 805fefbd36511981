"""SubledgerError, the root of the tree: a code, a sentence, and the facts of an error.

Owns: the members of a problem document. Does not own: its HTTP status (api/http/problems).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from subledger.text.visible_text import visible_lines


class SubledgerError(Exception):
    """Something the ledger refuses or cannot do, with a stable code."""

    code: ClassVar[str] = "error"
    retryable: ClassVar[bool] = False

    def __init__(
        self,
        message: str,
        *,
        field: str | None = None,
        expected: str | None = None,
        found: str | None = None,
        **facts: Any,
    ) -> None:
        # Errors quote their input. An error with half a surrogate pair could not be sent or stored, and control
        # characters would act on a terminal.
        self.message = visible_lines(message)
        super().__init__(self.message)
        self.field = None if field is None else visible_lines(field)
        self.expected = None if expected is None else visible_lines(expected)
        self.found = None if found is None else visible_lines(found)
        self.facts: Mapping[str, Any] = facts

    @property
    def title(self) -> str:
        """One sentence that is the same for every error of this code."""
        return (type(self).__doc__ or "").strip().splitlines()[0]

    def as_document(self) -> dict[str, Any]:
        """The error as the members of an RFC 9457 problem document, without the HTTP status."""
        document: dict[str, Any] = {
            "type": f"urn:subledger:error:{self.code}",
            "title": self.title,
            "code": self.code,
            "detail": self.message,
            "retryable": self.retryable,
        }
        for name in ("field", "expected", "found"):
            value = getattr(self, name)
            if value is not None:
                document[name] = value
        document.update(self.facts)
        return document
