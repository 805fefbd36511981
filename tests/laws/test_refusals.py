"""What the pure core says when it refuses: the field, what was expected, what was found, the facts."""

from __future__ import annotations

import re
from collections.abc import Sequence

from tests.laws.walk import Walk


def test_every_refusal_names_its_field_and_says_what_was_expected_and_found(
    long_walks: Sequence[Walk],
) -> None:
    for error in (error for ledger in long_walks for error in ledger.refused):
        document = error.as_document()  # type: ignore[attr-defined]
        assert re.fullmatch(r"data\.[a-z_]+", document["field"])
        assert document["expected"]
        assert document["found"]
        assert document["detail"]
