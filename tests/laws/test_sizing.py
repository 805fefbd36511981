"""Sizing: the arithmetic is correct, and the page has its results."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from api.cli.main import app
from api.sizing import Figures, Load, Sizing, figures_of, size
from subledger.errors import InvalidValue, MissingField

PAGE = Path(__file__).parents[2] / "subledger" / "SIZING.md"
# Round figures for the examples of the page; they are not measured.
RECKONED = Figures(events_per_s=20_000, two_writers_per_s=40_000, bytes_per_event=600, replayed_per_s=150_000)

LOADS = st.builds(
    Load,
    events_per_day=st.floats(1, 1e11),
    peak=st.floats(1, 50),
    years=st.floats(0.1, 30),
    cores=st.integers(1, 128),
    disk_tb=st.floats(0.1, 100),
    rebuild_h=st.floats(0.1, 1_000),
)
FIGURES = st.builds(
    Figures,
    events_per_s=st.floats(100, 1e6),
    two_writers_per_s=st.floats(100, 1e6),
    bytes_per_event=st.floats(50, 5_000),
    replayed_per_s=st.floats(100, 1e7),
)


@given(LOADS, FIGURES)
def test_what_is_bought_bears_the_peak_and_the_years(load: Load, figures: Figures) -> None:
    found = size(load, figures)
    slack = 1 + 1e-9
    assert found.peak_per_s <= found.ledgers * figures.events_per_s * load.used * slack
    assert found.peak_per_s <= found.servers * figures.two_writers_per_s * load.cores / 2 * load.used * slack
    assert found.disk_tb <= found.servers * load.disk_tb * load.used * slack
    assert found.rebuild_h <= load.rebuild_h * slack
    assert found.servers == max(found.servers_for_writing, found.servers_for_disk) >= 1


@given(LOADS, FIGURES, st.floats(1, 100))
def test_more_events_never_need_less(load: Load, figures: Figures, times: float) -> None:
    more = Load(**{**_dict(load), "events_per_day": load.events_per_day * times})
    before, after = size(load, figures), size(more, figures)
    for name in ("ledgers", "servers", "servers_for_disk", "servers_for_writing", "disk_tb"):
        assert getattr(after, name) >= getattr(before, name), name


def _dict(load: Load) -> dict[str, float]:
    return {name: getattr(load, name) for name in load.__struct_fields__}


def _row(million: float, found: Sizing) -> str:
    figures = (
        f"{million:g}",
        f"{found.average_per_s:,.0f}",
        f"{found.peak_per_s:,.0f}",
        found.ledgers_for_writing,
        found.ledgers_for_rebuild,
        found.servers_for_writing,
        found.servers_for_disk,
        f"{found.disk_tb:,.1f}",
        f"{found.rebuild_h:,.1f}",
    )
    return f"| {' | '.join(map(str, figures))} |"


def test_the_table_of_the_page_is_what_the_formulas_give() -> None:
    rows = [_row(million, size(Load(events_per_day=million * 1e6), RECKONED)) for million in (1, 10, 100, 1000)]
    assert "\n".join(rows) in PAGE.read_text("utf-8"), "\n".join(rows)


def test_figures_come_from_a_bench_and_what_is_given_is_preferred() -> None:
    measures = [
        {"goal": "P1", "unit": "events/s", "median": 30_000},
        {"goal": "P1", "unit": "events/s", "median": 20_000},
        {"goal": "P2", "unit": "events/s", "median": 50_000},
        {"goal": "P10", "unit": "bytes", "median": 700},
        {"goal": "P8", "unit": "events/s", "median": 90_000},
        {"goal": "P9", "unit": "events/s", "median": 1},
    ]
    bench = {"measures": measures}
    expected = Figures(events_per_s=20_000, two_writers_per_s=50_000, bytes_per_event=600, replayed_per_s=90_000)
    assert figures_of(bench, bytes_per_event=600) == expected


def test_nothing_is_guessed() -> None:
    with pytest.raises(MissingField) as missing:
        figures_of({"measures": []}, events_per_s=1)
    assert missing.value.field == "--two-writers-per-s"
    with pytest.raises(InvalidValue) as wrong:
        size(Load(events_per_day=0), RECKONED)
    assert wrong.value.field == "events_per_day"


def test_the_command_prints_it(tmp_path: Path) -> None:
    given = ["--events-per-s", "20000", "--two-writers-per-s", "40000", "--bytes-per-event", "600"]
    asked = ["sizing", "--events-per-day", "1e7", *given, "--replayed-per-s", "150000"]
    found = json.loads(CliRunner().invoke(app, [*asked, "--json"]).stdout)["sizing"]
    assert found["servers"] == size(Load(events_per_day=1e7), RECKONED).servers
    assert "servers for disk" in CliRunner().invoke(app, asked).stdout
    unread = CliRunner().invoke(app, [*asked, "--bench", str(tmp_path / "none.json")])
    assert "cannot be read" in str(unread.exception)
