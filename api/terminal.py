"""How the command line speaks: tables and progress for people, one JSON document for programs, exit codes.

Progress and remarks go to standard error; with ``--json`` standard output holds one JSON document and nothing else.
Texts of others (ids, reasons, answers of other systems) reach a terminal through here alone, and are only ever text: no
markup, no control character, nothing that shows them backwards (``subledger.visible_text``).

Exit codes: 0 done; 1 a check found a difference; 2 wrong usage; 3 some input rejected; 4 the database, a file or the
network is unavailable.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Final, NoReturn

import structlog
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from subledger import errors, toml_text
from subledger.visible_text import json_visible, visible

DONE: Final = 0
DIFFERENCE: Final = 1
WRONG_USAGE: Final = 2
SOME_REJECTED: Final = 3
UNAVAILABLE: Final = 4


class Terminal(Console):
    """A console whose strings are texts: printed as they are, with what would act or hide made visible."""

    def print(self, *objects: Any, **options: Any) -> None:
        super().print(*(shown(each) if isinstance(each, str) else each for each in objects), **options)

    def on_broken_pipe(self) -> None:
        leave_quietly()


def shown(text: str, style: str = "") -> Text:
    """A text of others, for a terminal. What is ours to style is given as ``Text`` beside it."""
    return Text(visible(text), style)


def leave_quietly() -> NoReturn:
    """The reader of our output went away, as ``head`` does: nobody is left to be told anything."""
    forget_output()
    raise SystemExit(DONE)


def forget_output() -> None:
    """What could not be written is not tried again when Python ends: that would end with a traceback."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def configure_logs() -> None:
    """Logs go to standard error, and what is of others in them is visible text."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.format_exc_info,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _visible_values,
            structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty()),
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


def _visible_values(_: object, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """A processor: each text with what acts or hides made visible; a traceback keeps its lines."""
    shown = {name: visible(value) if isinstance(value, str) else value for name, value in event.items()}
    if "exception" in event:
        shown["exception"] = "\n".join(visible(line) for line in str(event["exception"]).splitlines())
    return shown


# Where the output is no terminal, tables are as wide as they need to be, within reason.
out = Terminal(soft_wrap=True, highlight=False, width=None if sys.stdout.isatty() else 180)
err = Terminal(stderr=True, soft_wrap=True, highlight=False)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on standard output.")]
LedgerOption = Annotated[str, typer.Option("--ledger", "-l", help="The ledger.", metavar="L")]

_EXITS: Final[tuple[tuple[type[errors.SubledgerError], int], ...]] = (
    (errors.IntegrityFault, DIFFERENCE),
    (errors.Unavailable, UNAVAILABLE),
    (errors.Refused, SOME_REJECTED),
    (errors.Conflict, SOME_REJECTED),
)


def json_text(document: Any) -> str:
    """A document as indented JSON, with a line end; what would act on a terminal is escaped as JSON has it."""
    return json_visible(json.dumps(document, ensure_ascii=False, indent=2)) + "\n"


def print_json(document: Any) -> None:
    sys.stdout.write(json_text(document))


def fail(error: errors.SubledgerError, *, as_json: bool) -> NoReturn:
    """Says what is wrong and what to do, and leaves with the exit code of its kind.

    With ``as_json`` the problem document is on standard output, as every answer, and on standard error.
    """
    if as_json:
        with suppress(OSError):  # the fault may be that nothing can be written there
            print_json(error.as_document())
            sys.stdout.flush()
        sys.stderr.write(json_visible(json.dumps(error.as_document(), ensure_ascii=False)) + "\n")
    else:
        err.print(Text.assemble((error.code, "bold red"), ": ", visible(error.message)))
        if error.expected is not None:
            err.print(f"  expected: {error.expected}")
        if error.found is not None:
            err.print(f"  found:    {error.found}")
        if "database" in error.facts:
            err.print(f"  database: {error.facts['database']}")
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


def table(
    title: str | None, columns: Sequence[str], rows: Sequence[Sequence[object]], *, right: Sequence[int] = ()
) -> None:
    """A table for people; ``right`` numbers the columns that hold amounts. A tuple in a cell is so many lines."""
    grid = Table(title=None if title is None else shown(title), title_justify="left", header_style="bold")
    for index, column in enumerate(columns):
        amounts = index in right
        grid.add_column(shown(column), justify="right" if amounts else "left", no_wrap=amounts, overflow="fold")
    for row in rows:
        grid.add_row(*(_cell(cell) for cell in row))
    out.print(grid)


def _cell(cell: object) -> Text:
    if isinstance(cell, tuple):
        return Text("\n").join(_cell(line) for line in cell)
    return shown("" if cell is None else str(cell))


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
