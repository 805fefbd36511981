"""Printed answers for people have sentences and figures, and no values of a programming language."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from typer.testing import CliRunner

from api.cli.commands.monitors import _figure
from api.cli.main import app
from api.service import Subledger
from subledger.errors import InvalidInput
from tests.building import cloud_event, purchase, recorded, usage
from tests.conftest import NewLedger

Run = Callable[..., str]


@pytest.fixture
def ledger(service: Subledger, new_ledger: NewLedger) -> str:
    """A ledger with a purchase and usage in January."""
    ledger = new_ledger()
    recorded(service, ledger, purchase("b1", "100"), usage("u1", "30"))
    return ledger


@pytest.fixture
def run(ledger: str, owner_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Runs a command on the ledger in this process; returns what it printed."""
    monkeypatch.setenv("SUBLEDGER_DATABASE_URL", owner_url)
    monkeypatch.setenv("SUBLEDGER_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "250")

    def call(*arguments: str, code: int = 0) -> str:
        ran = CliRunner().invoke(app, [*arguments, "--ledger", ledger], catch_exceptions=False)
        assert ran.exit_code == code, ran.output
        return ran.output

    return call


def test_a_lost_row_is_named_once_with_the_command_that_makes_it_again(run: Run, ledger: str, owner_url: str) -> None:
    assert run("rebuild").endswith(f"{ledger}: no row differed from the events\n")
    with psycopg.connect(owner_url) as connection:
        lost = connection.execute(
            "DELETE FROM ledger_days WHERE ledger = %s AND kind = 'consumption'", (ledger,)
        ).rowcount
    printed = run("verify", code=1)
    assert re.search(r"^ledger_days: row .+ is missing$", printed, re.MULTILINE)
    assert f"subledger rebuild --ledger {ledger} makes ledger_days again from the events.\n" in printed
    assert f"{ledger}: mended ledger_days (0 removed, {lost} written)\n" in run("rebuild")
    assert "clean" in run("verify")


def test_the_evidence_of_the_checklist_is_in_words(run: Run, service: Subledger, ledger: str) -> None:
    refused = cloud_event("void", "purchase.voided", "ann", "2026-01-20T00:00:00Z", block_id="none", reason="r")
    [outcome] = service.rejected.keep(
        ledger, service.record(ledger, [refused]), lambda _: b"{}", sender="nobody", way="stdin"
    )
    assert outcome.error is not None
    printed = run("checklist", "2026-01")
    assert f"│ code {outcome.error.code}, rejections" in printed
    for value in ("{", "}", "[", "]", "'", "True", "None"):
        assert value not in printed


@pytest.mark.parametrize(
    ("value", "unit", "printed"),
    [
        (1, "blocks", "1 block"), (0, "blocks", "0 blocks"), (1, "deliveries", "1 delivery"),
        (1_234_567, "events", "1234567 events"), (90_000.5, "seconds", "90000.5 s"), (99.5, "percent", "99.5 %"),
    ],
)  # fmt: skip
def test_a_figure_of_a_monitor_has_its_unit(value: float, unit: str, printed: str) -> None:
    assert _figure(value, unit) == printed


def test_every_monitor_prints_its_figure_and_its_threshold_with_units(run: Run) -> None:
    printed = run("monitor")
    assert "at most 900 s" in printed
    assert "at least 99 %" in printed


def test_a_pipe_in_place_of_a_file_is_refused_with_the_command_that_reads_it(run: Run, tmp_path: Path) -> None:
    pipe = tmp_path / "events"
    os.mkfifo(pipe)
    with pytest.raises(InvalidInput, match="is not a regular file; to record from a pipe, write `-` as FILE"):
        run("record", str(pipe))
