"""Tables on a terminal of any width: no digit, no id and no word of a cell is ever cut."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from api import terminal
from api.cli.main import app
from api.service import Subledger
from tests.building import cloud_event
from tests.conftest import NewLedger

words = st.text(st.characters(categories=("L", "N", "P")), min_size=1, max_size=30)
cells = st.lists(words, max_size=5).map(" ".join)


@contextmanager
def _printed(width: int) -> Iterator[io.StringIO]:
    file, before = io.StringIO(), terminal.out
    terminal.out = terminal.Terminal(file=file, width=width, soft_wrap=True, highlight=False, legacy_windows=False)
    try:
        yield file
    finally:
        terminal.out = before


@given(data=st.data(), width=st.sampled_from([80, 100, 160]), columns=st.integers(1, 12), rows=st.integers(0, 7))
def test_every_word_of_every_cell_is_printed_whole(data: st.DataObject, width: int, columns: int, rows: int) -> None:
    heads = [data.draw(words) for _ in range(columns)]
    figures = [at for at in range(columns) if data.draw(st.booleans())]
    body = [
        [data.draw(st.integers().map(str) if at in figures else cells) for at in range(columns)] for _ in range(rows)
    ]
    with _printed(width) as file:
        terminal.table("a title", heads, body, right=figures)
    printed = file.getvalue()
    for row in body:
        for cell in row:
            for word in terminal.visible(cell).split():
                assert word in printed
    if "┃" in printed:
        assert all(terminal.cell_len(line) <= width for line in printed.splitlines() if line[:1] in "┏┃┡│└")


@pytest.mark.parametrize("width", [80, 100, 160])
def test_every_list_shows_its_ids_and_figures_whole(
    service: Subledger, new_ledger: NewLedger, owner_url: str, monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    monkeypatch.setenv("SUBLEDGER_DATABASE_URL", owner_url)
    monkeypatch.setattr(terminal.out, "_width", width)
    ledger, customer = new_ledger(), "customer-of-many-letters-0042"
    for at in range(6):
        bought = cloud_event(
            f"b{at}",
            "credits.purchased",
            customer,
            "2026-01-05T12:00:00Z",
            block_id=f"block-2026-01-{at:03}-prepaid",
            credits="28800.123456789",
            price="1234567.89",
            currency="USD",
            expires_at="2027-01-01T00:00:00Z",
        )
        assert service.record(ledger, [bought])[0].error is None

    def run(*arguments: str) -> str:
        ran = CliRunner().invoke(app, [*arguments, "--ledger", ledger], catch_exceptions=False)
        assert ran.exit_code in (0, 1), ran.output
        return ran.stdout

    blocks = run("blocks")
    for whole in (customer, "block-2026-01-005-prepaid", "28800.123456789", "1234567.89", "2027-01-01T00:00:00Z"):
        assert blocks.count(whole) >= 1, whole
    assert "7407407.34" in run("balances")
    assert "prepaid_liability" in run("balances")
    assert "172800.740740734" in run("balances", "--customer", customer)
    assert "7407407.34" in run("report", "rollforward", "--from", "2026-01", "--to", "2026-01", "--by", "customer")
    for command in (("periods",), ("journals", "list", "2026-01"), ("exports", "list"), ("checklist", "2026-01")):
        assert run(*command)
