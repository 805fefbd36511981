"""Files of events: JSON Lines, read batch by batch; each line is an event or a rejection with its reason.

A file of another kind is refused as a whole, with a guess of its kind. In a CSV file, for example, no line is an event,
and a thousand rejections would all say the same.

Owns: reading the lines, the file of rejected lines. Does not own: recording them (cli).
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice
from pathlib import Path
from shlex import quote
from types import TracebackType
from typing import IO, Final, Self

from api.cli.files import Replacement
from api.service import read_input
from subledger.errors import InvalidInput, InvalidJson, SubledgerError
from subledger.store.writing.batch import Input
from subledger.text.json_text import loads

BATCH: Final = 2_000
MAX_LINE: Final = 1_048_576
"""Maximum bytes of a line; the largest event takes a quarter of it."""
_LOOKED_AT: Final = 5
_BOM: Final = b"\xef\xbb\xbf"

Line = tuple[int, bytes]
"""A line with its number, from 1."""


class EventLines:
    """A file's lines, batch by batch; the next batch is decoded while the last one is written.

    Raises InvalidInput for a file that is not JSON Lines.
    """

    def __init__(self, lines: Iterable[bytes], name: str) -> None:
        self.name = Path(name).name
        numbered = enumerate(lines, start=1)
        first = list(_first_lines(numbered))
        check_shape([line for _, line in first if line.removeprefix(_BOM).strip()], name)
        self._lines: Iterator[Line] = chain(first, numbered)
        self.read_on()

    def read_on(self) -> None:
        """Reads the next lines: ``batch`` all of them, ``event_lines`` the non-blank ones, ``inputs`` their events."""
        self.batch = list(islice(self._lines, BATCH))
        self.event_lines = [(number, line) for number, line in self.batch if line.strip()]
        self.inputs = [read_line(line, number) for number, line in self.event_lines]


class Refusals:
    """Counts of refused lines by error code, each with its first message."""

    def __init__(self) -> None:
        self._of: dict[str, tuple[int, str]] = {}

    def add(self, number: int, error: SubledgerError) -> None:
        """Counts the refusal of a line."""
        count, sample = self._of.get(error.code, (0, f"line {number}: {error.message}"))
        self._of[error.code] = (count + 1, sample)

    def summary(self) -> list[str]:
        """A line for each code, the most frequent first."""
        ordered = sorted(self._of.items(), key=lambda item: (-item[1][0], item[0]))
        return [f"{count:>8} {code}, such as {sample}" for code, (count, sample) in ordered]


class RejectedLines:
    """FILE.rejected.jsonl, which replaces the file of an earlier run at the end of the run.

    A run without a rejected line removes the file, because the lines in it have been recorded since. The file that the
    run itself reads, ``read``, is never removed. A run that stops midway changes nothing.

    Rejected lines are stored in the database first. If the file cannot be written, ``warn`` is called once, and
    recording continues, because a read-only folder is no reason to refuse events.
    """

    def __init__(self, path: Path, warn: Callable[[OSError], None], *, read: IO[bytes] | None = None) -> None:
        self._path = path
        self._warn = warn
        self._read = read
        self._replacement: Replacement | None = None
        self._empty = True
        self.complete = True

    def __enter__(self) -> Self:
        try:
            self._replacement = Replacement(self._path)
        except OSError as error:
            self._give_up(error)
        return self

    def write(self, line: bytes) -> None:
        """Adds a line, as long as the file can be written."""
        if self._replacement is None:
            return
        self._empty = False
        try:
            self._replacement.file.write(line)
        except OSError as error:
            self._give_up(error)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._replacement is None:
            return
        if kind is not None:
            self._replacement.discard()
            return
        try:
            if not self._empty:
                self._replacement.publish()  # buffered text is written now, and this may fail like any write
                return
            self._replacement.discard()
            if self._path.is_file() and not _is_at(self._read, self._path):
                self._path.unlink()
        except OSError as fault:
            self._give_up(fault)

    def _give_up(self, error: OSError) -> None:
        replacement, self._replacement = self._replacement, None
        if replacement is not None:
            replacement.discard()
        if self.complete:
            self.complete = False
            self._warn(error)


def _is_at(file: IO[bytes] | None, path: Path) -> bool:
    """True if an open file is the one at a path."""
    if file is None:
        return False
    try:
        descriptor = file.fileno()
    except OSError:  # it is not a file of the operating system
        return False
    return os.path.samestat(os.fstat(descriptor), path.stat())


def read_line(line: bytes, number: int) -> Input:
    """Returns the event of a line, or the error if the line is not an event."""
    if len(line) > MAX_LINE:
        return InvalidInput(
            f"line {number} is too long for an event",
            field="line",
            expected=f"at most {MAX_LINE} bytes",
            found=f"{len(line)} bytes",
        )
    try:
        return read_input(loads(line.rstrip(b"\r\n"), line=number))
    except InvalidInput as error:
        return error


def _first_lines(lines: Iterator[Line]) -> Iterator[Line]:
    """Yields the first lines, until enough of them are not blank."""
    found = 0
    for number, line in lines:
        yield number, line
        found += bool(line.strip())
        if found == _LOOKED_AT:
            return


def check_shape(lines: list[bytes], name: str) -> None:
    """Raises InvalidInput if the first lines show that a file is not JSON Lines.

    If one of these lines is a JSON object, the file counts as JSON Lines, whatever the other lines are. The exception
    is an object that is the last of a JSON list with one value on each line.
    """
    first = lines[0].removeprefix(_BOM).strip() if lines else b""
    if not first or (first != b"[" and any(_is_object(line) for line in lines)):
        return
    if first.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise _other_kind(name, "UTF-16 text", f"iconv -f utf-16 -t utf-8 {quote(name)}")
    if first.startswith(b"["):
        raise _other_kind(name, "a JSON array", f"jq -c '.[]' {quote(name)}")
    if first.startswith(b"{") and len(lines) > 1 and not first.endswith(b"}"):
        raise _other_kind(name, "JSON with one document on several lines", f"jq -c . {quote(name)}")
    delimiter = re.match(rb'[\w .#"-]*([,;\t|])', first)
    if delimiter is not None:
        kind = "CSV" if delimiter[1] in b",;" else "a table with columns"
        raise _other_kind(name, kind, None)


def _is_object(line: bytes) -> bool:
    try:
        return isinstance(loads(line), dict)
    except InvalidJson:
        return False


def _other_kind(name: str, kind: str, way: str | None) -> InvalidInput:
    subject = "standard input" if name == "-" else name
    help_ = f"; {way} > events.jsonl makes one of it" if way is not None and name != "-" else ""
    return InvalidInput(
        f"{subject} is {kind}: nothing was recorded",
        field="FILE",
        expected=f"JSON Lines: one CloudEvent on each line{help_}",
        found=kind,
    )
