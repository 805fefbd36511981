"""Output of commands: tables and progress for people, one JSON document for programs, exit codes.

Progress and remarks go to standard error; with ``--json`` standard output has one JSON document and nothing else.
Texts from outside (ids, reasons, answers of other systems) are printed only by this module, as visible text without
markup, control characters and changes of direction (``subledger.text.visible_text``).

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
from typing import Annotated, Any, Final, NoReturn, overload

import structlog
import typer
from rich.cells import cell_len
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from subledger import errors
from subledger.text import toml_text
from subledger.text.visible_text import json_visible, visible

DONE: Final = 0
DIFFERENCE: Final = 1
WRONG_USAGE: Final = 2
SOME_REJECTED: Final = 3
UNAVAILABLE: Final = 4


class Terminal(Console):
    """A console that prints strings without markup, and makes characters visible that act or hide."""

    def print(self, *objects: Any, **options: Any) -> None:
        super().print(*(shown(each) if isinstance(each, str) else each for each in objects), **options)

    def on_broken_pipe(self) -> None:
        leave_quietly()


def shown(text: str, style: str = "") -> Text:
    """Returns a text from outside for a terminal. Our own styled text is given as ``Text`` beside it."""
    return Text(visible(text), style)


def leave_quietly() -> NoReturn:
    """Ends the command because the reader of its output has gone away, like ``head``. Nobody would read a message."""
    forget_output()
    raise SystemExit(DONE)


def forget_output() -> None:
    """Discards unwritten output. Otherwise Python would try to write it again at its exit, and end with a traceback."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def configure_logs() -> None:
    """Sends logs to standard error, with texts from outside made visible."""
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
    """A log processor that makes characters visible that act or hide. A traceback keeps its lines."""
    shown = {name: visible(value) if isinstance(value, str) else value for name, value in event.items()}
    if "exception" in event:
        shown["exception"] = "\n".join(visible(line) for line in str(event["exception"]).splitlines())
    return shown


# If the output is not a terminal, tables are as wide as they need to be, up to a limit.
out = Terminal(soft_wrap=True, highlight=False, width=None if sys.stdout.isatty() else 180)
err = Terminal(stderr=True, soft_wrap=True, highlight=False)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on standard output.")]
LedgerOption = Annotated[str, typer.Option("--ledger", "-l", help="The ledger, such as acme.", metavar="L")]

_EXITS: Final[tuple[tuple[type[errors.SubledgerError], int], ...]] = (
    (errors.IntegrityFault, DIFFERENCE),
    (errors.Unavailable, UNAVAILABLE),
    (errors.Refused, SOME_REJECTED),
    (errors.Conflict, SOME_REJECTED),
)


def json_text(answer: Any) -> str:
    """Returns an answer as indented JSON, with a line end. Characters that act on a terminal are escaped as in JSON."""
    return json_visible(json.dumps(answer, ensure_ascii=False, indent=2)) + "\n"


def print_json(answer: Any) -> None:
    sys.stdout.write(json_text(answer))


def fail(error: errors.SubledgerError, *, as_json: bool) -> NoReturn:
    """Prints the error and the next step, and exits with the exit code of its kind.

    With ``as_json`` the problem document is on standard output like every answer, and on standard error.
    """
    if as_json:
        with suppress(OSError):  # the error may be that nothing can be written there
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


@overload
def parse_day(text: str, name: str) -> date: ...
@overload
def parse_day(text: None, name: str) -> None: ...
@overload
def parse_day(text: str | None, name: str) -> date | None: ...
def parse_day(text: str | None, name: str) -> date | None:
    """Reads a day as YYYY-MM-DD. Raises InvalidInput."""
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
    """Reads the settings in a file. Raises InvalidInput."""
    try:
        text = file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise errors.InvalidInput(f"{file} cannot be read: {error}", field="FILE", expected="a TOML file") from None
    return toml_text.read_toml(text)


