"""Oracle's GlInterface.csv: to the byte, and read back by places, by a parser that knows nothing of it."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from decimal import Decimal
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

from projections.exports.formats import oracle
from projections.exports.formats.target import Rendering
from tests.golden.contract import Contract, Read, ReadLine
from tests.golden.journals_made import rendering_of, renderings
from tests.reading import zip_members

GOLDEN = Path(__file__).parent
SETTINGS = {"level": "block", "ledger_id": "300000046975971", "entity_segment": "101", "defaults": {"class": "00"}}
CASES: dict[str, dict[str, Any]] = {
    "currencies": {**SETTINGS},
    "empty": {**SETTINGS, "pairs": ()},
    "split": {
        "lines": 4,
        "ledger_name": "Acme, US",
        "group_id": 2026020101,
        "segments": ["account", "entity"],
        "end_column": True,
        "conversion_rate": "",
        "period_name": "",
    },
}


def cells(file: bytes) -> list[list[str]]:
    """The rows of a zip's one member, each with a cell before the first, so that places count from 1."""
    [(name, content)] = zip_members(file).items()
    assert name == "GlInterface.csv"
    rows = csv.reader(io.StringIO(content.decode("utf-8"), newline=""), strict=True)
    return [["", *row] for row in rows]


def read(file: bytes, _rendering: Rendering) -> Iterator[Read]:
    rows = cells(file)
    account = 9 + (1 if rows and rows[0][9] in ("101", "US01") else 0)
    for (currency, reference), of_document in groupby(rows, key=lambda row: (row[6], row[46])):
        yield Read(reference, currency, tuple(_line(row, account) for row in of_document))


def _line(row: list[str], account: int) -> ReadLine:
    assert (row[1], row[3], row[7], row[8]) == ("NEW", "2026/01/31", "2026/01/31", "A")
    assert row[54] == row[46]
    assert bool(row[39]) != bool(row[40])
    debit = bool(row[39])
    converted, other = (row[41], row[42]) if debit else (row[42], row[41])
    assert other == ""
    assert (row[64], row[65]) == (("User", "2026/01/31") if converted else ("", ""))
    functional = Decimal(converted) if converted else None
    return ReadLine(row[53], row[account], debit, Decimal(row[39] or row[40]), functional)


def rendered(case: str) -> Rendering:
    return rendering_of(oracle.TARGET, **CASES[case])


CONTRACTS = (
    Contract(
        form="oracle-fbdi",
        cases={case: partial(rendered, case) for case in CASES},
        read=read,
        golden=lambda case, _: f"oracle-{case}.csv",
        renderings=renderings(oracle.TARGET),
    ),
)


def test_every_row_has_all_columns_and_says_what_oracle_asks_of_every_row() -> None:
    rendering = rendered("currencies")
    for row in cells(oracle.zip_file(rendering)):
        assert len(row) - 1 == 149
        assert row[2] == "300000046975971"
        assert row[92] == ""
        assert (row[4], row[5], row[95]) == ("Prepaid credits", "Prepaid credits", "Jan-26")
        assert row[67] == str(oracle.group_id(rendering))
        assert 0 < int(row[67]) < 10**18
        assert row[48] == row[55] == rendering.export_id
        assert len(row[46]) <= 25
        assert len(row[43]) <= 50
        assert len(row[52]) <= 240
        assert all(row[9:14])
        assert not any(row[14:39])


def test_a_text_is_no_formula_should_a_person_open_the_file() -> None:
    rows = cells(oracle.zip_file(rendered("currencies")))
    assert """'=HYPERLINK("http://x.example\"""" in {row[52].partition(",")[0] for row in rows}
    assert "'@c" in {row[56] for row in rows}


def test_a_segment_without_a_value_has_its_default() -> None:
    rows = {row[10]: row[9:14] for row in cells(oracle.zip_file(rendered("currencies")))}
    assert rows["4010"] == ["101", "4010", "Sales", "Platform", "000"]
    assert rows["1100"] == ["101", "1100", "000", "00", "000"]


def test_settings_name_the_ledger_the_group_the_segments_and_the_last_column() -> None:
    rendering = rendered("split")
    rows = cells(oracle.zip_file(rendering))
    assert {tuple(row[place] for place in (2, 66, 67, 92, 95, 150)) for row in rows} == {
        ("", "", "2026020101", "Acme, US", "", "END")
    }
    assert {row[10] for row in rows} == {"US01"}
    assert oracle.group_id(rendering) == 2026020101


BAD_SETTINGS: list[tuple[dict[str, Any], str]] = [
    ({"ledger_id": "US01"}, "ledger_id"), ({"source": "S" * 26}, "source"), ({"category": ""}, "category"),
    ({"segments": ["entity"]}, "segments"), ({"segments": ["account"] * 2}, "segments"),
    ({"segments": ["account", *("s" * 30)]}, "segments"), ({"group_id": -1}, "group_id"),
    ({"conversion_rate": "1,1"}, "conversion_rate"), ({"lines": 1}, "lines"), ({"ledger": 1}, "settings"),
]  # fmt: skip
