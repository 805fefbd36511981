"""How the command line speaks: tables and progress for people, one JSON document for programs, exit codes.

Progress and remarks go to standard error; with ``--json`` standard output holds one JSON document and nothing else.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Final, NoReturn

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from subledger import errors, toml_text

DONE: Final = 0
DIFFERENCE: Final = 1
WRONG_USAGE: Final = 2
SOME_REJECTED: Final = 3
UNAVAILABLE: Final = 4

# Where the output is no terminal, tables are as wide as they need to be, within reason.
out = Console(soft_wrap=True, highlight=False, width=None if sys.stdout.isatty() else 180)
err = Console(stderr=True, soft_wrap=True, highlight=False)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on standard output.")]
LedgerOption = Annotated[str, typer.Option("--ledger", "-l", help="The ledger.", metavar="L")]

_EXITS: Final[tuple[tuple[type[errors.SubledgerError], int], ...]] = (
    (errors.IntegrityFault, DIFFERENCE),
    (errors.Unavailable, UNAVAILABLE),
    (errors.Refused, SOME_REJECTED),
    (errors.Conflict, SOME_REJECTED),
)


def print_json(document: Any) -> None:
    sys.stdout.write(json.dumps(document, ensure_ascii=False, indent=2) + "\n")


def fail(error: errors.SubledgerError, *, as_json: bool) -> NoReturn:
    """Says what is wrong and what to do, and leaves with the exit code of its kind."""
    if as_json:
        print_json(error.as_document())
    err.print(f"[bold red]{error.code}[/]: {_plain(error.message)}", highlight=False)
    if error.expected is not None:
        err.print(f"  expected: {_plain(error.expected)}")
    if error.found is not None:
        err.print(f"  found:    {_plain(error.found)}")
    raise SystemExit(next((code for kind, code in _EXITS if isinstance(error, kind)), WRONG_USAGE))


def parse_day(text: str | None, name: str) -> date | None:
    """A day as YYYY-MM-DD. Raises InvalidInput."""
    if text is None:
        return None
    try:
        day = date.fromisoformat(text)
    except ValueError:
        raise errors.InvalidInput(f"{name} is not a day", field=name, expected="YYYY-MM-DD", found=text) from None
    if not 1900 <= day.year <= 8999:
        raise errors.InvalidInput(
            f"{name} is out of range", field=name, expected="a day from 1900-01-01 to 8999-12-31", found=text
        )
    return day


def read_toml(file: Path) -> dict[str, Any]:
    """The settings in a file. Raises InvalidInput."""
    try:
        text = file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise errors.InvalidInput(f"{file} cannot be read: {error}", field="FILE", expected="a TOML file") from None
    return toml_text.read_toml(text)


def _plain(text: str) -> str:
    return text.replace("[", "\\[")


def table(
    title: str | None, columns: Sequence[str], rows: Sequence[Sequence[object]], *, right: Sequence[int] = ()
) -> None:
    """A table for people; ``right`` numbers the columns that hold amounts."""
    grid = Table(title=title, title_justify="left", header_style="bold")
    for index, column in enumerate(columns):
        amounts = index in right
        grid.add_column(column, justify="right" if amounts else "left", no_wrap=amounts, overflow="fold")
    for row in rows:
        grid.add_row(*(_plain("" if cell is None else str(cell)) for cell in row))
    out.print(grid)


class _Rate(ProgressColumn):
    """How many a second."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:,.0f}/s")


@contextmanager
def progress(label: str, total: int | None) -> Iterator[Callable[..., None]]:
    """A progress bar on standard error, where that is a terminal. Yields the function that sets how much is done, and,
    where it is only known on the way, of how much."""
    bar = Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _Rate(), TimeRemainingColumn(),
        console=err, transient=True, disable=not err.is_terminal,
    )  # fmt: skip
    with bar:
        task = bar.add_task(label, total=total)

        def show(done: int, of: int | None = total) -> None:
            bar.update(task, completed=done, total=of)

        yield show
