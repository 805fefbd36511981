"""Reversals and re-issues, written down: to the byte in formats of our own, and told within what each target takes."""

from __future__ import annotations

import csv
import io
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from msgspec.structs import replace

from projections.exports.formats import FORMATS, TARGETS, dynamics, intacct, netsuite, oracle, quickbooks, sap
from projections.exports.formats.target import Rendering
from projections.journals.journal import Journal, JournalCorrection, swapped
from tests.golden.journals_made import PAIRS, journal_of, rendering_of

GOLDEN = Path(__file__).parent
WHY: dict[str, Any] = {
    "reason": "deposits were mapped to revenue",
    "made_by": "ann",
    "made_at": datetime(2026, 2, 3, 9, 0, 0, 7, UTC),
}


def corrections(number: int = 1, ledger: str = "acme-us") -> tuple[Journal, Journal]:
    """The reversal and the re-issue of a journal of that number, the next in its period."""
    journal = replace(journal_of(PAIRS, ledger=ledger), number=number)
    return (
        replace(
            journal,
            number=number + 1,
            lines=swapped(journal.lines),
            correction=JournalCorrection(reverses=number, **WHY),
        ),
        replace(journal, number=number + 2, mapping=2, correction=JournalCorrection(reissues=number, **WHY)),
    )


@pytest.mark.parametrize("name", [name for name, form in FORMATS.items() if form.target is None])
@pytest.mark.parametrize("what", ["reversal", "reissue"])
def test_the_files_are_the_agreed_ones_to_the_byte(name: str, what: str) -> None:
    journal = corrections()[what == "reissue"]
    form = FORMATS[name]
    found = form.render(Rendering(export_id="x", journal=journal, documents=(), settings=None))
    assert found == (GOLDEN / f"{what}.{form.extension}").read_bytes()


def longest(target: str, what: int, number: int) -> Rendering:
    """A ledger, a title and a number as long as they may be."""
    title = "=" + "T" * (15 if target == "sap" else 400)
    customers = {line.customer: "24" for line in PAIRS} if target == "netsuite" else {}
    rendering = rendering_of(TARGETS[target], title=title, **({"customers": customers} if customers else {}))
    journal = corrections(number, "ledger-" + "x" * 57)[what]
    documents = tuple(replace(document, name=journal.name) for document in rendering.documents)
    return replace(rendering, journal=journal, documents=documents, export_id=f"{journal.name}-export")


@pytest.mark.parametrize(("what", "does"), [(0, "reverses"), (1, "reissues")])
@pytest.mark.parametrize("number", [1, 99, 12_345])
def test_what_is_corrected_stands_whole_where_a_target_has_room_however_long_the_rest(
    what: int, does: str, number: int
) -> None:
    said = f"{does} 2026-01-{number}"
    for body in json.loads(netsuite.json_file(longest("netsuite", what, number))):
        assert said in body["memo"]
        assert len(body["memo"]) <= 999
    for body in json.loads(quickbooks.json_file(longest("quickbooks", what, number))):
        assert said in body["PrivateNote"]
        assert len(body["PrivateNote"]) <= 4000
    for title in ElementTree.fromstring(intacct.xml_file(longest("intacct", what, number))).iter("BATCH_TITLE"):
        assert (title.text or "").endswith(said)
        assert len(title.text or "") <= 255
    rows = list(csv.DictReader(io.StringIO(intacct.csv_file(longest("intacct", what, number)).decode())))
    assert rows[0]["DESCRIPTION"].endswith(said)
    assert len(rows[0]["DESCRIPTION"]) <= 30
    for text in ElementTree.fromstring(sap.xml_file(longest("sap", what, number))).iter("DocumentHeaderText"):
        assert (text.text or "").endswith(said)
        assert len(text.text or "") <= 25
    for row in csv.reader(io.StringIO(oracle.csv_file(longest("oracle", what, number)).decode())):
        assert {len(row[43]) <= 240, len(row[46]) <= 240} == {True}
    for journal in json.loads(dynamics.json_file(longest("dynamics", what, number))):
        assert journal["header"]["Description"].endswith(said)
        assert len(journal["header"]["Description"]) <= 60


def test_sap_s_file_has_it_in_its_header_too() -> None:
    rows = list(csv.reader(io.StringIO(sap.csv_file(longest("sap", 0, 12)).decode())))
    names = next(row for row in rows if "BKTXT" in row)
    text = rows[rows.index(names) + 2][names.index("BKTXT")]
    assert text.endswith(" reverses 2026-01-12")
    assert len(text) <= 25
