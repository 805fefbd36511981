"""A format that comes later: the files of the product that it needs, and the tests that fail until they have it too."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any, Final

import pytest

from tests.store.edited_copy import ROOT, Edits, edited_copy

NAME: Final = "abacus"
MODULE: Final = f"projections/exports/formats/{NAME}.py"
_MODULE: Final = '''"""Abacus: a CSV file, one row a line of a document."""

from __future__ import annotations

from projections.exports.documents import TargetLimits
from projections.exports.formats import target

TARGET = target.Target(
    name="abacus", limits=TargetLimits(lines=100, text=40, reference=20, digits=12), settings=target.TargetSettings
)


def csv_file(rendering: target.Rendering) -> bytes:
    return target.csv_bytes(
        [document.reference, line.reference, line.account.number, line.side.value, str(line.amount_minor)]
        for document in rendering.documents
        for line in document.lines
    )
'''

EDITS: Final[Edits] = {
    "projections/exports/formats/__init__.py": (
        ("formats import dynamics,", "formats import abacus, dynamics,"),
        ('        _of_target("netsuite-csv",',
         '        _of_target("abacus-csv", _CSV, abacus.csv_file, abacus.TARGET),\n        _of_target("netsuite-csv",'),
    ),
}  # fmt: skip
"""The edits of the product, besides the format's own module."""

LATER: Final = """
import json, sys
from typer.testing import CliRunner
from api.cli.main import app
from projections.exports.formats import FORMATS, TARGETS
from tests.examples import test_retail
from tests.golden import test_every_format
from tests.golden.journals_functional import rendering_of

tests = (
    test_every_format.test_every_format_of_a_general_ledger_has_its_contract,
    test_retail.test_every_general_ledgers_format_is_read_back,
)
failed = []
for test in tests:
    try:
        test()
    except AssertionError:
        failed.append(test.__name__)
json.dump({
    "listed": CliRunner().invoke(app, ["export", "--formats"]).stdout.split(),
    "file": FORMATS["abacus-csv"].render(rendering_of(TARGETS["abacus"], {"level": "account"})).decode(),
    "failed": failed,
}, sys.stdout)
"""


@pytest.fixture(scope="module")
def later(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The findings in a product with one more format: its list, a file, and the tests that it fails."""
    copy = edited_copy(tmp_path_factory.mktemp("later"), EDITS)
    (copy / MODULE).write_text(_MODULE, "utf-8")
    done = subprocess.run(
        [sys.executable, "-c", LATER],
        cwd=copy,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": f"{copy}{os.pathsep}{ROOT}"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.campaign
def test_a_new_format_is_one_module_and_its_rows(later: dict[str, Any]) -> None:
    assert "abacus-csv" in later["listed"]
    assert later["file"].splitlines()[0].startswith("acme-us-2026-02-2,L1,")


@pytest.mark.campaign
def test_a_format_without_its_contract_and_its_reader_fails(later: dict[str, Any]) -> None:
    assert later["failed"] == [
        "test_every_format_of_a_general_ledger_has_its_contract", "test_every_general_ledgers_format_is_read_back",
    ]  # fmt: skip


def test_the_documentation_lists_the_files_that_a_new_format_needs() -> None:
    readme = (ROOT / "projections" / "README.md").read_text("utf-8")
    chapter = readme.partition("\n### Adding a format\n")[2].partition("\n## ")[0]
    listed = [line.split("`")[1] for line in chapter.splitlines() if line.startswith("| `")]
    assert listed == [
        MODULE.replace(NAME, "*"), *EDITS, "tests/golden/test_formats_*.py", "tests/golden/test_every_format.py",
        "tests/examples/general_ledgers_by_hand.py",
    ]  # fmt: skip