def table(
    title: str | None, columns: Sequence[str], rows: Sequence[Sequence[object]], *, right: Sequence[int] = ()
) -> None:
    """Prints a table for people. ``right`` has the indexes of the columns of amounts. A tuple in a cell is several
    lines.

    Nothing is ever cut. Texts are wrapped between words if that is enough. Else a table of few rows is transposed. Else
    every row is printed by itself, with one line for each column.
    """
    heads = [shown(column) for column in columns]
    cells = [[_cell(cell) for cell in row] for row in rows]
    turned = [[head, *(row[at] for row in cells)] for at, head in enumerate(heads)]
    if _print_grid(title, heads, cells, right):
        return
    if 0 < len(rows) <= FEW_ROWS and _print_grid(title, turned[0], turned[1:], range(1, len(rows) + 1)):
        return
    if title is not None:
        out.print(shown(title, "italic"))
    if not cells:
        out.print("Nothing to show.")
    broad = max((head.cell_len for head in heads), default=0)
    for row in cells:
        out.print()
        for head, cell in zip(heads, row, strict=True):
            first, *others = cell.split("\n", allow_blank=True) or [Text()]
            out.print(Text(" " * (broad - head.cell_len)) + head + Text("  ") + first)
            for line in others:
                out.print(Text(" " * (broad + 2)) + line)


FEW_ROWS: Final = 4
"""Maximum number of rows of a table that is transposed because it is too wide."""
_BORDER: Final = 3  # of a column; the table has one more


def _print_grid(title: str | None, heads: Sequence[Text], rows: Sequence[Sequence[Text]], right: Sequence[int]) -> bool:
    """Prints a grid and returns True if every word and every figure fits into its column; else prints nothing."""
    widths = _widths([[head, *(row[at] for row in rows)] for at, head in enumerate(heads)], right)
    if widths is None:
        return False
    grid = Table(title=None if title is None else shown(title), title_justify="left", header_style="bold")
    for at, (head, width) in enumerate(zip(heads, widths, strict=True)):
        grid.add_column(head, justify="right" if at in right else "left", width=width, overflow="fold")
    for row in rows:
        grid.add_row(*row)
    out.print(grid)
    return True


def _widths(columns: Sequence[Sequence[Text]], right: Sequence[int]) -> list[int] | None:
    """Returns the widths of columns that fit the terminal. A column is at least as wide as its longest word; figures
    stay whole.
    """
    wanted = [max(line.cell_len for cell in cells for line in cell.split("\n") or [Text()]) for cells in columns]
    least = [
        width if at in right else max((cell_len(word) for cell in cells for word in cell.plain.split()), default=0)
        for at, (cells, width) in enumerate(zip(columns, wanted, strict=True))
    ]
    room = out.width - 1 - _BORDER * len(columns)
    if sum(least) > room:
        return None
    widths = list(least)
    spare = room - sum(least)
    # A column that needs little space gets all that it needs.
    for at in sorted(range(len(columns)), key=lambda at: wanted[at] - least[at]):
        more = min(wanted[at] - least[at], spare)
        widths[at] += more
        spare -= more
    return widths


def _cell(cell: object) -> Text:
    if isinstance(cell, tuple):
        return Text("\n").join(_cell(line) for line in cell)
    return shown("" if cell is None else str(cell))


class _Rate(ProgressColumn):
    """Rate per second."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:,.0f}/s")


@contextmanager
def progress(label: str, total: int | None) -> Iterator[Callable[..., None]]:
    """Shows a progress bar if standard error is a terminal.

    Yields the function that sets the finished number, and the total if it becomes known only later.
    """
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(),
        TimeRemainingColumn(),
        console=err,
        transient=True,
        disable=not err.is_terminal,
    )
    with bar:
        task = bar.add_task(label, total=total)

        def show(completed: int, of: int | None = total) -> None:
            bar.update(task, completed=completed, total=of)

        yield show
